"""One text, or a pair, taken apart: every head's attention, and what is expected at each place.

A BERT that sees a token "predicts" that token; what it knows shows when the place is hidden. So
every token is masked in turn, in a copy of the text of its own, and the copies are read together.

Shapes: length T, layers L, heads H, vocabulary V.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bert.bert_heads import BertForPreTraining
from bert.length_batches import TOKEN_BUDGET, device_of, evaluating
from bert.mask_filling import Alternative, encode_parts
from bert.wordpiece import WordPiece

MAX_SHOWN = 128  # tokens of a picture; each costs a pass of its own


@dataclass(frozen=True)
class Insides:
    """What is seen in one text."""

    names: list[str]  # T tokens as in the vocabulary, [CLS] and [SEP] included
    tokens: Tensor  # (T,) ids
    segments: Tensor  # (T,) 0 in the first text, 1 in the second
    weights: Tensor  # (L, H, T, T), attention in the text as it is
    expected: list[list[Alternative]]  # of each place, if it is hidden; empty at [CLS] and [SEP]


def look_inside(
    model: BertForPreTraining,
    wordpiece: WordPiece,
    text: str,
    second: str | None = None,
    top_k: int = 5,
) -> Insides:
    """Reads a text, and once more for every token with that token masked.

    Args:
        model: any; its mode (training or not) is left as it was.
        wordpiece: the model's.
        text: the first text; it may hold [MASK].
        second: the second text, or None.
        top_k: how many alternatives of each place.

    Raises:
        ValueError: a text is empty, or both together are too long for a picture.
    """
    first_ids = _encode(wordpiece, text)
    second_ids = None if second is None else _encode(wordpiece, second)
    ids, segments = wordpiece.pair(first_ids, second_ids)
    most = min(model.bert.config.max_len, MAX_SHOWN)
    if len(ids) > most:
        raise ValueError(
            f"the text has {len(ids):,} tokens and a picture holds {most}: more are not read or "
            "not told apart. Give a shorter text."
        )
    device = device_of(model)
    row = torch.tensor([list(ids)], device=device)  # (1, T)
    segment_row = torch.tensor([list(segments)], device=device)
    keep = torch.tensor([wordpiece.cls_id, wordpiece.sep_id], device=device)
    copies, places = mask_each(row[0], wordpiece.mask_id, keep)  # (N, T), (N,)
    expected: list[list[Alternative]] = [[] for _ in ids]
    with evaluating(model):
        named = model.bert.intermediates(row, None, segment_row)
        rows = max(1, TOKEN_BUDGET // len(ids))  # copies read at once
        for part, where in zip(copies.split(rows), places.split(rows), strict=True):
            positions = (torch.arange(len(part), device=device), where)
            logits = model.predict_masked(part, None, segment_row.expand_as(part), positions)
            shares, best = logits.float().softmax(-1).topk(min(top_k, logits.shape[-1]))
            for place, values, guesses in zip(
                where.tolist(), shares.tolist(), best.tolist(), strict=True
            ):
                names = wordpiece.tokens(guesses)
                expected[place] = [Alternative(*p) for p in zip(names, values, strict=True)]
    layers = range(model.bert.config.n_layers)
    return Insides(
        names=wordpiece.tokens(list(ids)),
        tokens=row[0].cpu(),
        segments=segment_row[0].cpu(),
        weights=torch.cat([named[f"attention.{layer}"] for layer in layers]).float().cpu(),
        expected=expected,
    )


def mask_each(tokens: Tensor, mask_id: int, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the text once for each of its ordinary tokens, with that one masked.

    Args:
        tokens: (T,) ids.
        mask_id: the id of [MASK].
        keep: (S,) ids that are never masked.

    Returns:
        (N, T) copies and (N,) the masked place of each.

    >>> mask_each(torch.tensor([1, 7, 8, 2]), 9, torch.tensor([1, 2]))[0].tolist()
    [[1, 9, 8, 2], [1, 7, 9, 2]]
    """
    places = (~torch.isin(tokens, keep)).nonzero()[:, 0]  # (N,)
    copies = tokens.repeat(len(places), 1)  # (N, T)
    copies[torch.arange(len(places), device=tokens.device), places] = mask_id
    return copies, places


def _encode(wordpiece: WordPiece, text: str) -> list[int]:
    """Returns the ids of a text without [CLS] and [SEP]; each [MASK] is one id."""
    ids = encode_parts(wordpiece, text)
    if not ids:
        raise ValueError("the text is empty: there is nothing to look at. Give it some words.")
    return ids
