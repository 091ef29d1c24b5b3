"""What one training of a topic gives, trained once: a finished one is read, not repeated.

Topics share trainings: the plain rotary decoder is the baseline of three of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from advanced_topics.advanced_config import PRESETS, AdvancedConfig, Rescale
from advanced_topics.advanced_trainer import train
from advanced_topics.evaluation import expert_loads, losses_by_position, recall_accuracy
from advanced_topics.mixture_of_experts import overflow
from advanced_topics.small_decoder import parameter_counts
from advanced_topics.topic import FAMILY
from advanced_topics.train_state import load_data, load_trained
from tutorial_kit.config import override
from tutorial_kit.experiments import kept_outcome, variant_folder

BINS = 8  # stretches of a long window whose losses are averaged
STRETCH = 4  # how much longer than the training windows the long windows are
RECALL_LEVELS: dict[str, dict[str, Any]] = {
    "standard": {},
    "quick": {"max_steps": 150, "pairs": 16, "keys": 32},
    "smoke": {"max_steps": 2, "pairs": 4, "keys": 16, "d_model": 16, "batch_size": 4},
}  # what each level changes in the recall task
HELD_OUT = "test"  # the split of the text that the topics report; validation chose the settings


def text_config(level: str, settings: Mapping[str, Any], seed: int) -> AdvancedConfig:
    """Returns the settings of one training on text.

    Args:
        level: "standard", "quick" or "smoke".
        settings: what differs from the baseline.
        seed: of first weights and order of the text.
    """
    return _once(override(PRESETS[level], settings), seed)


def recall_config(level: str, settings: Mapping[str, Any], seed: int) -> AdvancedConfig:
    """Returns the settings of one training on recall; arguments as ``text_config``."""
    return _once(override(PRESETS["recall"], {**RECALL_LEVELS[level], **settings}), seed)


def _once(config: AdvancedConfig, seed: int) -> AdvancedConfig:
    """Returns the config with one evaluation and one checkpoint, at the end."""
    steps = config.max_steps
    return replace(config, seed=seed, eval_every=steps, checkpoint_every=steps)


def folder_of(config: AdvancedConfig) -> Path:
    """Returns where a training lies; other settings or another text mean another folder."""
    data = load_data(config)
    return variant_folder(FAMILY, config, data.n_bytes if data else {})


def measure_text(config: AdvancedConfig) -> dict[str, float]:
    """Trains on text, or reads what an earlier training of the same settings gave.

    Returns:
        "loss" in nats per token of held-out text, "seconds" of training, "parameters", "active"
        (those that one token uses); of experts also "busiest" (largest share of the tokens, mean
        over the layers) and "overflow" (share that a capacity of 1.25 would drop), from 0 to 1, and
        "load.E" for each expert of the first layer, the busiest first.
    """
    data, folder = load_data(config), folder_of(config)
    assert data is not None

    def train_it() -> dict[str, float]:
        result = train(config, data, folder, device="cpu")
        held_out = data.tokens[HELD_OUT]
        every, active = parameter_counts(result.model)
        found = {
            "loss": float(losses_by_position(result.model, held_out, config.window).mean()),
            "seconds": result.seconds,
            "parameters": float(every),
            "active": float(active),
        }
        if config.model.n_experts:
            loads = expert_loads(result.model, held_out, config.window)  # (L, E)
            found["busiest"] = float(loads.amax(dim=1).mean())
            found["overflow"] = overflow(loads)
            ordered = loads[0].sort(descending=True).values
            found |= {f"load.{number}": float(load) for number, load in enumerate(ordered)}
        return found

    return kept_outcome(folder, train_it)


def measure_curve(config: AdvancedConfig, rescale: Rescale) -> list[float]:
    """Losses along windows of ``STRETCH`` times the training length, in ``BINS`` stretches.

    Args:
        config: of a training on text, which is done first if it has not been.
        rescale: what is done with rotary positions.

    Returns:
        Nats per token of held-out text, a number a stretch.
    """
    measure_text(config)
    data, folder = load_data(config), folder_of(config)
    assert data is not None

    def evaluate() -> dict[str, float]:
        losses = losses_by_position(
            load_trained(folder), data.tokens[HELD_OUT], STRETCH * config.window,
            trained=config.window, rescale=rescale, stride=STRETCH * config.window // BINS,
            most_windows=128,
        )  # fmt: skip
        means = losses.view(BINS, -1).mean(dim=1).tolist()
        return {f"{number:02}": loss for number, loss in enumerate(means)}

    return list(kept_outcome(folder / f"curve_{rescale}", evaluate).values())


def measure_recall(config: AdvancedConfig, pairs: tuple[int, ...]) -> dict[str, float]:
    """Trains on recall, or reads what an earlier training of the same settings gave.

    Returns:
        "pairs.N" for each number of pairs: share of held-out answers that are right, 0 to 1.
    """
    folder = folder_of(config)

    def train_it() -> dict[str, float]:
        result = train(config, None, folder, device="cpu")
        found = {f"pairs.{n}": recall_accuracy(result.model, n, config.keys) for n in pairs}
        return found | {"seconds": result.seconds}

    return kept_outcome(folder, train_it)
