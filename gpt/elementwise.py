"""Functions with hand-written gradients: on a CPU elementwise passes cost as much as matrices.

Each computes what its one-line formula says, and keeps for the backward pass only what that needs.
Autograd would keep every intermediate result and visit it once more. The tests compare values and
gradients with torch's own functions and with finite differences.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

RMS_NORM_EPS = 1e-6


class RMSNormFunction(torch.autograd.Function):
    """x / rms(x): torch's own is not fused on CPU and keeps more tensors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Returns x / sqrt(mean(x^2) + eps) over the last dimension."""
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_() / x.shape[-1]
        scale = mean_square.add_(RMS_NORM_EPS).rsqrt_()
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Removes the part of the gradient that points along y, then scales as the forward did."""
        y, scale = ctx.saved_tensors
        along = (gradient * y).mean(dim=-1, keepdim=True)
        return torch.addcmul(gradient, y, along, value=-1).mul_(scale)


def rms_norm(x: Tensor) -> Tensor:
    """Divides each vector by its root mean square (Zhang & Sennrich 2019, eq. 4, without gain).

    Args:
        x: (..., D).

    Returns:
        (..., D), each vector of length about sqrt(D).
    """
    return RMSNormFunction.apply(x)


class GELUFunction(torch.autograd.Function):
    """GELU's tanh form as x sigmoid(u): one exponential, where tanh is slow forward and back."""

    SCALE = 2.0 * math.sqrt(2.0 / math.pi)
    CUBIC = 0.044715 * SCALE

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Returns x sigmoid(u) with u = SCALE x + CUBIC x^3."""
        gate = torch.addcmul(x.new_tensor(GELUFunction.SCALE), x, x, value=GELUFunction.CUBIC)
        gate.mul_(x).sigmoid_()
        ctx.save_for_backward(x, gate)
        return x * gate

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Returns gradient * gate (1 + (1 - gate) x u') with u' = SCALE + 3 CUBIC x^2."""
        x, gate = ctx.saved_tensors
        slope = torch.addcmul(x.new_tensor(GELUFunction.SCALE), x, x, value=3 * GELUFunction.CUBIC)
        slope.mul_(x)  # x u'
        slope = torch.addcmul(slope, slope, gate, value=-1.0)  # (1 - gate) x u'
        return torch.addcmul(gate, gate, slope).mul_(gradient)


class SquaredReLUFunction(torch.autograd.Function):
    """max(x, 0)^2, keeping one tensor for the gradient where autograd would keep two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Returns max(x, 0)^2."""
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Returns 2 max(x, 0) gradient."""
        (positive,) = ctx.saved_tensors
        return (gradient * positive).mul_(2.0)


def gelu(x: Tensor) -> Tensor:
    """GELU in GPT-2's tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Because 0.5 (1 + tanh u) = sigmoid(2u), this is x sigmoid(2u) (Hendrycks & Gimpel 2016). Without
    gradients torch's own single pass is faster.
    """
    if not torch.is_grad_enabled():
        return F.gelu(x, approximate="tanh")
    return GELUFunction.apply(x)


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)^2 (So et al. 2021, Primer, section 4.3)."""
    return SquaredReLUFunction.apply(x)
