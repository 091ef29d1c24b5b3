"""The places a head asks about, so that the last layer can leave out the others.

Pre-training asks about the hidden tokens, 15 % of all; a classifier often about [CLS] alone. Every
layer but the last must compute all places, because the next one reads them. What the last layer
makes of a place that nobody asks about is never read: it needs that place's key and value, but no
query, no feed-forward and no norm. The result is exactly the same, and a sixth of the work of a
four-layer model is gone.

Shapes: batch B, length T, width D, asked places N, most asked places of one sequence M.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Places:
    """Which N of the (B, T) places are asked about, in reading order."""

    flat: Tensor  # (N,), b T + t of each
    slots: Tensor  # (N,), b M + i: where each stands when every sequence gets M slots
    batch: int  # B
    width: int  # M

    @classmethod
    def of(cls, asked: Tensor) -> Places:
        """Makes them from a boolean tensor.

        >>> places = Places.of(torch.tensor([[True, False, True], [False, True, False]]))
        >>> places.flat.tolist(), places.slots.tolist(), places.width
        ([0, 2, 4], [0, 1, 2], 2)

        Args:
            asked: (B, T), True where a head asks.
        """
        batch = len(asked)
        numbers = asked.cumsum(1)  # (B, T), from 1
        width = int(numbers[:, -1].max()) if numbers.numel() else 0
        starts = torch.arange(batch, device=asked.device).unsqueeze(1) * width  # (B, 1)
        slots = (starts + numbers - 1)[asked]  # (N,)
        return cls(asked.flatten().nonzero().squeeze(1), slots, batch, width)

    def take(self, x: Tensor) -> Tensor:
        """Picks the asked places, (B, T, D) -> (N, D)."""
        return x.flatten(0, 1).index_select(0, self.flat)

    def spread(self, rows: Tensor) -> Tensor:
        """Gives each sequence its rows, (N, D) -> (B, M, D), with zeros in the slots left over."""
        slots = rows.new_zeros(self.batch * self.width, rows.shape[1])
        return slots.index_copy(0, self.slots, rows).unflatten(0, (self.batch, self.width))

    def gather(self, slots: Tensor) -> Tensor:
        """Undoes ``spread``, (B, M, D) -> (N, D)."""
        return slots.flatten(0, 1).index_select(0, self.slots)
