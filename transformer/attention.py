"""Attention: scaled dot products, written out and fused, and several heads of it.

Sections 3.2.1 and 3.2.2 of the paper (Vaswani et al. 2017). Queries may come from one sequence and
keys and values from another, which is how the decoder reads the source.

Shapes: batch B, target length T, source length S, width D, heads H, head width K.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.decoder_cache import LayerCache


def causal_mask(length: int, device: torch.device | None = None) -> Tensor:
    """Returns who may attend to whom in a target, (T, T): position t to positions 0 .. t."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def as_addend(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turns a boolean mask into numbers that are added to scores: 0 where True, else very negative.

    Half the most negative number and not minus infinity: exp() makes exactly zero of it all the
    same, and a row in which everything is forbidden becomes an average instead of NaN.
    """
    forbidden = torch.finfo(dtype).min / 2
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, forbidden)


def attend_written_out(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(q k' / sqrt(K)) v, each step visible (Vaswani et al. 2017, eq. 1).

    Args:
        q: (B, H, T, K).
        k: (B, H, S, K).
        v: (B, H, S, K).
        mask: (T, S), (B, 1, 1, S) or (B, 1, T, S). Boolean, True means "may attend"; or what
            ``as_addend`` made of it, once for all layers. None: every query sees every key.
        scale: of the scores; None means 1 / sqrt(K).

    Returns:
        The output, (B, H, T, K), and the weights, (B, H, T, S), whose rows sum to 1.
    """
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = (q * scale) @ k.mT  # (B, H, T, S)
    if mask is not None:
        scores += as_addend(mask, scores.dtype) if mask.dtype == torch.bool else mask
    weights = scores.softmax(dim=-1)  # (B, H, T, S)
    return weights @ v, weights


def attend_fused(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None = None
) -> Tensor:
    """The same in one kernel that never stores the weights (Dao et al. 2022).

    Arguments as ``attend_written_out``'s.

    Returns:
        (B, H, T, K).
    """
    if mask is not None:
        mask = as_addend(mask, q.dtype) if mask.dtype == torch.bool else mask.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def written_out_is_faster(q: Tensor) -> bool:
    """Tells which way is faster on this device.

    On CPU the fused kernel wins for a single query, and where the (T, S) weights no longer fit into
    the processor's cache. For sentences, training through it takes several times as long.
    """
    return q.device.type == "cpu" and 1 < q.shape[2] <= 512


class MultiHeadAttention(nn.Module):
    """H attentions side by side, each in K = D / H dimensions of its own (section 3.2.2).

    Queries come from one sequence, keys and values from another or the same. The four matrices of
    the paper are two here: W_Q, W_K and W_V of all heads lie below each other in ``qkv``, so that
    self-attention is one large product and not three, and ``output`` is W_O.
    """

    def __init__(self, d_model: int, n_heads: int, scale_scores: bool = True) -> None:
        super().__init__()
        self.d_model, self.d_head = d_model, d_model // n_heads
        self.scale = None if scale_scores else 1.0  # of the scores; None means 1 / sqrt(K)
        self.qkv = nn.Linear(d_model, 3 * d_model)  # D -> queries, keys, values of all heads
        self.output = nn.Linear(d_model, d_model)  # D -> D

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        mask: Tensor | None,
        need_weights: bool = False,
        cache: LayerCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Lets each position of ``query`` gather from the positions of ``memory``.

        Args:
            query: (B, T, D).
            memory: (B, S, D); ``query`` itself for self-attention.
            mask: as ``attend_written_out``'s.
            need_weights: also return the attention weights, which takes the written-out way.
            cache: keys and values of the target so far, for self-attention; the T new ones, of
                one token of each of T beams, are appended to it.

        Returns:
            (B, T, D), and the weights (B, H, T, S) or None.
        """
        if memory is not query:
            k, v = self.project_memory(memory)  # (B, H, S, K)
            return self.attend(query, k, v, mask, need_weights)
        q, k, v = self._heads(self.qkv(query), 3)  # (B, H, T, K)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, H, used + T, K)
        return self._mix(q, k, v, mask, need_weights)

    def project_memory(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the keys and values of a sequence that others attend to.

        Args:
            memory: (B, S, D).

        Returns:
            Two tensors of (B, H, S, K).
        """
        d = self.d_model
        weight, bias = self.qkv.weight.split((d, 2 * d)), self.qkv.bias.split((d, 2 * d))
        k, v = self._heads(F.linear(memory, weight[1], bias[1]), 2)
        return k, v

    def attend(
        self,
        query: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The same as ``forward`` with keys and values that ``project_memory`` made before.

        Args:
            query: (B, T, D).
            k: (B, H, S, K).
            v: (B, H, S, K).
            mask: as ``attend_written_out``'s.
            need_weights: also return the attention weights.

        Returns:
            (B, T, D), and the weights (B, H, T, S) or None.
        """
        d = self.d_model
        weight, bias = self.qkv.weight.split((d, 2 * d)), self.qkv.bias.split((d, 2 * d))
        (q,) = self._heads(F.linear(query, weight[0], bias[0]), 1)
        return self._mix(q, k, v, mask, need_weights)

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Splits (B, T, parts D) into ``parts`` tensors of (B, H, T, K)."""
        return x.unflatten(-1, (-1, self.d_head)).transpose(1, 2).chunk(parts, dim=1)

    def _mix(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Attends in each head, then lets ``output`` mix the heads."""
        weights = None
        if need_weights or written_out_is_faster(q):
            mixed, weights = attend_written_out(q, k, v, mask, self.scale)
        else:
            mixed = attend_fused(q, k, v, mask, self.scale)  # (B, H, T, K)
        mixed = self.output(mixed.transpose(1, 2).flatten(2))  # (B, T, D)
        return mixed, weights if need_weights else None
