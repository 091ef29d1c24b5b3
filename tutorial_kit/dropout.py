"""Dropout that is cheap on a CPU: eight decisions from one random number (Srivastava et al. 2014).

torch's dropout on a CPU draws one Bernoulli number per element, on one thread, and this took a
quarter of a training step. Here one 64-bit draw is read as eight bytes, and a byte below d = 256 p
drops its element. So p becomes a multiple of 1/256 (0.1 becomes 26/256); what is kept is scaled by
256 / (256 - d), the exact inverse of the share really kept, so the expected output is the input.

What stays for the backward pass is one byte per element, where torch keeps four.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 256  # values of a byte


def dropped_levels(p: float) -> int:
    """Returns how many of the 256 byte values mean "drop", at least 1 and at most 255.

    >>> dropped_levels(0.1), dropped_levels(0.5)
    (26, 128)
    """
    return min(max(round(p * LEVELS), 1), LEVELS - 1)


def keep_mask(shape: torch.Size, levels: int) -> Tensor:
    """Draws which elements are kept, from torch's default generator of the CPU.

    Args:
        shape: of the mask.
        levels: ``dropped_levels(p)``.

    Returns:
        ``shape``, boolean, True for kept with probability 1 - levels / 256.
    """
    count = shape.numel()
    words = torch.empty((count + 7) // 8, dtype=torch.int64)
    # Without bounds random_() draws 63 bits, and every eighth byte would be below 128.
    words.random_(-(2**63), None)
    return (words.view(torch.uint8)[:count] >= levels).view(shape)


class DropFunction(torch.autograd.Function):
    """x * keep * scale; keeps the boolean mask alone for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        """Returns x where kept, scaled, else 0."""
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (x * keep).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Drops and scales the gradient in the same places."""
        (keep,) = ctx.saved_tensors
        return keep.to(gradient.dtype).mul_(ctx.scale).mul_(gradient), None, None


class AddDroppedFunction(torch.autograd.Function):
    """residual + x * keep * scale in one pass."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        """Returns the residual, plus x where kept, scaled."""
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return torch.addcmul(residual, x, keep.to(x.dtype), value=scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Passes the gradient to the residual whole, and to x where it was kept."""
        (keep,) = ctx.saved_tensors
        return gradient, keep.to(gradient.dtype).mul_(ctx.scale).mul_(gradient), None, None


class Dropout(nn.Module):
    """Sets a share p of the elements to zero in training and scales the rest; see the module.

    On a device other than a CPU it is torch's own dropout, with p itself.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.levels = dropped_levels(p)
        self.scale = LEVELS / (LEVELS - self.levels)

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...)."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        return DropFunction.apply(x, keep_mask(x.shape, self.levels), self.scale)

    def add(self, residual: Tensor, x: Tensor) -> Tensor:
        """Returns residual + dropout(x), (...), with one pass less on a CPU."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return residual + self(x)
        return AddDroppedFunction.apply(residual, x, keep_mask(x.shape, self.levels), self.scale)

    def extra_repr(self) -> str:
        """The share, for printing a model."""
        return f"p={self.p}"
