"""Labeled texts as token ids, and minibatches of similar length, padded to their longest.

Rule for long texts: a text keeps its first ``max_len - 2`` tokens between [CLS] and [SEP]; of a
pair the longer one is cut (``WordPiece.pair``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bert.finetuning_tasks import Example
from bert.wordpiece import WordPiece

IGNORE = -100
"""The tag of a piece that is not asked about, and of padding."""

SORTED_TOGETHER = 8  # minibatches whose examples are sorted by length among themselves
JITTER = 0.25  # so much a length is changed at random before sorting: neighbors change too


@dataclass(frozen=True)
class Encoded:
    """One example as the model reads it."""

    tokens: list[int]  # T ids, special tokens included
    segments: list[int]  # T, 0 for the first text and 1 for the second
    target: int | list[int]  # the class; or T tags; or the first and last place of the answer


@dataclass(frozen=True)
class LabeledBatch:
    """Examples padded to the longest of them."""

    tokens: Tensor  # (B, T) ids
    mask: Tensor  # (B, T) bool, False at padding
    segments: Tensor  # (B, T) 0 or 1
    targets: Tensor  # (B,) classes, (B, T) tags or (B, 2) places
    rows: list[int]  # B places in the list of examples

    def to(self, device: torch.device) -> LabeledBatch:
        """Returns the batch on a device."""
        return replace(
            self, tokens=self.tokens.to(device), mask=self.mask.to(device),
            segments=self.segments.to(device), targets=self.targets.to(device),
        )  # fmt: skip


def encode_examples(
    wordpiece: WordPiece, examples: Sequence[Example], labels: Sequence[str], max_len: int
) -> tuple[list[Encoded], int]:
    """Returns classification examples as ids, and how many texts lost their end.

    Args:
        wordpiece: the model's; a [MASK] written in a text is the token.
        examples: (text, label) each.
        labels: the place of a label is its class.
        max_len: tokens, special ones included.
    """
    classes = {label: place for place, label in enumerate(labels)}
    encoded, n_cut = [], 0
    for text, label in examples:
        ids = wordpiece.encode(text, allow_special=True)
        n_cut += len(ids) > max_len - 2
        encoded.append(Encoded(*wordpiece.pair(ids[: max_len - 2]), classes[label]))
    return encoded, n_cut


def labeled_batches(
    examples: Sequence[Encoded],
    batch_size: int,
    pad_id: int,
    generator: torch.Generator | None = None,
) -> Iterator[LabeledBatch]:
    """Yields every example once.

    Args:
        examples: in any order.
        batch_size: examples in a minibatch; the last one may be smaller.
        pad_id: the id of [PAD].
        generator: draws the order: examples are shuffled, sorted by (jittered) length within groups
            of eight minibatches, and the minibatches are shuffled. None sorts all by length and
            draws nothing: for evaluation.
    """
    lengths = torch.tensor([len(example.tokens) for example in examples], dtype=torch.float)
    if generator is None:
        order = lengths.argsort(stable=True)
        groups = [order]
    else:
        order = torch.randperm(len(examples), generator=generator)
        lengths = lengths * (1.0 + JITTER * (torch.rand(len(examples), generator=generator) - 0.5))
        groups = list(order.split(SORTED_TOGETHER * batch_size))
    for group in groups:
        batches = group[lengths[group].argsort(stable=True)].split(batch_size)
        count = len(batches)
        turn = range(count) if generator is None else torch.randperm(count, generator=generator)
        for place in turn:
            rows = batches[int(place)].tolist()
            yield collate([examples[row] for row in rows], rows, pad_id)


def collate(examples: Sequence[Encoded], rows: list[int], pad_id: int) -> LabeledBatch:
    """Pads examples to the longest of them."""
    lengths = torch.tensor([len(example.tokens) for example in examples])
    longest = int(lengths.max())

    def padded(lists: Sequence[list[int]], filling: int) -> Tensor:
        return torch.tensor([row + [filling] * (longest - len(row)) for row in lists])

    targets = [example.target for example in examples]
    are_tags = isinstance(targets[0], list) and len(targets[0]) == len(examples[0].tokens)
    return LabeledBatch(
        padded([example.tokens for example in examples], pad_id),
        torch.arange(longest) < lengths.unsqueeze(1),
        padded([example.segments for example in examples], 0),
        padded(targets, IGNORE) if are_tags else torch.tensor(targets),  # type: ignore[arg-type]
        rows,
    )
