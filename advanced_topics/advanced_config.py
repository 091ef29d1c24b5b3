"""The shape of the small decoder, the settings of its training, and the presets.

Every topic of the chapter is one field: positions, key/value heads, mixer, experts. Whatever a
field is set to, the rest of the model stays GPT-2's (Radford et al. 2019), so that two runs differ
in that field alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tutorial_kit.config import config_parser, read_config
from tutorial_kit.config_checks import (
    check_counts,
    check_heads,
    check_learning_rates,
    check_not_negative,
    check_shares,
)
from tutorial_kit.entry_parsers import add_run

Positions = Literal["learned", "sine", "rotary", "alibi", "none"]
Mixer = Literal["softmax", "linear", "delta"]
Rescale = Literal["none", "interpolate", "ntk"]


@dataclass(frozen=True)
class DecoderConfig:
    """The shape and design of a small decoder; the defaults are a small GPT-2."""

    vocab_size: int = 0  # tokens in the vocabulary, V; 0 means "take the data's"
    max_len: int = 256  # most tokens that the model may be asked to read at once
    d_model: int = 64  # width of the residual stream, D
    n_heads: int = 4  # query heads, H
    n_kv_heads: int = 4  # key/value heads, G; fewer than n_heads shares them
    n_layers: int = 2  # blocks, L
    d_ff: int = 256  # width inside the feed-forward, F; of each expert, if there are experts
    positions: Positions = "rotary"  # how a token knows its place
    mixer: Mixer = "softmax"  # what mixes the tokens of a sequence
    conv: int = 0  # tokens that a short convolution on queries, keys and values sees; 0 means none
    n_experts: int = 0  # feed-forwards to choose from, E; 0 means one for all tokens
    top_k: int = 1  # experts that a token is sent to
    init: float = 0.06  # standard deviation of the first weights; GPT-2's is 0.02, of wide layers

    def __post_init__(self) -> None:
        """Checks what the layers assume."""
        check_counts(
            self, "max_len", "d_model", "n_heads", "n_kv_heads", "n_layers", "d_ff", "top_k"
        )
        check_not_negative(self, "vocab_size", "conv", "n_experts")
        check_heads(self.d_model, self.n_heads)
        check_learning_rates(self, "init")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_heads={self.n_heads} is not divisible by n_kv_heads={self.n_kv_heads}: each "
                "key/value head serves the same number of query heads. Use a divisor of n_heads."
            )
        if self.positions == "rotary" and self.d_head % 2:
            raise ValueError(
                f"heads of {self.d_head} numbers cannot be rotated: rotary positions turn pairs. "
                "Use an even d_model / n_heads, or other positions."
            )
        if self.positions == "alibi" and self.mixer != "softmax":
            raise ValueError(
                f"positions=alibi and mixer={self.mixer} do not fit: ALiBi is added to the scores "
                "of a softmax, and this mixer has none. Use mixer=softmax, or other positions."
            )
        if self.n_experts and self.top_k > self.n_experts:
            raise ValueError(
                f"top_k={self.top_k} of n_experts={self.n_experts} cannot be chosen: there are "
                f"not so many. Use top_k={self.n_experts} or less."
            )

    @property
    def d_head(self) -> int:
        """Width of one head, K."""
        return self.d_model // self.n_heads


@dataclass(frozen=True)
class AdvancedConfig:
    """What one training run depends on."""

    model: DecoderConfig = field(default_factory=DecoderConfig)
    task: Literal["text", "recall"] = "text"  # next tokens of a text, or pairs to be recalled
    dataset: str = "documentation"  # documentation, documentation-small, or a text file's path
    bpe_tokens: int = 512  # vocabulary of the text's BPE, tokens
    window: int = 64  # tokens of a training window, T; the model may be asked to read more
    pairs: int = 32  # most pairs in a training sequence of the recall task
    keys: int = 64  # keys to draw from in the recall task, and as many values
    batch_size: int = 16  # sequences in a minibatch
    max_steps: int = 400  # updates of the weights
    lr: float = 3e-3  # peak learning rate of AdamW
    weight_decay: float = 0.1  # AdamW's decay of matrices
    warmup: float = 0.05  # share of the run spent on warming up
    floor: float = 0.05  # learning rate at the end, as a share of its peak
    clip: float = 1.0  # largest norm of the gradient; 0 means no clipping
    balance: float = 0.0  # weight of the load-balancing loss, if there are experts
    eval_every: int = 200  # steps between evaluations on the validation split
    checkpoint_every: int = 200  # steps between checkpoints
    seed: int = 0  # initial weights and order of the data
    threads: int = 0  # CPU threads; 0 leaves torch's own choice

    def __post_init__(self) -> None:
        """Checks what the loop assumes."""
        check_counts(self, "window", "pairs", "keys", "batch_size", "max_steps", "eval_every",
                     "checkpoint_every")  # fmt: skip
        check_learning_rates(self, "lr")
        check_shares(self, "warmup", "floor")
        check_not_negative(self, "weight_decay", "clip", "balance")
        if self.task == "text" and self.window > self.model.max_len:
            raise ValueError(
                f"window={self.window} is longer than max_len={self.model.max_len}: the model "
                "could not read its training windows. Use a smaller window, or a larger max_len."
            )
        if self.task == "recall" and self.pairs > self.keys:
            raise ValueError(
                f"pairs={self.pairs} needs as many different keys, and there are keys={self.keys}. "
                "Use fewer pairs, or more keys."
            )


PRESETS: dict[str, AdvancedConfig] = {
    # Seconds on any machine; a test that everything runs, no result.
    "smoke": AdvancedConfig(
        DecoderConfig(max_len=64, d_model=16, n_layers=1, d_ff=32),
        dataset="documentation-small", window=16, pairs=4, keys=8, batch_size=4, max_steps=4,
        eval_every=2, checkpoint_every=2,
    ),
    # What quick_start.py trains: a few seconds a model.
    "quick": AdvancedConfig(dataset="documentation-small", max_steps=250, eval_every=250),
    # What run_examples.py trains: less than ten seconds a model on two cores.
    "standard": AdvancedConfig(),
    # The recall task of the chapter: one layer, and larger first weights, because with small ones
    # the scores of so narrow a layer start near 0, and learning starts late.
    "recall": AdvancedConfig(
        DecoderConfig(n_heads=2, n_kv_heads=2, n_layers=1, d_ff=128, positions="none", conv=2,
                      init=0.25),
        task="recall", batch_size=32, lr=1e-2, weight_decay=0.0,
    ),
}  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of ``advanced_trainer.py``."""
    parser = config_parser(
        AdvancedConfig,
        PRESETS,
        "standard",
        "Train a small decoder on text or on recall; resume it.",
    )
    add_run(parser, "advanced_topics")
    return parser


def config_from_argv(argv: Sequence[str] | None) -> tuple[AdvancedConfig, argparse.Namespace]:
    """Parses a command line into the config and the flags beside it."""
    args = build_parser().parse_args(argv)
    return read_config(AdvancedConfig, PRESETS, args), args
