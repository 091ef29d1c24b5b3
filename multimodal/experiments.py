"""What the chapter's experiments vary; ``run_examples.py`` runs them.

Each variant is a training that differs from its baseline in the named settings alone: the same
pictures for the same seed, the same number of pictures seen. The quick start learns longer, so the
numbers lie below its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multimodal.multimodal_config import PRESETS, MultimodalConfig
from tutorial_kit.config import override

STEPS = {"contrastive": 450, "bridge": 350}  # updates of a training


def _length(steps: int) -> dict[str, int]:
    """Returns the settings for a training of so many updates, evaluated at its end."""
    return {"max_steps": steps, "eval_every": steps, "checkpoint_every": steps}


BASELINES: dict[str, MultimodalConfig] = {
    "contrastive": override(PRESETS["quick"], _length(STEPS["contrastive"])),
    "bridge": override(
        PRESETS["quick-bridge"], {"encoder": "baseline", **_length(STEPS["bridge"])}
    ),
}
"""The encoder "baseline" is that of the contrastive baseline with the same seed."""


@dataclass(frozen=True)
class Experiment:
    """Trainings that differ from a baseline in the named settings."""

    question: str  # what it asks
    task: str  # whose baseline
    variants: Mapping[str, Mapping[str, Any]]  # label -> what differs
    measured: tuple[str, ...]  # scores that are recorded; the first is drawn


def _batch(size: int) -> dict[str, int]:
    """Returns the settings for minibatches of another size and equally many pictures."""
    shown = STEPS["contrastive"] * BASELINES["contrastive"].batch_size
    return {"batch_size": size, **_length(shown // size)}


EXPERIMENTS: dict[str, Experiment] = {
    "temperature": Experiment(
        "Should the temperature be learned?", "contrastive",
        {
            "learned from 0.07": {},
            "fixed at 0.07": {"temperature": "fixed"},
            "fixed at 0.5": {"temperature": "fixed", "start_temperature": 0.5},
        },
        ("unseen", "picture_to_text"),
    ),
    "batch": Experiment(
        "How many negatives, for equally many pictures?", "contrastive",
        {"32 pictures": _batch(32), "128 pictures": {}},
        ("unseen", "picture_to_text"),
    ),
    "seen": Experiment(
        "How many combinations must be seen to name the others?", "contrastive",
        {f"{count} of 36": {"combinations": count} for count in (9, 18)} | {"27 of 36": {}},
        ("unseen", "accuracy"),
    ),
    "gray": Experiment(
        "Do gray pictures for captions without a color help?", "contrastive",
        {"gray": {}, "all in color": {"gray": False}},
        ("unseen", "accuracy"),
    ),
    "decay": Experiment(
        "Does weight decay help to name what was never seen?", "contrastive",
        {"decay 1": {}, "no decay": {"muon_decay": 0.0}},
        ("unseen", "accuracy"),
    ),
    "encoder": Experiment(
        "Where should the vision encoder of the language model come from?", "bridge",
        {
            "contrastive, frozen": {},
            "contrastive, trained on": {"vision": "trained"},
            "random, trained": {"encoder": "", "vision": "trained"},
        },
        ("answers", "unseen"),
    ),
    "captions": Experiment(
        "Do captions help to answer questions?", "bridge",
        {"a quarter captions": {}, "questions alone": {"caption_share": 0.0}},
        ("answers",),
    ),
    "blank": Experiment(
        "How much can be guessed from the question?", "bridge",
        {"sees": {}, "never saw a picture": {"pictures": "blank"}},
        ("answers", "blank"),
    ),
}  # fmt: skip
MEASURED = {  # score -> what it says
    "accuracy": "pictures named rightly out of 36, trained combinations",
    "unseen": "the same, combinations never trained",
    "picture_to_text": "pictures that find their caption first",
    "answers": "questions answered exactly",
    "blank": "the same with the picture blanked",
}
SMOKE: dict[str, Any] = {
    "n_pictures": 64, "n_test": 12, "d_vision": 16, "d_model": 16, "n_heads": 2, "d_ff": 32,
    "batch_size": 8, "language_layers": 1, "vision_layers": 1, **_length(2),
}  # fmt: skip


def variant_config(
    task: str, settings: Mapping[str, Any], seed: int, smoke: bool = False
) -> MultimodalConfig:
    """Returns the settings of a variant; cut to two steps for a smoke test.

    Args:
        task: a key of ``BASELINES``.
        settings: what differs.
        seed: of weights, pictures and their order.
        smoke: whether it is a test that everything runs.
    """
    # In one step: a random encoder may not be frozen, so the two change together.
    return override(BASELINES[task], {**settings, **(SMOKE if smoke else {}), "seed": seed})
