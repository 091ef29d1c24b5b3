"""Solutions of the exercises on BERT: one way to write each."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor


def segment_ids(length_a: int, length_b: int) -> list[int]:
    """[CLS], a and the first [SEP] are 0; b and the second [SEP] are 1."""
    return [0] * (1 + length_a + 1) + [1] * (length_b + 1)


def unigram_entropy(counts: Tensor) -> Tensor:
    """(V,) -> scalar: tokens that never occur add nothing, although log 0 is infinite."""
    p = counts[counts > 0] / counts.sum()
    return -(p * p.log()).sum()


def cut_word(word: str, vocabulary: Collection[str]) -> list[str]:
    """From the left, try the longest rest first and shorten it until it is a piece."""
    pieces: list[str] = []
    start = 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces


def masked_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, T, V), (B, T) -> scalar: pick the chosen positions, then average."""
    chosen = labels != -100  # (B, T)
    log_p = logits[chosen].log_softmax(-1)  # (M, V)
    return -log_p.gather(-1, labels[chosen].unsqueeze(-1)).mean()


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """(B, T, D), (B, T) -> (B, D): the sum of the real tokens over how many they are."""
    real = mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
    return (hidden * real).sum(1) / real.sum(1)


def hide_tokens(
    tokens: Tensor, chosen: Tensor, draws: Tensor, random_ids: Tensor, mask_id: int
) -> tuple[Tensor, Tensor]:
    """(T,) each -> two of (T,): a label wherever a token was chosen, also where it stays."""
    masked = chosen & (draws < 0.8)
    replaced = chosen & (draws >= 0.8) & (draws < 0.9)
    inputs = torch.where(masked, mask_id, tokens)
    inputs = torch.where(replaced, random_ids, inputs)
    return inputs, torch.where(chosen, tokens, -100)


def choose_whole_words(draws: Tensor, word_starts: Tensor, rate: float) -> Tensor:
    """(T,), (T,) -> (T,): number the words, look up each piece's word."""
    word = word_starts.long().cumsum(0) - 1  # (T,), 0 for the first word's pieces
    chosen = draws[word_starts] < rate  # (words,)
    return chosen[word]
