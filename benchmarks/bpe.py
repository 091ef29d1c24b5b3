"""Measures the byte-level BPE on WikiText-2: training 8,192 merges, and encoding the whole text.

The ``tokenizers`` library (Rust), where it is installed, does the same in turns with ours, as
information: it must learn the same merges and give the same ids. Every encoding starts with an
empty cache, and is one call in one thread. (The library also notes where in the text each token
is, and would use more threads for many texts.) The goals are times on the clock. CPU seconds are
printed too, and the comparison is made with them: other programs that run disturb them less.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import prepare, ratio, spread
from tutorial_kit.byte_bpe import ByteBPE
from tutorial_kit.byte_level import piece_pattern
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.datasets import dataset_files
from tutorial_kit.results import Result, record

N_MERGES = 8192
MEASURES = {
    "bpe.training.seconds": "8,192 merges learned from WikiText-2 (10.8 MB)",
    "bpe.training.vs_tokenizers": "the same, CPU seconds of the tokenizers library / ours",
    "bpe.encoding.megabytes_per_second": "WikiText-2 encoded, 8,192 merges, empty cache",
    "bpe.encoding.vs_tokenizers": "the same, CPU seconds of the tokenizers library / ours",
}

Times = dict[str, list[tuple[float, float]]]
"""Side -> (seconds on the clock, CPU seconds of all threads) of each round."""


def build_parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.bpe",
        description="Measure training and encoding of the byte-level BPE on WikiText-2.",
    )
    parser.add_argument("--only", choices=list(MEASURES), help="measure the part with this result")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is timed")
    parser.add_argument("--text", type=Path, help="another text file; nothing is recorded then")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints tables and records the results.

    Returns:
        The results.

    Raises:
        ValueError: there is no round, or the two sides disagree.
        OSError: the text cannot be read or fetched.
    """
    args = build_parser().parse_args(argv)
    if args.rounds < 1:
        raise ValueError(f"--rounds {args.rounds}: a median needs at least 1. Use 5 or more.")
    text = (args.text or dataset_files("wikitext2")["train"]).read_text(encoding="utf-8")
    machine = prepare()
    piece_pattern()  # built once a process, in a twentieth of a second: before the clock starts
    results: list[Result] = []
    parts = {"bpe.training.": measure_training, "bpe.encoding.": measure_encoding}
    for prefix, measure in parts.items():
        if args.only is None or args.only.startswith(prefix):
            start = time.perf_counter()
            measured = measure(text, args.rounds)
            seconds = round(time.perf_counter() - start, 1)
            results += [dataclasses.replace(r, seconds=seconds, machine=machine) for r in measured]
    return results if args.text else record("bpe", results)


def measure_training(text: str, rounds: int) -> list[Result]:
    """Times counting and merging, both sides in turns.

    Raises:
        ValueError: the two sides learn different merges.
    """
    tokenizers = _reference_library()
    learned: dict[str, list[str]] = {}

    def ours() -> None:
        learned["ours"] = ByteBPE.train(text, n_merges=N_MERGES).merges

    def theirs() -> None:
        reference = tokenizers.Tokenizer(tokenizers.models.BPE())
        reference.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=256 + N_MERGES,
            min_frequency=2,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        reference.train_from_iterator([text], trainer)
        merges = json.loads(reference.to_str())["model"]["merges"]
        learned["tokenizers"] = [m if isinstance(m, str) else " ".join(m) for m in merges]

    times = _take_turns(ours, theirs if tokenizers else None, rounds)
    if tokenizers and learned["ours"] != learned["tokenizers"]:
        raise ValueError("the two sides learned different merges, so their times do not compare.")
    _print_times(f"training {N_MERGES:,} merges", times, text)
    walls = [wall for wall, _ in times["ours"]]
    return _results("training.seconds", walls, "s", 60.0, 15.0, "lower", times)


def measure_encoding(text: str, rounds: int) -> list[Result]:
    """Times reading the tokenizer and encoding the whole text to an array, both sides in turns.

    Raises:
        ValueError: the two sides give different ids.
    """
    tokenizers = _reference_library()
    tokenizer = ByteBPE.train(text, n_merges=N_MERGES)
    encoded: dict[str, NDArray[np.int32]] = {}

    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)

        def ours() -> None:
            encoded["ours"] = ByteBPE.load(folder).encode_array(text)

        def theirs() -> None:
            files = [str(Path(folder, name)) for name in ("vocab.json", "merges.txt")]
            reference = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(*files))
            reference.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
            encoded["tokenizers"] = np.array(reference.encode(text).ids, np.int32)

        times = _take_turns(ours, theirs if tokenizers else None, rounds)
    if tokenizers and not np.array_equal(encoded["ours"], encoded["tokenizers"]):
        raise ValueError("the two sides gave different ids, so their times do not compare.")
    _print_times("encoding", times, text)
    megabytes = len(text.encode("utf-8")) / 1e6
    speeds = [megabytes / wall for wall, _ in times["ours"]]
    return _results("encoding.megabytes_per_second", speeds, "MB/s", 1.0, 5.0, "higher", times)


def _reference_library() -> Any:
    """Returns the module ``tokenizers``, or None where it is not installed."""
    try:
        import tokenizers
    except ImportError:
        return None
    return tokenizers


def _take_turns(ours: Callable[[], None], theirs: Callable[[], None] | None, rounds: int) -> Times:
    """Times both sides, forwards in one round and backwards in the next."""
    sides = {"ours": ours} | ({"tokenizers": theirs} if theirs else {})
    times: Times = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            wall, cpu = time.perf_counter(), time.process_time()
            sides[name]()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def _print_times(what: str, times: Times, text: str) -> None:
    megabytes = len(text.encode("utf-8")) / 1e6
    rows = []
    for name, rounds in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
        rows.append([name, *(f"{x:.2f}" for x in (wall, cpu, megabytes / wall, megabytes / cpu))])
    headers = [what, "clock s", "CPU s", "MB/s by the clock", "MB/s of CPU time"]
    print(format_table(headers, rows), flush=True)


def _results(
    name: str,
    values: list[float],
    unit: str,
    at_least: float,
    aim: float,
    better: str,
    times: Times,
) -> list[Result]:
    """Returns the result with the goal, and the comparison if there was one."""
    command = "python -m benchmarks bpe."
    first = Result(
        name=f"bpe.{name}",
        value=statistics.median(values),
        unit=unit,
        at_least=at_least,
        aim=aim,
        better=better,
        spread=spread(values),
        command=command + name,
        note=MEASURES[f"bpe.{name}"],
    )
    if "tokenizers" not in times:
        return [first]
    part = name.split(".")[0] + ".vs_tokenizers"
    median, half_range = ratio(
        *([cpu for _, cpu in times[side]] for side in ("tokenizers", "ours"))
    )
    second = Result(
        name=f"bpe.{part}",
        value=median,
        unit="x",
        spread=half_range,
        command=command + part,
        note=MEASURES[f"bpe.{part}"],
    )
    return [first, second]


if __name__ == "__main__":
    run_entry(main)
