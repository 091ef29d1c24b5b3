"""Fewer key/value heads than query heads: what a cache of keys and values then costs.

Every generated token reads the keys and values of all tokens before it. Multi-query attention
(Shazeer 2019) keeps one head of them for all query heads, grouped-query attention (Ainslie et al.
2023, section 2.2) keeps G, each for H/G query heads. G = H is the usual attention.

Shapes: batch B, query heads H, key/value heads G, queries T, keys S, head width K.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gpt.kv_cache import KVCache


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(K) + bias) v, in which H/G queries share a key and a value.

    The queries of one group are laid side by side as if they were more positions, so a shared key
    is read once and never copied.

    Args:
        q: (B, H, T, K); query head h uses key/value head h // (H/G).
        k: (B, G, S, K).
        v: (B, G, S, K).
        bias: (T, S) or (H, T, S), added to the scores; -inf means "may not attend". None: all may.

    Returns:
        (B, H, T, K).
    """
    batch, heads, length, width = q.shape
    groups, keys = k.shape[1], k.shape[2]
    stacked = q.reshape(batch, groups, -1, width)  # (B, G, H/G T, K)
    scores = stacked @ k.mT / math.sqrt(width)  # (B, G, H/G T, S)
    scores = scores.view(batch, heads, length, keys)  # (B, H, T, S)
    if bias is not None:
        scores = scores + bias
    weights = scores.softmax(dim=-1).view(batch, groups, -1, keys)  # (B, G, H/G T, S)
    return (weights @ v).view(batch, heads, length, width)


def cache_numbers_per_token(n_layers: int, n_kv_heads: int, d_head: int) -> int:
    """Numbers that generation keeps of each token: a key and a value a head and layer, 2 L G K.

    >>> cache_numbers_per_token(n_layers=32, n_kv_heads=8, d_head=128)
    65536
    """
    return 2 * n_layers * n_kv_heads * d_head


def measured_cache_bytes(n_layers: int, n_kv_heads: int, d_head: int, length: int) -> int:
    """Bytes of a real cache of gpt's for one sequence of ``length`` tokens in float32."""
    cache = KVCache(n_layers, 1, n_kv_heads, length, d_head, torch.device("cpu"))
    return sum(store.numel() * store.element_size() for store in (cache.keys, cache.values))
