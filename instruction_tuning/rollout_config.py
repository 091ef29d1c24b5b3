"""Settings of the trainings in which the policy learns from its own replies: PPO and GRPO."""

from __future__ import annotations

from dataclasses import dataclass

from instruction_tuning.common_config import SMOKE, TuningConfig
from tutorial_kit.config_checks import (
    check_counts,
    check_learning_rates,
    check_not_negative,
    check_shares,
)


@dataclass(frozen=True)
class RolloutConfig(TuningConfig):
    """What PPO and GRPO have in common: the policy learns from its own replies."""

    base: str = "quick_sft"  # the policy that is tuned; a frozen copy of it is the reference
    reward: str = "verifier"  # verifier, judge, or the run of a reward model
    missing_end: float = 1.0  # a reward model's score of a reply that never ends is lower by this
    kl: float = 0.01  # weight of the KL divergence from the reference, reward per nat
    clip_ratio: float = 0.2  # how far the ratio of new and old probability may move from 1
    updates: int = 1  # passes over each rollout
    max_steps: int = 100  # rollouts, each with its updates
    eval_every: int = 25  # steps between evaluations

    def __post_init__(self) -> None:
        """Checks what sampling assumes, too."""
        super().__post_init__()
        check_counts(self, "updates")
        check_not_negative(self, "kl", "missing_end")
        if not 0 < self.clip_ratio < 1:
            raise ValueError(
                f"clip_ratio={self.clip_ratio} lets the policy move nowhere, or anywhere. "
                "Use more than 0 and less than 1, such as 0.2."
            )


@dataclass(frozen=True)
class PPOConfig(RolloutConfig):
    """Proximal policy optimization: a second model says what was to be expected."""

    reward: str = "quick_reward"  # verifier, judge, or the run of a reward model
    batch_size: int = 128  # requests of a rollout, one reply to each
    minibatches: int = 2  # updates in a pass over a rollout
    updates: int = 2  # passes over each rollout
    max_steps: int = 50  # rollouts, each with its updates
    lr: float = 3e-4  # peak learning rate of AdamW
    value_lr: float = 5e-4  # peak learning rate of the value model
    value_clip: float = 0.2  # how far a value may move from that before the updates
    kl: float = 0.4  # weight of the KL divergence from the reference, reward per nat
    discount: float = 1.0  # what a reward one token later is worth, gamma
    lam: float = 0.95  # trust in rewards (1) or in values (0), GAE's lambda

    def __post_init__(self) -> None:
        """Checks what is PPO's own, too."""
        super().__post_init__()
        check_counts(self, "minibatches")
        check_learning_rates(self, "value_lr", "value_clip")
        check_shares(self, "discount", "lam")
        if self.minibatches * self.accumulation > self.batch_size:
            raise ValueError(
                f"batch_size={self.batch_size} replies do not fill minibatches={self.minibatches} "
                f"of accumulation={self.accumulation} parts. Use fewer, or more replies."
            )


@dataclass(frozen=True)
class GRPOConfig(RolloutConfig):
    """Group relative policy optimization: compare the replies to one request with each other."""

    batch_size: int = 32  # requests of a rollout
    group: int = 8  # replies to each request, G
    unbiased: bool = False  # Dr. GRPO: divide neither by the group's spread nor by the length
    max_steps: int = 120  # rollouts, each with its updates
    lr: float = 4e-4  # peak learning rate of AdamW

    def __post_init__(self) -> None:
        """Checks what is GRPO's own, too."""
        super().__post_init__()
        if self.group < 2:
            raise ValueError(
                f"group={self.group} reply has nothing to be compared with: every advantage would "
                "be 0. Use 2 or more, such as 8."
            )


PPO_PRESETS: dict[str, PPOConfig] = {
    "smoke": PPOConfig(**SMOKE, reward="judge"),
    # 33 s on two Xeon threads: 84 % of unseen requests right greedy, 72 % sampled.
    "quick": PPOConfig(),
    "standard": PPOConfig(base="standard_sft", reward="standard_reward", max_steps=200),
}

GRPO_PRESETS: dict[str, GRPOConfig] = {
    "smoke": GRPOConfig(**SMOKE, reward="judge", group=2),
    # 29 s there: 86 % greedy, 80 % sampled.
    "quick": GRPOConfig(),
    "standard": GRPOConfig(base="standard_sft", max_steps=400),
}
