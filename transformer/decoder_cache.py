"""What the decoder remembers while it writes, so that each token is computed once.

Two kinds of keys and values, and both are never computed again:

- of the source: the encoder's output does not change while the target is written, so each decoder
  layer projects it once;
- of the target so far: no token sees the future, so past keys and values stay as they are. They lie
  in one tensor of full size, allocated once; appending writes in place and returns views.

Beams of one sentence read the same source. The cache keeps one copy for all of them, and the cross
attention treats the beams as so many queries of one row.

Shapes: layers L, rows B (sentences, or sentences times beams), heads H, source length S, slots N =
``max_new``, head width K.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor


class LayerCache:
    """One decoder layer's share of a ``DecoderCache``."""

    def __init__(self, cache: DecoderCache, layer: int) -> None:
        self.cache, self.layer = cache, layer

    @property
    def source(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the source, (B / group, H, S, K) each."""
        return self.cache.source[self.layer]

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Writes the keys and values of one more token.

        Args:
            k: (B, H, 1, K).
            v: (B, H, 1, K).

        Returns:
            All keys and values so far, views of (B, H, length + 1, K). The length grows only with
            ``DecoderCache.advance``, after every layer has appended.
        """
        start = self.cache.length
        keys, values = self.cache.target[0, self.layer], self.cache.target[1, self.layer]
        keys[:, :, start : start + 1] = k
        values[:, :, start : start + 1] = v
        return keys[:, :, : start + 1], values[:, :, : start + 1]


class DecoderCache:
    """Keys and values of all decoder layers; ``Transformer.start_cache`` makes one."""

    def __init__(
        self, source: list[tuple[Tensor, Tensor]], source_mask: Tensor | None, max_new: int
    ) -> None:
        """Allocates the slots of the target.

        Args:
            source: for each layer the keys and values of the source, (B, H, S, K) each.
            source_mask: (B, 1, 1, S), as the attention takes it; None means no padding.
            max_new: slots, the most tokens that can be appended.
        """
        rows, n_heads, _, d_head = source[0][0].shape
        self.source, self.source_mask, self.max_new = source, source_mask, max_new
        self.target = source[0][0].new_empty(2, len(source), rows, n_heads, max_new, d_head)
        self.layers = [LayerCache(self, layer) for layer in range(len(source))]
        self.length = 0  # tokens appended so far, the same in every row
        self.group = 1  # neighboring rows that share one source sentence

    @property
    def rows(self) -> int:
        """Number of rows, B."""
        return self.target.shape[2]

    def advance(self) -> None:
        """Counts one appended token, after all layers have written it."""
        self.length += 1

    def check_room(self) -> None:
        """Refuses one token too many.

        Raises:
            ValueError: all slots are used.
        """
        if self.length == self.max_new:
            raise ValueError(
                f"the cache has room for {self.max_new} tokens and all are used. "
                "Start it with a larger max_new."
            )

    def select(self, rows: Sequence[int] | Tensor) -> None:
        """Makes row i continue what row ``rows[i]`` holds: beams that survive, rows that go on.

        Args:
            rows: row numbers, each as often as wanted; there may be more or fewer than now.
        """
        chosen = rows.tolist() if isinstance(rows, Tensor) else list(rows)
        self._select_source([row // self.group for row in chosen])
        if chosen != list(range(self.rows)):
            index = torch.tensor(chosen, device=self.target.device)
            old, used = self.target, slice(0, self.length)
            self.target = old.new_empty(*old.shape[:2], len(chosen), *old.shape[3:])
            self.target[..., used, :] = old[..., used, :].index_select(2, index)

    def _select_source(self, sentences: list[int]) -> None:
        """Keeps one copy of a sentence for each group of neighbors that read it."""
        runs = [len(list(run)) for _, run in groupby(sentences)]
        self.group = max(math.gcd(*runs), 1)
        kept = sentences[:: self.group]
        if kept != list(range(len(self.source[0][0]))):
            index = torch.tensor(kept, device=self.target.device)
            self.source = [(k.index_select(0, index), v.index_select(0, index))
                           for k, v in self.source]  # fmt: skip
            if self.source_mask is not None:
                self.source_mask = self.source_mask.index_select(0, index)
