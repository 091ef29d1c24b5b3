"""Measures the speed of ``cbow``'s training beside gensim's Word2Vec.

Words of the text a second, before frequent words are thinned out; both sides thin out by the same
rule, so the ratio of the words that are learned is the same. gensim's workers read a little more
than the text, until their last batch is full, so rates are compared, not times. Each side has a
process of its own, and they take turns. Counting words and reading the text are left out on both
sides, and so are our evaluations and checkpoints, which gensim does not have. The readable
training, which uses autograd, gets the first words of the same text, as it is many times slower.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.cbow_peers import (
    PEER,
    Trained,
    build_peer,
    line_file,
    share_kept,
    shortened,
    train_peer,
)
from benchmarks.timing import THREADS, alternate, prepare, ratio, spread
from cbow.cbow_config import TrainConfig
from cbow.cbow_data import load_corpus
from cbow.cbow_trainer import train
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.results import Result, record

MEASURES = {
    "cbow.training.vs_gensim": "training words/s, CBOW 100 dimensions, window 5, 5 negatives, "
    "WikiText-2, against gensim's corpus_file with 2 workers",
    "cbow.training.words_per_second": "words of the text a second, before subsampling, two threads",
    "cbow.training.effective_words_per_second": "words a second that are left after subsampling",
    "cbow.training.gensim_words_per_second": "gensim's words of the text a second, 2 workers",
    "cbow.training.two_cores": "training words/s, two threads against one",
    "cbow.training.vs_readable": "training words/s against the readable training with autograd",
}
GOALS: dict[str, tuple[float | None, float | None]] = {  # at least (at most for memory), aim
    "vs_gensim": (1.5, 2.5), "two_cores": (1.6, 1.9), "vs_readable": (None, 50.0),
}  # fmt: skip
READABLE_WORDS = 60_000  # that the readable training and its rival read


@dataclass(frozen=True)
class Plan:
    """What every process trains."""

    config: TrainConfig = field(default_factory=lambda: TrainConfig(dataset="wikitext2"))
    epochs: int = 2  # a turn
    rounds: int = 7  # timed, after one that is not
    words: int = 0  # the first words of the text; 0 means all
    sides: tuple[str, ...] = ("ours", PEER, "one_thread")


SPEED = Plan()
READABLE = Plan(epochs=1, rounds=3, words=READABLE_WORDS, sides=("ours", "readable"))


def serve(side: str, plan: Plan, pipe: Connection) -> None:
    """Runs in a process of its own: trains once for each message until the pipe is closed."""
    threads = 1 if side == "one_thread" else THREADS
    torch.set_num_threads(threads)
    config = replace(plan.config, epochs=plan.epochs, evals_per_epoch=1, threads=threads)
    data = load_corpus(config.dataset, config.min_count)
    if plan.words:
        data = shortened(data, plan.words)
    with line_file(data.train) as path, TemporaryDirectory(prefix="cbow-run-") as folder:
        if side == PEER:
            model = build_peer(config, path)

        def turn() -> Trained:
            if side == PEER:
                return train_peer(model, path, plan.epochs)
            done = train(config, data, Path(folder), device="cpu", fast=side != "readable")
            return Trained(done.words, done.seconds)

        with suppress(EOFError):
            while pipe.recv():
                pipe.send(turn())


def race(plan: Plan) -> dict[str, list[Trained]]:
    """Lets the sides train in turns.

    Returns:
        Side -> its training of each round.

    Raises:
        ValueError: one of the processes has ended.
    """
    context = get_context("spawn")
    pipes: dict[str, Any] = {}
    workers: list[Any] = []
    for side in plan.sides:
        pipes[side], theirs = context.Pipe()
        workers.append(context.Process(target=serve, args=(side, plan, theirs)))
        workers[-1].start()
        theirs.close()  # so that a process that dies is noticed
    found: dict[str, list[Trained]] = {side: [] for side in plan.sides}

    def turn_of(side: str) -> Callable[[], float]:
        def turn() -> float:
            try:
                pipes[side].send("train")
                found[side].append(pipes[side].recv())
            except (EOFError, OSError):
                raise ValueError(
                    f"the process that runs {side} has ended; what it printed says why. "
                    "A missing package comes with requirements-dev.txt."
                ) from None
            return found[side][-1].seconds

        return turn

    try:
        alternate({side: turn_of(side) for side in plan.sides}, plan.rounds, warmup=1)
    finally:
        for side, worker in zip(plan.sides, workers, strict=True):
            pipes[side].close()
            worker.join()
    return {side: turns[1:] for side, turns in found.items()}


def speed_results(found: Mapping[str, Sequence[Trained]], kept: float) -> list[Result]:
    """Returns the results of ``SPEED``.

    Args:
        found: of ``race``.
        kept: share of the text that is left after subsampling.
    """
    rates = {side: [done.rate for done in turns] for side, turns in found.items()}

    def versus(name: str, other: str) -> Result:
        value, half_range = ratio(rates["ours"], rates[other])
        return Result(f"cbow.training.{name}", value, "x", *GOALS[name], spread=half_range)

    def speed(name: str, side: str, share: float = 1.0) -> Result:
        values = [share * rate for rate in rates[side]]
        return Result(
            f"cbow.training.{name}", statistics.median(values), "words/s", spread=spread(values)
        )

    return [
        versus("vs_gensim", PEER),
        versus("two_cores", "one_thread"),
        speed("words_per_second", "ours"),
        speed("effective_words_per_second", "ours", kept),
        speed("gensim_words_per_second", PEER),
    ]


def readable_results(found: Mapping[str, Sequence[Trained]]) -> list[Result]:
    """Returns the result of ``READABLE``."""
    fast, slow = ([done.rate for done in found[side]] for side in ("ours", "readable"))
    value, half_range = ratio(fast, slow)
    name = "vs_readable"
    return [Result(f"cbow.training.{name}", value, "x", *GOALS[name], spread=half_range)]


def measure(plan: Plan = SPEED) -> list[Result]:
    """Races against gensim and against one thread; prints a table."""
    found = race(plan)
    kept = share_kept(load_corpus(plan.config.dataset, plan.config.min_count).train,
                      plan.config.sample)  # fmt: skip
    medians = {
        side: statistics.median(done.rate for done in turns) for side, turns in found.items()
    }
    rows = [(side, round(rate), round(kept * rate)) for side, rate in medians.items()]
    print(format_table(["training", "words/s", "effective words/s"], rows), flush=True)
    return speed_results(found, kept)


def measure_readable(plan: Plan = READABLE) -> list[Result]:
    """Races against the readable training."""
    return readable_results(race(plan))


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.cbow_training", description="Measure the speed of cbow."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="this and what comes from its race")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints and records."""
    only = build_parser().parse_args(argv).only
    machine = prepare()
    results: list[Result] = []
    for is_readable, run in ((False, measure), (True, measure_readable)):
        if only is None or (only == "cbow.training.vs_readable") == is_readable:
            started = time.perf_counter()
            found = run()
            results += record(
                "cbow_training",
                [
                    replace(
                        row, note=MEASURES[row.name], seconds=time.perf_counter() - started,
                        command=f"python -m benchmarks {row.name}", machine=machine,
                    )
                    for row in found
                ],
            )  # fmt: skip
    return results


if __name__ == "__main__":
    run_entry(main)
