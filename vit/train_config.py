"""Settings of a training: the recipe that suits a laptop, the paper's, and presets of both.

The laptop's recipe: a convolutional stem (Xiao et al. 2021), few tokens, the mean of the tokens
instead of a class token (Beyer et al. 2022), Muon for the matrices, light augmentation. "plain" is
the same with the paper's patch embedding and class token. "cnn" is the rival, tuned for itself.
Dosovitskiy et al. 2021, table 3, has the paper's settings.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tutorial_kit.config import config_parser, override, read_config
from tutorial_kit.config_checks import (
    check_counts,
    check_learning_rates,
    check_not_negative,
    check_shares,
    check_shares_below_one,
)
from tutorial_kit.entry_parsers import add_run
from vit.augmentation import Augmentation
from vit.vit_config import SIZES, ViTConfig


@dataclass(frozen=True)
class TrainConfig:
    """What one training depends on; image size, channels and classes come from the data."""

    model: ViTConfig = field(default_factory=ViTConfig)
    architecture: Literal["vit", "cnn"] = "vit"  # the model, or the CNN it is compared with
    cnn_width: int = 0  # channels of the CNN's first stage; 0: as many parameters as the ViT has
    dataset: str = "fashion_mnist"  # digits, digits-small, fashion_mnist, or a folder of pictures
    batch_size: int = 128  # pictures in a minibatch, over all processes
    accumulation: int = 1  # parts a minibatch is computed in, to save memory
    max_steps: int = 2000  # updates of the weights
    budget_minutes: float = 0.0  # minutes of training, instead of max_steps; 0 means none
    optimizer: Literal["adamw", "muon"] = "muon"  # muon: hidden matrices by Muon, the rest by AdamW
    lr: float = 3e-3  # peak learning rate of AdamW
    beta2: float = 0.99  # AdamW's memory of squared gradients
    weight_decay: float = 0.05  # AdamW's decay of matrices
    muon_lr: float = 0.02  # peak learning rate of Muon
    schedule: Literal["cosine", "linear"] = "cosine"  # how the learning rate falls
    warmup: float = 0.05  # share of the run spent on warming up
    floor: float = 0.0  # learning rate at the end, as a share of its peak
    clip: float = 0.0  # largest norm of the gradient; 0 means no clipping
    label_smoothing: float = 0.1  # share of the target that goes to all classes alike
    ema: float = 0.998  # decay of the averaged weights, which are evaluated; 0 means no average
    shift: int = 2  # augmentation: pictures move by up to so many pixels
    flip: bool = False  # augmentation: half of the pictures are mirrored
    rotate: float = 0.0  # augmentation: pictures turn by up to so many degrees
    zoom: float = 0.0  # augmentation: pictures grow or shrink by up to this share
    crop: float = 1.0  # augmentation: least share of the area in a random crop; 1 means no crop
    cutout: int = 0  # augmentation: side of a square that is hidden, pixels; 0 means none
    mixup: float = 0.0  # augmentation: alpha of the Beta distribution of mixup; 0 means none
    eval_every: int = 400  # steps between evaluations on the whole validation split
    checkpoint_every: int = 400  # steps between checkpoints
    seed: int = 0  # initial weights, order of the pictures, augmentation
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on CUDA only
    threads: int = 0  # CPU threads; 0 leaves torch's own choice

    def __post_init__(self) -> None:
        """Checks what the loop assumes."""
        check_counts(
            self, "batch_size", "accumulation", "max_steps", "eval_every", "checkpoint_every"
        )
        check_not_negative(self, "budget_minutes", "clip", "weight_decay", "cnn_width")
        check_learning_rates(self, "lr", "muon_lr")
        check_shares(self, "warmup", "floor")
        check_shares_below_one(self, "label_smoothing", "ema")
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size={self.batch_size} cannot be computed in accumulation="
                f"{self.accumulation} equal parts. Use a divisor of the batch size."
            )
        _ = self.augmentation  # it checks its own numbers

    @property
    def augmentation(self) -> Augmentation:
        """What is done to the training pictures."""
        return Augmentation(
            shift=self.shift, flip=self.flip, rotate=self.rotate, zoom=self.zoom, crop=self.crop,
            cutout=self.cutout, mixup=self.mixup,
        )  # fmt: skip


LAPTOP: dict[str, Any] = {"stem": "conv", "pooling": "mean", "positions": "learned"}
"""The model of the laptop's recipe; its training stands in the defaults of ``TrainConfig``."""

PLAIN: dict[str, Any] = {"stem": "patches", "pooling": "cls", "positions": "learned"}
"""What the paper has: one matrix for each patch, a class token (section 3.1)."""

RIVAL: dict[str, Any] = {"architecture": "cnn", "lr": 3e-3, "muon_lr": 0.02}
"""The CNN and the learning rates that suit it."""

_FASHION = override(
    TrainConfig(flip=True, shift=1, muon_lr=0.01, budget_minutes=15.0),
    {**LAPTOP, "image_size": 28, "patch_size": 7, "n_layers": 3},
)
_DIGITS = override(
    TrainConfig(
        dataset="digits", max_steps=1000, lr=6e-3, shift=1, rotate=15.0, zoom=0.15, eval_every=100,
        checkpoint_every=300, ema=0.99,
    ),
    {**LAPTOP, "image_size": 8, "patch_size": 2, "d_model": 64, "n_layers": 4, "d_ff": 128,
     "dropout": 0.1},
)  # fmt: skip
_LONG = override(
    replace(_FASHION, budget_minutes=25.0, cutout=8, ema=0.9995, eval_every=800),
    {"d_model": 160, "n_heads": 5, "n_layers": 4, "d_ff": 320},
)

PRESETS: dict[str, TrainConfig] = {
    # Seconds on any machine; a test that everything runs, no result.
    "smoke": override(
        _DIGITS,
        {"dataset": "digits-small", "batch_size": 16, "max_steps": 8, "eval_every": 4,
         "checkpoint_every": 4, "ema": 0.9, "d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 32},
    ),
    # 25 seconds of training on two cores, 99 % of the digits; the ViT of quick_start.py.
    "quick": _DIGITS,
    # The CNN beside it: the same pictures in the same order.
    "cnn-quick": override(_DIGITS, RIVAL),
    # 15 minutes of training on one core: 92 % of Fashion-MNIST's test split, 91 % with plain
    # patches, 94 % with the CNN.
    "standard": _FASHION,
    "plain": override(_FASHION, PLAIN),
    "cnn": override(_FASHION, RIVAL),
    # 25 minutes of training on one core: 93 %; the CNN beside it was never run.
    "long": _LONG,
    "cnn-long": override(_LONG, RIVAL),
    # ViT-B/16 on ImageNet, from scratch: table 3 of the paper; needs many GPUs. Never run.
    "paper": override(
        TrainConfig(
            model=replace(SIZES["base"], dropout=0.1),
            dataset="imagenet",  # a folder of yours: <class>/<picture>.jpg
            batch_size=4096, accumulation=64, max_steps=93_840, optimizer="adamw", lr=3e-3,
            beta2=0.999, weight_decay=0.3, warmup=0.107, clip=1.0, label_smoothing=0.0, ema=0.0,
            shift=0, flip=True, crop=0.05, eval_every=5_000, checkpoint_every=1_000,
        ),
        PLAIN,
    ),
}  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of ``vit_trainer.py``."""
    parser = config_parser(
        TrainConfig, PRESETS, "standard",
        "Train a Vision Transformer, or the CNN it is compared with, on pictures; resume it.",
    )  # fmt: skip
    add_run(parser, "vit")
    return parser


def config_from_argv(argv: Sequence[str] | None) -> tuple[TrainConfig, argparse.Namespace]:
    """Parses a command line into the config and the flags beside it."""
    args = build_parser().parse_args(argv)
    return read_config(TrainConfig, PRESETS, args), args
