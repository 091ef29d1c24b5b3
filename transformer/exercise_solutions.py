"""Solutions of the exercises on the transformer: one way to write each."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal_positions(length: int, d_model: int) -> Tensor:
    """(length, D): sine and cosine of each clock side by side."""
    speeds = 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)  # (D/2,)
    angles = torch.outer(torch.arange(length).float(), speeds)  # (length, D/2)
    table = torch.empty(length, d_model)
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
    return table


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """(B, T, D) -> (B, H, T, K): cut the last dimension, then move the heads forward."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def padding_mask(tokens: Tensor, pad: int) -> Tensor:
    """(B, S) -> (B, 1, 1, S): the ones stretch over heads and queries."""
    return (tokens != pad)[:, None, None, :]


def teacher_forcing(target: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """(B, T) -> two of (B, T - 1): the same row, once without its end, once without its start."""
    inputs, labels = target[:, :-1], target[:, 1:]
    return inputs, labels.masked_fill(labels == pad, -100)


def smoothed_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """(N, V), (N,) -> scalar: -(1 - e) log p(label) - e mean_k log p(k)."""
    scored = labels != -100
    log_p, labels = logits[scored].log_softmax(-1), labels[scored]  # (n, V), (n,)
    of_label = log_p[torch.arange(len(labels)), labels]  # (n,)
    return -((1 - smoothing) * of_label + smoothing * log_p.mean(-1)).mean()


def best_hypothesis(log_probs: list[float], lengths: list[int], alpha: float) -> int:
    """The greatest sum divided by its penalty."""
    scores = [
        log_p / ((5 + length) / 6) ** alpha
        for log_p, length in zip(log_probs, lengths, strict=True)
    ]
    return scores.index(max(scores))


def brevity_penalty(lengths: list[int], reference_lengths: list[int]) -> float:
    """Of all translations together, so that one short sentence can be made up for."""
    ours, theirs = sum(lengths), sum(reference_lengths)
    return 1.0 if ours >= theirs else math.exp(1 - theirs / ours)


def beam_step(sums: Tensor, log_p: Tensor, beams: int) -> tuple[Tensor, Tensor, Tensor]:
    """(W,), (W, V) -> three of (K,): all continuations compete, whoever their parent is."""
    totals = sums[:, None] + log_p  # (W, V)
    best = totals.flatten().topk(beams)  # (K,)
    vocab_size = log_p.shape[1]
    return best.values, best.indices // vocab_size, best.indices % vocab_size
