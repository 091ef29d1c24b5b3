"""Keep less for the backward pass: what is cheap to compute is computed a second time.

A layer's backward pass needs the input of every matrix product. Where this input is a norm or a
GELU of a tensor that is kept anyway, keeping it too costs memory and making it again costs next to
nothing, unlike a matrix product (Chen et al. 2016, section 3, where whole layers are made again).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


@contextmanager
def made_again(tensor: Tensor, make: Callable[[], Tensor]) -> Iterator[None]:
    """While open, the autograd graph keeps ``make`` in place of ``tensor``.

    Args:
        tensor: what ``make()`` returns, computed already.
        make: computes it again, from tensors that are kept anyway; must be deterministic.
    """
    if not (torch.is_grad_enabled() and tensor.requires_grad):
        yield
        return

    # Numbers, not the tensor itself, which a hook that refers to it would keep alive.
    described = (tensor.data_ptr(), tensor.numel(), tensor.dtype)

    def pack(kept: Tensor) -> Any:
        same = (kept.data_ptr(), kept.numel(), kept.dtype) == described
        return kept.shape if same else kept

    def unpack(kept: Any) -> Tensor:
        return make().view(kept) if isinstance(kept, torch.Size) else kept

    with saved_tensors_hooks(pack, unpack):
        yield
