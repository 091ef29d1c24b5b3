"""What PPO and GRPO have in common: the next rollout with its rewards, and what is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from torch import Tensor

from gpt.gpt_model import GPT
from instruction_tuning.policy_scores import PolicyReporter
from instruction_tuning.request_data import RequestData
from instruction_tuning.rewards import ModelReward, Reward, check_rewards
from instruction_tuning.rollout import Rollout, roll_out, rollout_seed
from instruction_tuning.rollout_config import RolloutConfig
from instruction_tuning.tuning_state import TuningState


def next_rollout(
    state: TuningState[GPT], data: RequestData, reward: Reward, n: int = 1
) -> tuple[Rollout, Tensor]:
    """Lets the policy reply n times to each of the next requests and has the replies scored.

    Args:
        state: of the run.
        data: its requests.
        reward: scores replies.
        n: replies to each request.

    Returns:
        The rollout of B = n ``config.batch_size`` replies; their rewards, (B,), on the device.

    Raises:
        ValueError: a reward is no number, or a request leaves no room for a reply.
    """
    config, rows = state.config, state.sampler.next_rows()
    rollout = roll_out(
        state.model, state.tokenizer, [data.prompts[row] for row in rows], n=n,
        max_new=config.max_new, precision=config.precision,
        seed=rollout_seed(config.seed, state.step, n * len(rows)),
    )  # fmt: skip
    requests = [data.train[row] for row in rows for _ in range(n)]
    rewards = reward(requests, rollout.texts(state.tokenizer), rollout)
    return rollout, check_rewards(rewards, state.step).to(state.device)


def rollout_metrics(rollout: Rollout, rewards: Tensor, kl: Tensor) -> dict[str, float]:
    """Returns what is logged of every rollout.

    Args:
        rollout: B replies.
        rewards: (B,).
        kl: (B, L), log p - log q of each token, 0 behind a reply's end.
    """
    mask = rollout.mask
    return {
        "reward": rewards.mean().item(),
        "kl": kl.sum(1).mean().item(),  # nats a reply
        "entropy": (rollout.entropy.sum() / mask.sum()).item(),  # nats a token
        "length": mask.sum(1).float().mean().item(),  # tokens, the end token included
        "unfinished": 1.0 - rollout.finished.float().mean().item(),  # share of the replies
    }


class RolloutReporter(PolicyReporter):
    """The reporter of PPO and GRPO."""

    def __init__(
        self,
        state: TuningState[GPT],
        folder: Path,
        data: RequestData,
        reference: GPT,
        reward: Reward,
        *,
        resume: bool,
    ) -> None:
        """Arguments as ``PolicyReporter``; tells at once where the policy begins."""
        if isinstance(reward, ModelReward):  # its zero and its unit belong to the run
            reward.model.to(state.device)
            reward.scale = state.notes.setdefault("reward_scale", {})
        config = cast(RolloutConfig, state.config)
        learned_from = f"{len(data.train):,} requests, rewarded by {config.reward}"
        super().__init__(
            state, folder, learned_from, data.validation, reference, reward=reward, resume=resume
        )
        if not state.step:
            self.evaluate()

    def evaluate(self) -> None:
        """Scores the policy on held-out requests, prints one line and one sample, keeps the best.

        The best checkpoint is the one with the highest held-out *reward*: that is all a training
        may know. Whether the reward deserves it, the judge says.
        """
        state = self.state
        means, (scores, sample) = self.take_means(), self.score()
        trained = f"{means['reward']:7.3f}" if means else "      -"
        self._bar.write(
            f"step {state.step:>6}  {state.seconds:7.1f} s  reward {trained}  "
            f"held out {scores['validation_reward']:7.3f}  judge {scores['judge']:.3f}  "
            f"exact {scores['exact_match']:6.2%} greedy {scores['exact_sampled']:6.2%} at T=1  "
            f"KL {scores['validation_kl']:6.3f} nats/reply\n{sample}"
        )
        self._log.write(
            state.step, seconds=round(state.seconds, 3), **means, **scores,
            epochs=state.sampler.epochs,
        )  # fmt: skip
        self.keep_best(scores["validation_reward"])
