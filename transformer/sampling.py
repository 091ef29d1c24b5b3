"""From logits to a drawn token: temperature, top-k and top-p, each a line or three.

Shapes: sentences B, vocabulary V.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn; the defaults draw from the model's own distribution."""

    temperature: float = 1.0  # logits are divided by it: below 1 safer, above 1 wilder
    top_k: int = 0  # only the k most probable tokens; 0 means all
    top_p: float = 1.0  # only the most probable tokens that together reach this share; 1 means all

    def __post_init__(self) -> None:
        """Refuses what leaves nothing to draw from."""
        if not 0.0 <= self.temperature < math.inf:
            raise ValueError(
                f"temperature={self.temperature} cannot divide a logit. "
                "Use 0 (the most probable token) or more, such as 0.7."
            )
        if self.top_k < 0:
            raise ValueError(f"top_k={self.top_k} keeps no token. Use 0 (all), or 1 or more.")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(
                f"top_p={self.top_p} is no share of the probability: at least one token must "
                "remain. Use more than 0 and at most 1, such as 0.9."
            )


def filter_logits(logits: Tensor, sampling: Sampling) -> Tensor:
    """Divides by the temperature and puts -inf on tokens that must not be drawn.

    Args:
        logits: (B, V).
        sampling: temperature (Ackley et al. 1985), then top-k (Fan et al. 2018, section 5.4), then
            top-p (Holtzman et al. 2020, section 3.1).

    Returns:
        (B, V). At least the most probable token remains; so do all that tie with the last.
    """
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < least, -math.inf)
    if sampling.top_p < 1.0:
        ranked = logits.sort(dim=-1, descending=True).values  # (B, V)
        shares = ranked.softmax(dim=-1)
        enough = shares.cumsum(dim=-1) - shares >= sampling.top_p  # before this token already
        least = ranked.masked_fill(enough, math.inf).amin(dim=-1, keepdim=True)  # (B, 1)
        logits = logits.masked_fill(logits < least, -math.inf)
    return logits


def draw(shares: Tensor, uniforms: Tensor) -> Tensor:
    """Inverts the cumulative distribution: one uniform number decides one token.

    Args:
        shares: (B, V), probabilities; a row need not sum to 1 exactly.
        uniforms: (B,), from [0, 1).

    Returns:
        (B,), token ids; never one of probability 0.
    """
    cumulative = shares.cumsum(dim=-1)  # (B, V)
    targets = uniforms.unsqueeze(-1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, targets, right=True)[:, 0]
