"""Which rows come next: minibatches of similar length, from the seed and a number alone.

The rows stand in an endless line: every epoch, shuffled anew, follows the last. A block of eight
minibatches is cut off the line and sorted by length, so that a minibatch holds rows of nearly one
length and little padding is computed; then the minibatches of the block are shuffled. Minibatch k
is a function of (lengths, seed, k): to resume a run, k is all that has to be remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from tutorial_kit.device import mixed_seed

Row = TypeVar("Row")

SORTED_TOGETHER = 8  # minibatches whose rows are sorted by length among themselves


class RowSampler:
    """An endless row of minibatches, as row numbers."""

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int,
        sorted_together: int = SORTED_TOGETHER,
    ) -> None:
        """Starts at minibatch 0.

        Args:
            lengths: tokens of each of the N rows.
            batch_size: rows in a minibatch, B; more than N is possible.
            seed: same seed, same minibatches.
            sorted_together: minibatches in a block; 1 leaves every minibatch as it was shuffled.

        Raises:
            ValueError: there is no row.
        """
        if not len(lengths):
            raise ValueError(
                "the training data have 0 rows: there is nothing to learn from. Draw more "
                "requests, or name another --dataset."
            )
        self.lengths = torch.as_tensor(lengths)  # (N,)
        self.batch_size, self.seed = batch_size, seed
        # Not more than an epoch: sorted, the same rows of many epochs would stand side by side.
        self.sorted_together = max(1, min(sorted_together, len(lengths) // batch_size))
        self.number = 0  # of the next minibatch
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.long))  # epoch, (N,)
        self._block: tuple[int, list[Tensor]] = (-1, [])  # its number, its minibatches

    @property
    def epochs(self) -> float:
        """How often the rows have been passed over so far."""
        return self.number * self.batch_size / len(self.lengths)

    def next_rows(self) -> list[int]:
        """Returns the numbers of the next minibatch's B rows, the shorter ones first."""
        rows = self.rows_of(self.number)
        self.number += 1
        return rows

    def rows_of(self, number: int) -> list[int]:
        """Returns the row numbers of minibatch ``number``; the sampler stays where it is."""
        block, place = divmod(number, self.sorted_together)
        if block != self._block[0]:
            self._block = (block, self._cut(block))
        return self._block[1][place].tolist()

    def _cut(self, block: int) -> list[Tensor]:
        """Returns the minibatches of a block, each (B,)."""
        size = self.sorted_together * self.batch_size
        rows = self._line(block * size, (block + 1) * size)
        if self.sorted_together == 1:
            return [rows]
        batches = rows[self.lengths[rows].argsort(stable=True)].split(self.batch_size)
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, 2 * block + 1))
        turn = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[place] for place in turn]

    def _line(self, place: int, end: int) -> Tensor:
        """Returns the rows from ``place`` to ``end`` of the endless line."""
        parts = []
        while place < end:
            epoch, first = divmod(place, len(self.lengths))
            parts.append(self._order_of(epoch)[first : first + end - place])
            place += len(parts[-1])
        return torch.cat(parts)

    def _order_of(self, epoch: int) -> Tensor:
        """Returns the order of the rows in an epoch, (N,)."""
        if epoch != self._order[0]:
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, 2 * epoch))
            self._order = (epoch, torch.randperm(len(self.lengths), generator=generator))
        return self._order[1]


def parts_of(rows: Sequence[Row], parts: int) -> list[Sequence[Row]]:
    """Cuts a minibatch into parts of equal size, or nearly so if it cannot be.

    >>> parts_of([4, 7, 1, 0], 2)
    [[4, 7], [1, 0]]
    """
    size = -(-len(rows) // parts)
    return [rows[start : start + size] for start in range(0, len(rows), size)]
