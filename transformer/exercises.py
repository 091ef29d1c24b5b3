"""Exercises on the transformer: eight functions of the chapter, easy to hard.

Write the functions here, in place of the lines that raise:

    python -m transformer.exercises list
    python -m transformer.exercises check 1
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

from transformer import exercise_solutions
from transformer.exercise_checks import EXERCISES
from tutorial_kit.console import run_entry
from tutorial_kit.exercises import ExerciseBook, exercises_parser, run_exercises


def sinusoidal_positions(length: int, d_model: int) -> Tensor:
    """Exercise 1: the vector of every position.

    Args:
        length: positions.
        d_model: D, even.

    Returns:
        (length, D): sin(w_j t) at [t, 2j] and cos(w_j t) at [t, 2j + 1], w_j = 10000^(-2j / D).
    """
    raise NotImplementedError(
        "exercise 1 is open: write sinusoidal_positions in transformer/exercises.py"
    )


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Exercise 2: gives every head its share of each vector.

    Args:
        x: (B, T, D).
        n_heads: H, divides D.

    Returns:
        (B, H, T, K), K = D / H: head h has the numbers h K to (h + 1) K - 1 of each token.
    """
    raise NotImplementedError("exercise 2 is open: write split_heads in transformer/exercises.py")


def padding_mask(tokens: Tensor, pad: int) -> Tensor:
    """Exercise 3: hides padding from attention, whatever the head and the query.

    Args:
        tokens: (B, S), token ids of the source.
        pad: id of ``<pad>``.

    Returns:
        (B, 1, 1, S), boolean: True means "may be attended to".
    """
    raise NotImplementedError("exercise 3 is open: write padding_mask in transformer/exercises.py")


def teacher_forcing(target: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """Exercise 4: what the decoder reads, and what it must say.

    Args:
        target: (B, T), rows of ``<bos> w1 .. wn <eos>`` and padding.
        pad: id of ``<pad>``.

    Returns:
        Two of (B, T - 1): the inputs, and the labels with -100 where nothing is scored.
    """
    raise NotImplementedError(
        "exercise 4 is open: write teacher_forcing in transformer/exercises.py"
    )


def smoothed_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Exercise 5: cross-entropy with label smoothing.

    Args:
        logits: (N, V).
        labels: (N,), token ids; -100 where nothing is scored.
        smoothing: e; the target is 1 - e for the label plus e / V for every token.

    Returns:
        A scalar, nats: the mean over the scored rows.
    """
    raise NotImplementedError("exercise 5 is open: write smoothed_loss in transformer/exercises.py")


def best_hypothesis(log_probs: list[float], lengths: list[int], alpha: float) -> int:
    """Exercise 6: compares translations of different lengths (Wu et al. 2016, eq. 14).

    Args:
        log_probs: log P of each hypothesis, a sum over its tokens.
        lengths: tokens of each.
        alpha: exponent of the length penalty ((5 + length) / 6)^alpha.

    Returns:
        The place of the best one, from 0.
    """
    raise NotImplementedError(
        "exercise 6 is open: write best_hypothesis in transformer/exercises.py"
    )


def brevity_penalty(lengths: list[int], reference_lengths: list[int]) -> float:
    """Exercise 7: BLEU's answer to translations that are too short.

    Args:
        lengths: tokens c_i of every translation.
        reference_lengths: tokens r_i of its reference.

    Returns:
        1 if the translations together are at least as long as the references, else exp(1 - r / c).
    """
    raise NotImplementedError(
        "exercise 7 is open: write brevity_penalty in transformer/exercises.py"
    )


def beam_step(sums: Tensor, log_p: Tensor, beams: int) -> tuple[Tensor, Tensor, Tensor]:
    """Exercise 8: continues the hypotheses of one sentence by one token.

    Args:
        sums: (W,), log P of the hypotheses so far.
        log_p: (W, V), log-probabilities of their next tokens.
        beams: K, how many to keep, best first.

    Returns:
        Three of (K,): log P of the kept ones, the hypothesis each continues, its new token.
    """
    raise NotImplementedError("exercise 8 is open: write beam_step in transformer/exercises.py")


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return exercises_parser("transformer")


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the command says; returns 1 if a check failed, else 0."""
    book = ExerciseBook("transformer", EXERCISES, globals(), exercise_solutions)
    return run_exercises(build_parser().parse_args(argv), book)


if __name__ == "__main__":
    run_entry(main)
