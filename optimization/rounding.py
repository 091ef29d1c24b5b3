"""Rounding weights to few bits: one scale for a matrix, for each row, or for each group of a row.

Symmetric uniform quantization (Jacob et al. 2018, section 2.1, with zero point 0): with b bits the
integers run from -(2^(b-1) - 1) to 2^(b-1) - 1, and the scale s of a set of weights maps its
largest one to the end of that range. Each weight moves by at most s / 2, so the fewer weights share
a scale, the smaller the step. Here rounded weights are turned back into float32, to measure what
rounding costs; ``gpt/int8_weights.py`` multiplies with the integers.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from gpt.gpt_model import GPT

Sharing = Literal["tensor", "row", "group"]
GROUP = 32  # weights of a row that share a scale


def round_weights(weight: Tensor, bits: int, sharing: Sharing = "row") -> Tensor:
    """Returns the weights as they are after rounding, float.

    Args:
        weight: (D_out, D_in).
        bits: b, 2 to 16.
        sharing: which weights share a scale: all ("tensor"), those of an output ("row"), or 32
            neighbors in a row ("group").

    Returns:
        (D_out, D_in).

    Raises:
        ValueError: b is out of range, or a row cannot be cut into groups.

    >>> round_weights(torch.tensor([[1.5, -0.4], [0.2, 0.6]]), 3, "tensor").tolist()
    [[1.5, -0.5], [0.0, 0.5]]
    """
    if not 2 <= bits <= 16:
        raise ValueError(
            f"bits={bits} is out of range: 1 bit has no zero between its two values, and more than "
            "16 are no saving. Use 2 to 16."
        )
    if sharing == "group" and weight.shape[1] % GROUP:
        raise ValueError(
            f"a row of {weight.shape[1]} weights cannot be cut into groups of {GROUP}. "
            "Use rows, or a width that is a multiple."
        )
    width = {"tensor": weight.numel(), "row": weight.shape[1], "group": GROUP}[sharing]
    sets = weight.reshape(-1, width)  # (sets, weights that share a scale)
    largest = sets.abs().amax(dim=1, keepdim=True)
    scales = torch.where(largest > 0, largest, 1.0) / (2 ** (bits - 1) - 1)
    return ((sets / scales).round() * scales).view_as(weight)


@torch.no_grad()
def round_model(model: GPT, bits: int, sharing: Sharing = "row") -> GPT:
    """Returns a copy of a model with every matrix rounded, the embedding too.

    Args:
        model: stays as it is.
        bits: of each weight.
        sharing: see ``round_weights``.
    """
    rounded = copy.deepcopy(model).eval()
    done = set()
    for module in rounded.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)) and id(module.weight) not in done:
            done.add(id(module.weight))  # a tied matrix is rounded once
            module.weight.copy_(round_weights(module.weight, bits, sharing))
    return rounded


def bits_per_weight(bits: int, sharing: Sharing, row: int) -> float:
    """Returns what a weight costs with its share of the float32 scale.

    Args:
        bits: b.
        sharing: as in ``round_weights``.
        row: weights in a row.

    >>> bits_per_weight(8, "row", 128), bits_per_weight(4, "group", 128)
    (8.25, 5.0)
    """
    return bits + {"tensor": 0.0, "row": 32 / row, "group": 32 / GROUP}[sharing]
