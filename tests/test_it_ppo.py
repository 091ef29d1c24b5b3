"""PPO: the first ratio is 1, the reward rises, KL holds it back, resumes bit for bit, NaN stops."""

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
from instruction_tuning import ppo_trainer
from instruction_tuning.chat_template import END, chat_tokens
from instruction_tuning.ppo_trainer import build_parser, token_rewards, train
from instruction_tuning.request_data import RequestData
from instruction_tuning.reward_model import RewardModel, ValueModel
from instruction_tuning.rewards import ModelReward, Reward, judge_reward
from instruction_tuning.rollout import Rollout
from instruction_tuning.rollout_config import PPO_PRESETS, PPOConfig
from instruction_tuning.saved_model import load_policy
from instruction_tuning.tuning_config import config_from_argv
from instruction_tuning.tuning_state import TrainResult, TuningState
from instruction_tuning.word_world import Request, draw_requests
from instruction_tuning.world_tokenizer import build_tokenizer
from tutorial_kit.console import run_entry

TOKENIZER = build_tokenizer()
CONFIG = PPOConfig(
    reward="judge", batch_size=8, max_steps=6, eval_every=2, checkpoint_every=3, lr=3e-3,
    value_lr=3e-3, max_new=6, threads=1, schedule="constant",
)  # fmt: skip


def make_policy(dropout: float = 0.0) -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(TOKENIZER.vocab_size, 64, 16, 2, 2, 1, 32, dropout, **RECIPES["modern"])
    model = GPT(config)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    for name, weight in model.named_parameters():  # at zero nothing but the head would matter
        if name.endswith(("output.weight", "contract.weight")):
            torch.nn.init.normal_(weight, std=0.3)
    with torch.no_grad():  # replies end now and then
        model.head.weight[chat_tokens(TOKENIZER)[END]] *= 8
    return model.eval()


@pytest.fixture(scope="module")
def policy() -> GPT:
    return make_policy()


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
    policy: GPT, data: RequestData, folder: Path, reward: Reward = judge_reward, **changes: object
) -> TrainResult[GPT]:
    options = {name: changes.pop(name) for name in ("resume", "reference") if name in changes}
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    return train(
        config, policy, TOKENIZER, data, folder, reward=reward, device="cpu", **options,  # type: ignore[arg-type]
    )  # fmt: skip


def numbers(result: TrainResult[GPT]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_first_ratio_is_one(
    data: RequestData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dropout: float
) -> None:
    """Dropout, a temperature, a wrong position or mask would show here, and nowhere else."""
    ratios: list[Tensor] = []
    loss = ppo_trainer.ppo_policy_loss

    def watch(now: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float) -> object:
        ratios.append((now - old).exp()[mask].detach())
        return loss(now, old, advantages, mask, clip)

    monkeypatch.setattr(ppo_trainer, "ppo_policy_loss", watch)
    run(make_policy(dropout), data, tmp_path, max_steps=2, updates=2, minibatches=2)
    assert len(ratios) == 8  # of 2 steps, with 4 updates each
    for step in (0, 4):
        assert (ratios[step] - 1).abs().max() < 1e-5
        assert (ratios[step + 3] - 1).abs().max() > 1e-4, "later updates are elsewhere"


def test_the_reward_rises_and_the_log_tells_it(
    policy: GPT, data: RequestData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = policy.head.weight.clone()
    result = run(policy, data, tmp_path, short, max_steps=24, eval_every=12, kl=0.0, batch_size=16,
                 lr=2e-2)  # fmt: skip
    start, _, last = result.history
    assert start["step"] == 0 and start["validation_kl"] == pytest.approx(0, abs=1e-5)
    assert last["validation_reward"] > start["validation_reward"] + 0.15
    assert last["reward"] > start["validation_reward"] and last["length"] < 6
    assert last["validation_kl"] > 0.1 and 0 <= last["clip_fraction"] <= 1
    assert {"kl", "entropy", "value_loss", "unfinished", "exact_match", "exact_sampled", "judge",
            "epochs"} <= last.keys()  # fmt: skip
    output = capsys.readouterr().out
    assert "parameters; training on cpu, 20 requests" in output and " -> '" in output
    assert torch.equal(policy.head.weight, before)
    loaded = load_policy(tmp_path)[0].state_dict()
    assert all(torch.equal(loaded[name], w) for name, w in result.model.state_dict().items())


def test_kl_holds_the_policy_back(policy: GPT, data: RequestData, tmp_path: Path) -> None:
    changes = {"max_steps": 16, "eval_every": 16, "lr": 2e-2, "batch_size": 16}
    free = run(policy, data, tmp_path / "free", short, kl=0.0, **changes)
    held = run(policy, data, tmp_path / "held", short, kl=2.0, **changes)
    assert held.history[-1]["validation_kl"] < 0.5 * free.history[-1]["validation_kl"]


def test_every_token_pays_and_the_last_one_is_rewarded() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False]])
    kl = torch.tensor([[0.5, -0.25, 1.0], [2.0, 9.0, 9.0]])
    found = token_rewards(torch.tensor([10.0, 20.0]), kl, mask, 0.1)
    expected = torch.tensor([[-0.05, 0.025, 9.9], [19.8, 0.0, 0.0]])
    assert torch.allclose(found, expected)


def test_equal_rewards_and_no_kl_leave_little_to_do(
    policy: GPT, data: RequestData, tmp_path: Path
) -> None:
    """The critic learns the constant; the KL penalty is 0 at the start, so nothing pulls."""
    result = run(policy, data, tmp_path, lambda *_: torch.ones(len(_[1])), max_steps=20,
                 value_lr=3e-2, lr=1e-5, eval_every=10)  # fmt: skip
    first, last = result.history[1:]
    assert last["value_loss"] < 0.5 * first["value_loss"]


CASES = {"adamw": {}, "muon": {"optimizer": "muon"}, "lora": {"lora_rank": 2}}


@pytest.mark.parametrize("case", CASES)
def test_resume_equals_uninterrupted(
    policy: GPT, data: RequestData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Also the critic, the reward's zero and unit, and the means of a half-done interval."""
    scorer = RewardModel(make_policy())
    torch.nn.init.normal_(scorer.head.weight)
    whole = run(policy, data, tmp_path / "whole", ModelReward(scorer), **CASES[case])
    set_rates = TuningState.set_learning_rates

    def press_ctrl_c(state: TuningState[GPT]) -> float:
        if state.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return set_rates(state)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TuningState, "set_learning_rates", press_ctrl_c)
        run(policy, data, tmp_path / "parts", ModelReward(scorer), **CASES[case])
    torch.rand(5)  # the random generators are somewhere else now
    parts = run(policy, data, tmp_path / "parts", ModelReward(scorer), resume=True, **CASES[case])
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, parts.model.state_dict()[name]), name
    assert numbers(whole) == numbers(parts)


def test_accumulation_gives_the_same_updates(
    policy: GPT, data: RequestData, tmp_path: Path
) -> None:
    changes = {"max_steps": 1, "minibatches": 1, "updates": 1, "eval_every": 1}
    one = run(policy, data, tmp_path / "one", accumulation=1, **changes)
    four = run(policy, data, tmp_path / "four", accumulation=4, **changes)
    for name in ("policy_loss", "value_loss", "reward"):
        assert one.history[-1][name] == pytest.approx(four.history[-1][name], abs=1e-5), name


def test_the_critic_begins_with_the_reward_model(
    policy: GPT, data: RequestData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[GPT] = []
    init = ValueModel.__init__

    def watch(self: ValueModel, body: GPT) -> None:
        bodies.append(body)
        init(self, body)

    monkeypatch.setattr(ValueModel, "__init__", watch)
    scorer = RewardModel(make_policy())
    torch.nn.init.normal_(scorer.body.head.weight, mean=7.0)
    torch.nn.init.normal_(scorer.head.weight)
    run(policy, data, tmp_path / "model", ModelReward(scorer), max_steps=1)
    run(policy, data, tmp_path / "judge", max_steps=1)
    assert torch.equal(bodies[0].head.weight, scorer.body.head.weight)
    assert bodies[0] is not scorer.body, "a copy: the reward must not learn"
    assert torch.equal(bodies[1].head.weight, policy.head.weight)


def nan_reward(requests: Sequence[Request], replies: Sequence[str], rollout: Rollout) -> Tensor:
    rewards = judge_reward(requests, replies, rollout)
    rewards[-1] = float("nan")
    return rewards


def test_a_reward_that_is_nan_stops_with_one_line(
    policy: GPT, data: RequestData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        run_entry(lambda: run(policy, data, tmp_path, nan_reward))
    assert left.value.code == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.startswith("error: the reward of 1 of 8 replies is nan at step 0: ")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--kl", "-1"], "kl=-1.0 is below 0"),
        (["--clip-ratio", "1"], "clip_ratio=1.0 lets the policy move nowhere, or anywhere"),
        (["--lam", "1.1"], "lam=1.1 is no share"),
        (["--value-lr", "0"], "value_lr=0.0 learns nothing"),
        (["--updates", "0"], "updates=0 is not possible"),
        (["--minibatches", "300"], "batch_size=128 replies do not fill minibatches=300"),
    ],
)
def test_impossible_settings(argv: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        config_from_argv(build_parser(), PPOConfig, PPO_PRESETS, argv)
