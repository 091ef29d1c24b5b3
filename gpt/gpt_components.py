"""The parts of a GPT block, smallest first.

Two designs share these classes. GPT-2 (Radford et al. 2019): LayerNorm, GELU, learned positions.
The modern one: RMSNorm (Zhang & Sennrich 2019), rotary positions (Su et al. 2021), normalized
queries and keys (Henry et al. 2020), squared ReLU (So et al. 2021) or SwiGLU (Shazeer 2020),
grouped-query heads (Ainslie et al. 2023).

Shapes: batch B, length T, cached length S >= T, width D, heads H, key/value heads G, head width K.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.elementwise import gelu, rms_norm, squared_relu
from gpt.kv_cache import LayerCache

LAYER_NORM_EPS = 1e-5  # GPT-2's


class RMSNorm(nn.Module):
    """``rms_norm`` with a learned gain: y = gain * x / rms(x)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))  # (D,)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return rms_norm(x) * self.weight


def rotary_table(max_len: int, d_head: int, base: float = 10_000.0) -> Tensor:
    """Cosine and sine of t w_j with w_j = base^(-2j/K) (Su et al. 2021, eq. 15).

    Returns:
        (max_len, K/2, 2), float64: row t turns pair j of a head by the angle t w_j. Two real
        numbers and not one complex, because casting a module to another type would drop imaginary
        parts.
    """
    frequencies = base ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
    angles = torch.outer(torch.arange(max_len, dtype=torch.float64), frequencies)
    return torch.stack((angles.cos(), angles.sin()), dim=-1)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turns each pair of numbers of a head by its position's angle (Su et al. 2021, eq. 34).

    A pair (a, b) is read as the complex number a + bi, so that turning is one multiplication. The
    dot product of a query at t and a key at s then depends on t - s alone.

    Args:
        x: (B, heads, T, K).
        turns: (T, K/2, 2) or (B, 1, T, K/2, 2), rows of ``rotary_table``.

    Returns:
        (B, heads, T, K).
    """
    pairs = torch.view_as_complex(x.to(turns.dtype).unflatten(-1, (-1, 2)))  # (B, heads, T, K/2)
    return torch.view_as_real(pairs * torch.view_as_complex(turns)).flatten(-2).type_as(x)


def attend_written_out(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """softmax(q k' / sqrt(K)) v, each step visible (Vaswani et al. 2017, eq. 1).

    Args:
        q: (B, H, T, K).
        k: (B, H, S, K).
        v: (B, H, S, K).
        mask: True means "may attend", (T, S) or (B, 1, T, S); None means every query may attend to
            every key.

    Returns:
        The output, (B, H, T, K), and the weights, (B, H, T, S), whose rows sum to 1.
    """
    scores = (q / math.sqrt(q.shape[-1])) @ k.mT  # (B, H, T, S)
    if mask is not None:
        # Half the most negative number: one cheap addition in place, and exp() makes exactly zero
        # of it.
        forbidden = torch.finfo(scores.dtype).min / 2
        scores += torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, forbidden)
    weights = scores.softmax(dim=-1)  # (B, H, T, S)
    return weights @ v, weights


def attend_fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The same in one kernel that never stores the weights (Dao et al. 2022).

    Args:
        q: (B, H, T, K).
        k: (B, H, S, K).
        v: (B, H, S, K).
        mask: as in ``attend_written_out``; ignored if ``causal``.
        causal: T = S and query t may attend to keys 0 .. t.

    Returns:
        (B, H, T, K).
    """
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=None if causal else mask, is_causal=causal
    )


def written_out_is_faster(q: Tensor) -> bool:
    """Tells which way is faster on this device; `python -m benchmarks gpt.attention.train_256`.

    On CPU the fused kernel wins only where the (T, S) weights no longer fit into the processor's
    cache, and for a single query.
    """
    return q.device.type == "cpu" and 1 < q.shape[2] <= 512


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which position t sees positions 0 .. t only.

    ``n_kv_heads < n_heads`` shares each key/value head among H/G query heads, which shrinks the
    cache by that factor (Ainslie et al. 2023).
    """

    def __init__(
        self, d_model: int, n_heads: int, n_kv_heads: int, *, bias: bool, qk_norm: bool
    ) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.d_head = n_heads, n_kv_heads, d_model // n_heads
        self.qk_norm = qk_norm
        self.rows = (d_model, n_kv_heads * self.d_head, n_kv_heads * self.d_head)  # of q, k, v
        self.qkv = nn.Linear(d_model, sum(self.rows), bias=bias)  # D -> D + 2 G K
        self.output = nn.Linear(d_model, d_model, bias=bias)  # D -> D

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        turns: Tensor | None = None,
        cache: LayerCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Mixes each position with the ones before it.

        Args:
            x: (B, T, D).
            mask: True means "may attend". (T, S): causal, query t sees keys 0 .. S - T + t.
                (B, 1, T, S): any mask. None: every query sees every key, right for one new token.
            turns: (T, K/2, 2) or (B, 1, T, K/2, 2), the rotary table's rows for these
                positions, or None.
            cache: this layer's keys and values so far; the new ones are appended to it.
            need_weights: also return the attention weights, which takes the written-out way.

        Returns:
            (B, T, D), and the weights (B, H, T, S) or None.
        """
        heads = self.qkv(x).unflatten(-1, (-1, self.d_head)).transpose(1, 2)  # (B, H + 2 G, T, K)
        both, v = heads.split((self.n_heads + self.n_kv_heads, self.n_kv_heads), dim=1)
        if self.qk_norm:
            both = rms_norm(both)  # queries and keys: the scores cannot grow without bound
        if turns is not None:
            both = rotate(both, turns)
        q, k = both.split((self.n_heads, self.n_kv_heads), dim=1)  # (B, H, T, K), (B, G, T, K)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, G, S, K)
        if self.n_kv_heads < self.n_heads:
            shared = self.n_heads // self.n_kv_heads
            k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
        weights = None
        if need_weights or written_out_is_faster(q):
            mixed, weights = attend_written_out(q, k, v, mask)  # (B, H, T, K), (B, H, T, S)
        else:
            square = mask is not None and mask.ndim == 2 and q.shape[2] == k.shape[2]
            mixed = attend_fused(q, k, v, mask, causal=square)
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, T, D)
        return self.output(mixed), weights if need_weights else None


class FeedForward(nn.Module):
    """Two matrices with a nonlinearity between them, applied to each position alone.

    "gelu": contract(gelu(expand(x))), GPT-2's. "relu2": the same with a squared ReLU. "swiglu":
    contract(silu(gate(x)) * up(x)) (Shazeer 2020, eq. 6); ``expand`` holds gate and up side by
    side.
    """

    def __init__(self, d_model: int, d_ff: int, activation: str, *, bias: bool) -> None:
        super().__init__()
        self.activation = activation
        expanded = 2 * d_ff if activation == "swiglu" else d_ff
        self.expand = nn.Linear(d_model, expanded, bias=bias)  # D -> F, or D -> 2F
        self.contract = nn.Linear(d_ff, d_model, bias=bias)  # F -> D

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        hidden = self.expand(x)  # (B, T, F) or (B, T, 2F)
        if self.activation == "gelu":
            hidden = gelu(hidden)
        elif self.activation == "relu2":
            hidden = squared_relu(hidden)
        else:
            gate, up = hidden.chunk(2, dim=-1)
            hidden = F.silu(gate) * up  # (B, T, F)
        return self.contract(hidden)  # (B, T, D)


class Block(nn.Module):
    """One layer, pre-norm: x + attention(norm(x)), then x + feed_forward(norm(x)).

    GPT-2 moved the norms to the input of each part (Radford et al. 2019, section 2.3), so that the
    residual stream passes through all layers without a norm in its way.
    """

    def __init__(
        self,
        attention: CausalSelfAttention,
        feed_forward: FeedForward,
        norms: list[nn.Module],
        dropout: float,
    ) -> None:
        super().__init__()
        attention_norm, feed_forward_norm = norms
        self.attention_norm = attention_norm
        self.attention = attention
        self.feed_forward_norm = feed_forward_norm
        self.feed_forward = feed_forward
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        turns: Tensor | None = None,
        cache: LayerCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) -> (B, T, D), and the weights or None; arguments as the attention's."""
        mixed, weights = self.attention(self.attention_norm(x), mask, turns, cache, need_weights)
        x = x + self.dropout(mixed)  # (B, T, D)
        x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))  # (B, T, D)
        return x, weights
