"""The key/value cache: what generation remembers so that each token is computed once.

Keys and values of past tokens do not change, because no token sees the future. The cache holds them
in two tensors of full size, allocated once; appending writes in place and returns views.

Shapes: layers L, batch B, key/value heads G, slots S <= max_len, head width K. Rows of a batch may
start at different slots (prompts of different lengths, padded on the left).
"""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """One layer's share of a ``KVCache``."""

    def __init__(self, cache: KVCache, layer: int) -> None:
        self.cache = cache
        self.keys = cache.keys[layer]  # (B, G, max_len, K)
        self.values = cache.values[layer]  # (B, G, max_len, K)

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Writes new keys and values behind the old ones.

        Args:
            k: (B, G, T, K).
            v: (B, G, T, K).

        Returns:
            All keys and values so far, views of (B, G, S, K) with S = length + T. The length itself
            grows only with ``KVCache.advance``, after every layer has appended.
        """
        start, end = self.cache.length, self.cache.length + k.shape[2]
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
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
        self.length = 0  # slots in use, the same for all rows
        self.padding: Tensor | None = (
            None  # (B,) empty slots at the left of each row; None means none
        )
        self.layers = [LayerCache(self, layer) for layer in range(n_layers)]

    def positions(self, new: int) -> Tensor:
        """Returns the positions of the next ``new`` tokens, (new,), or (B, new) if rows are padded."""
        slots = torch.arange(self.length, self.length + new, device=self.keys.device)
        if self.padding is None:
            return slots
        return (slots - self.padding[:, None]).clamp_min(0)

    def mask(self, new: int) -> Tensor | None:
        """Returns which slots the next ``new`` tokens may attend to.

        Returns:
            None for one token without padding (it sees all slots); (new, S) causal without padding;
            (B, 1, new, S) with padding. True means "may attend".
        """
        if new == 1 and self.padding is None:
            return None
        end = self.length + new
        device = self.keys.device
        queries = torch.arange(self.length, end, device=device)[:, None]  # (new, 1)
        slots = torch.arange(end, device=device)  # (S,)
        causal = slots <= queries  # (new, S)
        if self.padding is None:
            return causal
        real = slots >= self.padding[:, None]  # (B, S)
        # A padding query has no real slot to see; it sees itself, so that its softmax is defined.
        own = slots == queries
        return (causal & real[:, None, :] | own)[:, None]  # (B, 1, new, S)

    def advance(self, new: int) -> None:
        """Counts ``new`` appended tokens, after all layers have written them."""
        self.length += new

    def trim(self, length: int) -> None:
        """Forgets everything after the first ``length`` slots; costs nothing."""
        if not 0 <= length <= self.length:
            raise ValueError(
                f"cannot trim a cache of {self.length} tokens to {length}. "
                "Trimming only shortens; use 0 to the present length."
            )
        self.length = length

    def reorder(self, rows: Tensor) -> None:
        """Makes row i continue what row ``rows[i]`` holds: beams that survive, (B,) of row numbers."""
        used = slice(0, self.length)
        self.keys[:, :, :, used] = self.keys[:, rows, :, used]
        self.values[:, :, :, used] = self.values[:, rows, :, used]
        if self.padding is not None:
            self.padding = self.padding[rows]
