"""Masking: the shares within four sigma, whole words, nothing special, nothing without a mask."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bert.masking import ALWAYS_MASK, IGNORED, mask_tokens

V, MASK = 1000, 4
STARTS = torch.arange(V) % 3 != 2  # a third of the vocabulary continues a word
SPECIAL = range(5)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def text(rows: int = 200, length: int = 128) -> Tensor:
    tokens = torch.randint(5, V, (rows, length), generator=rng(7))
    tokens[:, 0], tokens[:, -1] = 2, 3
    return tokens


def within_four_sigma(count: int, n: int, share: float) -> bool:
    return abs(count - n * share) < 4 * math.sqrt(n * share * (1 - share))


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_rate_and_80_10_10(rate: float) -> None:
    tokens = text()
    inputs, labels = mask_tokens(tokens, SPECIAL, STARTS, rng(), rate, vocab_size=V, mask_id=MASK)
    chosen = labels != IGNORED
    n_candidates, n = tokens.shape[0] * (tokens.shape[1] - 2), int(chosen.sum())
    assert within_four_sigma(n, n_candidates, rate)
    masked = int((inputs[chosen] == MASK).sum())
    kept = int((inputs[chosen] == tokens[chosen]).sum())
    assert within_four_sigma(masked, n, 0.8 + 0.1 / V)
    assert within_four_sigma(kept, n, 0.1 + 0.1 / V)
    assert within_four_sigma(n - masked - kept, n, 0.1)
    assert torch.equal(labels[chosen], tokens[chosen])
    assert torch.equal(inputs[~chosen], tokens[~chosen])


def test_random_tokens_are_of_the_whole_vocabulary() -> None:
    tokens = text()
    inputs, labels = mask_tokens(
        tokens, SPECIAL, STARTS, rng(), 0.5, replace=(0.0, 1.0, 0.0), vocab_size=V, mask_id=MASK
    )
    drawn = inputs[labels != IGNORED].double()
    mean, deviation = (V - 1) / 2, V / math.sqrt(12 * len(drawn))
    assert abs(float(drawn.mean()) - mean) < 4 * deviation
    assert drawn.min() < 20 and drawn.max() > V - 20


@pytest.mark.parametrize("whole_word", [False, True])
def test_special_tokens_are_never_chosen(whole_word: bool) -> None:
    tokens = text()
    tokens[:, 60:64] = torch.tensor([0, 1, 3, 4])
    inputs, labels = mask_tokens(
        tokens, SPECIAL, STARTS, rng(), 0.9, whole_word, vocab_size=V, mask_id=MASK
    )
    special = tokens < 5
    assert (labels[special] == IGNORED).all() and torch.equal(inputs[special], tokens[special])
    by_mask = mask_tokens(
        tokens, special, STARTS, rng(), 0.9, whole_word, vocab_size=V, mask_id=MASK
    )
    assert torch.equal(by_mask[0], inputs) and torch.equal(by_mask[1], labels)


def test_whole_words_share_one_choice_and_one_replacement() -> None:
    tokens = text()
    inputs, labels = mask_tokens(
        tokens, SPECIAL, STARTS, rng(), 0.15, True, (0.5, 0.0, 0.5), vocab_size=V, mask_id=MASK
    )
    chosen = labels != IGNORED
    n_words = n_chosen = pieces = 0
    for row in range(len(tokens)):
        words: list[list[int]] = []
        for column in range(1, tokens.shape[1] - 1):
            if bool(STARTS[tokens[row, column]]) or not words:
                words.append([])
            words[-1].append(column)
        for word in words:
            states = {bool(chosen[row, column]) for column in word}
            assert len(states) == 1, "a word is chosen in part"
            n_words += 1
            if states == {True}:
                n_chosen, pieces = n_chosen + 1, pieces + len(word)
                masks = {bool(inputs[row, column] == MASK) for column in word}
                assert len(masks) == 1, "the replacement is drawn per piece"
    assert within_four_sigma(n_chosen, n_words, 0.15) and pieces > n_chosen


def test_masks_are_dynamic_and_repeat_with_the_seed() -> None:
    tokens = text(4, 32)
    first = mask_tokens(tokens, SPECIAL, STARTS, rng(1), vocab_size=V, mask_id=MASK)
    again = mask_tokens(tokens, SPECIAL, STARTS, rng(1), vocab_size=V, mask_id=MASK)
    other = mask_tokens(tokens, SPECIAL, STARTS, rng(2), vocab_size=V, mask_id=MASK)
    assert torch.equal(first[1], again[1]) and not torch.equal(first[1], other[1])


def test_always_mask_and_at_least_one() -> None:
    inputs, labels = mask_tokens(
        text(), SPECIAL, STARTS, rng(), 0.3, replace=ALWAYS_MASK, vocab_size=V, mask_id=MASK
    )
    assert (inputs[labels != IGNORED] == MASK).all()
    lone = torch.tensor([[2, 9, 3]])
    for seed in range(50):
        _, labels = mask_tokens(lone, SPECIAL, STARTS, rng(seed), 0.01, vocab_size=V, mask_id=MASK)
        assert labels.tolist() == [[IGNORED, 9, IGNORED]]
    _, labels = mask_tokens(
        torch.tensor([[2, 3]]), SPECIAL, STARTS, rng(), vocab_size=V, mask_id=MASK
    )
    assert (labels == IGNORED).all()


@pytest.mark.parametrize(
    ("rate", "shares", "message"),
    [
        (0.0, (0.8, 0.1, 0.1), "mask_rate=0.0 is no share"),
        (1.0, (0.8, 0.1, 0.1), "mask_rate=1.0 is no share"),
        (0.15, (0.8, 0.1, 0.2), "no three shares of a whole"),
    ],
)
def test_impossible_shares(rate: float, shares: tuple[float, float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mask_tokens(
            text(2, 8), SPECIAL, STARTS, rng(), rate, False, shares, vocab_size=V, mask_id=MASK
        )
