"""Weights in the layout that the processor reads fastest, for a model that writes.

Writing one token multiplies every matrix by a single vector: the time goes into reading the weights
from memory. ``torch.nn.Linear`` reads them at about half of what the memory could deliver here; a
copy that oneDNN has cut into blocks is read 1.5 to 2 times as fast, also by a minibatch. This is
what ``torch.compile`` does on a CPU, without the compiling. int8 weights are a quarter of the
bytes (``int8_weights``).

The model stays the same class: only its linear layers are exchanged.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gpt.gpt_model import GPT
from gpt.int8_weights import Int8Linear

PACKED_FOR = 16  # rows of input the blocks are chosen for; measured good from 1 to 128


class PackedLinear(nn.Module):
    """``nn.Linear`` for inference on a CPU, its weight in oneDNN's blocks: y = x W' + b."""

    def __init__(self, linear: nn.Linear) -> None:
        """Copies the weight of ``linear`` into blocks."""
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), PACKED_FOR)
        self.bias = linear.bias.detach() if linear.bias is not None else None
        self.multiply = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        """(..., D_in) -> (..., D_out)."""
        return self.multiply(x, self.packed, self.bias, "none", [], "")


def packing_works(linear: nn.Linear) -> bool:
    """Tells whether this build of torch can pack this layer, by trying it on one row."""
    if linear.weight.device.type != "cpu" or linear.weight.dtype != torch.float32:
        return False
    x = torch.ones(1, linear.in_features)
    try:
        with torch.inference_mode():
            return torch.allclose(PackedLinear(linear)(x), linear(x), rtol=1e-3, atol=1e-3)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


WEIGHTS: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "float32": PackedLinear,
    "int8": Int8Linear,
}


def pack_weights(model: GPT, weights: str = "float32") -> GPT:
    """Returns a model for writing that shares everything but the linear layers with ``model``.

    Args:
        model: stays as it is.
        weights: "float32", the same numbers in another order (the model itself where torch cannot
            pack them), or "int8".

    Raises:
        ValueError: the name is unknown.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights={weights!r} is unknown. Use one of: {', '.join(WEIGHTS)}.")
    if weights == "float32" and not packing_works(model.head):
        return model
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    packed = copy.deepcopy(model, shared).eval()
    for parent in packed.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                setattr(parent, name, WEIGHTS[weights](child))
    return packed
