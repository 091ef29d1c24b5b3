"""Exercises on the vision transformer: seven functions of the chapter, easy to hard.

Write the functions here, in place of the lines that raise:

    python -m vit.exercises list
    python -m vit.exercises check 1
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

from tutorial_kit.console import run_entry
from tutorial_kit.exercises import ExerciseBook, exercises_parser, run_exercises
from vit import exercise_solutions
from vit.exercise_checks import EXERCISES


def token_count(height: int, width: int, patch: int, class_token: bool) -> int:
    """Exercise 1: how long the sequence of an image is.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        patch: pixels a side of a patch, divides both.
        class_token: whether there is one.

    Returns:
        T.
    """
    raise NotImplementedError("exercise 1 is open: write token_count in vit/exercises.py")


def add_class_token(patches: Tensor, class_token: Tensor, positions: Tensor) -> Tensor:
    """Exercise 2: makes the sequence that the first layer reads (equation 3).

    Args:
        patches: (B, N, D).
        class_token: (D,), the same for every image.
        positions: (1 + N, D).

    Returns:
        (B, 1 + N, D), the class token first.
    """
    raise NotImplementedError("exercise 2 is open: write add_class_token in vit/exercises.py")


def cut_patches(images: Tensor, patch: int) -> Tensor:
    """Exercise 3: cuts images into patches, row by row.

    Args:
        images: (B, C, H, W).
        patch: P, divides H and W.

    Returns:
        (B, N, C P P), N = H W / P^2; inside a patch the order is channel, row, column.
    """
    raise NotImplementedError("exercise 3 is open: write cut_patches in vit/exercises.py")


def mixed_targets(first: Tensor, second: Tensor, share: Tensor, n_classes: int) -> Tensor:
    """Exercise 4: what a model should say of two pictures laid over each other (mixup).

    Args:
        first: (B,), classes of the first pictures.
        second: (B,), of the second ones.
        share: (B,), how much of the first picture is in the mixture, 0 to 1.
        n_classes: C.

    Returns:
        (B, C), a probability for every class.
    """
    raise NotImplementedError("exercise 4 is open: write mixed_targets in vit/exercises.py")


def resize_positions(table: Tensor, new: int) -> Tensor:
    """Exercise 5: moves learned positions to images of another size.

    Args:
        table: (1 + G G, D): the class token's, then those of a square grid of G x G patches.
        new: patches a side of the new grid.

    Returns:
        (1 + new new, D): bicubic, ``align_corners=False``; the class token's as it was.
    """
    raise NotImplementedError("exercise 5 is open: write resize_positions in vit/exercises.py")


def attention_distance(weights: Tensor, grid: int, patch: int) -> Tensor:
    """Exercise 6: how many pixels lie between a patch and where it looks, on average.

    Args:
        weights: (N, N), row t: how patch t spreads its attention; N = G G, row by row.
        grid: G, patches a side.
        patch: pixels a side of a patch.

    Returns:
        A scalar, pixels: the mean over the patches; distances run between centers.
    """
    raise NotImplementedError("exercise 6 is open: write attention_distance in vit/exercises.py")


def rollout(weights: Tensor) -> Tensor:
    """Exercise 7: how much of each input token is in each output (Abnar & Zuidema 2020).

    Args:
        weights: (L, H, T, T), of all layers, the first one first.

    Returns:
        (T, T): the product A_L' ... A_2' A_1' with A_l' = (mean over heads of A_l + I) / 2.
    """
    raise NotImplementedError("exercise 7 is open: write rollout in vit/exercises.py")


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return exercises_parser("vit")


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the command says; returns 1 if a check failed, else 0."""
    book = ExerciseBook("vit", EXERCISES, globals(), exercise_solutions)
    return run_exercises(build_parser().parse_args(argv), book)


if __name__ == "__main__":
    run_entry(main)
