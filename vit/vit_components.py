"""The parts of a ViT: attention, feed-forward, and the pre-norm encoder layer.

The layer is BERT's with the norms moved to the front of each part (Dosovitskiy et al. 2021, eq. 2
and 3, figure 1). Nothing is masked: an image has no padding, and every patch sees every patch.

Difference from the published code: dropout stands behind the embeddings and behind each part, not
inside the feed-forward, and attention weights are never dropped.

Shapes: batch B, tokens T, width D, heads H, head width K, feed-forward F; queries Q, which are T
everywhere but where the class token alone is asked for.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tutorial_kit.dropout import Dropout
from vit.position_encodings import RotaryPositions2D
from vit.recomputation import made_again
from vit.vit_config import ViTConfig


def attend_written_out(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """softmax(q k' / sqrt(K)) v, each step visible (Vaswani et al. 2017, eq. 1).

    Args:
        q: (B, H, Q, K).
        k: (B, H, T, K).
        v: (B, H, T, K).

    Returns:
        The output, (B, H, Q, K), and the weights, (B, H, Q, T), whose rows sum to 1.
    """
    scores = (q * (1.0 / math.sqrt(q.shape[-1]))) @ k.mT  # (B, H, Q, T)
    weights = scores.softmax(dim=-1)  # (B, H, Q, T)
    return weights @ v, weights


def attend_lean(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same, (B, H, Q, K), without keeping more for the backward pass than it was given.

    A query of K numbers has T weights. Where these are more, they are computed a second time in
    the backward pass, which costs a small product and a softmax.
    """
    if not torch.is_grad_enabled() or k.shape[2] <= k.shape[3]:
        return attend_written_out(q, k, v)[0]
    mixed, _ = checkpoint(
        attend_written_out, q, k, v, use_reentrant=False, preserve_rng_state=False
    )
    return cast(Tensor, mixed)


def attend_fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same in one kernel that never stores the weights (Dao et al. 2022): (B, H, Q, K)."""
    return F.scaled_dot_product_attention(q, k, v)


def written_out_is_faster(k: Tensor) -> bool:
    """Tells which way is faster on this device.

    On CPU the fused kernel wins only where the (T, T) weights no longer fit into the processor's
    cache.
    """
    return k.device.type == "cpu" and k.shape[2] <= 512


class SelfAttention(nn.Module):
    """H attentions side by side, each in K = D / H dimensions of its own.

    The matrices of queries, keys and values of all heads lie below each other in ``qkv``: one
    large product instead of three.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.d_head = d_model // n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)  # D -> queries, keys, values of all heads
        self.output = nn.Linear(d_model, d_model)  # D -> D

    def forward(
        self,
        x: Tensor,
        rotary: RotaryPositions2D | None = None,
        need_weights: bool = False,
        first_only: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Lets each token gather from all tokens.

        Args:
            x: (B, T, D).
            rotary: what turns queries and keys, if that is how places are told.
            need_weights: also return the attention weights, which takes the written-out way.
            first_only: let the first token alone gather: Q = 1.

        Returns:
            (B, Q, D), and the weights (B, H, Q, T) or None.
        """
        if first_only:
            q, k, v = self._project_apart(x)  # (B, H, 1, K), (B, H, T, K) twice
        else:
            q, k, v = self._heads(self.qkv(x), 3)  # (B, H, T, K) each
        if rotary is not None:  # a class token, which stands first, is not turned
            q, k = q if first_only else rotary.rotate(q), rotary.rotate(k)
        weights = None
        if need_weights:
            mixed, weights = attend_written_out(q, k, v)
        elif written_out_is_faster(k):
            mixed = attend_lean(q, k, v)  # (B, H, Q, K)
        else:
            mixed = attend_fused(q, k, v)  # (B, H, Q, K)
        mixed = self.output(mixed.transpose(1, 2).flatten(2))  # (B, Q, D)
        return mixed, weights

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Splits (B, T, parts D) into ``parts`` tensors of (B, H, T, K), in one copy."""
        split = x.unflatten(-1, (parts, -1, self.d_head))  # (B, T, parts, H, K)
        return split.permute(2, 0, 3, 1, 4).contiguous().unbind(0)

    def _project_apart(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the query of the first token alone, keys and values of all."""
        d = x.shape[-1]
        weight, bias = self.qkv.weight.split((d, 2 * d)), self.qkv.bias.split((d, 2 * d))
        (q,) = self._heads(F.linear(x[:, :1], weight[0], bias[0]), 1)
        return q, *self._heads(F.linear(x, weight[1], bias[1]), 2)


class FeedForward(nn.Module):
    """contract(gelu(expand(x))), applied to each token alone.

    GELU is x P(X <= x) with X from N(0, 1) (Hendrycks & Gimpel 2016, eq. 1): the exact one, with
    the error function.
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.expand = nn.Linear(d_model, d_ff)  # D -> F
        self.contract = nn.Linear(d_ff, d_model)  # F -> D

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        wide = self.expand(x)  # (B, T, F)
        active = F.gelu(wide)
        with made_again(active, lambda: F.gelu(wide)):
            return cast(Tensor, self.contract(active))  # (B, T, D)


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)) (eq. 2 and 3)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        c = config
        self.attention_norm = nn.LayerNorm(c.d_model, c.norm_eps)
        self.attention = SelfAttention(c.d_model, c.n_heads)
        self.feed_forward_norm = nn.LayerNorm(c.d_model, c.norm_eps)
        self.feed_forward = FeedForward(c.d_model, c.d_ff)
        self.dropout = Dropout(c.dropout)

    def forward(
        self,
        x: Tensor,
        rotary: RotaryPositions2D | None = None,
        need_weights: bool = False,
        first_only: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) -> (B, Q, D), and the weights or None; arguments as the attention's."""
        normed = self.attention_norm(x)
        with made_again(normed, lambda: self.attention_norm(x)):
            mixed, weights = self.attention(normed, rotary, need_weights, first_only)
        y = self.dropout.add(x[:, :1] if first_only else x, mixed)  # (B, Q, D)
        normed = self.feed_forward_norm(y)
        with made_again(normed, lambda: self.feed_forward_norm(y)):
            hidden = self.feed_forward(normed)
        return self.dropout.add(y, hidden), weights  # (B, Q, D)
