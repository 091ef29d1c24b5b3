"""What the chapter's experiments vary; ``run_examples.py`` runs them.

Each variant is a training that differs from ``BASELINE`` in the named settings alone: same number
of steps, same share of the pictures, same minibatches for the same seed. The model is small and
has the paper's plain patches, no augmentation and no average of the weights, so that what is added
can be seen; a training takes about 20 seconds on two cores, the largest a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tutorial_kit.config import override
from vit.train_config import PLAIN, RIVAL, TrainConfig

STEPS, BATCH = 800, 128  # updates of a training, pictures in each minibatch
SHARE = 0.1  # of the training pictures; the experiment "data" has others
BASELINE = override(
    TrainConfig(
        dataset="fashion_mnist", batch_size=BATCH, max_steps=STEPS, eval_every=STEPS,
        checkpoint_every=STEPS, optimizer="adamw", lr=2e-3, shift=0, ema=0.0,
    ),
    {**PLAIN, "image_size": 28, "patch_size": 7, "d_model": 64, "n_heads": 4, "n_layers": 4,
     "d_ff": 192},
)  # fmt: skip
MOVED = {"shift": 2, "flip": True}  # copies that keep the label: clothes, moved and mirrored
SMOKE_SIDE = 8  # pixels of the pictures of a smoke test


@dataclass(frozen=True)
class Variant:
    """One row of an experiment."""

    settings: Mapping[str, Any] = field(default_factory=dict)  # what differs from the baseline
    share: float = SHARE  # of the training pictures
    line: str = ""  # variants of the same line differ in their share of the pictures alone


@dataclass(frozen=True)
class Experiment:
    """Trainings that differ from the baseline in the named settings."""

    question: str  # what it asks
    variants: dict[str, Variant]  # label -> what differs
    picture: Literal["dots", "cost", "shares"] = "dots"  # accuracy alone, against speed, or data

    @property
    def measured(self) -> list[str]:
        """What is recorded of each variant."""
        return ["accuracy", "speed"] if self.picture == "cost" else ["accuracy"]


CONTESTANTS: dict[str, dict[str, Any]] = {
    "ViT": {},
    "ViT, moved copies": MOVED,
    "ViT, conv stem": {"stem": "conv"},
    "CNN": {"architecture": RIVAL["architecture"], "lr": RIVAL["lr"]},
}


def _vary(**settings: Any) -> Variant:
    return Variant(settings)


EXPERIMENTS = {
    "data": Experiment(
        "ViT or CNN, with how much data?",
        {
            f"{name}, {percent} %": Variant(settings, percent / 100, name)
            for percent in (1, 10, 100)
            for name, settings in CONTESTANTS.items()
        },
        "shares",
    ),
    "patch": Experiment(
        "How large should a patch be?",
        {f"{side} pixels": _vary(patch_size=side) for side in (28, 14, 7, 4)},
        "cost",
    ),
    "encodings": Experiment(
        "Which positions, and what if none?",
        {
            "learned": _vary(),
            "learned, row + column": _vary(positions="learned-2d"),
            "sines, 2-D": _vary(positions="sine-2d"),
            "rotary, 2-D": _vary(positions="rotary-2d"),
            "none": _vary(positions="none"),
        },
    ),
    "pooling": Experiment(
        "Class token or mean?", {"class token": _vary(), "mean of patches": _vary(pooling="mean")}
    ),
    "stem": Experiment(
        "Plain patches or a convolutional stem?",
        {
            "patches": _vary(),
            "conv stem": _vary(stem="conv"),
            "patches, Muon": _vary(optimizer="muon"),
            "conv stem, Muon": _vary(stem="conv", optimizer="muon"),
        },
        "cost",
    ),
    "shape": Experiment(
        "Deep or wide?",
        {
            f"{layers} x {width}": _vary(
                n_layers=layers, d_model=width, n_heads=width // 16, d_ff=3 * width
            )
            for layers, width in ((1, 128), (2, 96), (4, 64), (7, 48))
        },
        "cost",
    ),
    "augmentation": Experiment(
        "Which augmentation?",
        {
            "none": _vary(),
            "mirrored": _vary(flip=True),
            "moved": _vary(shift=2),
            "moved, mirrored": Variant(MOVED),
            "turned, zoomed": _vary(rotate=10.0, zoom=0.1),
            "cutout": _vary(cutout=8),
            "mixup": _vary(mixup=0.2),
        },
    ),
    "optimizer": Experiment(
        "AdamW or Muon?",
        {
            "AdamW": _vary(),
            "AdamW, half the rate": _vary(lr=BASELINE.lr / 2),
            "AdamW, twice the rate": _vary(lr=2 * BASELINE.lr),
            "Muon": _vary(optimizer="muon"),
            "Muon, half the rate": _vary(optimizer="muon", muon_lr=BASELINE.muon_lr / 2),
            "Muon, average of weights": _vary(optimizer="muon", ema=0.98),
        },
    ),
}
MEASURED = {  # of each variant: what -> (unit, in words); more is better
    "accuracy": ("%", "test pictures named rightly"),
    "speed": ("pictures/s", "training pictures a second"),
}


def variant_config(variant: Variant, seed: int, smoke: bool = False) -> TrainConfig:
    """Returns the settings of a variant; cut to two steps on small digits for a smoke test.

    Args:
        variant: what differs from the baseline.
        seed: of initial weights, order of the pictures and augmentation.
        smoke: whether it is a test that everything runs.
    """
    config = override(replace(BASELINE, seed=seed), variant.settings)
    if not smoke:
        return config
    sizes = {
        "dataset": "digits-small", "batch_size": 8, "max_steps": 2, "eval_every": 2,
        "checkpoint_every": 2, "cutout": min(config.cutout, 2), "image_size": SMOKE_SIDE,
        "patch_size": config.model.patch_size * SMOKE_SIDE // config.model.image_size,
        "n_layers": min(config.model.n_layers, 2), "d_model": 32, "n_heads": 2, "d_ff": 64,
    }  # fmt: skip
    return override(config, sizes)
