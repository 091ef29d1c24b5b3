"""Settings of a fine-tuning: how many labels, how long, which learning rates, what stays frozen.

With 50 labels the question is not how to fit them but how little to destroy: the encoder moves at a
small learning rate, the new head at a larger one (Devlin et al. 2018, section 4.1, tune the rate of
both together; Howard & Ruder 2018, section 3.2, give each layer its own).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tutorial_kit.config import config_parser, read_config
from tutorial_kit.config_checks import (
    check_counts,
    check_learning_rates,
    check_not_negative,
    check_shares,
    check_shares_below_one,
)
from tutorial_kit.entry_parsers import add_device

MOST_EPOCHS = 40
"""With few labels the weights see each of them so often, and then stop."""

FEWEST_EPOCHS = 3


@dataclass(frozen=True)
class FinetuneConfig:
    """What one fine-tuning depends on, beside the weights it starts from."""

    labels: int = 200  # labeled examples to learn from, the same number of each class; 0 means all
    epochs: int = 0  # times each is seen; 0 means: as often as updates asks for, 3 to 40
    updates: int = 300  # updates of the weights that epochs=0 aims at
    batch_size: int = 16  # examples in a minibatch
    max_len: int = 64  # tokens, [CLS] and [SEP] included; longer texts lose their end
    lr: float = 1e-4  # peak learning rate of a pre-trained encoder
    scratch_lr: float = 2e-3  # peak learning rate of an encoder that starts from scratch
    head_lr: float = 2e-3  # peak learning rate of the new head
    layer_decay: float = 1.0  # each layer learns so many times as fast as the one above it
    warmup: float = 0.1  # share of the updates until the peak
    weight_decay: float = 0.01  # decay of matrices
    dropout: float = 0.1  # in the encoder and before the head
    hide: float = 0.0  # share of the tokens that become [MASK] in training, drawn anew each time
    clip: float = 1.0  # largest norm of the gradient; 0 means no clipping
    pooling: Literal["mean", "cls"] = "mean"  # what the head reads: all tokens' mean, or [CLS]
    freeze: int = 0  # layers from below that stay as they are, with the embeddings; -1 means all
    select: Literal["last", "best"] = "last"  # best: of the epochs, by as many validation labels
    seed: int = 0  # which examples are labeled, initial head, dropout and order
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on CUDA only
    threads: int = 0  # CPU threads; 0 leaves torch's own choice

    def __post_init__(self) -> None:
        """Checks what the loop assumes."""
        check_counts(self, "updates", "batch_size")
        check_not_negative(self, "labels", "epochs", "clip", "weight_decay", "threads")
        check_learning_rates(self, "lr", "scratch_lr", "head_lr", "layer_decay")
        check_shares(self, "warmup", "layer_decay")
        check_shares_below_one(self, "dropout", "hide")
        if self.max_len < 3:
            raise ValueError(
                f"max_len={self.max_len} leaves no room for text between [CLS] and [SEP]. "
                "Use 3 or more."
            )
        if self.freeze < -1:
            raise ValueError(
                f"freeze={self.freeze} is no number of layers. Use 0 for none, -1 for all."
            )

    def n_epochs(self, n_examples: int) -> int:
        """Returns how often each of the examples is seen.

        >>> FinetuneConfig().n_epochs(50), FinetuneConfig().n_epochs(200)
        (40, 23)
        >>> FinetuneConfig().n_epochs(7000)
        3
        """
        if self.epochs:
            return self.epochs
        steps = -(-n_examples // self.batch_size)  # in an epoch, the last one smaller
        return max(FEWEST_EPOCHS, min(MOST_EPOCHS, round(self.updates / steps)))


PRESETS: dict[str, FinetuneConfig] = {
    # Seconds on any machine; a test that everything runs, no result.
    "smoke": FinetuneConfig(labels=16, epochs=1, batch_size=8, max_len=24),
    # quick_start's seconds on two cores; what a minute has taught need not be kept so carefully.
    "quick": FinetuneConfig(updates=200, max_len=48, lr=2e-3),
    # A few labels, the documented results.
    "standard": FinetuneConfig(),
    # All labels of a task; minutes on two cores.
    "full": FinetuneConfig(labels=0, epochs=5, batch_size=32, lr=1e-3, hide=0.2, select="best"),
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of ``bert_finetuning.py``."""
    parser = config_parser(
        FinetuneConfig, PRESETS, "standard", "Fine-tune BERT on a task with few labels or many."
    )
    parser.add_argument("--task", default="library", metavar="TASK",
                        help="library, sst2, polarity, code, parameters, or a TSV file: text<TAB>label")  # fmt: skip # noqa: E501
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--run", metavar="NAME", help="a pre-training run, or its folder")
    start.add_argument("--pretrained", type=Path, metavar="FOLDER",
                       help="published weights: config.json, model.safetensors, vocab.txt")  # fmt: skip # noqa: E501
    start.add_argument("--from-scratch", action="store_true",
                       help="fresh weights, vocabulary from the task's own texts")  # fmt: skip
    parser.add_argument("--twin", action=argparse.BooleanOptionalAction, default=True,
                        help="also train the same model from scratch, to compare")  # fmt: skip
    parser.add_argument("--fold", type=int, default=0, help="polarity: which tenth is the test")
    parser.add_argument("--name", metavar="NAME", help="folder under outputs/bert/")
    add_device(parser)
    return parser


def config_from_argv(argv: Sequence[str] | None) -> tuple[FinetuneConfig, argparse.Namespace]:
    """Parses a command line into the config and the flags beside it."""
    args = build_parser().parse_args(argv)
    return read_config(FinetuneConfig, PRESETS, args), args
