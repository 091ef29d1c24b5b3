"""int8 weights: a quarter of the bytes, for writing that waits for the memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns int8 weights and one scale per row."""
    largest = weight.abs().amax(dim=1)
    scales = torch.where(largest > 0, largest, 1.0) / 127
    return (weight / scales[:, None]).round().to(torch.int8), scales


class Int8Linear(nn.Module):
    """``nn.Linear`` with int8 weights."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        q, s = quantize_rows(linear.weight.detach())
        torch.backends.quantized.engine = "x86"
        qt = torch._make_per_channel_quantized_tensor(
            q, s.double(), torch.zeros(len(s), dtype=torch.long), 0
        )
        self.packed = torch.ops.quantized.linear_prepack(
            qt, linear.bias.detach() if linear.bias is not None else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., D_in) -> (..., D_out)."""
        return torch.ops.quantized.linear_dynamic(x, self.packed, True)
