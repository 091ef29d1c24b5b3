"""The stages from a base model to an assistant, each trained when it is first asked for, then kept.

``quick_start.py`` tells the story with one recipe, ``run_examples.py`` varies recipes, and the
benchmarks measure some. A stage is kept in its folder under its fingerprint: what two recipes have
in common is trained once, and what a change touches is trained anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from gpt.gpt_model import GPT
from instruction_tuning import dpo_trainer, grpo_trainer, ppo_trainer, reward_trainer, sft_trainer
from instruction_tuning.base_model import base_model, parse_base_name
from instruction_tuning.common_config import VALIDATION
from instruction_tuning.instruction_data import HasPair, pair_rows
from instruction_tuning.pair_data import PairData, Pairs
from instruction_tuning.preference_data import accepted_pairs, compare, preferences_of
from instruction_tuning.recipes import (
    POLICIES,
    Place,
    Recipe,
    experiment_place,
    make_recipe,
    name_of,
    named_place,
)
from instruction_tuning.request_data import load_request_data
from instruction_tuning.reward_model import RewardModel
from instruction_tuning.rewards import PROGRAMS, ModelReward, Reward
from instruction_tuning.saved_model import load_policy, load_reward_model
from instruction_tuning.scores import evaluate
from instruction_tuning.stage_measures import measure_reward_model
from instruction_tuning.tuning_state import TrainResult
from instruction_tuning.word_world import Request, Split, draw_requests
from tutorial_kit.training import write_json
from tutorial_kit.word_tokenizer import WordTokenizer

__all__ = ["Recipe", "Stages", "experiment_place", "make_recipe", "named_place"]

Numbers = dict[str, float]
LEARNED: tuple[Split, Split] = ("train", "validation")


@lru_cache(maxsize=2)
def load_base(name: str, device: str) -> tuple[GPT, WordTokenizer, Path]:
    """Returns a base model, which no stage changes: recipes share it."""
    parsed = parse_base_name(name)
    assert parsed is not None, "a recipe starts from a base model"
    return base_model(*parsed, device)


class Stages:
    """The stages of one recipe. Each model and each number is there as soon as it is asked for."""

    def __init__(
        self, recipe: Recipe, place: Place = experiment_place, device: str = "auto"
    ) -> None:
        """Trains nothing but the base model, if it is not in the cache.

        Args:
            recipe: the settings.
            place: where the runs are.
            device: where to train: "auto", "cpu", "cuda" or "mps".
        """
        self.recipe, self.place, self.device = recipe, place, device
        base, self.tokenizer, self.base_folder = load_base(recipe.sft.base, device)
        self._models: dict[str, GPT | RewardModel] = {"base": base}
        self._pairs: dict[tuple[Any, ...], Sequence[HasPair]] = {}

    def outcome(self, stage: str) -> Numbers:
        """Returns a stage's numbers: kept ones, or those of a training that runs now.

        Args:
            stage: one of ``recipes.STAGES``.

        Returns:
            Of a policy ``Scores.numbers``, of the reward model what ``measure_reward_model``
            returns. Of every training the last line of its log, each name with "last." before it,
            and "seconds", spent in steps; "wall_seconds" are the stage's with data and measuring.
        """
        kept = self.kept(stage)
        return self.run(stage) if kept is None else kept

    def kept(self, stage: str) -> Numbers | None:
        """Returns the numbers of an earlier run with the same fingerprint, or None."""
        folder = self.folder(stage)
        try:
            content = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        whole = stage == "base" or (folder / "checkpoints" / "last.pt").is_file()
        if not whole or content.get("fingerprint") != self._fingerprint(stage):
            return None
        numbers: Numbers = content["numbers"]
        return numbers

    def run(self, stage: str) -> Numbers:
        """Trains and measures a stage, also if it is kept; those before it only if need be."""
        for parent in self.recipe.parents(stage):
            self.outcome(parent)
        started, path = time.perf_counter(), self.folder(stage) / "outcome.json"
        path.unlink(missing_ok=True)  # what is being replaced must not be taken for the result
        numbers = {**self._train(stage), **self._measure(stage)}
        numbers["wall_seconds"] = time.perf_counter() - started
        write_json(path, {"fingerprint": self._fingerprint(stage), "numbers": numbers})
        return numbers

    def policy(self, stage: str) -> GPT:
        """Returns the model that a stage of ``recipes.POLICIES`` gives, trained now if need be."""
        assert stage in POLICIES
        if stage not in self._models:
            self.outcome(stage)
        if stage not in self._models:
            self._models[stage] = load_policy(self.folder(stage))[0]
        return cast(GPT, self._models[stage])

    def reward_model(self) -> RewardModel:
        """Returns the reward model, trained now if need be."""
        if "reward" not in self._models:
            self.outcome("reward")
        if "reward" not in self._models:
            self._models["reward"] = load_reward_model(self.folder("reward"))[0]
        return cast(RewardModel, self._models["reward"])

    def pairs(self, stage: str, split: Split) -> Sequence[HasPair]:
        """Returns the preferences that "reward" or "dpo" learns from; equal ones are drawn once."""
        config: Any = self.recipe.config(stage)
        names = ("requests", "replies", "visible", "noise", "max_new", "seed")
        key = (*(getattr(config, name) for name in names), split)
        if key not in self._pairs:
            policy = self.policy("sft")
            self._pairs[key] = preferences_of(config, policy, self.tokenizer, split)
        return self._pairs[key]

    def folder(self, stage: str) -> Path:
        """Returns where a stage is kept, or will be."""
        return self.place(stage, self._fingerprint(stage))

    @property
    def test_requests(self) -> list[Request]:
        """What every policy is measured on; about words that occur in no training."""
        return draw_requests(self.recipe.requests, "test", 0)

    def _fingerprint(self, stage: str) -> str:
        return self.recipe.fingerprint(stage, self.base_folder.name)

    def _config(self, stage: str) -> Any:
        """Returns a stage's settings with the runs that it starts from named as they lie here."""
        changes = {}
        parents = self.recipe.parents(stage)
        if "sft" in parents:
            changes["base"] = name_of(self.folder("sft"))
        if "reward" in parents:
            changes["reward"] = name_of(self.folder("reward"))
        return replace(self.recipe.config(stage), **changes)  # type: ignore[arg-type]

    def _measure(self, stage: str) -> Numbers:
        """Returns a trained stage's numbers."""
        requests, seed = self.test_requests, self.recipe.sft.seed
        if stage == "reward":
            return measure_reward_model(
                self.reward_model(), self.policy("sft"), self.tokenizer,
                requests[: len(requests) // 2], self.recipe.samples, seed,
            )  # fmt: skip
        reference = self.policy("sft") if stage != "base" else None
        policy = self.policy(stage)
        return evaluate(policy, self.tokenizer, requests, seed, reference=reference).numbers()

    def _train(self, stage: str) -> Numbers:
        """Trains a stage into its folder, remembers the model, returns the log's last line."""
        if stage == "base":
            return {}
        train = {"sft": self._train_sft, "reward": self._train_reward, "dpo": self._train_dpo,
                 "ppo": self._train_ppo, "grpo": self._train_grpo}[stage]  # fmt: skip
        result = train(self._config(stage), self.folder(stage))
        self._models[stage] = result.model.cpu()
        last = result.history[-1] if result.history else {}
        numbers = {f"last.{name}": float(value) for name, value in last.items()}
        return numbers | {"seconds": result.seconds}

    def _train_sft(self, config: Any, folder: Path) -> TrainResult[Any]:
        base = self.policy("base")
        data = sft_trainer.load_sft_data(config, self.tokenizer, base.config.max_len)
        return sft_trainer.train(config, base, self.tokenizer, data, folder, device=self.device)

    def _train_reward(self, config: Any, folder: Path) -> TrainResult[Any]:
        sft = self.policy("sft")
        groups = [
            compare(self.pairs("reward", split), self.tokenizer, sft.config.max_len)
            for split in LEARNED
        ]
        data = reward_trainer.RewardData(*groups)
        return reward_trainer.train(config, sft, self.tokenizer, data, folder, device=self.device)

    def _train_dpo(self, config: Any, folder: Path) -> TrainResult[Any]:
        sft = self.policy("sft")
        max_len = sft.config.max_len
        pairs = [accepted_pairs(config, self.pairs("dpo", split)) for split in LEARNED]
        learned, held_out = (
            Pairs.of(pair_rows(each, self.tokenizer, max_len), max_len) for each in pairs
        )
        data = PairData(learned, held_out, draw_requests(VALIDATION, "validation", config.seed))
        return dpo_trainer.train(config, sft, self.tokenizer, data, folder, device=self.device)

    def _train_ppo(self, config: Any, folder: Path) -> TrainResult[Any]:
        sft, reward = self.policy("sft"), self._reward(config)
        data = load_request_data(config, self.tokenizer, sft.config.max_len)
        return ppo_trainer.train(
            config, sft, self.tokenizer, data, folder, reward=reward, device=self.device
        )

    def _train_grpo(self, config: Any, folder: Path) -> TrainResult[Any]:
        sft, reward = self.policy("sft"), self._reward(config)
        data = load_request_data(config, self.tokenizer, sft.config.max_len)
        return grpo_trainer.train(
            config, sft, self.tokenizer, data, folder, reward=reward, device=self.device
        )

    def _reward(self, config: Any) -> Reward:
        """Returns what a stage maximizes."""
        if config.reward in PROGRAMS:
            return PROGRAMS[config.reward]
        return ModelReward(self.reward_model(), config.missing_end)
