"""Settings of a training: which task, on which pictures, how large, how long; and the presets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from gpt.gpt_config import GPTConfig
from multimodal.captions import ASKED, build_tokenizer
from multimodal.multimodal_data import GROUPS
from multimodal.rendering import SIDE
from multimodal.scenes import SEEN, combinations_of
from tutorial_kit.config import config_parser, override, read_config
from tutorial_kit.config_checks import (
    check_counts,
    check_learning_rates,
    check_not_negative,
    check_shares,
)
from tutorial_kit.entry_parsers import add_run
from vit.vit_config import ViTConfig

TEXT_LENGTH = 32  # tokens of the longest caption or question with its answer
SHAPES_OF_PICTURES = {"scenes": (SIDE, 3), "digits": (8, 1), "digits-small": (8, 1)}


@dataclass(frozen=True)
class MultimodalConfig:
    """What one training depends on."""

    task: Literal["contrastive", "bridge"] = "contrastive"  # match pictures and texts, or answer
    dataset: Literal["scenes", "digits", "digits-small"] = "scenes"  # pictures; bridge: scenes
    groups: Literal["one", "two", "both"] = "one"  # groups of things in a scene
    n_pictures: int = 8192  # scenes in the training split
    n_test: int = 500  # scenes in each split that is evaluated
    combinations: int = SEEN  # of color and shape that are trained on, 6 to 27
    gray: bool = True  # contrastive: a caption that names no color gets a gray picture
    d_vision: int = 96  # width of the vision encoder, D_v
    d_model: int = 64  # width of the text encoder or the language model, D
    n_heads: int = 4  # attention heads, H
    d_ff: int = 192  # width inside the feed-forward, F
    vision_layers: int = 2  # layers of the vision encoder
    language_layers: int = 1  # blocks of the text encoder or the language model
    patch_size: int = 8  # pixels a side of a patch, P
    d_shared: int = 64  # contrastive: width of the space of pictures and texts, E
    temperature: Literal["learned", "fixed"] = "learned"  # contrastive: is e^t trained?
    start_temperature: float = 0.07  # contrastive: 1 / e^t at the start
    encoder: str = ""  # bridge: contrastive run whose vision encoder is taken; empty: none
    vision: Literal["frozen", "trained"] = "frozen"  # bridge: is the vision encoder trained on?
    questions: int = 6  # bridge: about each picture of a minibatch, each of another kind
    caption_share: float = 0.25  # bridge: share of the minibatches that ask for captions
    caption_steps: int = 0  # bridge: first updates that ask for captions alone
    pictures: Literal["shown", "blank"] = "shown"  # bridge: blank trains who never sees anything
    batch_size: int = 128  # pictures in a minibatch, each with one text
    max_steps: int = 600  # updates of the weights
    lr: float = 3e-3  # peak learning rate of AdamW: embeddings, projections, vectors
    muon_lr: float = 0.02  # peak learning rate of Muon: the matrices inside
    weight_decay: float = 0.05  # AdamW's decay of matrices
    muon_decay: float = 1.0  # Muon's decay of its matrices
    warmup: float = 0.05  # share of the run spent on warming up
    eval_every: int = 200  # updates between evaluations on the validation split
    checkpoint_every: int = 200  # updates between checkpoints
    seed: int = 0  # initial weights, pictures, order, wordings
    threads: int = 0  # CPU threads; 0 leaves torch's own choice

    def __post_init__(self) -> None:
        """Checks what the loop assumes."""
        check_counts(
            self, "n_pictures", "n_test", "batch_size", "max_steps", "eval_every",
            "checkpoint_every", "questions", "d_shared", "language_layers",
        )  # fmt: skip
        check_not_negative(self, "weight_decay", "muon_decay", "caption_steps")
        check_learning_rates(self, "lr", "muon_lr")
        check_shares(self, "warmup", "caption_share")
        combinations_of("train", self.combinations)
        if self.questions > len(ASKED):
            raise ValueError(
                f"questions={self.questions} is more than the {len(ASKED)} kinds of questions, and "
                f"each picture is asked one of a kind. Use 1 to {len(ASKED)}."
            )
        if self.task == "bridge" and self.dataset != "scenes":
            raise ValueError(
                f"task=bridge cannot ask about dataset={self.dataset}: questions are made of "
                "scenes. Use dataset=scenes, or task=contrastive."
            )
        if self.task == "bridge" and self.vision == "frozen" and not self.encoder:
            raise ValueError(
                "vision=frozen without an encoder would keep random weights: the language model "
                "could learn little from them. Name a contrastive run as encoder, or use "
                "vision=trained."
            )
        _ = self.vision_config, self.language_config  # they check their own numbers

    @property
    def vision_config(self) -> ViTConfig:
        """The vision encoder's design; its head makes the shared vector."""
        side, channels = SHAPES_OF_PICTURES[self.dataset]
        return ViTConfig(
            image_size=side, patch_size=self.patch_size, channels=channels,
            n_classes=self.d_shared, d_model=self.d_vision, n_heads=self.n_heads,
            n_layers=self.vision_layers, d_ff=self.d_ff, pooling="mean", stem="conv",
        )  # fmt: skip

    @property
    def language_config(self) -> GPTConfig:
        """The text encoder's or the language model's design; the latter's window holds patches."""
        prefix = self.vision_config.n_patches if self.task == "bridge" else 0
        return GPTConfig(
            vocab_size=build_tokenizer().vocab_size, max_len=prefix + TEXT_LENGTH,
            d_model=self.d_model, n_heads=self.n_heads, n_kv_heads=self.n_heads,
            n_layers=self.language_layers, d_ff=self.d_ff,
        )  # fmt: skip

    @property
    def group_counts(self) -> tuple[int, ...]:
        """How many groups a scene may have."""
        return GROUPS[self.groups]


_BRIDGE = MultimodalConfig(
    task="bridge",
    groups="both",
    language_layers=3,
    encoder="contrastive",
    max_steps=950,
    lr=6e-3,
    muon_lr=0.012,
    batch_size=64,
    eval_every=500,
    checkpoint_every=500,
)
_DIGITS = MultimodalConfig(
    dataset="digits", patch_size=2, vision_layers=3, max_steps=600, batch_size=64
)
_SMALL: dict[str, Any] = {
    "n_pictures": 64, "n_test": 12, "d_vision": 16, "d_model": 16, "n_heads": 2, "d_ff": 32,
    "d_shared": 16, "batch_size": 16, "max_steps": 4, "eval_every": 2, "checkpoint_every": 2,
    "language_layers": 1, "vision_layers": 1,
}  # fmt: skip

PRESETS: dict[str, MultimodalConfig] = {
    # Seconds on any machine; tests that everything runs, no result.
    "smoke": override(MultimodalConfig(), _SMALL),
    "smoke-bridge": override(replace(_BRIDGE, encoder="", vision="trained"), _SMALL),
    # What quick_start.py trains.
    "quick": MultimodalConfig(),
    "quick-bridge": replace(_BRIDGE, encoder="quick"),
    "digits": _DIGITS,
    # The same with more pictures and more time.
    "standard": MultimodalConfig(n_pictures=20_000, max_steps=2500, n_test=1000, eval_every=500),
    "standard-bridge": replace(
        _BRIDGE, encoder="standard", n_pictures=20_000, max_steps=3000, n_test=1000, eval_every=500
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of ``multimodal_trainer.py``."""
    parser = config_parser(
        MultimodalConfig, PRESETS, "standard",
        "Train two encoders to match pictures and texts, or a language model that sees; resume it.",
    )  # fmt: skip
    add_run(parser, "multimodal")
    return parser


def config_from_argv(
    argv: Sequence[str] | None,
) -> tuple[MultimodalConfig, argparse.Namespace]:
    """Parses a command line into the settings and the flags beside them."""
    args = build_parser().parse_args(argv)
    return read_config(MultimodalConfig, PRESETS, args), args
