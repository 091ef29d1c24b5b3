"""Exercises on instruction tuning: eight functions of the chapter, easy to hard.

Write the functions here, in place of the lines that raise:

    python -m instruction_tuning.exercises list
    python -m instruction_tuning.exercises check 1
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

from instruction_tuning import exercise_solutions
from instruction_tuning.exercise_checks import EXERCISES
from tutorial_kit.console import run_entry
from tutorial_kit.exercises import ExerciseBook, exercises_parser, run_exercises


def loss_mask(tokens: list[int], assistant: int, end: int) -> list[bool]:
    """Exercise 1: says which tokens of a chat are trained on.

    Args:
        tokens: ids of a conversation of any number of turns.
        assistant: id of ``<assistant>``, behind which a reply begins.
        end: id of ``<end>``, with which a reply ends.

    Returns:
        True for the tokens of the replies and the ``<end>`` behind each.
    """
    raise NotImplementedError(
        "exercise 1 is open: write loss_mask in instruction_tuning/exercises.py"
    )


def pass_at_k(n_right: int, n_samples: int, k: int) -> float:
    """Exercise 2: the chance that one of k replies is right, from more samples than k.

    Args:
        n_right: c of the samples are right.
        n_samples: G replies were sampled.
        k: how many one may look at, 1 to G.

    Returns:
        1 - C(G - c, k) / C(G, k).
    """
    raise NotImplementedError(
        "exercise 2 is open: write pass_at_k in instruction_tuning/exercises.py"
    )


def kl_k3(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Exercise 3: an estimate of KL(policy || reference) that is never negative.

    Args:
        log_probs: any shape, log p of drawn tokens under the policy that drew them.
        reference: the same shape, their log q under the reference.

    Returns:
        The same shape: (r - 1) - log r with r = q / p.
    """
    raise NotImplementedError("exercise 3 is open: write kl_k3 in instruction_tuning/exercises.py")


def reply_log_probs(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Exercise 4: the log-probability of every reply.

    Args:
        logits: (B, T, V); position t scores the token at t + 1.
        tokens: (B, T), request and reply.
        mask: (B, T), boolean, True for the tokens of the reply; never at position 0.

    Returns:
        (B,), nats: the sum over the reply's tokens.
    """
    raise NotImplementedError(
        "exercise 4 is open: write reply_log_probs in instruction_tuning/exercises.py"
    )


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
) -> Tensor:
    """Exercise 5: direct preference optimization (equation 6).

    Args:
        policy_chosen: (B,), log-probabilities of the chosen replies under the policy.
        policy_rejected: (B,), of the rejected ones.
        reference_chosen: (B,), the same under the reference.
        reference_rejected: (B,).
        beta: the price of leaving the reference.

    Returns:
        A scalar: the mean over the pairs.
    """
    raise NotImplementedError(
        "exercise 5 is open: write dpo_loss in instruction_tuning/exercises.py"
    )


def merge_lora(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """Exercise 6: puts a trained correction into the weight.

    Args:
        weight: (O, I), frozen.
        a: (r, I).
        b: (O, r).
        alpha: the correction is scaled by alpha / r.

    Returns:
        (O, I), the weight of a plain layer that does the same.
    """
    raise NotImplementedError(
        "exercise 6 is open: write merge_lora in instruction_tuning/exercises.py"
    )


def group_advantages(rewards: Tensor) -> Tensor:
    """Exercise 7: how much better than its group a reply is (GRPO).

    Args:
        rewards: (B, G), of G replies to each of B requests.

    Returns:
        (B, G): (r - mean of the group) / (standard deviation of the group, divisor G - 1, plus
        1e-4).
    """
    raise NotImplementedError(
        "exercise 7 is open: write group_advantages in instruction_tuning/exercises.py"
    )


def gae(rewards: Tensor, values: Tensor, discount: float, lam: float) -> Tensor:
    """Exercise 8: the advantage of every token of one reply.

    Args:
        rewards: (T,), what each token earned.
        values: (T,), V_t, what was expected before token t.
        discount: gamma.
        lam: lambda.

    Returns:
        (T,): A_t = delta_t + gamma lambda A_{t+1}, delta_t = r_t + gamma V_{t+1} - V_t; behind
        the last token V and A are 0.
    """
    raise NotImplementedError("exercise 8 is open: write gae in instruction_tuning/exercises.py")


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return exercises_parser("instruction_tuning")


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the command says; returns 1 if a check failed, else 0."""
    book = ExerciseBook("instruction_tuning", EXERCISES, globals(), exercise_solutions)
    return run_exercises(build_parser().parse_args(argv), book)


if __name__ == "__main__":
    run_entry(main)
