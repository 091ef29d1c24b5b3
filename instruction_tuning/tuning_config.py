"""Settings of the five trainings: what each adds to ``TuningConfig``, presets of each.

``common_config.py`` holds what they have in common, ``rollout_config.py`` PPO and GRPO.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from instruction_tuning.common_config import SMOKE, TuningConfig
from instruction_tuning.preferences import VISIBLE
from instruction_tuning.rollout_config import GRPO_PRESETS, PPO_PRESETS, GRPOConfig, PPOConfig
from tutorial_kit.config import config_parser, read_config
from tutorial_kit.config_checks import (
    check_counts,
    check_not_negative,
    check_shares,
)
from tutorial_kit.entry_parsers import add_run


@dataclass(frozen=True)
class SFTConfig(TuningConfig):
    """Supervised fine-tuning: imitate demonstrations."""

    requests: int = 20_000  # demonstrations of the world that the training draws
    lr: float = 3e-3  # peak learning rate of AdamW
    slips: float = 0.25  # share of the world's demonstrations with a slip in the answer
    chatter: float = 0.25  # share of the world's demonstrations that begin with chatter
    mask_prompt: bool = True  # only the reply is trained; no: the request's tokens, too

    def __post_init__(self) -> None:
        """Checks what is SFT's own, too."""
        super().__post_init__()
        check_shares(self, "slips", "chatter")


@dataclass(frozen=True)
class RewardConfig(TuningConfig):
    """Reward model: give the better of two replies the higher score."""

    base: str = "quick_sft"  # the policy whose replies are compared; its weights are the start
    requests: int = 8000  # requests of the world; or fewer, if the file has fewer
    replies: int = 4  # replies that the policy writes to each request of the world
    visible: float = VISIBLE  # smallest difference of two replies, 0 to 1, that the labeler sees
    noise: float = 0.05  # share of the pairs that the labeler gets wrong
    own_likelihood: float = 2.0  # weight in a score of its body's mean log p of the reply; 0: none
    likelihood: float = 0.5  # weight in the loss of the best replies' negative log-likelihood
    batch_size: int = 32  # requests in a minibatch, each with all its pairs
    max_steps: int = 250  # updates of the weights

    def __post_init__(self) -> None:
        """Checks what is the reward model's own, too."""
        super().__post_init__()
        check_counts(self, "replies")
        check_shares(self, "noise", "visible")
        check_not_negative(self, "own_likelihood", "likelihood")


@dataclass(frozen=True)
class DPOConfig(TuningConfig):
    """Direct preference optimization: raise the chosen reply above the rejected one."""

    base: str = "quick_sft"  # the policy that is tuned; a frozen copy of it is the reference
    replies: int = 4  # replies that the policy writes to each request of the world
    visible: float = VISIBLE  # smallest difference of two replies, 0 to 1, that the labeler sees
    noise: float = 0.05  # share of the pairs that the labeler gets wrong
    accepted: bool = True  # leave out pairs of the world whose chosen reply is not accepted
    loss: Literal["dpo", "ipo", "likelihood"] = "dpo"  # likelihood: only the chosen reply counts
    beta: float = 0.3  # how dearly the policy pays for leaving the reference
    likelihood: float = 3.0  # weight of the chosen reply's own negative log-likelihood; 0: none
    requests: int = 8000  # requests of the world that the training draws
    lr: float = 4e-4  # peak learning rate of AdamW
    max_steps: int = 400  # updates of the weights

    def __post_init__(self) -> None:
        """Checks what is DPO's own, too."""
        super().__post_init__()
        check_counts(self, "replies")
        check_shares(self, "noise", "visible")
        check_not_negative(self, "likelihood")
        if self.beta <= 0:
            raise ValueError(
                f"beta={self.beta} makes every margin worth nothing: the loss would stay ln 2. "
                "Use more than 0, such as 0.3."
            )


SFT_PRESETS: dict[str, SFTConfig] = {
    # Seconds on any machine; a test that everything runs, no result.
    "smoke": SFTConfig(**SMOKE),
    # The second stage of quick_start.py: 16 s on two Xeon threads, 82 % of unseen requests right.
    "quick": SFTConfig(),
    # Twice the demonstrations and five times the steps; nobody has run it yet.
    "standard": SFTConfig(base="standard", requests=40_000, max_steps=1500, eval_every=250),
}

REWARD_PRESETS: dict[str, RewardConfig] = {
    "smoke": RewardConfig(**SMOKE, replies=2, visible=0.0),
    # 16 s there, the replies included: 92 % of unseen pairs ordered rightly.
    "quick": RewardConfig(),
    "standard": RewardConfig(base="standard_sft", requests=16_000, max_steps=1000, eval_every=250),
}

DPO_PRESETS: dict[str, DPOConfig] = {
    "smoke": DPOConfig(**SMOKE, replies=2, visible=0.0, accepted=False),
    # 35 s there, the replies drawn before: 89 % right greedy, 84 % sampled.
    "quick": DPOConfig(),
    "standard": DPOConfig(base="standard_sft", requests=16_000, max_steps=800),
}

PRESETS: dict[str, Mapping[str, TuningConfig]] = {
    "sft": SFT_PRESETS,
    "reward": REWARD_PRESETS,
    "dpo": DPO_PRESETS,
    "ppo": PPO_PRESETS,
    "grpo": GRPO_PRESETS,
}
"""Stage -> name -> settings."""

CONFIGS: dict[str, type[TuningConfig]] = {
    "sft": SFTConfig,
    "reward": RewardConfig,
    "dpo": DPOConfig,
    "ppo": PPOConfig,
    "grpo": GRPOConfig,
}
"""Stage -> class of its settings."""

Config = TypeVar("Config", bound=TuningConfig)


def tuning_parser(
    config_type: type[Config], presets: Mapping[str, Config], description: str
) -> argparse.ArgumentParser:
    """Returns the command line of a trainer: its settings, ``--name``, ``--resume``, ``--device``.

    Args:
        config_type: the stage's settings.
        presets: name -> settings; "quick" is the default.
        description: what the script does, in one sentence.
    """
    parser = config_parser(config_type, presets, "quick", description)
    add_run(parser, "instruction_tuning")
    return parser


def config_from_argv(
    parser: argparse.ArgumentParser,
    config_type: type[Config],
    presets: Mapping[str, Config],
    argv: Sequence[str] | None,
) -> tuple[Config, argparse.Namespace]:
    """Parses a command line into the settings and the flags beside them.

    ``--name`` is filled in: the run of the preset "quick" of SFT is "quick_sft".
    """
    args = parser.parse_args(argv)
    stage = next(stage for stage, known in CONFIGS.items() if known is config_type)
    args.name = args.name or f"{args.preset}_{stage}"
    return read_config(config_type, presets, args), args
