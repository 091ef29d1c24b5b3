"""DPO: starts at ln 2, asks the reference once, equals the plain formula, resumes bit for bit."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT
from instruction_tuning import dpo_trainer, pair_data
from instruction_tuning.dpo_trainer import build_parser, preference_loss, train
from instruction_tuning.instruction_data import pair_rows
from instruction_tuning.losses import token_log_probs
from instruction_tuning.pair_data import PairData, Pairs, pair_log_probs
from instruction_tuning.preferences import Preference
from instruction_tuning.saved_model import load_policy
from instruction_tuning.tuning_config import DPO_PRESETS, DPOConfig, config_from_argv
from instruction_tuning.tuning_state import TrainResult, TuningState
from instruction_tuning.word_world import draw_requests
from instruction_tuning.world_tokenizer import build_tokenizer
from tutorial_kit.checkpoints import load_checkpoint

TOKENIZER = build_tokenizer()
CONFIG = DPOConfig(
    batch_size=8, max_steps=8, eval_every=3, checkpoint_every=4, lr=3e-3, max_new=6, threads=1
)


@pytest.fixture(scope="module")
def policy() -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(TOKENIZER.vocab_size, 64, 16, 2, 2, 1, 32, **RECIPES["modern"])
    model = GPT(config).eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def data() -> PairData:
    """Thirty pairs: the answer before one with "zz" behind it; six held-out ones."""
    parts = []
    for count, split in ((30, "train"), (6, "validation")):
        requests = draw_requests(count, split, 0)
        pairs = [Preference(each, each.answer, f"{each.answer}zz") for each in requests]
        parts.append(Pairs.of(pair_rows(pairs, TOKENIZER, 64), 64))
    return PairData(*parts, draw_requests(6, "validation", 0))


def run(policy: GPT, data: PairData, folder: Path, **changes: object) -> TrainResult[GPT]:
    options = {name: changes.pop(name) for name in ("resume", "reference") if name in changes}
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    return train(config, policy, TOKENIZER, data, folder, device="cpu", **options)  # type: ignore[arg-type]


def numbers(result: TrainResult[GPT]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]


def assert_equal(one: GPT, other: GPT) -> None:
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def plain_log_probs(model: GPT, pairs: Pairs, row: int) -> list[torch.Tensor]:
    """Returns log p of the chosen and of the rejected reply, each by its own forward pass."""
    prompt = pairs.prompts[row]
    found = []
    for reply in pairs.replies[row]:
        tokens = torch.tensor([prompt + reply])
        found.append(token_log_probs(model(tokens), tokens)[0, len(prompt) - 1 :].sum())
    return found


def test_the_first_loss_is_ln_2(policy: GPT, data: PairData, tmp_path: Path) -> None:
    """Policy and reference are equal, so no reply earns anything yet."""
    result = run(policy, data, tmp_path, max_steps=1, likelihood=0.0)
    assert result.history[0]["train_loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_it_learns_and_writes_what_it_promises(
    policy: GPT, data: PairData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = policy.head.weight.clone()
    result = run(policy, data, tmp_path, max_steps=40, eval_every=20, lr=5e-3)
    first, last = result.history
    assert last["rewards/accuracies"] == 1.0 and last["rewards/margins"] > first["rewards/margins"]
    margin = last["rewards/chosen"] - last["rewards/rejected"]
    assert last["rewards/margins"] == pytest.approx(margin, abs=1e-5)
    assert last["validation_loss"] < first["validation_loss"]
    assert last["logps/chosen"] > last["logps/rejected"] and last["validation_kl"] > 0
    assert {"exact_match", "exact_sampled", "judge", "epochs", "train_loss"} <= last.keys()
    output = capsys.readouterr().out
    assert "parameters; training on cpu, 30 pairs of replies" in output
    assert "pairs right" in output and " -> '" in output
    assert torch.equal(policy.head.weight, before) and not result.model.training
    assert (tmp_path / "checkpoints" / "best.pt").is_file()
    assert_equal(load_policy(tmp_path)[0], result.model)


@pytest.mark.parametrize("loss", ["dpo", "ipo", "likelihood"])
def test_a_minibatch_equals_the_formula_on_single_rows(
    policy: GPT, data: PairData, tmp_path: Path, loss: str
) -> None:
    """The whole training set as one minibatch; the reference is another model."""
    torch.manual_seed(1)
    reference = GPT(policy.config).eval()
    torch.nn.init.normal_(reference.head.weight, std=0.2)
    result = run(policy, data, tmp_path, max_steps=1, batch_size=30, loss=loss, beta=0.4,
                 likelihood=0.7, reference=reference)  # fmt: skip
    losses = []
    with torch.no_grad():
        for row in range(30):
            chosen, rejected = plain_log_probs(policy, data.train, row)
            q_chosen, q_rejected = plain_log_probs(reference, data.train, row)
            sizes = list(map(len, data.train.replies[row]))
            nll = -chosen / sizes[0]
            if loss == "dpo":
                margin = 0.4 * ((chosen - q_chosen) - (rejected - q_rejected))
                losses.append(-F.logsigmoid(margin) + 0.7 * nll)
            elif loss == "ipo":
                h = (chosen - q_chosen) / sizes[0] - (rejected - q_rejected) / sizes[1]
                losses.append((h - 1 / 0.8) ** 2 + 0.7 * nll)
            else:
                losses.append(nll)
    expected = torch.stack(losses).mean().item()
    assert result.history[0]["train_loss"] == pytest.approx(expected, abs=1e-5)


def test_the_reference_is_asked_once(
    policy: GPT, data: PairData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    counted = pair_log_probs

    def count(model: GPT, pairs: Pairs, *rest: str) -> torch.Tensor:
        if pairs is data.train:
            asked.append(len(pairs))
        return counted(model, pairs, *rest)

    models: set[int] = set()
    forward = dpo_trainer.reply_log_probs

    def watch(model: GPT, batch: object) -> torch.Tensor:
        models.add(id(model))
        return forward(model, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(dpo_trainer, "pair_log_probs", count)
    monkeypatch.setattr(dpo_trainer, "reply_log_probs", watch)
    run(policy, data, tmp_path, max_steps=8)  # more than two epochs
    assert asked == [30], "once, for every pair"
    assert len(models) == 1, "the steps run the policy alone"


def test_pairs_scored_together_keep_their_order(
    policy: GPT, data: PairData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_data, "TOGETHER", 7)
    found = pair_log_probs(policy, data.train)
    with torch.no_grad():
        rows = [torch.stack(plain_log_probs(policy, data.train, row)) for row in range(30)]
    assert torch.allclose(found, torch.stack(rows), atol=1e-4)


CASES = {"adamw": {}, "muon": {"optimizer": "muon"}, "lora": {"lora_rank": 2, "loss": "ipo"}}


@pytest.mark.parametrize("case", CASES)
def test_resume_equals_uninterrupted(
    policy: GPT, data: PairData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    whole = run(policy, data, tmp_path / "whole", **CASES[case])
    set_rates = TuningState.set_learning_rates

    def press_ctrl_c(state: TuningState[GPT]) -> float:
        if state.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return set_rates(state)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TuningState, "set_learning_rates", press_ctrl_c)
        run(policy, data, tmp_path / "parts", **CASES[case])
    torch.rand(5)  # the random generators are somewhere else now
    parts = run(policy, data, tmp_path / "parts", resume=True, **CASES[case])
    assert_equal(whole.model, parts.model)
    assert numbers(whole) == numbers(parts)


def test_eight_parts_of_one_pair_equal_one_part_of_eight(
    policy: GPT, data: PairData, tmp_path: Path
) -> None:
    changes = {"max_steps": 6, "eval_every": 1, "clip": 0.5}
    one = run(policy, data, tmp_path / "one", accumulation=1, **changes)
    eight = run(policy, data, tmp_path / "eight", accumulation=8, **changes)
    for a, b in zip(one.history, eight.history, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-5)
        assert a["validation_loss"] == pytest.approx(b["validation_loss"], abs=1e-5)


def test_gradients_raise_the_chosen_reply_and_lower_the_rejected_one() -> None:
    policy = torch.tensor([[-5.0, -4.0], [-7.0, -9.0]], requires_grad=True)
    config = DPOConfig(beta=0.5, likelihood=0.0)
    preference_loss(policy, policy.detach() + 1, torch.ones(2, 2), config).backward()
    assert policy.grad is not None
    # beta (1 - sigmoid(0)) / B for each of the two pairs
    assert torch.allclose(policy.grad, torch.tensor([[-0.125, 0.125]] * 2))


def test_data_of_a_file_are_not_asked(policy: GPT, data: PairData, tmp_path: Path) -> None:
    """No program can check replies to them, so only pairs are scored."""
    result = run(policy, replace(data, requests=[]), tmp_path, max_steps=3)
    assert "exact_match" not in result.history[-1] and "rewards/margins" in result.history[-1]


def test_lora_saves_its_matrices_alone(policy: GPT, data: PairData, tmp_path: Path) -> None:
    run(policy, data, tmp_path, lora_rank=2, lora_layers="qkv", max_steps=2)
    held = load_checkpoint(tmp_path, family="instruction_tuning")["state"]["model"]
    assert sorted(weight.numel() for weight in held.values()) == [2 * 16, 2 * 48]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--beta", "0"], "beta=0.0 makes every margin worth nothing"),
        (["--likelihood", "-1"], "likelihood=-1.0 is below 0"),
        (["--noise", "2"], "noise=2.0 is no share"),
        (["--replies", "0"], "replies=0 is not possible"),
    ],
)
def test_impossible_settings(argv: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        config_from_argv(build_parser(), DPOConfig, DPO_PRESETS, argv)
