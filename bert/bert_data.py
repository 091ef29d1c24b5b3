"""Text for pre-training: documents as token ids, cut into sequences with or without pairs.

Two ways to make a sequence of at most T tokens:

- ``next_sentence_batch``: ``[CLS] A [SEP] B [SEP]`` (Devlin et al. 2019, section 3.1, task 2). A
  and B are stretches of whole sentences. With probability 1/2, B is what follows A in its document
  (label 0); else B begins at a random sentence of another document (label 1).
- ``single_batch``: ``[CLS] ... [SEP]``, full with one stretch of text that may run on into the next
  document, with a ``[SEP]`` between (Liu et al. 2019, section 4.2, "full sentences"). No label.

Where the paper's code stores its sequences and ten sets of masks, here all is drawn in training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bert.document_sources import load_documents
from bert.masking import IGNORED

__all__ = [
    "PairData", "PretrainingBatch", "Sequences", "load_documents", "next_sentence_batch",
    "single_batch",
]  # fmt: skip

IS_NEXT, NOT_NEXT = 0, 1
"""Labels of next-sentence prediction, as in the published checkpoints."""


@dataclass(frozen=True)
class PairData:
    """The documents of a split, one after the other, a ``[SEP]`` behind each.

    A stretch of sentences within a document is therefore one slice of ``tokens``.
    """

    tokens: Tensor  # (N,) int32
    starts: Tensor  # (S,) where each sentence begins in ``tokens``, int64
    ends: Tensor  # (S,) where it ends
    document_of: Tensor  # (S,) the number of its document
    document_ends: Tensor  # (documents,) number of the first sentence behind each document

    @property
    def n_sentences(self) -> int:
        """S, over all documents."""
        return len(self.starts)

    def first_of(self, sentences: Tensor) -> Tensor:
        """Returns the number of the first sentence in the document of each sentence, (B,)."""
        document = self.document_of[sentences]
        return torch.where(document > 0, self.document_ends[document - 1], 0)

    def firsts_of_pairs(self) -> Tensor:
        """Returns the sentences that have a next one in their document: where A may begin."""
        numbers = torch.arange(self.n_sentences)
        return numbers[numbers + 1 < self.document_ends[self.document_of]]


@dataclass(frozen=True)
class Sequences:
    """Sequences before masking, on the CPU."""

    tokens: Tensor  # (B, T) int64
    mask: Tensor | None  # (B, T), False at padding; None where there is no padding
    segments: Tensor  # (B, T), 0 for [CLS] A [SEP], 1 for B [SEP]
    next_labels: Tensor | None  # (B,), 0: B follows A; 1: B is from another document


@dataclass(frozen=True)
class PretrainingBatch:
    """A minibatch of sequences with hidden tokens, and what stood there."""

    tokens: Tensor  # (B, T) int64, masked
    mask: Tensor | None  # (B, T), False at padding; None where there is no padding
    segments: Tensor  # (B, T), 0 or 1
    labels: Tensor  # (B, T), the hidden token, -100 elsewhere
    next_labels: Tensor | None  # (B,), 0: B follows A; 1: B is from another document; None: no B

    @property
    def n_masked(self) -> int:
        """How many tokens are to be predicted."""
        return int((self.labels != IGNORED).sum())

    def rows(self, chosen: slice) -> PretrainingBatch:
        """Returns some of the rows."""
        return self._each(lambda tensor: tensor[chosen])

    def to(self, device: torch.device | str) -> PretrainingBatch:
        """Returns the batch on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> PretrainingBatch:
        return PretrainingBatch(
            change(self.tokens),
            None if self.mask is None else change(self.mask),
            change(self.segments),
            change(self.labels),
            None if self.next_labels is None else change(self.next_labels),
        )


def next_sentence_batch(
    data: PairData, firsts: Tensor, max_len: int, special: dict[str, int], rng: torch.Generator
) -> Sequences:
    """Makes pairs for next-sentence prediction.

    From ``first`` on, whole sentences of the document are taken as long as they fit; a random place
    between them is the border of A and B. If the pair does not fit after all, the longer of A and B
    is cut at its end, token by token.

    Args:
        data: the documents; at least two.
        firsts: (B,), the sentence with which each A begins; it must have a next one.
        max_len: largest number of tokens, special ones included.
        special: name -> id of the special tokens.
        rng: draws the labels, the borders and the other documents.

    Returns:
        Sequences (B, T), T the longest of them.

    Raises:
        ValueError: there is no other document to take a wrong B from.
    """
    count, room = len(firsts), max_len - 3  # [CLS], [SEP], [SEP]
    if len(data.document_ends) < 2:
        raise ValueError(
            "next-sentence prediction needs a second document to take wrong sentences from, and "
            "there is one. Separate documents by a blank line, or use --objective mlm."
        )
    begin_a = data.starts[firsts]  # (B,)
    end = data.document_ends[data.document_of[firsts]] - 1  # (B,) last sentence of the document
    fits = torch.searchsorted(data.ends, begin_a + room, right=True) - 1  # last that fits whole
    last = torch.minimum(fits, end).maximum(firsts + 1)
    border = firsts + (torch.rand(count, generator=rng) * (last - firsts)).long()  # A's last
    labels = torch.randint(2, (count,), generator=rng)

    first_here = data.first_of(firsts)
    here = end + 1 - first_here  # sentences in A's own document, which are stepped over
    other = (
        torch.rand(count, generator=rng, dtype=torch.float64) * (data.n_sentences - here)
    ).long()
    other += torch.where(other >= first_here, here, 0)
    # A wrong B is made as a right one is, of whole sentences that fit: its length tells nothing.
    room_b = room - (data.ends[border] - begin_a)
    fits = torch.searchsorted(data.ends, data.starts[other] + room_b, right=True) - 1
    other_end = data.document_ends[data.document_of[other]] - 1
    other_last = torch.minimum(fits, other_end).maximum(other)

    wrong = labels == NOT_NEXT
    begin_b = data.starts[torch.where(wrong, other, border + 1)]
    length_a = data.ends[border] - begin_a
    length_b = data.ends[torch.where(wrong, other_last, last)] - begin_b
    cut_a = torch.minimum(length_a, (room - length_b).clamp_min(room - room // 2))
    cut_b = torch.minimum(length_b, (room - length_a).clamp_min(room // 2))
    return _assemble(data.tokens, begin_a, cut_a, begin_b, cut_b, labels, special)


def _assemble(
    ids: Tensor, begin_a: Tensor, length_a: Tensor, begin_b: Tensor, length_b: Tensor,
    labels: Tensor, special: dict[str, int],
) -> Sequences:  # fmt: skip
    """Writes ``[CLS] A [SEP] B [SEP]`` and padding into rows; all arguments are (B,)."""
    length = length_a + length_b + 3
    place = torch.arange(int(length.max()))[None]  # (1, T)
    a, b = (1 + length_a)[:, None], (2 + length_a + length_b)[:, None]  # places of the two [SEP]
    source = torch.where(place < a, begin_a[:, None] + place - 1, begin_b[:, None] + place - a - 1)
    tokens = ids[source.clamp(0, len(ids) - 1)].long()  # (B, T)
    tokens[:, 0] = special["[CLS]"]
    tokens[(place == a) | (place == b)] = special["[SEP]"]
    mask = place <= b
    tokens[~mask] = special["[PAD]"]
    segments = ((place > a) & mask).long()
    return Sequences(tokens, None if mask.all() else mask, segments, labels)


def single_batch(
    data: PairData, begins: Tensor, max_len: int, special: dict[str, int]
) -> Sequences:
    """Makes full sequences of one stretch of text each, for training without pairs.

    Args:
        data: the documents.
        begins: (B,), places in ``data.tokens`` where each stretch begins.
        max_len: T, special tokens included.
        special: name -> id of the special tokens.
    """
    stretch = data.tokens[begins[:, None] + torch.arange(max_len - 2)].long()  # (B, T - 2)
    cls = torch.full((len(begins), 1), special["[CLS]"])
    sep = torch.full((len(begins), 1), special["[SEP]"])
    tokens = torch.cat([cls, stretch, sep], dim=1)  # (B, T)
    return Sequences(tokens, None, torch.zeros_like(tokens), None)
