"""Fill in the blanks: what BERT expects in the place of each [MASK] (Devlin et al. 2019, task 1).

The encoder reads the whole text, the masked-token head projects only the masked places onto the
vocabulary. Each place gets a distribution of its own: with several masks in one text the guesses
know the words around them, but not each other. `fill_surest_first` lets them: it fills the surest
place, reads the text again, and so on ("easy first", as in Ghazvininejad et al. 2019, section 4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch

from bert.bert_heads import BertForPreTraining
from bert.length_batches import (
    TOKEN_BUDGET,
    device_of,
    encoder_of,
    evaluating,
    length_batches,
    name_of,
    no_tokens,
    say_cuts,
)
from bert.wordpiece import WordPiece

MASK = "[MASK]"
BLANK = re.compile(r"\[mask\]", re.IGNORECASE)


class Alternative(NamedTuple):
    """A token that may stand in a masked place."""

    token: str  # as in the vocabulary: "shape", or "##s" for a piece that continues a word
    probability: float  # 0 to 1, over the whole vocabulary


def fill_masks(
    model: BertForPreTraining, wordpiece: WordPiece, text: str, top_k: int = 5
) -> list[list[Alternative]]:
    """Returns the most probable tokens of each [MASK] of a text, in the order of the masks.

    Args:
        model: any; its mode (training or not) is left as it was.
        wordpiece: the model's.
        text: holds one or several [MASK].
        top_k: how many alternatives of each, the best first.

    Raises:
        ValueError: the text is empty, has no [MASK], or all of them stand behind ``max_len``.
    """
    return fill_texts(model, wordpiece, [text], top_k)[0]


def fill_texts(
    model: BertForPreTraining,
    wordpiece: WordPiece,
    texts: Sequence[str],
    top_k: int = 5,
    budget: int = TOKEN_BUDGET,
) -> list[list[list[Alternative]]]:
    """Returns `fill_masks` of many texts, computed in minibatches of similar length.

    Of a text longer than ``max_len`` the end is left out (said on stderr), with the masks in it.
    """
    if top_k < 1:
        raise ValueError(f"top_k={top_k} asks for no alternative. Use 1 or more.")
    max_len = encoder_of(model).config.max_len
    sequences = [
        encode_blanks(wordpiece, text, place, len(texts)) for place, text in enumerate(texts)
    ]
    say_cuts([len(tokens) for tokens in sequences], max_len)
    sequences = [
        _cut(tokens, max_len, wordpiece, place, len(texts))
        for place, tokens in enumerate(sequences)
    ]
    found: list[list[list[Alternative]]] = [[] for _ in texts]
    with evaluating(model):
        for batch in length_batches(sequences, wordpiece.pad_id, budget, device_of(model)):
            rows, columns = (batch.tokens == wordpiece.mask_id).nonzero(as_tuple=True)  # (N,), (N,)
            logits = model.predict_masked(batch.tokens, batch.mask, None, (rows, columns))
            shares = logits.float().softmax(dim=-1)  # (N, V)
            best_share, best = shares.topk(min(top_k, shares.shape[-1]))  # (N, top_k)
            for row, ids, probabilities in zip(
                rows.tolist(), best.tolist(), best_share.tolist(), strict=True
            ):
                names = wordpiece.tokens(ids)
                found[batch.rows[row]].append(
                    [Alternative(*pair) for pair in zip(names, probabilities, strict=True)]
                )
    return found


def fill_surest_first(model: BertForPreTraining, wordpiece: WordPiece, text: str) -> str:
    """Returns the text with every [MASK] filled, the surest place first.

    Each filled place is read when the next is guessed, so n masks take n passes. Special tokens
    such as [UNK] are never filled in. The text around stays as it was typed; a [MASK] behind
    ``max_len`` stays too.

    Raises:
        ValueError: as `fill_masks`.
    """
    max_len = encoder_of(model).config.max_len
    tokens = _cut(encode_blanks(wordpiece, text), max_len, wordpiece, 0, 1)
    row = torch.tensor([tokens], device=device_of(model))  # (1, T)
    places = (row[0] == wordpiece.mask_id).nonzero()[:, 0]  # (N,)
    special = torch.tensor(sorted(wordpiece.special_tokens.values()), device=row.device)
    with evaluating(model):
        while (open_places := (row[0] == wordpiece.mask_id).nonzero()[:, 0]).numel():
            where = (torch.zeros_like(open_places), open_places)
            logits = model.predict_masked(row, None, None, where).float()  # (n, V)
            shares = logits.softmax(dim=-1).index_fill(1, special, -1.0)
            surest, best = shares.max(dim=-1)  # (n,), (n,)
            first = surest.argmax()
            row[0, open_places[first]] = best[first]
    return put_in(text, wordpiece.tokens(row[0, places].tolist()))


def put_in(text: str, tokens: Sequence[str]) -> str:
    """Writes tokens in place of the first masks; a piece is joined to the word before it.

    >>> put_in("Play [MASK] with the [MASK] .", ["##ing", "array"])
    'Playing with the array .'
    """
    before, *rest = BLANK.split(text)
    for place, after in enumerate(rest):
        token = tokens[place] if place < len(tokens) else MASK
        if token.startswith("##"):
            before, token = before.rstrip(), token[2:]
        before += token + after
    return before


def encode_blanks(wordpiece: WordPiece, text: str, place: int = 0, count: int = 1) -> list[int]:
    """Returns the ids of a text between [CLS] and [SEP], each [MASK] as one id; nothing is cut.

    Args:
        wordpiece: the model's.
        text: holds [MASK].
        place: which of several texts it is, for the errors.
        count: how many texts there are.

    Raises:
        ValueError: the text is empty or has no [MASK].
    """
    if not text.strip():
        raise ValueError(no_tokens(text, place, count, "to fill"))
    ids = encode_parts(wordpiece, text)
    if wordpiece.mask_id not in ids:
        name = name_of(place, count)
        raise ValueError(
            f"{name} {text[:40]!r} has no {MASK}: there is no place to fill. Write {MASK} where a "
            'word is missing, as in "Returns the [MASK] of the array."'
        )
    return [wordpiece.cls_id, *ids, wordpiece.sep_id]


def encode_parts(wordpiece: WordPiece, text: str) -> list[int]:
    """Returns the ids of a text; [MASK], also written [mask], is one of them."""
    first, *rest = (wordpiece.encode(part) for part in BLANK.split(text))
    return first + [token for part in rest for token in (wordpiece.mask_id, *part)]


def _cut(
    tokens: list[int], max_len: int, wordpiece: WordPiece, place: int, count: int
) -> list[int]:
    """Leaves out the end of a long text; refuses one whose masks all stand there."""
    if len(tokens) <= max_len:
        return tokens
    kept = tokens[: max_len - 1]
    if wordpiece.mask_id not in kept:
        first = tokens.index(wordpiece.mask_id) + 1
        raise ValueError(
            f"{name_of(place, count)} has its first {MASK} at token {first:,} and the model reads "
            f"{max_len}: it would not see it. Shorten what stands before."
        )
    return [*kept, wordpiece.sep_id]
