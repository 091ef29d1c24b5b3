"""The shape and design of a GPT, its two recipes, and its number of parameters.

Each difference between GPT-2's design (Radford et al. 2019, section 2.3) and the modern one is one
field of ``GPTConfig``, so that an ablation can switch it alone; ``RECIPES`` names the two sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tutorial_kit.config_checks import check_counts, check_heads, check_shares_below_one


@dataclass(frozen=True)
class GPTConfig:
    """The shape and design of a GPT; the defaults are the "gpt2" recipe."""

    vocab_size: int = 0  # tokens in the vocabulary, V; 0 means "take the tokenizer's"
    max_len: int = 64  # tokens the model can see at once, the context window
    d_model: int = 128  # width of the residual stream, D
    n_heads: int = 4  # query heads, H
    n_kv_heads: int = 4  # key/value heads, G; fewer than n_heads shares them
    n_layers: int = 4  # blocks, L
    d_ff: int = 512  # width inside the feed-forward, F
    dropout: float = 0.0  # share of activations set to zero in training
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"  # which normalization
    positions: Literal["learned", "rotary"] = "learned"  # how a token knows its place
    activation: Literal["gelu", "relu2", "swiglu"] = "gelu"  # nonlinearity of the feed-forward
    qk_norm: bool = False  # normalize queries and keys
    bias: bool = True  # biases in the linear layers
    tie_weights: bool = True  # the output projection is the token embedding
    zero_init: bool = False  # projections onto the residual stream and the head start at zero

    def __post_init__(self) -> None:
        """Checks what the layers assume."""
        check_counts(self, "max_len", "d_model", "n_heads", "n_kv_heads", "n_layers", "d_ff")
        check_heads(self.d_model, self.n_heads)
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_heads={self.n_heads} is not divisible by n_kv_heads={self.n_kv_heads}: each "
                "key/value head serves the same number of query heads. Use a divisor of n_heads."
            )
        if self.positions == "rotary" and (self.d_model // self.n_heads) % 2:
            raise ValueError(
                f"heads of {self.d_model // self.n_heads} numbers cannot be rotated: rotary "
                "positions turn pairs. Use an even d_model / n_heads, or positions=learned."
            )
        check_shares_below_one(self, "dropout")

    @property
    def d_head(self) -> int:
        """Width of one head, K."""
        return self.d_model // self.n_heads


RECIPES: dict[str, dict[str, Any]] = {
    "gpt2": {
        "norm": "layernorm",
        "positions": "learned",
        "activation": "gelu",
        "qk_norm": False,
        "bias": True,
        "tie_weights": True,
        "zero_init": False,
    },
    "modern": {
        "norm": "rmsnorm",
        "positions": "rotary",
        "activation": "relu2",
        "qk_norm": True,
        "bias": False,
        "tie_weights": False,
        "zero_init": True,
    },
}


def parameter_count(config: GPTConfig) -> int:
    """Returns the number of parameters by the closed formula of the chapter.

    V D + [learned] max_len D + L (attention + feed-forward + two norms) + norm + [untied] V D.

    >>> parameter_count(GPTConfig(vocab_size=50257, max_len=1024, d_model=768, n_heads=12,
    ...     n_kv_heads=12, n_layers=12, d_ff=3072))
    124439808
    """
    c, bias = config, int(config.bias)
    d, qkv = c.d_model, c.d_model + 2 * c.n_kv_heads * c.d_head
    expanded = 2 * c.d_ff if c.activation == "swiglu" else c.d_ff
    norm = 2 * d if c.norm == "layernorm" else d
    attention = (d + bias) * qkv + (d + bias) * d
    feed_forward = (d + bias) * expanded + (c.d_ff + bias) * d
    positions = c.max_len * d if c.positions == "learned" else 0
    head = 0 if c.tie_weights else c.vocab_size * d
    blocks = c.n_layers * (attention + feed_forward + 2 * norm)
    return c.vocab_size * d + positions + blocks + norm + head
