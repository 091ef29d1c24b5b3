"""Attention in tiles: exact, and without the matrix of T x T weights (flash attention's idea).

A softmax seems to need all scores of a row before the first weight is known. It does not: keep the
largest score m so far and the sum l of exp(score - m), and when a larger score comes, multiply what
you have by exp(m_old - m_new) (Milakov & Gimelshein 2018, section 3). The weighted sum of values is
corrected by the same factor, so keys can be read tile by tile (Dao et al. 2022, algorithm 1). The
backward pass computes each tile's weights again from q, k and the row's log-sum-exp (appendix B).

Differences from the paper: plain torch, so the tiles live in ordinary memory, and nothing is
faster; what is shown is what is never stored. Tiles of queries outside, of keys inside, as in Dao
2023 (FlashAttention-2), section 3.1.

Shapes: batch B, heads H, queries T, keys S, head width K.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gpt.gpt_components import attend_written_out


def online_softmax_sum(scores: Tensor, values: Tensor) -> Tensor:
    """softmax(scores) . values, reading each score once, one after the other.

    The loop that the tiles below do with many rows at once, for three to five numbers.

    Args:
        scores: (S,).
        values: (S,).

    Returns:
        (), the weighted mean.
    """
    largest, total, mean = scores.new_tensor(-math.inf), scores.new_zeros(()), scores.new_zeros(())
    for score, value in zip(scores, values, strict=True):
        new_largest = torch.maximum(largest, score)
        shrink = (largest - new_largest).exp()  # of what was added up under the old maximum
        total = total * shrink + (score - new_largest).exp()
        mean = mean * shrink + (score - new_largest).exp() * value
        largest = new_largest
    return mean / total


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention with all weights in memory, gpt's: the measure of equality and memory.

    Args:
        q: (B, H, T, K).
        k: (B, H, T, K).
        v: (B, H, T, K).

    Returns:
        (B, H, T, K).
    """
    may_attend = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    return attend_written_out(q, k, v, may_attend)[0]


def _scores(q: Tensor, k: Tensor, first_query: int, first_key: int) -> Tensor:
    """Scores of a tile, (B, H, queries, keys); -inf where the key lies in the future."""
    scores = q @ k.mT / math.sqrt(q.shape[3])
    rows = torch.arange(q.shape[2], device=q.device)[:, None] + first_query
    columns = torch.arange(k.shape[2], device=q.device)[None, :] + first_key
    return scores.masked_fill_(columns > rows, -math.inf)


class TiledAttention(torch.autograd.Function):
    """Causal attention of tiles; keeps q, k, v, the output and one number a query."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, tile: int) -> Tensor:
        """Reads the keys of each tile of queries tile by tile.

        Args:
            ctx: what the backward pass will need.
            q: (B, H, T, K).
            k: (B, H, T, K).
            v: (B, H, T, K).
            tile: queries, and keys, in a tile.

        Returns:
            (B, H, T, K).
        """
        output, log_sums = torch.empty_like(q), q.new_empty(q.shape[:3])
        for i in range(0, q.shape[2], tile):
            queries = q[:, :, i : i + tile]  # (B, H, tile, K)
            largest = queries.new_full((*queries.shape[:3], 1), -math.inf)
            total, mixed = torch.zeros_like(largest), torch.zeros_like(queries)
            for j in range(0, i + queries.shape[2], tile):  # later keys are all in the future
                scores = _scores(queries, k[:, :, j : j + tile], i, j)  # (B, H, tile, tile)
                new_largest = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
                shrink = (largest - new_largest).exp_()  # (B, H, tile, 1)
                weights = scores.sub_(new_largest).exp_()
                total = total * shrink + weights.sum(dim=-1, keepdim=True)
                mixed = mixed * shrink + weights @ v[:, :, j : j + tile]
                largest = new_largest
            output[:, :, i : i + tile] = mixed / total
            log_sums[:, :, i : i + tile] = (largest + total.log())[..., 0]
        ctx.save_for_backward(q, k, v, output, log_sums)
        ctx.tile = tile
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Computes the weights P of each tile again, and from them all gradients.

        With dP = dO v' and the softmax's rule, dS = P * (dP - rowsum(dO * O)); then dq = dS k, dk =
        dS' q (both over sqrt(K)), dv = P' dO (Dao et al. 2022, appendix B.2).
        """
        q, k, v, output, log_sums = ctx.saved_tensors
        tile, scale = ctx.tile, 1.0 / math.sqrt(q.shape[3])
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        along = (gradient * output).sum(dim=-1, keepdim=True)  # (B, H, T, 1)
        for i in range(0, q.shape[2], tile):
            here = slice(i, i + tile)
            queries, slope = q[:, :, here], gradient[:, :, here]  # (B, H, tile, K)
            for j in range(0, i + queries.shape[2], tile):
                there = slice(j, j + tile)
                weights = _scores(queries, k[:, :, there], i, j)
                weights = weights.sub_(log_sums[:, :, here, None]).exp_()  # (B, H, tile, tile), P
                dv[:, :, there] += weights.mT @ slope
                d_scores = (slope @ v[:, :, there].mT).sub_(along[:, :, here]).mul_(weights)
                dq[:, :, here] += d_scores @ k[:, :, there] * scale
                dk[:, :, there] += d_scores.mT @ queries * scale
        return dq, dk, dv, None


def tiled_attention(q: Tensor, k: Tensor, v: Tensor, tile: int = 64) -> Tensor:
    """Causal attention as ``plain_attention``, with memory for a tile instead of T x T weights.

    Args:
        q: (B, H, T, K).
        k: (B, H, T, K).
        v: (B, H, T, K).
        tile: queries, and keys, in a tile; T need not be a multiple.

    Returns:
        (B, H, T, K).

    Raises:
        ValueError: a tile has no query.
    """
    if tile < 1:
        raise ValueError(f"tile={tile} holds no query, so none would be answered. Use 1 or more.")
    return TiledAttention.apply(q, k, v, tile)
