"""The shape of a word2vec model, the settings of its training, and presets of both.

Mikolov et al. 2013a ("Efficient Estimation of Word Representations in Vector Space") has the two
architectures, Mikolov et al. 2013b ("Distributed Representations of Words and Phrases and their
Compositionality") negative sampling and the subsampling of frequent words. The defaults are CBOW
with negative sampling as word2vec.c trains it: window 5, 5 negatives, 100 dimensions, the gradient
of a context's word not divided by the number of words. The learning rate has the lowest held-out
loss on WikiText-2 of those that ``run_examples.py --only rate`` tries, and on the documentation no
other one's is lower by more than the spread; word2vec.c has 0.05.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tutorial_kit.config import config_parser, override, read_config
from tutorial_kit.config_checks import (
    check_counts,
    check_learning_rates,
    check_not_negative,
    check_shares,
)
from tutorial_kit.entry_parsers import add_run


@dataclass(frozen=True)
class CBOWConfig:
    """The model: how a word is predicted from its context."""

    d_model: int = 100  # numbers in a word's vector, D
    architecture: Literal["cbow", "skipgram"] = "cbow"  # the context at once, or word by word
    objective: Literal["negative", "softmax", "hierarchical"] = "negative"  # which loss
    combine: Literal["mean", "sum"] = "mean"  # how the context's vectors become one
    gradient: Literal["exact", "word2vec"] = "word2vec"  # that of the sum, of the mean if exact

    def __post_init__(self) -> None:
        """Checks what the model assumes."""
        check_counts(self, "d_model")
        _check_choices(
            self, architecture=("cbow", "skipgram"), combine=("mean", "sum"),
            objective=("negative", "softmax", "hierarchical"), gradient=("exact", "word2vec"),
        )  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """What one training depends on; the number of words V comes from the data."""

    model: CBOWConfig = field(default_factory=CBOWConfig)
    dataset: str = "documentation"  # documentation, documentation-small, wikitext2, or a text file
    min_count: int = 5  # words that occur less often are left out
    max_tokens: int = 0  # words of the training text that are read; 0 means all
    window: int = 5  # most context words on each side, W
    sample: float = 1e-3  # share of the text above which a word is thinned out; 0 means none is
    negatives: int = 5  # words of noise against each target, K
    noise_power: float = 0.75  # noise is drawn in proportion to count^noise_power
    shared_by: int = 64  # consecutive targets with the same noise; 1: each target has its own
    shared_draws: int = 32  # words of noise that they share, Q, together weighing as much as K
    shuffle: bool = True  # sentences come in a random order, among some hundred thousand words
    words_per_step: int = 4096  # targets whose updates are added up before they are made
    summed_updates: int = 16  # of one row in a step; of more, so many times their mean counts, B
    lanes: int = 2  # places in the text that a step takes equal parts from, a process for each
    epochs: int = 5  # times that the text is read
    lr: float = 0.1  # learning rate at the start; it falls linearly with the words read
    floor: float = 1e-4  # learning rate at the end, as a share of the start
    evals_per_epoch: int = 2  # evaluations on the held-out words, each with a checkpoint
    seed: int = 0  # initial vectors, subsampling, windows, noise
    threads: int = 0  # cores, at most one for each lane; 0 leaves torch's own choice

    def __post_init__(self) -> None:
        """Checks what the loop assumes."""
        check_counts(
            self, "min_count", "window", "negatives", "shared_by", "shared_draws",
            "words_per_step", "summed_updates", "lanes", "epochs", "evals_per_epoch",
        )  # fmt: skip
        check_not_negative(self, "max_tokens", "sample", "noise_power", "threads")
        check_learning_rates(self, "lr")
        check_shares(self, "floor")
        groups = self.lanes * self.shared_by
        if self.words_per_step % groups:
            raise ValueError(
                f"words_per_step={self.words_per_step} cannot be cut into lanes={self.lanes} parts "
                f"of whole groups of shared_by={self.shared_by} targets. Use a multiple of "
                f"{groups}."
            )

    @property
    def draws(self) -> int:
        """Words of noise drawn for a group of targets: K if each target is a group of its own."""
        return self.negatives if self.shared_by == 1 else self.shared_draws


def _check_choices(config: object, **possible: tuple[str, ...]) -> None:
    """Refuses a field that has none of its possible values.

    Raises:
        ValueError: it lists what is possible.
    """
    for name, values in possible.items():
        if getattr(config, name) not in values:
            raise ValueError(
                f"{name}={getattr(config, name)!r} is not known. Use one of {', '.join(values)}."
            )


_DEFAULT = TrainConfig()

PRESETS: dict[str, TrainConfig] = {
    # Seconds on any machine; a test that everything runs, no result.
    "smoke": override(
        _DEFAULT,
        {"dataset": "documentation-small", "d_model": 16, "words_per_step": 256, "epochs": 1},
    ),
    # The CBOW of quick_start.py: the documentation corpus, a few seconds a pass.
    "quick": _DEFAULT,
    # The documented result: 2 million words of WikiText-2.
    "standard": override(_DEFAULT, {"dataset": "wikitext2"}),
    # Wider vectors, and more passes, which want a smaller rate.
    "long": override(_DEFAULT, {"dataset": "wikitext2", "d_model": 200, "epochs": 20, "lr": 0.05}),
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of ``cbow_trainer.py``."""
    parser = config_parser(
        TrainConfig, PRESETS, "quick", "Train word vectors on a text; resume a training."
    )
    add_run(parser, "cbow")
    parser.add_argument(
        "--readable", action="store_true", help="train with autograd, many times slower"
    )
    return parser


def config_from_argv(argv: Sequence[str] | None) -> tuple[TrainConfig, argparse.Namespace]:
    """Parses a command line into the config and the flags beside it."""
    args = build_parser().parse_args(argv)
    return read_config(TrainConfig, PRESETS, args), args
