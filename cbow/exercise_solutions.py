"""Solutions of the exercises on word vectors: one way to write each."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def noise_distribution(counts: Tensor, power: float) -> Tensor:
    """(V,) -> (V,): the power first, then make the sum 1."""
    weights = counts.double() ** power
    return weights / weights.sum()


def context_of(sentence: list[str], place: int, width: int) -> list[str]:
    """A window that would begin before the sentence begins with it."""
    return sentence[max(0, place - width) : place] + sentence[place + 1 : place + 1 + width]


def keep_probability(counts: Tensor, sample: float) -> Tensor:
    """(V,) -> (V,): rare words would get more than 1."""
    ratio = sample / (counts / counts.sum())  # t / f
    return (ratio.sqrt() + ratio).clamp(max=1.0)


def negative_sampling_loss(hidden: Tensor, target: Tensor, noise: Tensor) -> Tensor:
    """(D,), (D,), (K, D) -> scalar: -log s(h u_t) - sum_k log s(-h u_k)."""
    return -F.logsigmoid(target @ hidden) - F.logsigmoid(-(noise @ hidden)).sum()


def solve_analogy(vectors: Tensor, a: int, b: int, c: int) -> int:
    """(V, D) -> a word: without the last line but one the answer would nearly always be b or c."""
    unit = vectors / vectors.norm(dim=1, keepdim=True)  # (V, D)
    scores = unit @ (unit[b] - unit[a] + unit[c])  # (V,), the length of the sum changes no order
    scores[[a, b, c]] = -math.inf
    return int(scores.argmax())


def positive_pmi(counts: Tensor) -> Tensor:
    """(V, V) -> (V, V): log of 0 is -inf, which the maximum with 0 takes away."""
    together = counts / counts.sum()  # (V, V) p(w, c)
    of_word, of_context = together.sum(1, keepdim=True), together.sum(0, keepdim=True)
    return (together / (of_word * of_context)).log().clamp(min=0.0)


def negative_sampling_gradients(
    hidden: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(D,), (D,), (K, D) -> the same shapes: the error of a row times the other vector."""
    rows = torch.vstack([target, noise])  # (1 + K, D)
    error = (rows @ hidden).sigmoid()  # (1 + K,)
    error[0] -= 1.0  # the target is real
    by_rows = torch.outer(error, hidden)  # (1 + K, D)
    return error @ rows, by_rows[0], by_rows[1:]
