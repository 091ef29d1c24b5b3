"""GRPO: the first ratio is 1, equal rewards move nothing, the reward rises, resumes bit for bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT
from instruction_tuning import grpo_trainer
from instruction_tuning.chat_template import END, chat_tokens
from instruction_tuning.grpo_trainer import build_parser, train
from instruction_tuning.request_data import RequestData
from instruction_tuning.rewards import Reward, judge_reward
from instruction_tuning.rollout import Rollout
from instruction_tuning.rollout_config import GRPO_PRESETS, GRPOConfig
from instruction_tuning.tuning_config import config_from_argv
from instruction_tuning.tuning_state import TrainResult, TuningState
from instruction_tuning.word_world import Request, draw_requests
from instruction_tuning.world_tokenizer import build_tokenizer

TOKENIZER = build_tokenizer()
CONFIG = GRPOConfig(
    reward="judge", batch_size=4, group=4, max_steps=6, eval_every=2, checkpoint_every=3, lr=3e-3,
    max_new=6, threads=1, schedule="constant",
)  # fmt: skip


@pytest.fixture(scope="module")
def policy() -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(TOKENIZER.vocab_size, 64, 16, 2, 2, 1, 32, **RECIPES["modern"])
    model = GPT(config)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    for name, weight in model.named_parameters():  # at zero nothing but the head would matter
        if name.endswith(("output.weight", "contract.weight")):
            torch.nn.init.normal_(weight, std=0.3)
    with torch.no_grad():  # replies end now and then
        model.head.weight[chat_tokens(TOKENIZER)[END]] *= 8
    return model.eval()


@pytest.fixture(scope="module")
def data() -> RequestData:
    requests = [
        draw_requests(count, split, 0) for count, split in ((20, "train"), (6, "validation"))
    ]
    return RequestData.of(*requests, TOKENIZER)


def short(requests: Sequence[Request], replies: Sequence[str], rollout: Rollout) -> Tensor:
    """A reward that anything can learn: the shorter the better."""
    return 1.0 - rollout.mask.sum(1).float() / 6


def run(
    policy: GPT, data: RequestData, folder: Path, reward: Reward = short, **changes: object
) -> TrainResult[GPT]:
    options = {name: changes.pop(name) for name in ("resume", "reference") if name in changes}
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    return train(
        config, policy, TOKENIZER, data, folder, reward=reward, device="cpu", **options,  # type: ignore[arg-type]
    )  # fmt: skip


def numbers(result: TrainResult[GPT]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]


def assert_equal(one: GPT, other: GPT) -> None:
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def test_the_first_ratio_is_one(
    policy: GPT, data: RequestData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios: list[Tensor] = []
    loss = grpo_trainer.grpo_loss

    def watch(
        now: Tensor, old: Tensor, q: Tensor, a: Tensor, mask: Tensor, *rest: object
    ) -> object:
        ratios.append((now - old).exp()[mask].detach())
        return loss(now, old, q, a, mask, *rest)

    monkeypatch.setattr(grpo_trainer, "grpo_loss", watch)
    run(policy, data, tmp_path, max_steps=2, updates=2, accumulation=2)
    assert len(ratios) == 8  # 2 steps, 2 updates each, in 2 parts
    for step in (0, 4):
        assert all((ratio - 1).abs().max() < 1e-5 for ratio in ratios[step : step + 2])
        assert (ratios[step + 2] - 1).abs().max() > 1e-4, "the second update is elsewhere"


@pytest.mark.parametrize("unbiased", [False, True])
def test_equal_rewards_move_nothing(
    policy: GPT, data: RequestData, tmp_path: Path, unbiased: bool
) -> None:
    """Groups without variance have gradient zero: not a bit of a weight changes."""
    result = run(policy, data, tmp_path, lambda *_: torch.full((16,), 0.1), kl=0.0, max_steps=3,
                 eval_every=3, unbiased=unbiased)  # fmt: skip
    assert_equal(result.model, policy)
    assert result.history[-1]["flat_groups"] == 1.0 and result.history[-1]["loss"] == 0.0


@pytest.mark.parametrize("unbiased", [False, True])
def test_the_reward_rises_and_the_log_tells_it(
    policy: GPT, data: RequestData, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    unbiased: bool,
) -> None:  # fmt: skip
    result = run(policy, data, tmp_path, max_steps=24, eval_every=12, lr=2e-2, unbiased=unbiased)
    start, _, last = result.history
    assert last["validation_reward"] > start["validation_reward"] + 0.15
    assert start["step"] == 0 and start["validation_kl"] == pytest.approx(0, abs=1e-5)
    assert last["validation_kl"] > 0.1 and 0 <= last["flat_groups"] <= 1
    assert {"reward", "kl", "entropy", "clip_fraction", "length", "loss", "exact_match",
            "exact_sampled", "judge"} <= last.keys()  # fmt: skip
    output = capsys.readouterr().out
    assert "parameters; training on cpu, 20 requests, rewarded by judge" in output


def test_the_loss_is_of_the_groups_of_each_request(
    policy: GPT, data: RequestData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Advantages of each group sum to 0 and belong to the replies they were computed from."""
    seen: list[tuple[Tensor, Tensor]] = []
    loss = grpo_trainer.grpo_loss

    def watch(
        now: Tensor, old: Tensor, q: Tensor, a: Tensor, mask: Tensor, *rest: object
    ) -> object:
        seen.append((a, mask.sum(1)))
        return loss(now, old, q, a, mask, *rest)

    monkeypatch.setattr(grpo_trainer, "grpo_loss", watch)
    run(policy, data, tmp_path, max_steps=3, accumulation=2)
    for advantages, lengths in seen:  # two requests of four replies
        groups = zip(advantages.view(2, 4), lengths.view(2, 4), strict=True)
        for group, its_lengths in groups:
            assert group.sum().abs() < 1e-5
            order = its_lengths.argsort(descending=True)  # the shorter the better
            assert (group[order].diff() >= -1e-6).all()
    assert any(advantages.abs().max() > 0.5 for advantages, _ in seen)


def test_resume_equals_uninterrupted(
    policy: GPT, data: RequestData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(policy, data, tmp_path / "whole", updates=2)
    set_rates = TuningState.set_learning_rates

    def press_ctrl_c(state: TuningState[GPT]) -> float:
        if state.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return set_rates(state)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TuningState, "set_learning_rates", press_ctrl_c)
        run(policy, data, tmp_path / "parts", updates=2)
    torch.rand(5)  # the random generators are somewhere else now
    parts = run(policy, data, tmp_path / "parts", updates=2, resume=True)
    assert_equal(whole.model, parts.model)
    assert numbers(whole) == numbers(parts)


@pytest.mark.parametrize("unbiased", [False, True])
def test_accumulation_gives_the_same_update(
    policy: GPT, data: RequestData, tmp_path: Path, unbiased: bool
) -> None:
    changes = {"max_steps": 1, "kl": 0.5, "unbiased": unbiased, "eval_every": 1, "updates": 2}
    one = run(policy, data, tmp_path / "one", accumulation=1, **changes)
    four = run(policy, data, tmp_path / "four", accumulation=4, **changes)
    assert one.history[-1]["loss"] == pytest.approx(four.history[-1]["loss"], abs=1e-5)
    assert one.history[-1]["loss"] != 0


def test_half_precision_scores_as_it_updates(
    policy: GPT, data: RequestData, tmp_path: Path
) -> None:
    """Both passes are rounded alike, so the loss of a first update still is 0 but for the KL."""
    result = run(policy, data, tmp_path, precision="bfloat16", max_steps=1, kl=0.0)
    assert result.history[-1]["loss"] == pytest.approx(0, abs=1e-5)
    assert result.history[-1]["clip_fraction"] == 0.0
    assert not torch.equal(result.model.head.weight, policy.head.weight)


def test_a_reward_that_is_nan_stops(policy: GPT, data: RequestData, tmp_path: Path) -> None:
    def broken(requests: Sequence[Request], replies: Sequence[str], rollout: Rollout) -> Tensor:
        return judge_reward(requests, replies, rollout) / 0.0 * 0.0

    with pytest.raises(ValueError, match="reward of 16 of 16 replies is nan at step 0"):
        run(policy, data, tmp_path, broken)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--group", "1"], "group=1 reply has nothing to be compared with"),
        (["--batch-size", "6", "--accumulation", "4"], "cannot be computed in accumulation=4"),
        (["--max-new", "0"], "max_new=0 is not possible"),
    ],
)
def test_impossible_settings(argv: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        config_from_argv(build_parser(), GRPOConfig, GRPO_PRESETS, argv)
