"""Measures the memory of ``cbow``: the peak of reading 200 MB of text and training on it.

The text repeats WikiText-2; in each copy the rare words are written differently, so that the number
of different words grows with the text, as it does in nature. The whole process counts, torch's code
included, and so does the second process of the training; what the two have in common counts once.
What the text is turned into lies in a folder of its own, deleted afterwards.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from benchmarks.side_processes import peak_memory
from benchmarks.timing import THREADS, prepare
from cbow.cbow_config import TrainConfig
from cbow.cbow_data import load_corpus
from cbow.cbow_trainer import train
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.datasets import dataset_files
from tutorial_kit.results import Result, format_measured, record

MEASURES = {
    "cbow.memory.peak": "peak memory of reading 200 MB of text and training on it, "
    "100 dimensions, both processes",
}
AT_MOST, AIM = 1000.0, 500.0  # MB
MEGABYTES = 200.0
SECONDS_BETWEEN = 0.02  # looks at the memory of both processes
RARE = 10  # words that occur less often in WikiText-2 are written differently in each copy


class Peak(NamedTuple):
    """What a training took."""

    megabytes: float
    words: int  # of the training text that have a vector
    vocabulary: int


def write_long_text(path: Path, megabytes: float, base: Path, rare: int = RARE) -> None:
    """Writes a text of a given size: copies of another whose rare words differ in each copy.

    Args:
        path: the file to write.
        megabytes: its size, about.
        base: a text, one paragraph a line.
        rare: a word that occurs less often in the base gets the copy's number at its end.
    """
    lines = base.read_text(encoding="utf-8").splitlines()
    counts = Counter(word for line in lines for word in line.split())
    written = copy = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        while written < megabytes * 1e6:
            for line in lines:
                words = (f"{w}{copy}" if counts[w] < rare else w for w in line.split())
                written += file.write(" ".join(words) + "\n")
                if written >= megabytes * 1e6:
                    break
            copy += 1


def report_memory(path: str, pipe: Connection) -> None:
    """Runs in a process of its own: reads a text, trains on it once, sends the peak."""
    torch.set_num_threads(THREADS)
    os.environ["LLM_TUTORIAL_CACHE"] = str(Path(path).parent / "cache")
    config = TrainConfig(dataset=path, epochs=1, evals_per_epoch=1, threads=THREADS)
    data = load_corpus(config.dataset, config.min_count)
    with TemporaryDirectory(prefix="cbow-run-") as folder:
        train(config, data, Path(folder), device="cpu")
    pipe.send(Peak(peak_memory() / 1e6, len(data.train.tokens), len(data.vocabulary)))


def peak_of(path: Path) -> Peak:
    """Returns the peak memory of a training on a text file.

    Raises:
        ValueError: the process has ended before it was done.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=report_memory, args=(str(path), theirs))
    worker.start()
    theirs.close()
    together = 0.0
    try:
        while not ours.poll(SECONDS_BETWEEN):
            together = max(together, memory_with_children(worker.pid) / 1e6)
        found: Peak = ours.recv()
    except EOFError:
        raise ValueError(
            f"the process that trains on {path} has ended; what it printed says why. Is there "
            "enough memory?"
        ) from None
    worker.join()
    return found._replace(megabytes=max(found.megabytes, together))


def memory_with_children(pid: int | None) -> float:
    """Returns what a process and its children hold now, in bytes; memory in common counts once.

    Linux alone can tell: it shares out a page among those that have it ("proportional set size").
    Elsewhere, and of a process that has ended, the answer is 0.
    """
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except OSError:
        return 0.0
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    own = 1024.0 * int(found[1]) if found else 0.0
    return own + sum(memory_with_children(int(child)) for child in children)


def measure(megabytes: float = MEGABYTES) -> Result:
    """Writes the text, trains, returns the peak."""
    started = time.perf_counter()
    with TemporaryDirectory(prefix="cbow-memory-") as folder:
        path = Path(folder) / "text.txt"
        write_long_text(path, megabytes, dataset_files("wikitext2")["train"])
        peak = peak_of(path)
    print(f"{peak.words:,} words, {peak.vocabulary:,} of them different", flush=True)
    name = "cbow.memory.peak"
    return Result(
        name, peak.megabytes, "MB", AT_MOST, AIM, better="lower", note=MEASURES[name],
        seconds=time.perf_counter() - started, command=f"python -m benchmarks {name}",
    )  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.cbow_memory", description="Measure the memory of cbow."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="there is one")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints and records."""
    build_parser().parse_args(argv)
    prepare()
    result = measure()
    print(f"{result.name}: {format_measured(result)}", flush=True)
    return record("cbow_training", result)


if __name__ == "__main__":
    run_entry(main)
