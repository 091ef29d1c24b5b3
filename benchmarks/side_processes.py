"""Lets several implementations work in turns, each in a process of its own; tells time and memory.

A comparison of trainings needs processes: ours changes how the C library keeps memory, and the peak
memory belongs to a process as a whole. Every side gets the same batches, made anew in each process
from the same seed.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.timing import alternate

Work = Callable[[Any], object]


class Contest(Protocol):
    """What the sides compete in; it is sent to their processes, so its module can be imported."""

    @property
    def sides(self) -> Sequence[str]:
        """Names of the sides, ours among them."""

    @property
    def rounds(self) -> int:
        """Rounds that are timed, after one that is not."""

    @property
    def threads(self) -> int:
        """CPU threads of each process."""

    def load(self, side: str) -> None:
        """Imports what a side needs: a library's code is no memory of the work."""

    def turns(self) -> Sequence[Sequence[Any]]:
        """Returns rounds + 1 times the batches of a round; random numbers are seeded."""

    def start(self, side: str) -> Work:
        """Builds a side; returns what it does with one batch."""

    def amount(self, batch: Any) -> int:
        """Returns how much work is in a batch, such as its tokens."""


@dataclass(frozen=True)
class Memory:
    """Peak memory of one process, in bytes."""

    before: float  # when everything was imported and the batches made, before the side was built
    peak: float  # at the end

    @property
    def added(self) -> float:
        """What the side itself took."""
        return self.peak - self.before


@dataclass(frozen=True)
class Race:
    """What the sides did."""

    seconds: dict[str, list[float]]  # of each round
    amounts: list[int]  # work in each round, the same for all sides
    memory: dict[str, Memory]

    def rates(self, side: str) -> list[float]:
        """Returns the work a second of each round."""
        pairs = zip(self.amounts, self.seconds[side], strict=True)
        return [amount / seconds for amount, seconds in pairs]


def peak_memory() -> float:
    """Returns the most memory that this process has held so far, in bytes.

    Raises:
        ValueError: the system does not tell.
    """
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage also counts what the process that started this one held
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))
        if found:
            return 1024.0 * int(found[1])
    try:
        import resource
    except ImportError:
        raise ValueError(
            "this system does not tell the peak memory of a process: the training cannot be "
            "compared. Measure on Linux or macOS."
        ) from None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)


def serve(side: str, contest: Contest, pipe: Connection) -> None:
    """Runs in a process of its own.

    Answers "work" with the seconds and the amount of a round, "memory" with the peak in bytes
    before the side was built and now.
    """
    torch.set_num_threads(contest.threads)
    torch.manual_seed(0)
    contest.load(side)
    turns = iter(contest.turns())
    before = peak_memory()
    work = contest.start(side)
    while (message := pipe.recv()) != "end":
        if message == "memory":
            pipe.send(Memory(before, peak_memory()))
            continue
        batches = next(turns)
        started = time.perf_counter()
        for batch in batches:
            work(batch)
        pipe.send((time.perf_counter() - started, sum(map(contest.amount, batches))))


def race(contest: Contest) -> Race:
    """Lets all sides work in turns.

    Raises:
        ValueError: one of the processes has ended, or the sides did not do the same work.
    """
    context = get_context("spawn")
    pipes, workers = {}, []
    for side in contest.sides:
        pipes[side], theirs = context.Pipe()
        workers.append(context.Process(target=serve, args=(side, contest, theirs), daemon=True))
        workers[-1].start()
        theirs.close()  # so that a process that dies is noticed
    amounts: dict[str, list[int]] = {side: [] for side in contest.sides}

    def turn(side: str) -> Callable[[], float]:
        def run() -> float:
            try:
                pipes[side].send("work")
                seconds, amount = pipes[side].recv()
            except (EOFError, OSError):
                raise ValueError(
                    f"the process that runs {side} has ended; what it printed says why. "
                    "A missing package comes with requirements-dev.txt."
                ) from None
            amounts[side].append(amount)
            return float(seconds)

        return run

    seconds = alternate({side: turn(side) for side in contest.sides}, contest.rounds, warmup=1)
    memory = {}
    for side, worker in zip(contest.sides, workers, strict=True):
        pipes[side].send("memory")
        memory[side] = pipes[side].recv()
        pipes[side].send("end")
        worker.join()
    done = list(amounts.values())
    if any(other != done[0] for other in done):
        raise ValueError(
            f"the sides {', '.join(contest.sides)} did not do the same work, so their times cannot "
            "be compared. Make the same batches for each."
        )
    return Race(seconds, done[0][1:], memory)
