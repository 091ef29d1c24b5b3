"""What the decoder remembers while it writes, so that each token is computed once.

Two kinds of keys and values, and both are never computed again:

- of the source: the encoder's output does not change while the target is written, so each decoder
  layer projects it once;
- of the target so far: no token sees the future, so past keys and values stay as they are. They lie
  in one tensor of full size, allocated once; appending writes in place and returns views.

Beams of one sentence share both. They are so many queries of one row; the tokens of all of them lie
side by side in the row's slots, and a mask says which of them are a beam's own past. So beams that
die or split cost a few entries of the mask, and no key or value is ever copied for them.

Shapes: layers L, sentences B, beams W, heads H, source length S, slots N, head width K.
"""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """One decoder layer's share of a ``DecoderCache``."""

    def __init__(self, cache: DecoderCache, layer: int) -> None:
        self.cache, self.layer = cache, layer

    @property
    def source(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the source, (B, H, S, K) each."""
        return self.cache.source[self.layer]

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Writes the keys and values of one more token of each beam.

        Args:
            k: (B, H, W, K).
            v: (B, H, W, K).

        Returns:
            All keys and values so far, views of (B, H, used + W, K). The cache counts the new ones
            only with ``DecoderCache.advance``, after every layer has appended.
        """
        start, end = self.cache.used, self.cache.used + k.shape[2]
        keys, values = self.cache.target[0, self.layer], self.cache.target[1, self.layer]
        keys[:, :, start:end] = k
        values[:, :, start:end] = v
        return keys[:, :, :end], values[:, :, :end]


class DecoderCache:
    """Keys and values of all decoder layers; ``Transformer.start_cache`` makes one."""

    def __init__(
        self,
        source: list[tuple[Tensor, Tensor]],
        source_mask: Tensor | None,
        max_new: int,
        beams: int = 1,
    ) -> None:
        """Allocates the slots of the target.

        Args:
            source: for each layer the keys and values of the source, (B, H, S, K) each.
            source_mask: (B, 1, 1, S), as the attention takes it; None means no padding.
            max_new: the most tokens that can be appended to each beam.
            beams: the most beams of a sentence.
        """
        rows, n_heads, _, d_head = source[0][0].shape
        self.source, self.source_mask, self.max_new = source, source_mask, max_new
        slots = (2, len(source), rows, n_heads, max_new * beams, d_head)  # keys and values
        self.target = source[0][0].new_empty(slots)
        self.layers = [LayerCache(self, layer) for layer in range(len(source))]
        self.length = 0  # tokens appended to each beam so far
        self.used = 0  # slots filled so far, the same in every row
        self.beams = beams
        self.past = self.target.new_zeros(rows, 1, 0)  # (B, W, used): see `mask`

    @property
    def mask(self) -> Tensor | None:
        """What is added to the scores of self-attention, (B, 1, W, used).

        0 where a slot holds the beam's own past, else very negative; None for a single beam, to
        which every slot belongs.
        """
        return None if self.beams == 1 else self.past.unsqueeze(1)

    def make_room(self, width: int) -> None:
        """Announces one more token of each of ``width`` beams, which sees itself.

        Raises:
            ValueError: all slots are used.
        """
        if self.length == self.max_new:
            raise ValueError(
                f"the cache has room for {self.max_new} tokens and all are used. "
                "Start it with a larger max_new."
            )
        if self.beams > 1:
            forbidden = torch.finfo(self.past.dtype).min / 2
            others = 1 - torch.eye(width, dtype=self.past.dtype, device=self.past.device)  # (W, W)
            own = (forbidden * others).expand(len(self.past), -1, -1)
            self.past = torch.cat([self.past, own], dim=2)

    def advance(self, width: int) -> None:
        """Counts the token appended to each of ``width`` beams, after all layers wrote it."""
        self.length += 1
        self.used += width

    def follow(self, parents: Tensor) -> None:
        """Lets beam i of each sentence continue what beam ``parents[..., i]`` has written.

        Args:
            parents: (B, W), each as often as wanted; W may be more or fewer than now.
        """
        if self.beams > 1:  # a single one has no other to follow
            self.past = self.past.gather(1, parents.unsqueeze(-1).expand(-1, -1, self.used))

    def select(self, rows: Tensor) -> None:
        """Keeps some sentences, with all their beams.

        Args:
            rows: their numbers, (B',), from 0 to B - 1.
        """
        old, filled = self.target, slice(0, self.used)
        self.target = old.new_empty(*old.shape[:2], len(rows), *old.shape[3:])
        self.target[..., filled, :] = old[..., filled, :].index_select(2, rows)
        self.past = self.past[rows]
        self.source = [(k[rows], v[rows]) for k, v in self.source]
        if self.source_mask is not None:
            self.source_mask = self.source_mask[rows]
