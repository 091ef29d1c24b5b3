"""Solutions of the exercises on instruction tuning: one way to write each."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def loss_mask(tokens: list[int], assistant: int, end: int) -> list[bool]:
    """A reply is open from behind <assistant> up to and with <end>."""
    mask, inside = [], False
    for token in tokens:
        mask.append(inside)
        if token == assistant:
            inside = True
        elif token == end:
            inside = False
    return mask


def pass_at_k(n_right: int, n_samples: int, k: int) -> float:
    """All subsets of k, minus those that hold wrong replies alone."""
    return 1 - math.comb(n_samples - n_right, k) / math.comb(n_samples, k)


def kl_k3(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Any shape: log r = log q - log p."""
    log_ratio = reference - log_probs
    return log_ratio.exp() - 1 - log_ratio


def reply_log_probs(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """(B, T, V), (B, T), (B, T) -> (B,): position t scores t + 1, so one end is cut off each."""
    log_p = logits[:, :-1].log_softmax(-1)  # (B, T - 1, V)
    of_token = log_p.gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)  # (B, T - 1)
    return (of_token * mask[:, 1:]).sum(1)


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
) -> Tensor:
    """(B,) each -> scalar: how far each reply moved from the reference, compared."""
    chosen, rejected = policy_chosen - reference_chosen, policy_rejected - reference_rejected
    return -F.logsigmoid(beta * (chosen - rejected)).mean()


def merge_lora(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """(O, I), (r, I), (O, r) -> (O, I): W + (alpha / r) B A."""
    return weight + alpha / len(a) * (b @ a)


def group_advantages(rewards: Tensor) -> Tensor:
    """(B, G) -> (B, G): each request's replies among themselves."""
    centered = rewards - rewards.mean(1, keepdim=True)
    return centered / (rewards.std(1, keepdim=True) + 1e-4)


def gae(rewards: Tensor, values: Tensor, discount: float, lam: float) -> Tensor:
    """(T,), (T,) -> (T,): from the last token to the first."""
    advantages = torch.zeros_like(rewards)
    later = next_value = torch.zeros(())
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + discount * next_value - values[t]
        later = delta + discount * lam * later
        advantages[t], next_value = later, values[t]
    return advantages
