"""Positions: how a token knows its place (Vaswani et al. 2017, section 3.5).

Attention alone sees a set: shuffle the keys and the output is the same. So each position t gets a
vector of its own, PE(t), which is added to the token's embedding. Two ways to choose it:

- sinusoidal: D/2 clocks of different speed. Clock j shows (sin w_j t, cos w_j t) with the speed
  w_j = 10000^(-2j/D): the fastest hand turns once in 6.3 tokens, the slowest in about 60,000. There
  is nothing to learn, and a row exists for every t.
- learned: one trained vector per position. A position that no training text was long enough to
  reach keeps its random start, and one past ``max_len`` has no vector at all.

That sinusoids exist past the training length does not mean that the layers above can use them: they
have never seen such sums. The model therefore refuses more than ``max_len`` tokens either way, and
the chapter measures what happens between the longest training text and ``max_len``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from transformer.transformer_config import TransformerConfig

BASE = 10_000.0  # the paper's


def frequencies(d_model: int) -> Tensor:
    """Returns w_j = 10000^(-2j/D), radians a token, (D/2,), float64, from fast to slow."""
    return BASE ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)


def sinusoidal_table(length: int, d_model: int) -> Tensor:
    """Sines and cosines of all positions (Vaswani et al. 2017, section 3.5).

    PE(t, 2j) = sin(w_j t) and PE(t, 2j + 1) = cos(w_j t).

    Args:
        length: number of positions.
        d_model: width D, even.

    Returns:
        (length, D), float64. Each row has length sqrt(D/2), because sin^2 + cos^2 = 1.

    >>> sinusoidal_table(3, 4)[2].tolist() == [
    ...     math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)]
    True
    """
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies(d_model))
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)  # (length, D)


def shift_matrix(offset: int, d_model: int) -> Tensor:
    """The matrix R(k) with PE(t + k) = R(k) PE(t) for every t: why the paper chose sinusoids.

    By the addition theorems, for one pair and the angle a = w_j k::

        sin(w_j t + a) =  cos(a) sin(w_j t) + sin(a) cos(w_j t)
        cos(w_j t + a) = -sin(a) sin(w_j t) + cos(a) cos(w_j t)

    R(k) has these 2 x 2 rotations along its diagonal and does not depend on t: "k tokens further"
    is the same linear map everywhere, so a head can learn it once. And the addition theorem again,
    PE(t) . PE(t + k) = sum_j cos(w_j k): how alike two positions are depends on their distance.

    Args:
        offset: k, tokens to the right; negative is to the left.
        d_model: width D, even.

    Returns:
        (D, D), float64.
    """
    angles = offset * frequencies(d_model)  # (D/2,)
    sine, cosine = angles.sin(), angles.cos()
    pairs = torch.stack((cosine, sine, -sine, cosine), dim=-1).view(-1, 2, 2)  # (D/2, 2, 2)
    return torch.block_diag(*pairs)


def check_length(length: int, max_len: int) -> None:
    """Refuses positions that have never been trained.

    Raises:
        ValueError: ``length`` tokens are more than ``max_len``.
    """
    if length > max_len:
        raise ValueError(
            f"{length} tokens do not fit into max_len={max_len}: later positions have never been "
            "trained. Give a shorter text, or train with a larger max_len."
        )


class FixedPositions(nn.Module):
    """Rows of a table that is not trained: sinusoids, or zeros for the model without positions."""

    table: Tensor  # (max_len, D); a buffer

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table.float(), persistent=False)

    def forward(self, start: int, stop: int) -> Tensor:
        """Returns what is added to the embeddings at positions start .. stop - 1, (T, D).

        Raises:
            ValueError: ``stop`` is beyond ``max_len``.
        """
        check_length(stop, len(self.table))
        return self.table[start:stop]


class LearnedPositions(nn.Module):
    """One trained vector per position, shared by source and target.

    It is born like a token's embedding, N(0, 1/D), and multiplied by sqrt(D) like one: at the start
    place and token weigh the same, as they nearly do with sinusoids.
    """

    def __init__(self, max_len: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_len, d_model))  # (max_len, D)
        self.scale = math.sqrt(d_model)

    def forward(self, start: int, stop: int) -> Tensor:
        """Returns what is added to the embeddings at positions start .. stop - 1, (T, D).

        Raises:
            ValueError: ``stop`` is beyond ``max_len``.
        """
        check_length(stop, len(self.weight))
        return self.weight[start:stop] * self.scale


def make_positions(config: TransformerConfig) -> FixedPositions | LearnedPositions:
    """Returns the module that the config names."""
    if config.positions == "learned":
        return LearnedPositions(config.max_len, config.d_model)
    if config.positions == "none":
        return FixedPositions(torch.zeros(config.max_len, config.d_model))
    return FixedPositions(sinusoidal_table(config.max_len, config.d_model))
