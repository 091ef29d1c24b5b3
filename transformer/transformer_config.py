"""The shape and design of an encoder-decoder, and its number of parameters.

The defaults are the paper's design (Vaswani et al. 2017) at a laptop's size: norms behind each
part, sinusoids for positions, ReLU, and one matrix for both embeddings and the output projection.
Each field that an experiment of the chapter turns is one switch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tutorial_kit.config_checks import check_counts, check_heads, check_shares_below_one


@dataclass(frozen=True)
class TransformerConfig:
    """The shape and design of a Transformer; the defaults are the paper's design, small."""

    vocab_size: int = 0  # tokens in the vocabulary of both languages, V; 0 means the tokenizer's
    max_len: int = 128  # tokens of the longest source or target
    d_model: int = 128  # width of the residual stream, D
    n_heads: int = 4  # attention heads, H
    n_layers: int = 3  # encoder layers
    n_decoder_layers: int = 3  # decoder layers
    d_ff: int = 512  # width inside the feed-forward, F
    dropout: float = 0.1  # share of activations set to zero in training
    norm: Literal["post", "pre"] = "post"  # norms behind each part (the paper's) or before it
    positions: Literal["sinusoidal", "learned", "none"] = "sinusoidal"  # how places are told
    tie_weights: bool = True  # source embedding, target embedding and output are one matrix
    scale_scores: bool = True  # divide attention scores by sqrt(K); off only to see why

    def __post_init__(self) -> None:
        """Checks what the layers assume."""
        check_counts(self, "max_len", "d_model", "n_heads", "n_layers", "n_decoder_layers", "d_ff")
        check_heads(self.d_model, self.n_heads)
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(
                f"d_model={self.d_model} is odd, and sinusoids come in pairs, a sine and a cosine. "
                f"Use d_model={self.d_model + 1}, or positions=learned."
            )
        check_shares_below_one(self, "dropout")

    @property
    def d_head(self) -> int:
        """Width of one head, K."""
        return self.d_model // self.n_heads


def parameter_count(config: TransformerConfig) -> int:
    """Returns the number of parameters by the closed formula of the chapter.

    With attention A = 4 (D^2 + D), feed-forward P = 2 D F + F + D and norm N = 2 D::

        V D (tied; else 3 V D) + [learned] max_len D
        + encoder layers (A + P + 2 N) + decoder layers (2 A + P + 3 N) + [pre] 2 N

    The paper's base model (table 3 says "65 million"; the vocabulary is "about 37,000"):

    >>> parameter_count(TransformerConfig(vocab_size=37000, d_model=512, n_heads=8, n_layers=6,
    ...     n_decoder_layers=6, d_ff=2048))
    63082496
    """
    c, d = config, config.d_model
    attention = 4 * (d * d + d)
    feed_forward = 2 * d * c.d_ff + c.d_ff + d
    norm = 2 * d
    embeddings = c.vocab_size * d * (1 if c.tie_weights else 3)
    positions = c.max_len * d if c.positions == "learned" else 0
    encoder = c.n_layers * (attention + feed_forward + 2 * norm)
    decoder = c.n_decoder_layers * (2 * attention + feed_forward + 3 * norm)
    final_norms = 2 * norm if c.norm == "pre" else 0
    return embeddings + positions + encoder + decoder + final_norms
