"""Settings of a GPT training: two recipes, and presets from a smoke test to GPT-2's own size.

A recipe is a design of the model plus the way to train it. Every difference is one field, so that
``run_examples.py`` can switch it alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gpt.gpt_config import RECIPES, GPTConfig
from tutorial_kit.config import config_parser, override, read_config
from tutorial_kit.config_checks import check_counts, check_learning_rates, check_shares
from tutorial_kit.entry_parsers import add_run


@dataclass(frozen=True)
class TrainConfig:
    """What one training run depends on; the defaults are the "gpt2" recipe."""

    model: GPTConfig = field(default_factory=GPTConfig)
    dataset: str = "documentation"  # documentation, tinyshakespeare, wikitext2, or a file's path
    tokenizer: Literal["characters", "bpe"] = "bpe"  # how text becomes tokens
    bpe_tokens: int = 4096  # vocabulary of the BPE, tokens
    batch_size: int = 16  # windows in a minibatch, over all processes
    accumulation: int = 1  # parts a minibatch is computed in, to save memory
    max_steps: int = 1000  # updates of the weights
    budget_minutes: float = 0.0  # minutes of training, instead of max_steps; 0 means none
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: matrices by Muon, the rest by AdamW
    lr: float = 1e-3  # peak learning rate of AdamW
    beta2: float = 0.99  # AdamW's memory of squared gradients
    weight_decay: float = 0.1  # AdamW's decay of matrices
    muon_lr: float = 0.03  # peak learning rate of Muon
    embedding_lr: float = 0.15  # peak learning rate of the embedding beside Muon
    head_lr: float = 0.015  # peak learning rate of head and gains beside Muon
    schedule: Literal["cosine", "stable"] = "cosine"  # shape of the learning rate
    warmup: float = 0.05  # share of the run spent on warming up
    decay: float = 0.6  # share of the run spent on the final decay (stable schedule)
    floor: float = 0.1  # learning rate at the end, as a share of its peak
    clip: float = 1.0  # largest norm of the gradient; 0 means no clipping
    eval_every: int = 250  # steps between evaluations on the whole validation split
    checkpoint_every: int = 250  # steps between checkpoints
    seed: int = 0  # initial weights and order of the data
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on CUDA only
    compile: bool = False  # torch.compile; pays on a GPU, not in a short run on CPU
    threads: int = 0  # CPU threads; 0 leaves torch's own choice

    def __post_init__(self) -> None:
        """Checks what the loop assumes."""
        check_counts(
            self, "batch_size", "accumulation", "max_steps", "eval_every", "checkpoint_every"
        )
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size={self.batch_size} cannot be computed in accumulation="
                f"{self.accumulation} equal parts. Use a divisor of the batch size."
            )
        check_learning_rates(self, "lr", "muon_lr", "embedding_lr", "head_lr")
        check_shares(self, "warmup", "decay", "floor")
        if self.warmup + (self.decay if self.schedule == "stable" else 0) > 1:
            raise ValueError(
                f"warmup={self.warmup} and decay={self.decay} are more than the whole run. "
                "Use shares that add up to at most 1."
            )
        if self.tokenizer == "bpe" and self.bpe_tokens < 257:
            raise ValueError(
                f"bpe_tokens={self.bpe_tokens} is too few: 256 bytes and one merge are the least. "
                "Use 257 or more."
            )


TRAINING_RECIPES: dict[str, dict[str, Any]] = {
    "gpt2": {"optimizer": "adamw", "schedule": "cosine", "floor": 0.1, "clip": 1.0, "warmup": 0.05},
    "modern": {
        "optimizer": "muon",
        "schedule": "stable",
        "floor": 0.0,
        "clip": 0.0,
        "warmup": 0.03,
    },
}


def apply_recipe(config: TrainConfig, recipe: str) -> TrainConfig:
    """Returns the config with every field that the recipe names: the model's and the training's."""
    return override(config, RECIPES[recipe] | TRAINING_RECIPES[recipe])


def _preset(recipe: str, model: dict[str, Any], **training: Any) -> TrainConfig:
    config = apply_recipe(TrainConfig(), recipe)
    return replace(config, model=replace(config.model, **model), **training)


_WIDTH_128 = {"d_model": 128, "n_heads": 4, "n_kv_heads": 4, "n_layers": 4, "d_ff": 512}

PRESETS: dict[str, TrainConfig] = {
    # Seconds on any machine; a test that everything runs, no result.
    "smoke": _preset(
        "modern",
        {"max_len": 32, "d_model": 32, "n_heads": 2, "n_kv_heads": 2, "n_layers": 2, "d_ff": 64},
        dataset="documentation-small",
        bpe_tokens=512,
        batch_size=8,
        max_steps=8,
        eval_every=8,
        checkpoint_every=4,
    ),
    "quick": _preset(
        "modern",
        {**_WIDTH_128, "max_len": 128, "n_layers": 3, "n_kv_heads": 2},
        batch_size=32,
        max_steps=500,
        eval_every=125,
    ),
    "shakespeare": _preset(
        "modern",
        {**_WIDTH_128, "max_len": 64, "activation": "swiglu", "d_ff": 344},
        dataset="tinyshakespeare",
        tokenizer="characters",
        batch_size=24,
        max_steps=1400,
        muon_lr=0.025,
        head_lr=0.008,
    ),
    "standard": _preset(
        "modern",
        {
            "max_len": 128,
            "d_model": 256,
            "n_heads": 4,
            "n_kv_heads": 2,
            "n_layers": 4,
            "d_ff": 1024,
        },
        batch_size=32,
        max_steps=1500,
    ),
    "long": _preset(
        "modern",
        {
            "max_len": 256,
            "d_model": 384,
            "n_heads": 6,
            "n_kv_heads": 2,
            "n_layers": 6,
            "d_ff": 1536,
        },
        bpe_tokens=8192,
        batch_size=16,
        max_steps=3000,
    ),
    # GPT-2's smallest size; needs a GPU and much more text than is here. Never claimed as run.
    "paper": _preset(
        "gpt2",
        {
            "max_len": 1024,
            "d_model": 768,
            "n_heads": 12,
            "n_kv_heads": 12,
            "n_layers": 12,
            "d_ff": 3072,
            "dropout": 0.1,
        },
        dataset="wikitext2",
        bpe_tokens=50257,
        batch_size=512,
        accumulation=64,
        max_steps=600_000,
        lr=6e-4,
        beta2=0.95,
        warmup=0.003,
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of ``train_gpt.py``."""
    parser = config_parser(
        TrainConfig, PRESETS, "standard", "Train a GPT on real text; resume it; sample from it."
    )
    parser.add_argument("--recipe", choices=list(RECIPES), help="replace the preset's recipe")
    add_run(parser, "gpt")
    return parser


def config_from_args(args: argparse.Namespace) -> TrainConfig:
    """Returns the preset, changed by ``--recipe``, then by every other flag."""
    presets = PRESETS
    if args.recipe:
        presets = {args.preset: apply_recipe(PRESETS[args.preset], args.recipe)}
    return read_config(TrainConfig, presets, args)


def config_from_argv(argv: Sequence[str] | None) -> tuple[TrainConfig, argparse.Namespace]:
    """Parses a command line into the config and the flags beside it."""
    args = build_parser().parse_args(argv)
    return config_from_args(args), args
