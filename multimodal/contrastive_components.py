"""The parts of contrastive training: the symmetric loss, the temperature, what a text ends with.

A minibatch has B pictures and their B captions. Each picture is asked which of the B captions is
its own, each caption which of the B pictures (Radford et al. 2021, "Learning Transferable Visual
Models From Natural Language Supervision", section 2.3 and figure 3):

    s_ij = e^t  u_i . v_j        u, v: vectors of length 1; e^t: the inverse temperature
    loss = (cross-entropy over the rows of s + cross-entropy over its columns) / 2
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

START = 0.07  # temperature at the start (section 2.5)
LARGEST_SCALE = 100.0  # the inverse temperature never exceeds it (section 2.5)


class Temperature(nn.Module):
    """The inverse temperature e^t; t is learned like a weight, or stays as it is."""

    def __init__(self, start: float = START, learned: bool = True) -> None:
        """Starts at a temperature.

        Raises:
            ValueError: it is not above 0, or below what the largest scale allows.
        """
        super().__init__()
        if not start >= 1 / LARGEST_SCALE:
            raise ValueError(
                f"start_temperature={start} means similarities times {1 / start if start else 0:g},"
                f" and more than {LARGEST_SCALE:g} is cut off. Use {1 / LARGEST_SCALE} to 1."
            )
        self.log_scale = nn.Parameter(torch.tensor(-math.log(start)), requires_grad=learned)  # t

    def forward(self) -> Tensor:
        """Returns e^t, at most ``LARGEST_SCALE``."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)


def similarities(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """Returns the scaled cosine of every picture with every text.

    Args:
        images: (B, E), any length.
        texts: (N, E), any length.
        scale: e^t.

    Returns:
        (B, N), row i: picture i with each text.
    """
    return scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).mT


def contrastive_loss(scores: Tensor) -> Tensor:
    """The symmetric loss: picture i belongs to text i, and to no other (figure 3).

    Args:
        scores: (B, B), of ``similarities``.

    Returns:
        Mean cross-entropy in nats; ln B if all scores are equal.

    Raises:
        ValueError: there are not as many texts as pictures.
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
        raise ValueError(
            f"scores of the shape {tuple(scores.shape)} do not pair each picture with one text: "
            "the i-th row's own column is the i-th. Give as many texts as pictures."
        )
    own = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.mT, own)) / 2


def at_the_end(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Returns the vector at each text's last token, which has read all the others (section 2.4).

    Args:
        hidden: (B, T, D).
        lengths: (B,), tokens of each text; what stands behind is padding.

    Returns:
        (B, D).
    """
    return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
