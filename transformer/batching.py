"""Minibatches of sentence pairs: padding, masks, length buckets with a token budget.

Sentences of a minibatch are padded to the longest; padded positions cost time and teach nothing.
So pairs of similar length go together, and a minibatch holds not a number of sentences but a
number of tokens (Vaswani et al. 2017, section 5.1: "sentence pairs were batched together by
approximate sequence length").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformer.translation_data import TranslationData

IGNORE = -100  # the label of a padded position


@dataclass(frozen=True)
class Batch:
    """A padded minibatch. The decoder reads "<bos> a b" and has to say "a b <eos>"."""

    source: Tensor  # (B, S) ids, each row ends with <eos>, then <pad>
    source_mask: Tensor  # (B, S) bool, True where there is a token
    target_in: Tensor  # (B, T) ids, each row begins with <bos>
    labels: Tensor  # (B, T) ids, each row ends with <eos>, then -100
    rows: tuple[int, ...] = ()  # which pairs of the split these are

    @property
    def n_target_tokens(self) -> int:
        """How many labels there are, padding not counted."""
        return int((self.labels != IGNORE).sum())

    def to(self, device: torch.device | str) -> Batch:
        """Returns the batch on another device."""
        return Batch(
            self.source.to(device),
            self.source_mask.to(device),
            self.target_in.to(device),
            self.labels.to(device),
            self.rows,
        )


def pad_pairs(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    special_tokens: dict[str, int],
    rows: Sequence[int] = (),
) -> Batch:
    """Makes a minibatch.

    Args:
        pairs: (source ids with <eos>, target ids with neither <bos> nor <eos>), B of them.
        special_tokens: the ids of "<pad>", "<bos>" and "<eos>".
        rows: which pairs these are, to find them again.

    Raises:
        ValueError: there is no pair.
    """
    if not pairs:
        raise ValueError("a minibatch needs at least one sentence pair; there are 0. Add some.")
    pad, bos, eos = (special_tokens[name] for name in ("<pad>", "<bos>", "<eos>"))
    longest_source = max(len(source) for source, _ in pairs)
    longest_target = max(len(target) for _, target in pairs) + 1
    # Lists are filled first: writing into a tensor row by row took ten times as long.
    source = torch.tensor([pad_row(source, longest_source, pad) for source, _ in pairs])
    target_in = torch.tensor([pad_row([bos, *target], longest_target, pad) for _, target in pairs])
    labels = torch.tensor([pad_row([*target, eos], longest_target, IGNORE) for _, target in pairs])
    lengths = torch.tensor([len(source) for source, _ in pairs])  # (B,)
    source_mask = torch.arange(longest_source) < lengths.unsqueeze(1)  # (B, S)
    return Batch(source, source_mask, target_in, labels, tuple(rows))


def pad_row(ids: Sequence[int], length: int, filling: int) -> list[int]:
    """Returns the ids, continued to ``length``."""
    return [*ids, *[filling] * (length - len(ids))]


def cut_by_budget(
    order: Sequence[int], lengths: Sequence[tuple[int, int]], tokens_per_batch: int
) -> list[list[int]]:
    """Cuts a sequence of pairs into minibatches within the budget.

    Args:
        order: pair numbers, neighbors of similar length.
        lengths: of each pair: tokens the encoder reads, tokens the decoder reads.
        tokens_per_batch: the most padded source and target tokens together, B * (S + T).

    >>> cut_by_budget([0, 1, 2], [(2, 2), (2, 3), (5, 5)], 10)
    [[0, 1], [2]]
    """
    batches: list[list[int]] = []
    current: list[int] = []
    longest_source = longest_target = 0
    for row in order:
        source, target = lengths[row]
        longest_source = max(longest_source, source)
        longest_target = max(longest_target, target)
        if current and (len(current) + 1) * (longest_source + longest_target) > tokens_per_batch:
            batches.append(current)
            current, longest_source, longest_target = [], source, target
        current.append(row)
    return [*batches, current] if current else batches


def batches_of(data: TranslationData, split: str, tokens_per_batch: int) -> list[Batch]:
    """Returns a whole split in minibatches, short pairs first; ``rows`` tells which is which."""
    ids = data.ids[split]
    lengths = [(len(source), len(target) + 1) for source, target in ids]
    check_budget(lengths, tokens_per_batch)
    order = sorted(range(len(ids)), key=lambda row: (sum(lengths[row]), lengths[row]))
    return [
        pad_pairs([ids[row] for row in rows], data.tokenizer.special_tokens, rows)
        for rows in cut_by_budget(order, lengths, tokens_per_batch)
    ]


def check_budget(lengths: Sequence[tuple[int, int]], tokens_per_batch: int) -> None:
    """Checks that every pair fits into a minibatch of its own.

    Raises:
        ValueError: one does not.
    """
    longest = max(map(sum, lengths), default=0)
    if longest > tokens_per_batch:
        raise ValueError(
            f"tokens_per_batch={tokens_per_batch} is too small: the longest pair alone has "
            f"{longest} tokens. Use --tokens-per-batch {longest} or more, or a smaller --max-len."
        )


class BatchSampler:
    """Draws training minibatches, epoch after epoch, and can be put back to where it was.

    Each epoch sorts the pairs by both lengths, those of equal lengths in random order, cuts them by
    the budget and visits the minibatches in random order. Epoch e of seed s is always the same, so
    the whole state is two numbers.
    """

    def __init__(self, data: TranslationData, tokens_per_batch: int, seed: int) -> None:
        """Prepares the first epoch.

        Args:
            data: its training pairs are drawn.
            tokens_per_batch: the most padded source and target tokens together.
            seed: same seed, same minibatches.

        Raises:
            ValueError: a pair is longer than the budget, or there are no pairs.
        """
        self.ids, self.special_tokens = data.ids["train"], data.tokenizer.special_tokens
        if not self.ids:
            raise ValueError("there are 0 training pairs: nothing can be drawn. Give it some.")
        self.lengths = [(len(source), len(target) + 1) for source, target in self.ids]
        check_budget(self.lengths, tokens_per_batch)
        self.tokens_per_batch, self.seed = tokens_per_batch, seed
        self.epoch, self.position = 0, 0
        self._shuffle()

    def _shuffle(self) -> None:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        lengths = torch.tensor(self.lengths, dtype=torch.float64)  # (N, 2)
        noisy = lengths + torch.rand(lengths.shape, generator=generator)  # below a token: ties only
        # Buckets of two source tokens; in one the targets get longer, in the next shorter again,
        # so that neighbors are alike at the borders too.
        bucket = (noisy[:, 0] / 2).floor()  # (N,)
        keys = bucket * 1e6 + torch.where(bucket % 2 == 0, noisy[:, 1], -noisy[:, 1])
        order = keys.argsort(stable=True).tolist()
        batches = cut_by_budget(order, self.lengths, self.tokens_per_batch)
        mixed = torch.randperm(len(batches), generator=generator).tolist()
        self.batches = [batches[place] for place in mixed]

    def __len__(self) -> int:
        """Minibatches in this epoch."""
        return len(self.batches)

    def next_batch(self) -> Batch:
        """Returns the next minibatch; behind the last one of an epoch comes the next epoch."""
        if self.position >= len(self.batches):
            self.epoch, self.position = self.epoch + 1, 0
            self._shuffle()
        rows = self.batches[self.position]
        self.position += 1
        return pad_pairs([self.ids[row] for row in rows], self.special_tokens, rows)

    def state(self) -> dict[str, Any]:
        """Returns where the sampler stands, as plain types."""
        return {"epoch": self.epoch, "position": self.position}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to ``state()``."""
        self.epoch, self.position = state["epoch"], state["position"]
        self._shuffle()
