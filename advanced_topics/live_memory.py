"""The peak of what a computation keeps in memory, counted tensor by tensor.

Every operation of torch passes through a ``TorchDispatchMode``; here it notes each new block of
memory and is told when the block is freed. So the count is exact, the same on every machine, and
does not depend on what the allocator keeps for later. What a kernel uses inside itself is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that were made inside it and are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0  # bytes
        self._known: dict[int, Any] = {}  # address of the block's object -> weak reference

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Runs the operation, then notes the blocks that are new among its results."""
        inputs = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs or {}))
                  if isinstance(x, Tensor)}  # fmt: skip
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and id(tensor.untyped_storage()) not in inputs:
                self._note(tensor)
        return result

    def _note(self, tensor: Tensor) -> None:
        block = tensor.untyped_storage()
        key, size = id(block), block.nbytes()
        if key in self._known:
            return

        def freed(_: object) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(block, freed)
        self.now += size
        self.peak = max(self.peak, self.now)


def peak_bytes(compute: Callable[[], object]) -> int:
    """Returns the most bytes that tensors made by ``compute`` held at the same time."""
    with LiveMemory() as memory:
        compute()
    return memory.peak
