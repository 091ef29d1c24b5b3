"""GPT, assembled: embeddings, L blocks, a norm, a projection onto the vocabulary.

One class, two recipes, described by ``GPTConfig`` (Radford et al. 2019, section 2.3, for "gpt2").

Difference from GPT-2: no dropout on the attention weights (embeddings and residual branches have
it).
"""

from __future__ import annotations

import math

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
from gpt.gpt_config import GPTConfig
from gpt.kv_cache import KVCache


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

        The gpt2 column is the released code's (Radford et al. 2019): 2 L branches add to the
        residual stream, so each starts smaller by sqrt(2 L) (section 2.3).
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
        return self.project(self.hidden(tokens, cache))

    def hidden(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Returns the residual stream after the last block, (B, T, D); ``project`` scores it.

        Generation asks for it to project only the last position: a vocabulary is wide.
        """
        return self._run(tokens, cache, record=False)[0]

    def intermediates(self, tokens: Tensor) -> dict[str, Tensor]:
        """Runs the model and keeps every step by name, for pictures and for the shape ledger.

        Returns:
            "tokens" (B, T); "embedding" (B, T, D); for layer i "attention.i" (B, H, T, T), the
            weights, and "block.i" (B, T, D), the residual stream after it; "final_norm" (B, T, D);
            "logits" (B, T, V).
        """
        x, streams, weights = self._run(tokens, None, record=True)
        named = {"tokens": tokens, "embedding": streams[0]}
        for layer, (stream, weight) in enumerate(zip(streams[1:], weights, strict=True)):
            named[f"attention.{layer}"], named[f"block.{layer}"] = weight, stream
        return named | {"final_norm": self.final_norm(x), "logits": self.project(x)}

    def project(self, x: Tensor) -> Tensor:
        """Turns the residual stream, (..., D), into logits, (..., V)."""
        return self.head(self.final_norm(x))

    def _run(
        self, tokens: Tensor, cache: KVCache | None, record: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Everything up to the last block; ``record`` keeps the streams and the weights."""
        length = tokens.shape[1]
        past = cache.length if cache is not None else 0
        if past + length > self.config.max_len:
            raise ValueError(
                f"{past + length} tokens do not fit into the context window of "
                f"{self.config.max_len}: later positions have never been trained. "
                "Give fewer tokens, or train with a larger max_len."
            )
        positions: slice | Tensor
        mask: Tensor | None
        if cache is None:
            positions, mask = slice(0, length), self.causal[:length, :length]
        else:
            positions, mask = cache.positions(length), cache.mask(length)
        x = self.token_embedding(tokens)  # (B, T, D)
        turns = None
        if self.config.positions == "learned":
            x = x + self.position_embedding.weight[positions]  # (B, T, D)
        else:
            turns = self.turns[positions]  # (T, K/2, 2) or (B, T, K/2, 2)
            turns = turns if turns.ndim == 3 else turns[:, None]  # (B, 1, T, K/2, 2)
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
