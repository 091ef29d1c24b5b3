"""GPT, assembled: embeddings, L blocks, a norm, a projection onto the vocabulary.

One class, two recipes. Each difference is one field of ``GPTConfig``, so that an ablation can switch
it alone; ``RECIPES`` names the two sets. Radford et al. 2019, section 2.3, is the source of "gpt2".

Difference from GPT-2: no dropout on the attention weights (embeddings and residual branches have it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.gpt_components import (
    LAYER_NORM_EPS,
    Block,
    CausalSelfAttention,
    FeedForward,
    RMSNorm,
    rotary_table,
)
from gpt.kv_cache import KVCache


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
    logit_cap: float = 0.0  # logits are kept within +-cap by a tanh; 0 means no cap

    def __post_init__(self) -> None:
        """Checks what the layers assume."""
        for name in ("max_len", "d_model", "n_heads", "n_kv_heads", "n_layers", "d_ff"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is not possible. Use 1 or more.")
        if self.d_model % self.n_heads:
            share = self.d_model / self.n_heads
            near = max(1, round(share)) * self.n_heads
            raise ValueError(
                f"d_model={self.d_model} is not divisible by n_heads={self.n_heads}: each head would "
                f"get {share:.4g} numbers. Use d_model={near}, or a number of heads that divides it."
            )
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_heads={self.n_heads} is not divisible by n_kv_heads={self.n_kv_heads}: each "
                "key/value head serves the same number of query heads. Use a divisor of n_heads."
            )
        if self.positions == "rotary" and (self.d_model // self.n_heads) % 2:
            raise ValueError(
                f"heads of {self.d_model // self.n_heads} numbers cannot be rotated: rotary positions "
                "turn pairs. Use an even d_model / n_heads, or positions=learned."
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout={self.dropout} is no share. Use 0 or more and less than 1.")

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
        "logit_cap": 0.0,
    },
    "modern": {
        "norm": "rmsnorm",
        "positions": "rotary",
        "activation": "relu2",
        "qk_norm": True,
        "bias": False,
        "tie_weights": False,
        "zero_init": True,
        "logit_cap": 15.0,
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


class GPT(nn.Module):
    """A decoder-only transformer: tokens in, a score for every possible next token out."""

    turns: Tensor  # (max_len, K/2, 2), the rotary table; a buffer
    causal: Tensor  # (max_len, max_len), True on and below the diagonal; a buffer

    def __init__(self, config: GPTConfig) -> None:
        """Builds and initializes the model.

        Raises:
            ValueError: ``config.vocab_size`` is 0.
        """
        super().__init__()
        if config.vocab_size < 1:
            raise ValueError(
                f"vocab_size={config.vocab_size} gives no token to predict. "
                "Use the tokenizer's vocab_size."
            )
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)  # (V, D)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.max_len, config.d_model)  # (max_len, D)
        else:
            turns = rotary_table(config.max_len, config.d_head).float()
            self.register_buffer("turns", turns, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(self._block() for _ in range(config.n_layers))
        self.final_norm = self._norm()
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)  # D -> V
        if config.tie_weights:
            self.head.weight = self.token_embedding.weight
        causal = torch.ones(config.max_len, config.max_len, dtype=torch.bool).tril()
        self.register_buffer("causal", causal, persistent=False)
        self.initialize()

    def _norm(self) -> nn.Module:
        c = self.config
        return (
            nn.LayerNorm(c.d_model, LAYER_NORM_EPS) if c.norm == "layernorm" else RMSNorm(c.d_model)
        )

    def _block(self) -> Block:
        c = self.config
        attention = CausalSelfAttention(
            c.d_model, c.n_heads, c.n_kv_heads, bias=c.bias, qk_norm=c.qk_norm
        )
        feed_forward = FeedForward(c.d_model, c.d_ff, c.activation, bias=c.bias)
        return Block(attention, feed_forward, [self._norm(), self._norm()], c.dropout)

    @torch.no_grad()
    def initialize(self) -> None:
        """Draws every weight.

        | tensor | gpt2 | modern (``zero_init``) |
        |---|---|---|
        | token_embedding | N(0, 0.02) | N(0, 1) |
        | position_embedding | N(0, 0.01) | - |
        | qkv, expand | N(0, 0.02) | U(-a, a) with a = sqrt(3 / D): variance 1 / D |
        | output, contract | N(0, 0.02 / sqrt(2 L)) | 0: each block starts as the identity |
        | head | the embedding (tied) | 0: all tokens equally likely at the start |
        | norm gains, biases | 1, 0 | 1, - |

        The gpt2 column is the released code's (Radford et al. 2019): 2 L branches add to the residual
        stream, so each starts smaller by sqrt(2 L) (section 2.3).
        """
        c = self.config
        for name, parameter in self.named_parameters():
            if "norm" in name:
                continue  # gains are born 1, biases 0
            if name.endswith("bias"):
                parameter.zero_()
            elif name.endswith(("output.weight", "contract.weight")):
                std = 0.0 if c.zero_init else 0.02 / math.sqrt(2 * c.n_layers)
                parameter.normal_(0.0, std)
            elif name == "head.weight":
                parameter.normal_(0.0, 0.0 if c.zero_init else 0.02)
            elif name == "token_embedding.weight":
                parameter.normal_(0.0, 1.0 if c.zero_init and not c.tie_weights else 0.02)
            elif name == "position_embedding.weight":
                parameter.normal_(0.0, 0.01)
            elif c.zero_init:
                bound = math.sqrt(3.0 / c.d_model)
                parameter.uniform_(-bound, bound)
            else:
                parameter.normal_(0.0, 0.02)

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Scores every token of the vocabulary as the next one, at each position.

        Args:
            tokens: (B, T), token ids.
            cache: what came before these tokens; they are appended to it. None means nothing.

        Returns:
            (B, T, V), logits.

        Raises:
            ValueError: the tokens do not fit into the context window.
        """
        x, _, _ = self._run(tokens, cache, record=False)
        return self.project(x)

    def intermediates(self, tokens: Tensor) -> dict[str, Tensor]:
        """Runs the model and keeps every step by name, for pictures and for the shape ledger.

        Returns:
            "tokens" (B, T); "embedding" (B, T, D); for layer i "attention.i" (B, H, T, T), the weights,
            and "block.i" (B, T, D), the residual stream after it; "final_norm" (B, T, D); "logits"
            (B, T, V).
        """
        x, streams, weights = self._run(tokens, None, record=True)
        named = {"tokens": tokens, "embedding": streams[0]}
        for layer, (stream, weight) in enumerate(zip(streams[1:], weights, strict=True)):
            named[f"attention.{layer}"], named[f"block.{layer}"] = weight, stream
        return named | {"final_norm": self.final_norm(x), "logits": self.project(x)}

    def project(self, x: Tensor) -> Tensor:
        """Turns the residual stream, (..., D), into logits, (..., V)."""
        logits = self.head(self.final_norm(x))
        if self.config.logit_cap:
            logits = self.config.logit_cap * torch.tanh(logits / self.config.logit_cap)
        return logits  # type: ignore[no-any-return]

    def _run(
        self, tokens: Tensor, cache: KVCache | None, record: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Everything up to the last block; ``record`` keeps the stream and the attention weights."""
        length = tokens.shape[1]
        past = cache.length if cache is not None else 0
        if past + length > self.config.max_len:
            raise ValueError(
                f"{past + length} tokens do not fit into the context window of "
                f"{self.config.max_len}: later positions have never been trained. "
                "Give fewer tokens, or train with a larger max_len."
            )
        if cache is None:
            positions, mask = slice(0, length), self.causal[:length, :length]
        else:
            positions, mask = cache.positions(length), cache.mask(length)
        x = self.token_embedding(tokens)  # (B, T, D)
        turns = None
        if self.config.positions == "learned":
            x = x + self.position_embedding.weight[positions]  # (B, T, D)
        else:
            turns = self.turns[positions].unsqueeze(-3)  # (T, 1, K/2, 2) or (B, T, 1, K/2, 2)
        x = self.dropout(x)
        streams, weights = [x], []
        for layer, block in enumerate(self.blocks):
            layer_cache = cache.layers[layer] if cache is not None else None
            x, weight = block(x, mask, turns, layer_cache, record)
            if record:
                streams.append(x)
                weights.append(weight)
        if cache is not None:
            cache.advance(length)
        return x, streams, weights

    def new_cache(self, batch: int) -> KVCache:
        """Returns an empty cache for ``batch`` rows, on the model's device."""
        c, weight = self.config, self.token_embedding.weight
        return KVCache(
            c.n_layers, batch, c.n_kv_heads, c.max_len, c.d_head, weight.device, weight.dtype
        )


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats; the target -100 is left out.

    Args:
        logits: (B, T, V); position t scores the token at t + 1.
        targets: (B, T); ``targets[:, t]`` is the token that follows ``tokens[:, t]``.
    """
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
