"""Runs all demos as a user does, and compares the minutes with those that the menu foretold.

The memory of earlier runs is empty at the start, so the first forecast rests on a calibration of a
twentieth of a second and each later one on the demos before it, too. Corpus, tokenizers and models
that are built once are there already. With one core busy, a process that does nothing but count
runs beside the demos from before the first forecast.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.timing import prepare
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.datasets import cache_folder
from tutorial_kit.results import Result, format_measured, record

MEASURES = {
    "runner.all.seconds": "run_all_tutorials.py --all, every demo, whole process",
    "runner.forecast.idle": "the largest error of a foretold duration, nothing else running",
    "runner.forecast.idle_first": "the same for the first demo, which has no run before it",
    "runner.forecast.busy": "the largest error of a foretold duration, one core busy",
    "runner.forecast.busy_first": "the same for the first demo, which has no run before it",
}
GOALS = {"runner.all.seconds": 900.0, "runner.forecast.idle": 40.0, "runner.forecast.busy": 40.0}
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
FORETOLD = re.compile(r"^--- (\w+): .*about ([\d.]+) (s|min|h);", re.MULTILINE)
FINISHED = re.compile(r"^(\w+) finished after ([\d.]+) s", re.MULTILINE)


@dataclass(frozen=True)
class Told:
    """What the runner said of one demo."""

    family: str
    foretold: float  # seconds
    real: float  # seconds

    @property
    def error(self) -> float:
        """How far the forecast was off, in percent of the real duration."""
        return 100 * abs(self.foretold - self.real) / self.real


def read_story(story: str) -> list[Told]:
    """Reads the foretold and the real durations from what the runner prints.

    >>> read_story("--- gpt: GPT (1 of 1, about 2 min; Ctrl-C skips it) ---\\ngpt finished after 100.0 s: ")
    [Told(family='gpt', foretold=120.0, real=100.0)]
    """  # noqa: E501 - one line of output must stay one
    real = {name: float(seconds) for name, seconds in FINISHED.findall(story)}
    return [
        Told(name, float(number) * UNITS[unit], real[name])
        for name, number, unit in FORETOLD.findall(story)
    ]


@contextmanager
def a_forgetful_home() -> Iterator[dict[str, str]]:
    """Gives an environment without outputs and without the durations of earlier runs."""
    with tempfile.TemporaryDirectory() as folder:
        cache, outputs = Path(folder) / "cache", Path(folder) / "outputs"
        cache.mkdir()
        for entry in cache_folder().iterdir():
            if entry.name != "forecast.json":
                (cache / entry.name).symlink_to(entry)
        folders = {"LLM_TUTORIAL_CACHE": str(cache), "LLM_TUTORIAL_OUTPUTS": str(outputs)}
        yield {**os.environ, **folders}


@contextmanager
def a_busy_core(wanted: bool) -> Iterator[None]:
    """Keeps one core busy with a process of its own."""
    counting = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if counting:
            counting.kill()
            counting.wait()


def run_all(busy: bool, arguments: Sequence[str] = ("--all",)) -> tuple[float, list[Told]]:
    """Runs the runner; returns its seconds and what it said of each demo.

    Raises:
        ValueError: a demo failed.
    """
    with a_forgetful_home() as environment, a_busy_core(busy):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(PROJECT_ROOT / "run_all_tutorials.py"), *arguments],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.perf_counter() - started
    if done.returncode:
        raise ValueError(f"{done.returncode} demos failed: {done.stdout[-800:]}")
    return seconds, read_story(done.stdout)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.runner", description="Compare foretold and real minutes."
    )
    parser.add_argument("--only", choices=list(MEASURES), metavar="NAME",
                        help="this result and those that are measured with it")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Runs all demos, idle and with one core busy, and records.

    Raises:
        ValueError: a demo failed.
    """
    only = build_parser().parse_args(argv).only or ""
    machine = prepare()
    for load in ("idle", "busy"):
        if "busy" in only and load == "idle" or only and "busy" not in only and load == "busy":
            continue
        seconds, told = run_all(load == "busy")
        rows = [[one.family, one.foretold, round(one.real, 1), round(one.error)] for one in told]
        print(format_table(["demo", "foretold, s", "real, s", "off by %"], rows), flush=True)
        values = {f"runner.forecast.{load}": (max(one.error for one in told), "%"),
                  f"runner.forecast.{load}_first": (told[0].error, "%")}  # fmt: skip
        if load == "idle":
            values["runner.all.seconds"] = (seconds, "s")
        for name, (value, unit) in values.items():
            result = Result(
                name, value, unit, at_least=GOALS.get(name), better="lower", seconds=seconds,
                machine=machine, command=f"python -m benchmarks {name}", note=MEASURES[name],
            )  # fmt: skip
            record("runner", result)
            print(f"{name}: {format_measured(result)}", flush=True)


if __name__ == "__main__":
    run_entry(main)
