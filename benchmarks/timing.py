"""Fair timing of two implementations on a machine that is never quite idle.

Seconds differ between machines and from minute to minute; the ratio of two programs that take turns
differs much less. So every comparison runs both sides in one process, in turns, and reports the
median of the per-round ratios with half their interquartile range as its spread.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tutorial_kit.device import describe_machine
from tutorial_kit.forecast import calibrate

THREADS = 2  # what every documented measurement uses
BUSY = 0.25  # load per core above which something else seems to run


def prepare(threads: int = THREADS) -> dict[str, Any]:
    """Fixes the thread count and looks whether the machine is free.

    Args:
        threads: for torch's operations.

    Returns:
        What goes into ``Result.machine``: processor, cores, threads, versions, the load before the
        start (1-minute average, where the system tells it) and the calibration in seconds.
    """
    torch.set_num_threads(threads)
    machine = {**describe_machine(), "calibration_seconds": round(calibrate(), 5)}
    if hasattr(os, "getloadavg"):
        machine["load_before"] = round(os.getloadavg()[0], 2)
        if machine["load_before"] > BUSY * machine["cores"]:
            print(
                f"warning: load {machine['load_before']} before the start: another program runs or "
                "has just ended. Ratios still hold roughly; repeat on an idle machine.",
                file=sys.stderr,
            )
    return machine


def alternate(
    sides: Mapping[str, Callable[[], float | None]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Times several functions in turns: forwards in one round, backwards in the next.

    Args:
        sides: name -> function of no argument. If it returns a number, that is taken as its seconds
            (when only a part of what it does counts); otherwise the whole call is timed.
        rounds: how often each function is timed, at least 1.
        warmup: how often each is called before, without being timed.

    Returns:
        name -> seconds of each round, in the order of the rounds.

    Raises:
        ValueError: there is no round.
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds}: a median needs at least one round. Use 5 or more.")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    forwards = list(sides)
    for number in range(-warmup, rounds):
        for name in forwards if number % 2 == 0 else forwards[::-1]:
            _wait_for_gpu()
            start = time.perf_counter()
            own = sides[name]()
            _wait_for_gpu()
            elapsed = time.perf_counter() - start
            if number >= 0:
                seconds[name].append(elapsed if own is None else float(own))
    return seconds


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> tuple[float, float]:
    """Says how many times as fast we are.

    Args:
        theirs: seconds of each round of the other side.
        ours: seconds of each round of our side, of the same rounds.

    Returns:
        The median of ``theirs[i] / ours[i]`` and its spread: half the interquartile range.

    >>> ratio([2.0, 4.0, 6.0], [1.0, 2.0, 2.0])
    (2.0, 0.25)
    """
    ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
    return statistics.median(ratios), spread(ratios)


def spread(values: Sequence[float]) -> float:
    """Returns half the interquartile range: how far the middle half of the values reaches.

    >>> spread([1.0, 2.0, 3.0, 4.0, 100.0])
    1.0
    """
    if len(values) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return (upper - lower) / 2


def _wait_for_gpu() -> None:
    """GPU work runs on after the call returns: waits until it is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
