"""Exercises on language models: eight functions of the chapter, easy to hard.

Write the functions here, in place of the lines that raise:

    python -m gpt.exercises list
    python -m gpt.exercises check 1
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

from gpt import exercise_solutions
from gpt.exercise_checks import EXERCISES
from tutorial_kit.console import run_entry
from tutorial_kit.exercises import ExerciseBook, exercises_parser, run_exercises


def causal_mask(length: int) -> Tensor:
    """Exercise 1: says who may look at whom.

    Args:
        length: tokens of the text, T.

    Returns:
        (T, T), boolean: True at [t, s] where position t may attend to position s.
    """
    raise NotImplementedError("exercise 1 is open: write causal_mask in gpt/exercises.py")


def bits_per_byte(nats_per_token: float, n_tokens: int, n_bytes: int) -> float:
    """Exercise 2: turns a loss per token into a number that no tokenizer can flatter.

    Args:
        nats_per_token: mean cross-entropy of the text.
        n_tokens: tokens that were predicted.
        n_bytes: bytes of the text in UTF-8.

    Returns:
        Bits per byte.
    """
    raise NotImplementedError("exercise 2 is open: write bits_per_byte in gpt/exercises.py")


def perplexity(window_losses: Tensor, window_tokens: Tensor) -> Tensor:
    """Exercise 3: the perplexity of a text that was scored window by window.

    Args:
        window_losses: (N,), mean cross-entropy of each window, nats a token.
        window_tokens: (N,), how many tokens each window predicts.

    Returns:
        A scalar: exp of the mean loss over all tokens.
    """
    raise NotImplementedError("exercise 3 is open: write perplexity in gpt/exercises.py")


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Exercise 4: the cross-entropy of every token, without F.cross_entropy.

    Args:
        logits: (B, T, V); position t scores the token that follows it.
        targets: (B, T), the tokens that follow.

    Returns:
        (B, T), nats: - log softmax(logits[b, t])[targets[b, t]].
    """
    raise NotImplementedError("exercise 4 is open: write token_losses in gpt/exercises.py")


def attention_weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """Exercise 5: where every query looks (equation 2).

    Args:
        q: (..., T, K), queries.
        k: (..., S, K), keys.
        mask: (T, S), boolean, True means "may attend".

    Returns:
        (..., T, S); every row sums to 1, and is 0 where the mask is False.
    """
    raise NotImplementedError("exercise 5 is open: write attention_weights in gpt/exercises.py")


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Exercise 6: keeps the fewest most probable tokens that together reach the share p.

    Args:
        logits: (V,), of the next token.
        p: more than 0, at most 1.

    Returns:
        (V,), the logits in their places, -inf where a token was dropped.
    """
    raise NotImplementedError("exercise 6 is open: write keep_top_p in gpt/exercises.py")


def cached_mask(past: int, new: int) -> Tensor:
    """Exercise 7: the causal mask of new tokens behind a cache of old ones.

    Args:
        past: tokens whose keys are in the cache.
        new: tokens that are fed now, behind them.

    Returns:
        (new, past + new), boolean: True where a new token may attend.
    """
    raise NotImplementedError("exercise 7 is open: write cached_mask in gpt/exercises.py")


def rotate(x: Tensor, positions: Tensor, base: float) -> Tensor:
    """Exercise 8: turns queries or keys by their positions (equation 4).

    Args:
        x: (T, K), K even; the pairs are (x_0, x_1), (x_2, x_3), ...
        positions: (T,), whole numbers.
        base: pair j of the row at position t turns by the angle t base^(-2j / K).

    Returns:
        (T, K).
    """
    raise NotImplementedError("exercise 8 is open: write rotate in gpt/exercises.py")


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return exercises_parser("gpt")


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the command says; returns 1 if a check failed, else 0."""
    book = ExerciseBook("gpt", EXERCISES, globals(), exercise_solutions)
    return run_exercises(build_parser().parse_args(argv), book)


if __name__ == "__main__":
    run_entry(main)
