"""Exercises on word vectors: seven functions of the chapter, easy to hard.

Write the functions here, in place of the lines that raise:

    python -m cbow.exercises list
    python -m cbow.exercises check 1
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
from collections.abc import Sequence

import torch  # noqa: F401 - for your answers
from torch import Tensor

from cbow import exercise_solutions
from cbow.exercise_checks import EXERCISES
from tutorial_kit.console import run_entry
from tutorial_kit.exercises import ExerciseBook, exercises_parser, run_exercises


def noise_distribution(counts: Tensor, power: float) -> Tensor:
    """Exercise 1: the distribution that negatives are drawn from.

    Args:
        counts: (V,), how often each word occurs.
        power: 0.75 in the paper.

    Returns:
        (V,), proportional to count^power; sums to 1.
    """
    raise NotImplementedError("exercise 1 is open: write noise_distribution in cbow/exercises.py")


def context_of(sentence: list[str], place: int, width: int) -> list[str]:
    """Exercise 2: the words around a target.

    Args:
        sentence: its words.
        place: of the target, from 0.
        width: how many places the window reaches to each side.

    Returns:
        The words of the context, from left to right.
    """
    raise NotImplementedError("exercise 2 is open: write context_of in cbow/exercises.py")


def keep_probability(counts: Tensor, sample: float) -> Tensor:
    """Exercise 3: how likely an occurrence of a word stays in the text.

    Args:
        counts: (V,), how often each word occurs.
        sample: the threshold t.

    Returns:
        (V,): sqrt(t / f) + t / f, at most 1, with f the word's share of the text.
    """
    raise NotImplementedError("exercise 3 is open: write keep_probability in cbow/exercises.py")


def negative_sampling_loss(hidden: Tensor, target: Tensor, noise: Tensor) -> Tensor:
    """Exercise 4: tells a target from K negatives (equation 4).

    Args:
        hidden: (D,), the vector h of the context.
        target: (D,), the output vector of the target.
        noise: (K, D), those of the negatives.

    Returns:
        A scalar, nats.
    """
    raise NotImplementedError(
        "exercise 4 is open: write negative_sampling_loss in cbow/exercises.py"
    )


def solve_analogy(vectors: Tensor, a: int, b: int, c: int) -> int:
    """Exercise 5: "a is to b as c is to ..." (3CosAdd).

    Args:
        vectors: (V, D), of any lengths.
        a: number of a word; so are b and c.
        b: the word that a is to.
        c: the word that is asked about.

    Returns:
        The word nearest to b - a + c by cosine, all vectors scaled to length 1 before; none of a,
        b and c.
    """
    raise NotImplementedError("exercise 5 is open: write solve_analogy in cbow/exercises.py")


def positive_pmi(counts: Tensor) -> Tensor:
    """Exercise 6: which words stand together more often than chance.

    Args:
        counts: (V, V), how often word w (row) and context c (column) were seen together.

    Returns:
        (V, V): max(0, log(p(w, c) / (p(w) p(c)))), 0 for pairs that were never seen.
    """
    raise NotImplementedError("exercise 6 is open: write positive_pmi in cbow/exercises.py")


def negative_sampling_gradients(
    hidden: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Exercise 7: the gradients of exercise 4 by hand, without autograd (equation 3).

    Args:
        hidden: (D,), the vector h of the context.
        target: (D,), the output vector of the target.
        noise: (K, D), those of the negatives.

    Returns:
        The derivatives of the loss by hidden (D,), by target (D,) and by noise (K, D).
    """
    raise NotImplementedError(
        "exercise 7 is open: write negative_sampling_gradients in cbow/exercises.py"
    )


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return exercises_parser("cbow")


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the command says; returns 1 if a check failed, else 0."""
    book = ExerciseBook("cbow", EXERCISES, globals(), exercise_solutions)
    return run_exercises(build_parser().parse_args(argv), book)


if __name__ == "__main__":
    run_entry(main)
