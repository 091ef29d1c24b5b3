"""Exercises on BERT: seven functions of the chapter, easy to hard.

Write the functions here, in place of the lines that raise:

    python -m bert.exercises list
    python -m bert.exercises check 1
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
from collections.abc import Collection, Sequence

import torch  # noqa: F401 - for your answers
from torch import Tensor

from bert import exercise_solutions
from bert.exercise_checks import EXERCISES
from tutorial_kit.console import run_entry
from tutorial_kit.exercises import ExerciseBook, exercises_parser, run_exercises


def segment_ids(length_a: int, length_b: int) -> list[int]:
    """Exercise 1: says of every token of ``[CLS] a [SEP] b [SEP]`` to which text it belongs.

    Args:
        length_a: tokens of the first text, without special ones.
        length_b: tokens of the second.

    Returns:
        A 0 or a 1 for each token of the sequence.
    """
    raise NotImplementedError("exercise 1 is open: write segment_ids in bert/exercises.py")


def unigram_entropy(counts: Tensor) -> Tensor:
    """Exercise 2: the loss of a model that has only counted words.

    Args:
        counts: (V,), how often each token occurs; some may never.

    Returns:
        A scalar, nats: - sum p log p.
    """
    raise NotImplementedError("exercise 2 is open: write unigram_entropy in bert/exercises.py")


def cut_word(word: str, vocabulary: Collection[str]) -> list[str]:
    """Exercise 3: cuts a word into WordPiece's pieces.

    Args:
        word: without spaces.
        vocabulary: the pieces; one that goes on with a word begins with ``##``.

    Returns:
        The pieces from left to right, each the longest that fits; ["[UNK]"] if one is missing.
    """
    raise NotImplementedError("exercise 3 is open: write cut_word in bert/exercises.py")


def masked_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Exercise 4: the loss of masked language modeling (equation 3).

    Args:
        logits: (B, T, V).
        labels: (B, T), the true token where one was chosen, -100 elsewhere.

    Returns:
        A scalar, nats: the mean over the chosen positions.
    """
    raise NotImplementedError("exercise 4 is open: write masked_loss in bert/exercises.py")


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Exercise 5: one vector for a text of any length.

    Args:
        hidden: (B, T, D), a vector for every token.
        mask: (B, T), boolean, False at padding.

    Returns:
        (B, D), the mean over the real tokens.
    """
    raise NotImplementedError("exercise 5 is open: write mean_pool in bert/exercises.py")


def hide_tokens(
    tokens: Tensor, chosen: Tensor, draws: Tensor, random_ids: Tensor, mask_id: int
) -> tuple[Tensor, Tensor]:
    """Exercise 6: hides the chosen tokens, 80/10/10.

    Args:
        tokens: (T,), token ids.
        chosen: (T,), boolean, True where a token is to be predicted.
        draws: (T,), numbers from [0, 1): below 0.8 the chosen token becomes [MASK], from 0.8
            and below 0.9 a random one, from 0.9 it stays.
        random_ids: (T,), the random tokens.
        mask_id: id of [MASK].

    Returns:
        Two of (T,): the inputs, and the labels, -100 where nothing is predicted.
    """
    raise NotImplementedError("exercise 6 is open: write hide_tokens in bert/exercises.py")


def choose_whole_words(draws: Tensor, word_starts: Tensor, rate: float) -> Tensor:
    """Exercise 7: chooses words instead of pieces.

    Args:
        draws: (T,), a number from [0, 1) for every piece.
        word_starts: (T,), boolean, False where a piece goes on with a word; the first is True.
        rate: a word is chosen if the draw of its first piece is below this.

    Returns:
        (T,), boolean, True for all pieces of the chosen words.
    """
    raise NotImplementedError("exercise 7 is open: write choose_whole_words in bert/exercises.py")


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return exercises_parser("bert")


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the command says; returns 1 if a check failed, else 0."""
    book = ExerciseBook("bert", EXERCISES, globals(), exercise_solutions)
    return run_exercises(build_parser().parse_args(argv), book)


if __name__ == "__main__":
    run_entry(main)
