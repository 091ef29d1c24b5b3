"""The shape and design of a BERT, the published sizes, and its number of parameters.

BERT is the encoder of the Transformer alone (Devlin et al. 2019, section 3). The defaults are its
design at a laptop's size: post-norm layers, learned positions, two segments. The one switch,
``norm``, moves the norms to the front of each part, where later models have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tutorial_kit.config_checks import check_counts, check_heads, check_shares_below_one


@dataclass(frozen=True)
class BertConfig:
    """The shape and design of a BERT; the defaults are the paper's design, small."""

    vocab_size: int = 6000  # WordPiece tokens, V
    max_len: int = 128  # tokens the model can see at once, [CLS] and [SEP] included
    d_model: int = 128  # width of the residual stream, D
    n_heads: int = 4  # attention heads, H
    n_layers: int = 4  # encoder layers, L
    d_ff: int = 512  # width inside the feed-forward, F
    dropout: float = 0.1  # share of activations set to zero in training
    n_segments: int = 2  # texts a sequence can hold: the first (0) and the second (1)
    norm: Literal["post", "pre"] = "post"  # norms behind each part (the paper's) or before it
    norm_eps: float = 1e-12  # added to the variance in each norm; the published code's value
    initial_std: float = 0.02  # of initial weights; the published code's, for widths from 512 on
    first_positions: Literal["random", "sine"] = "random"  # what learned positions begin as

    def __post_init__(self) -> None:
        """Checks what the layers assume."""
        check_counts(
            self, "vocab_size", "max_len", "d_model", "n_heads", "n_layers", "d_ff", "n_segments"
        )
        check_heads(self.d_model, self.n_heads)
        check_shares_below_one(self, "dropout")
        if self.norm not in ("post", "pre"):
            raise ValueError(f"norm={self.norm!r} is no place for the norms. Use post or pre.")
        if self.first_positions not in ("random", "sine"):
            raise ValueError(
                f"first_positions={self.first_positions!r} is no way to begin. Use random or sine."
            )
        if self.first_positions == "sine" and self.d_model % 2:
            raise ValueError(
                f"d_model={self.d_model} is odd, and sines come in pairs with cosines. Use an even "
                "width, or first_positions=random."
            )
        if self.initial_std <= 0:
            raise ValueError(
                f"initial_std={self.initial_std} makes all neurons of a layer equal for ever. Use "
                "0.02, or about d_model ** -0.5 for narrow models."
            )
        if self.norm_eps <= 0:
            raise ValueError(
                f"norm_eps={self.norm_eps} divides by zero where all numbers of a vector are "
                "equal. Use a small number above 0, such as 1e-12."
            )

    @property
    def d_head(self) -> int:
        """Width of one head, K."""
        return self.d_model // self.n_heads


# Devlin et al. 2019, section 3 (base) and Turc et al. 2019, table 1 (the smaller ones): heads of 64
# numbers, a feed-forward of 4 D.
SIZES: dict[str, BertConfig] = {
    name: BertConfig(
        vocab_size=30522, max_len=512, d_model=width, n_heads=width // 64, n_layers=layers,
        d_ff=4 * width,
    )
    for name, (width, layers) in {
        "tiny": (128, 2), "mini": (256, 4), "small": (512, 4), "base": (768, 12),
    }.items()
}  # fmt: skip


def parameter_count(config: BertConfig, pretraining_heads: bool = False) -> int:
    """Returns the number of parameters by the closed formula of the chapter.

    With attention A = 4 (D^2 + D), feed-forward P = 2 D F + F + D and norm N = 2 D::

        (V + max_len + segments) D + N + L (A + P + 2 N) + [pre] N + (D^2 + D)

    embeddings and their norm, layers, the final norm of pre-norm, pooler. The heads of
    pre-training add (D^2 + D) + N + V for masked tokens (their matrix is the token embedding) and
    2 D + 2 for the next sentence.

    The paper says "110M" for base (section 3):

    >>> parameter_count(SIZES["base"]), parameter_count(SIZES["base"], pretraining_heads=True)
    (109482240, 110106428)
    """
    c, d = config, config.d_model
    square, norm = d * d + d, 2 * d
    embeddings = (c.vocab_size + c.max_len + c.n_segments) * d + norm
    feed_forward = 2 * d * c.d_ff + c.d_ff + d
    layers = c.n_layers * (4 * square + feed_forward + 2 * norm)
    final_norm = norm if c.norm == "pre" else 0
    heads = square + norm + c.vocab_size + 2 * d + 2 if pretraining_heads else 0
    return embeddings + layers + final_norm + square + heads
