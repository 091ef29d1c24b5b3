"""What the exercises on BERT are checked with: by hand, and by the chapter's code."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from bert import finetuning_heads, piece_cutting
from bert.wordpiece import WordPiece
from tutorial_kit.exercise_cases import Case, Exercise

PIECES = ["[UNK]", "un", "u", "##happy", "##happ", "##n", "##mask", "masked", "##ed", "mask"]


def segment_ids_cases() -> Iterator[Case]:
    """Texts of several lengths; the tokenizer says what is expected."""
    pieces = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog"])
    for length_a, length_b in ((1, 1), (3, 1), (1, 4)):
        _, segments = pieces.pair([5] * length_a, [5] * length_b)
        yield Case((length_a, length_b), segments, "special")


def unigram_entropy_cases() -> Iterator[Case]:
    """Four equal tokens, two unequal ones, one that never occurs."""
    yield Case((torch.tensor([7, 7, 7, 7]),), math.log(4), "shares")
    yield Case((torch.tensor([3, 1]),), math.log(4) - 0.75 * math.log(3), "shares")
    yield Case((torch.tensor([2, 0, 2]),), math.log(2), "never")


def cut_word_cases() -> Iterator[Case]:
    """A known word, greedy cuts, a piece that is missing in the middle."""
    known = {piece: number for number, piece in enumerate(PIECES)}
    for word, clue in (
        ("un", "longest"),
        ("unhappy", "longest"),
        ("unmasked", "continues"),
        ("unhappily", "missing"),
    ):
        ids = piece_cutting.cut_word(word, known, unknown=0, longest=max(map(len, PIECES)))
        yield Case((word, list(PIECES)), [PIECES[i] for i in ids], clue)


def masked_loss_cases() -> Iterator[Case]:
    """One chosen position of two; several of a batch; the token 0 as an answer."""
    logits = torch.tensor([[[0.0, math.log(3)], [5.0, 0.0]]])
    yield Case((logits, torch.tensor([[1, -100]])), math.log(4 / 3), "chosen")
    logits = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[-100, 5, -100, 2], [-100, -100, 3, -100]])
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100).item()
    yield Case((logits, labels), expected, "mean")
    labels = torch.tensor([[0, -100, -100, -100], [-100, -100, -100, 1]])
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100).item()
    yield Case((logits, labels), expected, "zero")


def mean_pool_cases() -> Iterator[Case]:
    """Without padding; with."""
    hidden = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    for lengths, clue in (([4, 4], "shape"), ([4, 2], "padding")):
        mask = torch.arange(4) < torch.tensor(lengths)[:, None]  # (B, T)
        yield Case((hidden, mask), finetuning_heads.mean_pool(hidden, mask), clue)


def hide_tokens_cases() -> Iterator[Case]:
    """Nothing is chosen; then all that can happen to a token."""
    tokens, random_ids = torch.tensor([10, 11, 12, 13, 14]), torch.tensor([20, 21, 22, 23, 24])
    draws = torch.tensor([0.1, 0.79, 0.85, 0.95, 0.3])
    nothing, ignored = torch.zeros(5, dtype=torch.bool), torch.full((5,), -100)
    yield Case((tokens, nothing, draws, random_ids, 4), (tokens, ignored), "chosen")
    chosen = torch.tensor([True, True, True, True, False])
    hidden = torch.tensor([4, 4, 22, 13, 14]), torch.tensor([10, 11, 12, 13, -100])
    yield Case((tokens, chosen, draws, random_ids, 4), hidden, "labels")
    border = torch.tensor([0.0, 0.8, 0.9, 0.89, 0.99])
    hidden = torch.tensor([4, 21, 12, 23, 14]), torch.tensor([10, 11, 12, 13, -100])
    yield Case((tokens, chosen, border, random_ids, 4), hidden, "borders")


def choose_whole_words_cases() -> Iterator[Case]:
    """Words of one piece; a chosen word of three; one whose second piece alone has a low draw."""
    for starts, draws, expected, clue in (
        ([1, 1, 1], [0.9, 0.1, 0.5], [0, 1, 0], "single"),
        ([1, 1, 0, 0, 1], [0.9, 0.1, 0.8, 0.7, 0.6], [0, 1, 1, 1, 0], "first"),
        ([1, 0, 1], [0.5, 0.01, 0.9], [0, 0, 0], "first"),
    ):
        arguments = torch.tensor(draws), torch.tensor(starts).bool(), 0.15
        yield Case(arguments, torch.tensor(expected).bool(), clue)


EXERCISES = (
    Exercise(1, "easy", "segment_ids", segment_ids_cases),
    Exercise(2, "easy", "unigram_entropy", unigram_entropy_cases),
    Exercise(3, "medium", "cut_word", cut_word_cases),
    Exercise(4, "medium", "masked_loss", masked_loss_cases),
    Exercise(5, "medium", "mean_pool", mean_pool_cases),
    Exercise(6, "medium", "hide_tokens", hide_tokens_cases),
    Exercise(7, "hard", "choose_whole_words", choose_whole_words_cases),
)
