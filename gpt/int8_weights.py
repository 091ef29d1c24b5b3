"""int8 weights: a quarter of the bytes, for writing that waits for the memory.

Each row of a weight matrix W gets one scale s = max |w| / 127, and its numbers become the integers
round(w / s) (symmetric quantization per output channel, Jacob et al. 2018, section 2.1). Rounding
moves a weight by at most s / 2, so an output changes by at most s / 2 times the sum of |x|.

The fast path multiplies integers: it also rounds the input, one scale a call, to 7 bits, because
processors without the newer dot-product instructions would overflow with 8. Where torch lacks it,
the integers are turned back into float32 and multiplied: the same weights, exactly rounded inputs,
and slower.
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 127  # largest integer used; -128 is not, so that the range is symmetric


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds each row of a matrix to integers.

    Args:
        weight: (D_out, D_in), float.

    Returns:
        (D_out, D_in), int8, and (D_out,), the scales: ``weight`` is about integers times scale.
    """
    largest = weight.abs().amax(dim=1)
    scales = torch.where(largest > 0, largest, 1.0) / LARGEST
    return (weight / scales[:, None]).round().to(torch.int8), scales


def error_bound(x: Tensor, scales: Tensor) -> Tensor:
    """Returns how far rounding the weights can move each output: s / 2 times the sum of |x|.

    Args:
        x: (..., D_in), the input.
        scales: (D_out,), from ``quantize_rows``.

    Returns:
        (..., D_out).
    """
    return x.abs().sum(dim=-1, keepdim=True) * scales / 2


def fast_path_works() -> bool:
    """Tells whether this build of torch multiplies int8 matrices on this processor."""
    return "x86" in torch.backends.quantized.supported_engines and hasattr(
        torch, "_make_per_channel_quantized_tensor"
    )


class Int8Linear(nn.Module):
    """``nn.Linear`` for inference with int8 weights: y = x (s q)' + b."""

    def __init__(self, linear: nn.Linear, fast: bool | None = None) -> None:
        """Rounds the weight of ``linear``.

        Args:
            linear: the layer; it stays as it is.
            fast: multiply integers; None means where it works, on a CPU.
        """
        super().__init__()
        weight = linear.weight.detach()
        self.quantized, self.scales = quantize_rows(weight)  # (D_out, D_in), (D_out,)
        self.bias = linear.bias.detach() if linear.bias is not None else None
        self.fast = fast_path_works() and weight.device.type == "cpu" if fast is None else fast
        if self.fast:
            torch.backends.quantized.engine = "x86"
            zeros = torch.zeros(len(self.scales), dtype=torch.long)
            with warnings.catch_warnings():  # torch announces the end of this type of tensor
                warnings.simplefilter("ignore", UserWarning)
                integers = torch._make_per_channel_quantized_tensor(
                    self.quantized, self.scales.double(), zeros, 0
                )
            self.packed = torch.ops.quantized.linear_prepack(integers, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D_in) -> (..., D_out)."""
        if self.fast:
            y: Tensor = torch.ops.quantized.linear_dynamic(x, self.packed, True)
            return y
        return F.linear(x, self.quantized * self.scales[:, None], self.bias)
