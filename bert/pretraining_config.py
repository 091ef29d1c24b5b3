"""Settings of a pre-training: two recipes, and presets from a smoke test to the paper's size.

The recipe "mlm+nsp" is the paper's: pairs, two losses, post-norm, 15 % masks, AdamW, dropout. The
recipe "mlm" is what later work found: no pairs and full sequences (Liu et al. 2019, section 4),
more masks (Wettig et al. 2023), and for a budget of minutes pre-norm and no dropout (Geiping &
Goldstein 2023). Every difference is one field; ``--optimizer muon`` goes with either.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bert.bert_config import SIZES, BertConfig
from bert.masking import ALWAYS_MASK, BERT_REPLACEMENT
from tutorial_kit.config import config_parser, override, read_config
from tutorial_kit.config_checks import (
    check_counts,
    check_learning_rates,
    check_not_negative,
    check_shares,
)
from tutorial_kit.entry_parsers import add_run


@dataclass(frozen=True)
class PretrainConfig:
    """What one pre-training depends on; the defaults are the recipe "mlm+nsp"."""

    model: BertConfig = field(default_factory=BertConfig)
    dataset: str = "documentation"  # documentation, wikitext2, sst2, a file; several joined by +
    wordpiece_tokens: int = 6000  # tokens of the vocabulary that is trained on the text
    objective: Literal["mlm+nsp", "mlm"] = "mlm+nsp"  # pairs and two losses, or masked tokens only
    mask_rate: float = 0.15  # share of the tokens that are to be predicted
    whole_word: bool = False  # hide all pieces of a word together
    replacement: Literal["80/10/10", "mask"] = "80/10/10"  # what hides a token; mask: always [MASK]
    batch_size: int = 32  # sequences in a minibatch, over all processes
    accumulation: int = 1  # parts a minibatch is computed in, to save memory
    max_steps: int = 2000  # updates of the weights
    budget_minutes: float = 0.0  # minutes of training, instead of max_steps; 0 means none
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: matrices by Muon, the rest by AdamW
    lr: float = 1e-3  # peak learning rate of AdamW
    beta2: float = 0.98  # AdamW's memory of squared gradients
    weight_decay: float = 0.01  # AdamW's decay of matrices
    muon_lr: float = 0.02  # peak learning rate of Muon
    schedule: Literal["linear", "cosine"] = "linear"  # how the learning rate falls
    warmup: float = 0.05  # share of the run spent on warming up
    floor: float = 0.0  # learning rate at the end, as a share of its peak
    clip: float = 1.0  # largest norm of the gradient; 0 means no clipping
    eval_every: int = 500  # steps between evaluations
    eval_sequences: int = 1024  # held-out sequences of an evaluation, 0 means all; all at the end
    checkpoint_every: int = 500  # steps between checkpoints
    seed: int = 0  # initial weights, order of the data, masks
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on CUDA only
    threads: int = 0  # CPU threads; 0 leaves torch's own choice

    def __post_init__(self) -> None:
        """Checks what the loop assumes."""
        check_counts(
            self, "batch_size", "accumulation", "max_steps", "eval_every", "checkpoint_every"
        )
        check_not_negative(self, "budget_minutes", "clip", "weight_decay", "eval_sequences")
        check_learning_rates(self, "lr", "muon_lr")
        check_shares(self, "warmup", "floor")
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size={self.batch_size} cannot be computed in accumulation="
                f"{self.accumulation} equal parts. Use a divisor of the batch size."
            )
        if not 0.0 < self.mask_rate < 1.0:
            raise ValueError(
                f"mask_rate={self.mask_rate} is no share of the tokens: with 0 nothing is "
                "predicted, with 1 nothing is left to predict from. Use 0.15, or up to about 0.4."
            )
        if self.model.max_len < 8:
            raise ValueError(
                f"max_len={self.model.max_len} leaves no room for two texts and three special "
                "tokens. Use 8 or more."
            )
        if self.objective == "mlm+nsp" and self.model.n_segments < 2:
            raise ValueError(
                f"n_segments={self.model.n_segments} cannot tell the two texts of a pair apart. "
                "Use 2, or --objective mlm."
            )

    @property
    def replace_shares(self) -> tuple[float, float, float]:
        """Shares of ``[MASK]``, random token and unchanged."""
        return ALWAYS_MASK if self.replacement == "mask" else BERT_REPLACEMENT


RECIPES: dict[str, dict[str, Any]] = {
    "mlm+nsp": {
        "objective": "mlm+nsp", "mask_rate": 0.15, "norm": "post", "dropout": 0.1,
        "optimizer": "adamw", "lr": 1e-3, "schedule": "linear",
    },
    "mlm": {
        "objective": "mlm", "mask_rate": 0.4, "norm": "pre", "dropout": 0.0,
        "optimizer": "adamw", "lr": 2e-3, "schedule": "linear",
    },
}  # fmt: skip


def apply_recipe(config: PretrainConfig, recipe: str) -> PretrainConfig:
    """Returns the config with every field that the recipe names: the model's and the training's."""
    return override(config, RECIPES[recipe])


def _preset(recipe: str, model: dict[str, Any], **training: Any) -> PretrainConfig:
    config = apply_recipe(PretrainConfig(), recipe)
    sizes = replace(config.model, **model)
    if sizes.d_model < 512:  # narrow ones learn to read sooner with larger weights
        std = model.get("initial_std", round(sizes.d_model**-0.5, 3))
        sizes = replace(sizes, initial_std=std, first_positions="sine")
    return replace(config, model=sizes, **training)


PRESETS: dict[str, PretrainConfig] = {
    # Seconds on any machine; a test that everything runs, no result.
    "smoke": _preset(
        "mlm+nsp",
        {"max_len": 32, "d_model": 32, "n_heads": 2, "n_layers": 2, "d_ff": 64},
        dataset="documentation-small",
        wordpiece_tokens=600,
        batch_size=8,
        max_steps=8,
        eval_every=8,
        eval_sequences=16,
        checkpoint_every=4,
    ),
    # 40 seconds of training on two cores, 1.4 nats below the unigram entropy; quick_start.py.
    "quick": _preset(
        "mlm",
        {"max_len": 32, "n_layers": 2, "initial_std": 0.12},
        wordpiece_tokens=2000,
        mask_rate=0.5,
        budget_minutes=0.67,
        lr=3e-3,
        eval_every=500,
        eval_sequences=256,
    ),
    # 10 minutes of training on two cores, 2.8 nats below the unigram entropy.
    "standard": _preset("mlm", {"max_len": 64}, budget_minutes=10.0),
    # 50 minutes of training on two cores. Never run to its end.
    "long": _preset(
        "mlm",
        {"max_len": 128, "d_model": 256, "d_ff": 1024},
        wordpiece_tokens=8000,
        budget_minutes=50.0,
        eval_every=1000,
    ),
    # BERT-base as in the paper, section 3; needs many GPUs and 3.3 billion words. Never run.
    "paper": _preset(
        "mlm+nsp",
        {**{name: getattr(SIZES["base"], name) for name in
            ("max_len", "d_model", "n_heads", "n_layers", "d_ff")}},
        dataset="wikitext2",
        wordpiece_tokens=30522,
        batch_size=256,
        accumulation=16,
        max_steps=1_000_000,
        lr=1e-4,
        beta2=0.999,
        warmup=0.01,
        eval_every=10_000,
        checkpoint_every=1_000,
    ),
}  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of ``bert_pretraining.py``."""
    parser = config_parser(
        PretrainConfig, PRESETS, "standard",
        "Pre-train a BERT on real text: fill in hidden tokens, tell what follows; resume it.",
    )  # fmt: skip
    parser.add_argument("--recipe", choices=list(RECIPES), help="replace the preset's recipe")
    add_run(parser, "bert")
    return parser


def config_from_argv(argv: Sequence[str] | None) -> tuple[PretrainConfig, argparse.Namespace]:
    """Parses a command line into the config and the flags beside it.

    The preset is changed by ``--recipe``, then by every other flag.
    """
    args = build_parser().parse_args(argv)
    presets = PRESETS
    if args.recipe:
        presets = {args.preset: apply_recipe(PRESETS[args.preset], args.recipe)}
    return read_config(PretrainConfig, presets, args), args
