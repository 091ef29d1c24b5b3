"""How fast a model writes: several ways in turns, so that a busy machine is as unfair to all.

Seconds change from minute to minute; the ratio of two ways that take turns changes much less. So
every round lets each way write once, forwards in one round and backwards in the next, and what is
reported is the median of the ratios, round by round, and half their interquartile range.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from gpt.generation import generate
from gpt.gpt_model import GPT
from gpt.sampling import GREEDY, Sampling
from gpt.speculative import speculate

Way = Callable[[], int]
"""Writes something; returns how many tokens that were."""


@dataclass(frozen=True)
class Speed:
    """What one way of writing reached."""

    tokens_per_s: float  # median over the rounds
    ratio: float  # times as fast as the baseline, median over the rounds
    spread: float  # half the interquartile range of the ratios


def measure_speeds(ways: Mapping[str, Way], baseline: str, rounds: int = 5) -> dict[str, Speed]:
    """Lets all ways write in turns, after one round that is not timed.

    Args:
        ways: name -> function that writes.
        baseline: name of the way that the others are compared with.
        rounds: how often each is timed.

    Raises:
        ValueError: there is no round, or no such baseline.
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds}: a median needs at least one round. Use 3 or more.")
    if baseline not in ways:
        raise ValueError(f"the baseline {baseline!r} is no way of writing: {', '.join(ways)}.")
    rates: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(-1, rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            started = time.perf_counter()
            tokens = ways[name]()
            if number >= 0:
                rates[name].append(tokens / (time.perf_counter() - started))
    return {name: _speed(own, rates[baseline]) for name, own in rates.items()}


def _speed(own: Sequence[float], baseline: Sequence[float]) -> Speed:
    ratios = [a / b for a, b in zip(own, baseline, strict=True)]
    spread = 0.0
    if len(ratios) > 1:
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        spread = (high - low) / 2
    return Speed(statistics.median(own), statistics.median(ratios), spread)


def writer(
    model: GPT, prompts: Sequence[Sequence[int]], new: int, *, use_cache: bool = True
) -> Way:
    """Returns a way: continue all prompts as one batch, greedily, by ``new`` tokens each."""

    def write() -> int:
        return sum(map(len, generate(model, prompts, new, GREEDY, use_cache=use_cache)))

    return write


def speculative_writer(
    target: GPT,
    draft: GPT,
    prompts: Sequence[Sequence[int]],
    new: int,
    *,
    sampling: Sampling = GREEDY,
    draft_tokens: int = 4,
    shares: list[float] | None = None,
) -> Way:
    """Returns a way: continue the prompts one by one with the help of a draft.

    Args:
        target: whose text it is.
        draft: the small model that proposes.
        prompts: token ids.
        new: tokens for each.
        sampling: the strategy of both.
        draft_tokens: most tokens proposed at once.
        shares: takes the share of accepted proposals, 0 to 1, of each text.
    """

    def write() -> int:
        count = 0
        for seed, prompt in enumerate(prompts):
            done = speculate(
                target, draft, prompt, new, sampling, seed=seed, draft_tokens=draft_tokens
            )
            count += len(done.tokens)
            if shares is not None:
                shares.append(done.acceptance)
        return count

    return write


def held_out_prompts(tokens: torch.Tensor, count: int, length: int = 16) -> list[list[int]]:
    """Returns pieces of a held-out text, far apart from each other.

    Args:
        tokens: (N,), the split.
        count: how many.
        length: tokens of each.
    """
    apart = max(length, (len(tokens) - length) // count)
    return [tokens[i * apart : i * apart + length].tolist() for i in range(count)]
