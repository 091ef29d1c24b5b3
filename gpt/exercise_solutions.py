"""Solutions of the exercises on language models: one way to write each."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def causal_mask(length: int) -> Tensor:
    """(T, T), True on and below the diagonal."""
    return torch.ones(length, length, dtype=torch.bool).tril()


def bits_per_byte(nats_per_token: float, n_tokens: int, n_bytes: int) -> float:
    """Nats of the whole text, in bits, for each of its bytes."""
    return nats_per_token * n_tokens / math.log(2) / n_bytes


def perplexity(window_losses: Tensor, window_tokens: Tensor) -> Tensor:
    """(N,), (N,) -> scalar: sum first, divide once, exp last."""
    return ((window_losses * window_tokens).sum() / window_tokens.sum()).exp()


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(B, T, V), (B, T) -> (B, T): log sum_k exp z_k - z_y."""
    of_target = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)  # (B, T)
    return logits.logsumexp(-1) - of_target  # logsumexp subtracts the maximum before exp


def attention_weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """(..., T, K), (..., S, K), (T, S) -> (..., T, S): softmax(q k' / sqrt(K)) where seen."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (..., T, S)
    return scores.masked_fill(~mask, -math.inf).softmax(dim=-1)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """(V,) -> (V,): a token stays if those before it have not reached p yet."""
    ordered, places = logits.sort(descending=True)  # (V,), (V,)
    probabilities = ordered.softmax(dim=-1)
    sum_before = probabilities.cumsum(dim=-1) - probabilities  # 0 for the first: it always stays
    dropped = torch.empty_like(places, dtype=torch.bool)
    dropped[places] = sum_before >= p  # back to the order of the vocabulary
    return logits.masked_fill(dropped, -math.inf)


def cached_mask(past: int, new: int) -> Tensor:
    """(new, past + new): new token t stands at position past + t."""
    return torch.ones(new, past + new, dtype=torch.bool).tril(diagonal=past)


def rotate(x: Tensor, positions: Tensor, base: float) -> Tensor:
    """(T, K), (T,) -> (T, K): every pair is a point in a plane that turns."""
    width = x.shape[-1]
    speeds = base ** (-torch.arange(0, width, 2) / width)  # (K/2,), radians a position
    angles = positions[:, None] * speeds  # (T, K/2)
    first, second = x[:, 0::2], x[:, 1::2]  # (T, K/2) each
    turned = (
        first * angles.cos() - second * angles.sin(),
        first * angles.sin() + second * angles.cos(),
    )
    return torch.stack(turned, dim=-1).flatten(1)  # neighbors again
