"""Associative recall: pairs are shown once, then the keys come back in another order.

A sequence is ``k1 v1 k2 v2 ... kN vN`` and then the same pairs shuffled. A value that follows a key
for the second time can be known, if what came first was kept; only these are asked for. The number
of pairs is the dial: it says how much a mixer can keep apart (Arora et al. 2023 ask the same of
many architectures and call it multi-query associative recall).

Tokens: keys are 0 .. keys-1, values keys .. 2 keys-1. Keys of a sequence are distinct.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORED = -100  # target of a position that is not asked for


def recall_vocabulary(keys: int) -> int:
    """Returns how many tokens the task has."""
    return 2 * keys


def recall_batch(
    pairs: int, keys: int, batch: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draws sequences.

    Args:
        pairs: N, distinct keys in each sequence.
        keys: keys to draw from, and as many values; values may repeat.
        batch: sequences, B.
        generator: decides everything.

    Returns:
        Tokens (B, 4 N - 1) and targets of the same shape: the value at each key that is seen for
        the second time, else -100.

    Raises:
        ValueError: there are not so many keys.
    """
    if pairs > keys:
        raise ValueError(
            f"pairs={pairs} needs as many different keys, and there are keys={keys}. "
            "Use fewer pairs, or more keys."
        )
    order = torch.rand(batch, keys, generator=generator).argsort(dim=1)
    shown = order[:, :pairs]  # (B, N), keys without repetition
    values = keys + torch.randint(keys, (batch, pairs), generator=generator)  # (B, N)
    again = torch.rand(batch, pairs, generator=generator).argsort(dim=1)  # (B, N), the second order
    both_keys = torch.cat([shown, shown.gather(1, again)], dim=1)  # (B, 2 N)
    both_values = torch.cat([values, values.gather(1, again)], dim=1)
    sequence = torch.stack([both_keys, both_values], dim=2).flatten(1)  # (B, 4 N)
    targets = torch.full((batch, 4 * pairs - 1), IGNORED)
    targets[:, 2 * pairs :: 2] = both_values[:, pairs:]  # asked at the key
    return sequence[:, :-1], targets


class RecallSampler:
    """Draws minibatches with a random number of pairs; can be put back to where it was."""

    def __init__(self, most_pairs: int, keys: int, batch_size: int, seed: int) -> None:
        """Prepares the first minibatch.

        Args:
            most_pairs: sequences have 1/8, 1/4, 1/2 or all of so many pairs, equally often.
            keys: to draw from.
            batch_size: sequences in a minibatch.
            seed: same seed, same minibatches.
        """
        self.sizes = sorted({max(1, most_pairs // divisor) for divisor in (8, 4, 2, 1)})
        self.keys, self.batch_size, self.seed, self.drawn = keys, batch_size, seed, 0

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """Returns the next tokens and targets, as ``recall_batch``."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.drawn)
        self.drawn += 1
        pick = int(torch.randint(len(self.sizes), (1,), generator=generator))
        return recall_batch(self.sizes[pick], self.keys, self.batch_size, generator)

    def state(self) -> dict[str, Any]:
        """Returns where the sampler stands, as plain types."""
        return {"drawn": self.drawn}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to ``state()``."""
        self.drawn = state["drawn"]
