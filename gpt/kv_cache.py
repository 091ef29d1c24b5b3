"""The key/value cache: what generation remembers so that each token is computed once.

Keys and values of past tokens do not change, because no token sees the future. The cache holds them
in two tensors of full size, allocated once; appending writes in place and returns views.

Each row of a batch fills its slots from 0 and has a length of its own, so a token's slot is its
position whatever its neighbors' lengths are. Slots behind a row's length may hold leftovers; no
query sees them, and the next tokens overwrite them.

Shapes: layers L, batch B, key/value heads G, slots S <= max_len, head width K.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class LayerCache:
    """One layer's share of a ``KVCache``."""

    def __init__(self, cache: KVCache, layer: int) -> None:
        self.cache, self.layer = cache, layer
        self.keys = cache.keys[layer]  # (B, G, max_len, K)
        self.values = cache.values[layer]  # (B, G, max_len, K)

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Writes new keys and values behind the old ones.

        Args:
            k: (B, G, T, K).
            v: (B, G, T, K).

        Returns:
            All keys and values so far, views of (B, G, S, K) with S = the longest row's length + T.
            Lengths grow only with ``KVCache.advance``, after every layer has appended.
        """
        start, new = self.cache.length, k.shape[2]
        end = start + new
        if self.cache.row_starts is None:
            self.keys[:, :, start:end] = k
            self.values[:, :, start:end] = v
        else:
            slots = self.cache.slots(new)[:, None, :, None].expand_as(k)  # (B, G, T, K)
            self.keys.scatter_(2, slots, k)
            self.values.scatter_(2, slots, v)
        return self.keys[:, :, :end], self.values[:, :, :end]


class KVCache:
    """Keys and values of all layers, for B rows and at most ``max_len`` tokens each."""

    def __init__(
        self,
        n_layers: int,
        batch: int,
        n_kv_heads: int,
        max_len: int,
        d_head: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (n_layers, batch, n_kv_heads, max_len, d_head)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.max_len = max_len
        self.layers = [LayerCache(self, layer) for layer in range(n_layers)]
        self._set_lengths([0] * batch)

    def _set_lengths(self, lengths: list[int]) -> None:
        self.lengths = lengths  # slots in use, one number a row
        self.length = max(lengths)  # the longest row's
        self.row_starts: Tensor | None = None  # (B, 1) the lengths, only if they differ
        if min(lengths) < self.length:
            self.row_starts = torch.tensor(lengths, device=self.keys.device)[:, None]

    def positions(self, new: int) -> slice | Tensor:
        """Returns the positions of the next ``new`` tokens: a slice; (B, new) if lengths differ."""
        if self.row_starts is None:
            return slice(self.length, self.length + new)
        return self.slots(new)

    def slots(self, new: int) -> Tensor:
        """Returns the same as a tensor, (1, new), or (B, new) if lengths differ."""
        starts = self.length if self.row_starts is None else self.row_starts
        return starts + torch.arange(new, device=self.keys.device)[None]

    def mask(self, new: int) -> Tensor | None:
        """Returns which slots the next ``new`` tokens may attend to: their own and those before.

        Returns:
            None for one token with equal lengths (it sees all slots); (new, S) with equal lengths;
            (B, 1, new, S) if lengths differ. True means "may attend".
        """
        if new == 1 and self.row_starts is None:
            return None
        all_slots = torch.arange(self.length + new, device=self.keys.device)  # (S,)
        seen = all_slots <= self.slots(new)[..., None]  # (1 or B, new, S)
        return seen[0] if self.row_starts is None else seen[:, None]

    def advance(self, new: int) -> None:
        """Counts ``new`` appended tokens a row, after all layers have written them."""
        self._set_lengths([length + new for length in self.lengths])

    def trim(self, lengths: int | Sequence[int]) -> None:
        """Forgets what lies behind the given length, one for all rows or one each; costs nothing.

        Raises:
            ValueError: a length is negative or more than the row has.
        """
        wanted = [lengths] * len(self.lengths) if isinstance(lengths, int) else list(lengths)
        for present, length in zip(self.lengths, wanted, strict=True):
            if not 0 <= length <= present:
                raise ValueError(
                    f"cannot trim a cache row of {present} tokens to {length}. "
                    "Trimming only shortens; use 0 to the present length."
                )
        self._set_lengths(wanted)

    def select(self, rows: Sequence[int]) -> None:
        """Makes row i continue what row ``rows[i]`` holds: beams that survive, rows that go on.

        Args:
            rows: row numbers, each as often as wanted; there may be more or fewer than now.
        """
        index, used = torch.tensor(rows, device=self.keys.device), slice(0, self.length)
        for name in ("keys", "values"):
            store = getattr(self, name)  # (L, B, G, max_len, K)
            chosen = store[:, index, :, used]
            if len(rows) > store.shape[1]:
                store = store.new_zeros(store.shape[0], len(rows), *store.shape[2:])
            store[:, : len(rows), :, used] = chosen
            setattr(self, name, store[:, : len(rows)])
        for layer in self.layers:
            layer.keys, layer.values = self.keys[layer.layer], self.values[layer.layer]
        self._set_lengths([self.lengths[row] for row in rows])

    def replace(self, rows: Sequence[int], other: KVCache) -> None:
        """Replaces these rows by the rows of another cache of the same model."""
        index, used = torch.tensor(rows, device=self.keys.device), slice(0, other.length)
        self.keys[:, index, :, used] = other.keys[:, :, :, used]
        self.values[:, index, :, used] = other.values[:, :, :, used]
        lengths = self.lengths.copy()
        for row, length in zip(rows, other.lengths, strict=True):
            lengths[row] = length
        self._set_lengths(lengths)
