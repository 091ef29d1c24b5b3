"""Texts of any length to minibatches that hold almost no padding.

A minibatch is as long as its longest text, and what is padding costs as much as what is text. So
texts are sorted by length, neighbors go together, and a minibatch holds not a number of texts but
a number of tokens: many short ones or a few long ones. Results go back to the order of the input.

Rule for long texts: BERT has no position behind ``max_len``, so of a longer text the first
``max_len - 2`` tokens are read, between [CLS] and [SEP]; one line on stderr says so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bert.bert_model import BertModel
from bert.wordpiece import WordPiece

TOKEN_BUDGET = 2048  # padded tokens of a minibatch; larger ones leave the processor's cache


@dataclass(frozen=True)
class LengthBatch:
    """Texts of similar length, padded to the longest of them."""

    tokens: Tensor  # (B, T) ids
    mask: Tensor | None  # (B, T) bool, False at padding; None if there is no padding
    rows: list[int]  # B places in the input

    def real_tokens(self) -> Tensor:
        """Returns (B, T) bool, True where there is a token."""
        if self.mask is None:
            return torch.ones_like(self.tokens, dtype=torch.bool)
        return self.mask


def length_batches(
    sequences: Sequence[Sequence[int]],
    padding: int,
    budget: int = TOKEN_BUDGET,
    device: torch.device | str = "cpu",
) -> Iterator[LengthBatch]:
    """Yields every sequence once, the longest first: later minibatches fit into freed memory.

    Args:
        sequences: ids of each text, [CLS] and [SEP] included.
        padding: the id of [PAD].
        budget: most tokens of a minibatch, padding included; one longer text goes alone.
        device: where the tensors go.

    >>> batches = length_batches([[1], [1, 2, 3], [1, 2], [1, 2]], padding=0, budget=6)
    >>> [batch.rows for batch in batches]
    [[1, 2], [3, 0]]
    """
    order = sorted(range(len(sequences)), key=lambda row: -len(sequences[row]))
    start = 0
    while start < len(order):
        longest = len(sequences[order[start]])
        rows = order[start : start + max(1, budget // max(1, longest))]
        start += len(rows)
        lengths = [len(sequences[row]) for row in rows]
        padded = [
            [*sequences[row], *[padding] * (longest - length)]
            for row, length in zip(rows, lengths, strict=True)
        ]
        mask = None
        if lengths[-1] < longest:
            mask = torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)  # (B, T)
            mask = mask.to(device)
        yield LengthBatch(torch.tensor(padded, device=device), mask, rows)


def encode_texts(
    wordpiece: WordPiece, texts: Sequence[str], max_len: int, purpose: str = "to read"
) -> list[list[int]]:
    """Returns the ids of each text between [CLS] and [SEP]; says if texts had to be cut.

    Args:
        wordpiece: the model's.
        texts: any, none empty; a [MASK] in one is the token, as in fine-tuning.
        max_len: the most tokens that the model reads, [CLS] and [SEP] included.
        purpose: ends the sentence "there is nothing ..." of the error.

    Raises:
        ValueError: a text holds no token.
    """
    ids = [wordpiece.encode(text, allow_special=True) for text in texts]
    for place, (text, row) in enumerate(zip(texts, ids, strict=True)):
        if not row:
            raise ValueError(no_tokens(text, place, len(texts), purpose))
    say_cuts([len(row) + 2 for row in ids], max_len)
    return [wordpiece.pair(row, None, max_len)[0] for row in ids]


def no_tokens(text: str, place: int, count: int, purpose: str) -> str:
    """Returns the error about a text without a token, with its number if there are several."""
    reason = "is empty" if not text.strip() else f"{text[:20]!r} has no character that BERT reads"
    return f"{name_of(place, count)} {reason}: there is nothing {purpose}. Give it some words."


def name_of(place: int, count: int) -> str:
    """Returns what an error calls a text: its number, if there are several."""
    return "the text" if count == 1 else f"text {place + 1:,} of {count:,}"


def say_cuts(lengths: Sequence[int], max_len: int) -> None:
    """Prints one line on stderr if texts are longer than the model reads; their ends are cut."""
    long = [length for length in lengths if length > max_len]
    if not long:
        return
    if len(lengths) == 1:
        text = f"the text has {long[0]:,} tokens and the model reads {max_len}: its end is left out"
    else:
        text = (
            f"{len(long):,} of {len(lengths):,} texts have more tokens (up to {max(long):,}) than "
            f"the {max_len} that the model reads: their ends are left out"
        )
    print(text, file=sys.stderr, flush=True)


def encoder_of(model: nn.Module) -> BertModel:
    """Returns the encoder of a model with any head, or the model if it is one."""
    encoder = getattr(model, "bert", model)
    if not isinstance(encoder, BertModel):
        raise ValueError(
            f"{type(model).__name__} has no BERT encoder: there are no hidden states to read. Pass "
            "a BertModel or a model with a head on one."
        )
    return encoder


def device_of(model: nn.Module) -> torch.device:
    """Returns where a model's weights are."""
    return next(model.parameters()).device


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switches dropout and gradients off; afterwards the model's mode is what it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)
