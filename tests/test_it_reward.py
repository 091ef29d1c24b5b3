"""The reward model: read at the last real token, trained by comparisons, resumed bit for bit."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT
from instruction_tuning.losses import reward_loss
from instruction_tuning.preference_data import Comparisons, compare, preferences_of
from instruction_tuning.preferences import Preference, label_pairs
from instruction_tuning.reply_batch import ReplyBatch, make_reply_batch, reply_log_probs
from instruction_tuning.reward_model import RewardModel, ValueModel, score_replies
from instruction_tuning.reward_trainer import (
    RewardData,
    batch_of,
    build_parser,
    evaluate,
    main,
    pair_places,
    train,
)
from instruction_tuning.tuning_config import REWARD_PRESETS, RewardConfig, config_from_argv
from instruction_tuning.tuning_state import TrainResult, TuningState
from instruction_tuning.word_world import draw_requests
from instruction_tuning.world_tokenizer import build_tokenizer

TOKENIZER = build_tokenizer()
CONFIG = RewardConfig(
    batch_size=8, max_steps=12, eval_every=5, checkpoint_every=4, lr=3e-3, threads=1
)


def fresh_policy() -> GPT:
    """A small model of the modern recipe whose blocks do something."""
    torch.manual_seed(0)
    config = GPTConfig(TOKENIZER.vocab_size, 64, 16, 2, 2, 1, 32, **RECIPES["modern"])
    model = GPT(config).eval()
    for name, weight in model.named_parameters():
        if name.endswith(("output.weight", "contract.weight", "head.weight")):
            torch.nn.init.normal_(weight, std=0.2)
    return model


@pytest.fixture(scope="module")
def policy() -> GPT:
    return fresh_policy()


@pytest.fixture
def scorer() -> RewardModel:
    """A reward model whose head is not zero."""
    model = RewardModel(fresh_policy()).eval()
    torch.nn.init.normal_(model.head.weight)
    return model


def pairs(count: int, split: str, seed: int = 0) -> list[Preference]:
    """Pairs that can be told apart by their chatter, and some that cannot."""
    requests = draw_requests(count, split, seed)  # type: ignore[arg-type]
    replies = [[r.answer, f"sure, {r.answer}", f"well {r.answer[:-1]}"] for r in requests]
    return label_pairs(requests, replies, noise=0.0)


@pytest.fixture(scope="module")
def data() -> RewardData:
    parts = [compare(pairs(n, s), TOKENIZER, 64) for n, s in ((40, "train"), (12, "validation"))]
    return RewardData(*parts)


def run(policy: GPT, data: RewardData, folder: Path, **changes: object) -> TrainResult[RewardModel]:
    resume = bool(changes.pop("resume", False))
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    return train(config, policy, TOKENIZER, data, folder, resume=resume, device="cpu")


def numbers(result: TrainResult[RewardModel]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]


def batch(prompt: list[int], *replies: list[int]) -> ReplyBatch:
    return make_reply_batch([prompt], [replies], 64)


@torch.no_grad()
@pytest.mark.parametrize("own_likelihood", [0.0, 2.0])
def test_the_score_is_read_at_the_end_and_adds_the_mean_likelihood(
    scorer: RewardModel, own_likelihood: float
) -> None:
    """By hand, from the plain model, without any packing."""
    scorer.own_likelihood = own_likelihood
    prompt, reply = [5, 9, 30], [40, 41, 42, 3]
    row = torch.tensor([prompt + reply])
    states = scorer.body.final_norm(scorer.body.hidden(row))  # (1, T, D)
    log_p = scorer.body(row)[0, 2:-1].log_softmax(-1)[range(4), reply]  # (4,)
    expected = states[0, -1] @ scorer.head.weight[0] + own_likelihood * log_p.mean()
    scores, log_probs = scorer(batch(prompt, reply))
    assert scores[0].item() == pytest.approx(expected.item(), abs=1e-4)
    assert torch.allclose(log_probs[0], log_p, atol=1e-5)
    changed = scorer(batch(prompt, [*reply[:-1], 4]))[0]
    assert (changed - scores).abs().item() > 1e-3, "the last token decides"


def test_many_replies_are_scored_in_their_order(scorer: RewardModel) -> None:
    prompts, replies = [[5, 9], [7]], [[[40, 3], [41, 42, 3]], [[3]]]
    few = score_replies(scorer, prompts, replies)
    many = score_replies(scorer, prompts * 100, replies * 100)  # more than one pass
    assert torch.allclose(many, few.repeat(100), atol=1e-5)
    assert not few.requires_grad and len(set(few.tolist())) == 3
    with pytest.raises(ValueError, match="a reply has 0 tokens"):
        score_replies(scorer, [[1, 2]], [[[]]])


def test_an_untrained_model_calls_all_replies_equal(policy: GPT, data: RewardData) -> None:
    loss, accuracy, margins = evaluate(RewardModel(policy), data.validation)
    assert loss == pytest.approx(math.log(2.0)) and accuracy == 0.5
    assert margins.count_nonzero() == 0


@torch.no_grad()
def test_values_stand_before_every_token_and_do_not_see_the_future(policy: GPT) -> None:
    model = ValueModel(policy)
    assert model(batch([5, 9], [40, 41, 3])).count_nonzero() == 0, "it expects nothing at first"
    torch.nn.init.normal_(model.head.weight)
    values = model(batch([5, 9], [40, 41, 3], [43]))
    assert values.shape == (2, 3) and values[1, 1:].count_nonzero() == 0
    later = model(batch([5, 9], [40, 50, 50], [43]))
    assert torch.allclose(later[:, :2], values[:, :2], atol=1e-6)
    assert (later[0, 2] - values[0, 2]).abs() > 1e-4


def test_each_reply_is_encoded_once_and_the_pairs_are_kept() -> None:
    preferences = pairs(6, "train")
    groups = compare(preferences, TOKENIZER, 64)
    assert len(groups) == 6
    assert all(len(group.replies) == 3 for group in groups), "three replies, three pairs of them"
    texts = [
        tuple(TOKENIZER.decode(group.prompt + group.replies[i]) for i in (chosen, rejected))
        for group in groups
        for chosen, rejected in group.pairs
    ]
    assert texts == [
        tuple(f"<user>{p.prompt}<assistant>{reply}<end>" for reply in (p.chosen, p.rejected))
        for p in preferences
    ]


@torch.no_grad()
def test_replies_that_share_a_request_are_scored_as_if_alone(
    scorer: RewardModel, data: RewardData
) -> None:
    scorer.own_likelihood = 2.0
    alone = [scorer(batch(group.prompt, r))[0] for group in data.train for r in group.replies]
    together, _ = scorer(batch_of(data.train, 64))
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    bare = replace(data.train[0], replies=[[3], *data.train[0].replies])  # a reply that only ends
    expected = scorer(batch(bare.prompt, [3]))[0][0]
    assert torch.allclose(scorer(batch_of([data.train[1], bare], 64))[0][3], expected, atol=1e-5)


@torch.no_grad()
def test_a_reply_may_fill_the_context(scorer: RewardModel, data: RewardData) -> None:
    full = [9] * (64 - len(data.train[0].prompt))
    assert scorer(batch(data.train[0].prompt, full))[0].isfinite().all()


def test_the_loss_over_groups_is_the_loss_over_pairs(scorer: RewardModel, data: RewardData) -> None:
    better, worse = pair_places(data.train)
    scores, _ = scorer(batch_of(data.train, 64))
    together = reward_loss(scores[better], scores[worse])
    losses = []
    for group in data.train:
        for pair in group.pairs:
            margin = score_replies(scorer, [group.prompt], [[group.replies[i] for i in pair]])
            losses.append(math.log1p(math.exp(-(margin[0] - margin[1]).item())))
    assert together.item() == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_the_best_replies_were_preferred_and_nothing_to_them() -> None:
    group = Comparisons([5], [[1], [2], [3], [4]], [(0, 1), (2, 0), (2, 1)])
    assert group.best == [False, False, True, False], "the fourth was never compared"


def test_the_body_goes_on_learning_the_best_replies(
    policy: GPT, data: RewardData, tmp_path: Path
) -> None:
    best = [replace(g, replies=[r for r, b in zip(g.replies, g.best, strict=True) if b], pairs=[])
            for g in data.train]  # fmt: skip
    held = batch_of(best, 64)
    found = {}
    for weight in (0.0, 5.0):
        model = run(policy, data, tmp_path / str(weight), likelihood=weight, max_steps=30).model
        with torch.no_grad():
            found[weight] = reply_log_probs(model.body, held).sum().item()
    assert found[5.0] > found[0.0] + 10


def test_it_learns_and_writes_what_it_promises(
    policy: GPT, data: RewardData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = policy.blocks[0].attention.qkv.weight.clone()
    result = run(policy, data, tmp_path, max_steps=60, eval_every=30, lr=1e-2)
    assert [row["step"] for row in result.history] == [30, 60]
    assert result.history[-1]["accuracy"] > 0.85, "chatter can be told from its first token"
    assert result.history[-1]["margin"] > 1.0
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert {"config.json", "metrics.jsonl", "checkpoints/last.pt", "checkpoints/best.pt"} <= written
    output = capsys.readouterr().out
    assert "parameters; training on cpu, 120 pairs of replies to 40 requests" in output
    assert "pairs right" in output and "better: " in output and "worse : " in output
    assert torch.equal(policy.blocks[0].attention.qkv.weight, before), "the policy stays as it is"


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}], ids=["all weights", "lora"])
def test_resume_equals_uninterrupted(
    policy: GPT,
    data: RewardData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, int],
) -> None:
    whole = run(policy, data, tmp_path / "whole", **changes)
    set_rates = TuningState.set_learning_rates

    def press_ctrl_c(state: TuningState[RewardModel]) -> float:
        if state.step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return set_rates(state)

    monkeypatch.setattr(TuningState, "set_learning_rates", press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        run(policy, data, tmp_path / "parts", **changes)
    monkeypatch.setattr(TuningState, "set_learning_rates", set_rates)
    parts = run(policy, data, tmp_path / "parts", resume=True, **changes)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, parts.model.state_dict()[name]), name
    assert numbers(whole) == numbers(parts)
    assert whole.model.head.weight.count_nonzero() > 0, "beside LoRA the new head is trained, too"


def test_eight_parts_of_one_request_equal_one_part_of_eight(policy: GPT, tmp_path: Path) -> None:
    """Requests have different numbers of pairs: a mean over the parts' means would differ."""
    groups = compare(pairs(40, "train"), TOKENIZER, 64)
    uneven = [replace(g, pairs=g.pairs[: 1 + i % 3]) for i, g in enumerate(groups)]
    data = RewardData(uneven, uneven[:8])
    changes = {"max_steps": 10, "eval_every": 1}
    one = run(policy, data, tmp_path / "one", accumulation=1, **changes)
    eight = run(policy, data, tmp_path / "eight", accumulation=8, **changes)
    for a, b in zip(one.history, eight.history, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-5)
        assert a["validation_loss"] == pytest.approx(b["validation_loss"], abs=1e-5)


def test_a_policy_s_own_replies_are_compared(policy: GPT, capsys: pytest.CaptureFixture) -> None:
    config = replace(CONFIG, requests=30, replies=3, max_new=5, visible=0.0)
    found = preferences_of(config, policy, TOKENIZER, "train")
    again = preferences_of(config, policy, TOKENIZER, "train")
    assert found == again and all(p.chosen != p.rejected for p in found)
    held_out = preferences_of(config, policy, TOKENIZER, "validation")
    assert {p.request.word for p in found}.isdisjoint(p.request.word for p in held_out)
    with pytest.raises(ValueError, match="1 replies to each of 30 requests gave no pair"):
        preferences_of(replace(config, replies=1), policy, TOKENIZER, "train")


def test_equal_replies_prefer_nothing() -> None:
    request = draw_requests(1, "train", 0)[0]
    with pytest.raises(ValueError, match="prefers nothing"):
        compare([Preference(request, "abc", "abc")], TOKENIZER, 64)
    with pytest.raises(ValueError, match="do not fit|no room"):
        compare([Preference(request, "abc" * 40, "abc")], TOKENIZER, 64)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--replies", "0"], "replies=0 is not possible"),
        (["--noise", "2"], "noise=2.0 is no share"),
    ],
)
def test_impossible_settings(argv: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        config_from_argv(build_parser(), RewardConfig, REWARD_PRESETS, argv)


def test_the_command_runs_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))
    result = main(["--preset", "smoke", "--device", "cpu"])
    assert result.folder.name == "smoke_reward" and result.steps == 4


def test_a_file_of_preferences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "mine.json"
    entries = ", ".join(
        f'{{"prompt": "say {i}", "chosen": "{i}", "rejected": "no {i}"}}' for i in range(24)
    )
    path.write_text(f"[{entries}]", encoding="utf-8")
    result = main(["--preset", "smoke", "--device", "cpu", "--dataset", str(path)])
    assert 0 <= result.history[-1]["accuracy"] <= 1
