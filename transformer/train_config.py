"""Settings of a translation training, its two learning-rate schedules, and named presets.

Each preset says what it is for, on which machine, and how long it takes; the measured scores are in
the chapter. Sizes and schedule are fields, so ``run_examples.py`` can switch each one alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from transformer.transformer_config import TransformerConfig
from tutorial_kit.config import config_parser, read_config
from tutorial_kit.config_checks import (
    check_counts,
    check_learning_rates,
    check_not_negative,
    check_shares,
    check_shares_below_one,
)
from tutorial_kit.entry_parsers import add_run
from tutorial_kit.training import warmup_cosine


def paper_rate(step: int, d_model: int, warmup_steps: int) -> float:
    """Returns the paper's learning rate, d_model^-0.5 min(step^-0.5, step warmup_steps^-1.5).

    Args:
        step: counts from 1.
        d_model: D; wider models get smaller updates.
        warmup_steps: the rate grows until this step, where both terms are equal.

    Source: Vaswani et al. 2017, eq. 3.

    >>> round(paper_rate(4000, 512, 4000), 6)  # the base model's peak
    0.000699
    """
    return float(d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5))


def warmup_inverse_sqrt(progress: float, warmup: float) -> float:
    """Returns eq. 3 as a factor of its peak, over the share of the run instead of the step.

    Dividing eq. 3 by its peak (d_model warmup_steps)^-0.5 leaves min(t, t^-0.5) with
    t = step / warmup_steps. So one schedule fits a run of any number of steps or of minutes, and
    the peak is a number that can be read.

    Args:
        progress: share of the training that is done, above 0 and up to 1.
        warmup: share spent on the warm-up, where the factor is 1; 0 means no warm-up.

    >>> [round(warmup_inverse_sqrt(p, 0.25), 3) for p in (0.125, 0.25, 1.0)]
    [0.5, 1.0, 0.5]
    """
    if warmup == 0.0:
        return 1.0
    time = progress / warmup
    return min(time, time**-0.5) if time > 0.0 else 0.0


@dataclass(frozen=True)
class TrainConfig:
    """What one training run depends on."""

    model: TransformerConfig = field(default_factory=TransformerConfig)
    dataset: str = "multi30k"  # grammar, multi30k, multi30k-de-en, tatoeba, or A.txt,B.txt
    bpe_tokens: int = 4000  # vocabulary of the BPE that both languages share, tokens
    tokens_per_batch: int = 2048  # source and target tokens in a minibatch, padding included
    max_steps: int = 2000  # updates of the weights
    budget_minutes: float = 0.0  # minutes of training, instead of max_steps; 0 means none
    schedule: Literal["paper", "cosine"] = "cosine"  # how the learning rate falls after the warm-up
    warmup: float = 0.06  # share of the run until the peak learning rate
    lr: float = 3e-3  # peak learning rate
    floor: float = 0.0  # learning rate at the end of the cosine, as a share of its peak
    beta2: float = 0.98  # Adam's memory of squared gradients
    weight_decay: float = 0.0  # decay of matrices; the paper has none
    label_smoothing: float = 0.1  # share of the target's probability spread over the vocabulary
    clip: float = 1.0  # largest norm of the gradient; 0 means no clipping
    average: Literal["none", "last", "ema"] = "ema"  # weights used: of the last evaluations, or all
    average_count: int = 5  # evaluations whose weights "last" averages
    average_decay: float = 0.99  # share of the old average that "ema" keeps at each step
    eval_every: int = 250  # steps between evaluations
    checkpoint_every: int = 250  # steps between checkpoints
    bleu_sentences: int = 200  # validation sentences translated at each evaluation; 0 means none
    seed: int = 0  # initial weights, dropout and order of the data
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on CUDA only
    threads: int = 0  # CPU threads; 0 leaves torch's own choice

    def __post_init__(self) -> None:
        """Checks what the loop assumes."""
        check_counts(
            self, "tokens_per_batch", "max_steps", "average_count", "eval_every", "checkpoint_every"
        )
        check_not_negative(
            self, "budget_minutes", "clip", "weight_decay", "bleu_sentences", "threads"
        )
        check_learning_rates(self, "lr")
        check_shares(self, "warmup", "floor")
        check_shares_below_one(self, "label_smoothing", "beta2", "average_decay")

    def rate_factor(self, share: float) -> float:
        """Returns the learning rate as a share of its peak, when ``share`` of the run is done."""
        if self.schedule == "paper":
            return warmup_inverse_sqrt(share, self.warmup)
        return warmup_cosine(share, self.warmup, self.floor)


def _sizes(**sizes: Any) -> TransformerConfig:
    """Returns a pre-norm model, the kind that trains at the high learning rates of short runs."""
    return TransformerConfig(**{"norm": "pre", **sizes})


PRESETS: dict[str, TrainConfig] = {
    # Seconds on any machine; a test that everything runs, no result.
    "smoke": TrainConfig(
        _sizes(max_len=64, d_model=32, n_heads=2, n_layers=2, n_decoder_layers=2, d_ff=64),
        dataset="grammar-small",
        bpe_tokens=1000,
        tokens_per_batch=256,
        max_steps=8,
        eval_every=4,
        checkpoint_every=4,
        bleu_sentences=8,
    ),
    # quick_start's minute on two cores: English to Chinese sentences of a grammar, offline.
    "quick": TrainConfig(
        _sizes(max_len=64, d_model=128, n_heads=4, n_layers=2, n_decoder_layers=2, d_ff=256),
        dataset="grammar",
        bpe_tokens=2500,
        max_steps=1250,
        eval_every=250,
        checkpoint_every=1250,
        bleu_sentences=100,
    ),
    # Ten minutes of training on two cores: image captions, English to German.
    "standard": TrainConfig(
        _sizes(max_len=128, d_model=128, n_heads=4, n_layers=3, n_decoder_layers=3, d_ff=512),
        budget_minutes=10.0,
        average_decay=0.995,
    ),
    # At most an hour on two cores, for the best result on the same data.
    "long": TrainConfig(
        _sizes(
            max_len=128,
            d_model=256,
            n_heads=4,
            n_layers=3,
            n_decoder_layers=3,
            d_ff=512,
            dropout=0.3,
        ),
        bpe_tokens=6000,
        budget_minutes=50.0,
        lr=2e-3,
        average_decay=0.998,
        eval_every=500,
        checkpoint_every=500,
    ),
    # The paper's base model and schedule (table 3); needs a GPU and WMT. Never claimed as run.
    "paper": TrainConfig(
        TransformerConfig(
            max_len=512,
            d_model=512,
            n_heads=8,
            n_layers=6,
            n_decoder_layers=6,
            d_ff=2048,
            norm="post",
        ),
        bpe_tokens=37_000,
        tokens_per_batch=50_000,
        max_steps=100_000,
        schedule="paper",
        warmup=0.04,
        lr=paper_rate(4000, 512, 4000),
        clip=0.0,
        average="last",
        eval_every=1500,
        checkpoint_every=1500,
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of ``train_transformer.py``."""
    parser = config_parser(
        TrainConfig, PRESETS, "standard", "Train a Transformer to translate; resume it; score it."
    )
    add_run(parser, "transformer")
    return parser


def config_from_argv(argv: Sequence[str] | None) -> tuple[TrainConfig, argparse.Namespace]:
    """Parses a command line into the config and the flags beside it."""
    args = build_parser().parse_args(argv)
    return read_config(TrainConfig, PRESETS, args), args
