"""A recipe: the settings of all stages from a base model to an assistant, and where its runs lie.

    base -> sft -+-> preferences -> reward -> ppo
                 |        '-------> dpo
                 '----------------> grpo

What a stage's numbers depend on is its own settings and those of the stages before it. Their hash,
the fingerprint, decides whether an earlier training can be used again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from instruction_tuning.base_model import base_name, parse_base_name
from instruction_tuning.rewards import PROGRAMS
from instruction_tuning.tuning_config import (
    PRESETS,
    DPOConfig,
    GRPOConfig,
    PPOConfig,
    RewardConfig,
    SFTConfig,
    TuningConfig,
)
from tutorial_kit.config import config_to_dict
from tutorial_kit.training import run_folder

FAMILY = "instruction_tuning"
STAGES = ("base", "sft", "reward", "dpo", "ppo", "grpo")  # in the order of the story
POLICIES = ("base", "sft", "dpo", "ppo", "grpo")  # those that give a model which writes
CODE_VERSION = 1
"""Counted up when the code changes so that the same settings give other numbers."""

Changes = Mapping[str, Mapping[str, Any]]
"""Stage -> settings that differ."""


@dataclass(frozen=True)
class Recipe:
    """The settings of all stages, and what they are measured on."""

    sft: SFTConfig
    reward: RewardConfig
    dpo: DPOConfig
    ppo: PPOConfig
    grpo: GRPOConfig
    requests: int = 400  # held-out requests of the test split; the same for every seed
    samples: int = 16  # replies to each of half of them, for best-of-n

    def config(self, stage: str) -> TuningConfig:
        """Returns the settings of a stage that has some: all but "base"."""
        config: TuningConfig = getattr(self, stage)
        return config

    def reward_name(self, stage: str) -> str:
        """Returns what a stage maximizes: "verifier", "judge" or a run's name; "" if no reward."""
        return str(getattr(self.config(stage), "reward", ""))

    def parents(self, stage: str) -> tuple[str, ...]:
        """Returns the stages that one starts from.

        >>> make_recipe("quick", 0, {"ppo": {"reward": "verifier"}}).parents("ppo")
        ('sft',)
        """
        if stage in ("base", "sft"):
            return () if stage == "base" else ("base",)
        return ("sft",) if self.reward_name(stage) in ("", *PROGRAMS) else ("sft", "reward")

    def fingerprint(self, stage: str, base: str) -> str:
        """Returns what a stage's numbers depend on, as 16 hexadecimal digits.

        Args:
            stage: one of ``STAGES``.
            base: what says which base model it is, such as its folder's name in the cache.
        """
        described: list[Any] = [CODE_VERSION, stage, self.requests, self.samples, base]
        if stage != "base":
            settings = config_to_dict(self.config(stage))
            left_out = {"base", "threads"}  # the base's name is not its content
            if settings.get("reward") not in PROGRAMS:
                left_out.add("reward")  # a run's name; the fingerprint of its training counts
            described.append({k: v for k, v in settings.items() if k not in left_out})
        described += [self.fingerprint(parent, base) for parent in self.parents(stage)]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def make_recipe(
    preset: str, seed: int = 0, changes: Changes | None = None, *, base_seed: int = 0
) -> Recipe:
    """Returns the settings of a preset, changed stage by stage.

    Args:
        preset: "smoke", "quick" or "standard".
        seed: of every stage.
        changes: stage -> settings that differ from the preset.
        base_seed: of the base model.

    >>> make_recipe("quick", 2, {"dpo": {"beta": 0.1}}).dpo.beta
    0.1
    """
    changes = changes or {}
    configs: dict[str, Any] = {
        stage: replace(known[preset], **{"seed": seed, **changes.get(stage, {})})
        for stage, known in PRESETS.items()
    }
    if preset == "smoke":  # the trainers' own smoke tests have no reward model
        rewards = {"ppo": "smoke_reward", "grpo": "verifier"}
        for stage, name in rewards.items():
            reward = changes.get(stage, {}).get("reward", name)
            configs[stage] = replace(configs[stage], reward=reward)
    base = parse_base_name(configs["sft"].base)
    assert base is not None, "a recipe starts from a base model"
    configs["sft"] = replace(configs["sft"], base=base_name(base[0], base_seed))
    if preset == "smoke":
        configs["requests"] = 24
    return Recipe(**configs)


Place = Callable[[str, str], Path]
"""(stage, fingerprint) -> folder."""


def named_place(preset: str) -> Place:
    """Returns a place of runs that a learner can name: outputs/instruction_tuning/quick_sft, ...

    There is one run of each stage; other settings replace it.
    """
    return lambda stage, _: run_folder(FAMILY, f"{preset}_{stage}")


def experiment_place(stage: str, fingerprint: str) -> Path:
    """Returns the folder of a run among many: other settings never replace it."""
    return run_folder(FAMILY, "experiments") / f"{stage}_{fingerprint}"


def name_of(folder: Path) -> str:
    """Returns the name by which a run is loaded: its folder's, or the path if it lies elsewhere."""
    return folder.name if folder == run_folder(FAMILY, folder.name) else str(folder)
