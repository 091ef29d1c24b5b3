"""Measures what a user waits for: the menu, a smoke test of everything, one demo.

The menu is timed from the start of the process until its prompt stands on a terminal. The demo's
seconds are the reference from which the menu predicts durations on other machines
(`tutorial_kit.forecast`), so they are taken as the runner takes them: imports included, what is
built once (corpus, tokenizer, base model) already in the cache folder. The quick start that trains
a base model and the quickest one, which may wait longer for its text than for its training, are
also timed with an empty one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial

from benchmarks.timing import prepare, spread
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.results import Result, format_measured, record
from tutorial_kit.texts import Texts

MEASURES = {
    "gpt.start.menu_seconds": "start of the process until the menu waits for a choice",
    "gpt.start.all_smoke_seconds": "the runner with --only gpt --preset smoke, whole process",
    "gpt.quick_start.seconds": "the quick start of gpt as the runner runs it",
    "gpt.quick_start.first_seconds": "the quick start of gpt from nothing: an empty cache folder",
    "cbow.quick_start.seconds": "the quick start of cbow as the runner runs it, its corpus cached",
    "cbow.quick_start.first_seconds": "the quick start of cbow from nothing: an empty cache folder",
    "transformer.quick_start.seconds": "the quick start of transformer as the runner runs it",
    "bert.quick_start.seconds": "the quick start of bert as the runner runs it",
    "vit.quick_start.seconds": "the quick start of vit as the runner runs it",
    "instruction_tuning.quick_start.seconds": "the quick start of instruction_tuning as the runner "
    "runs it, its base model cached",
    "instruction_tuning.quick_start.first_seconds": "the same with an empty cache folder",
    "optimization.quick_start.seconds": "the quick start of optimization, its teacher cached",
    "optimization.quick_start.first_seconds": "the same with an empty cache folder",
    "advanced_topics.quick_start.seconds": "the quick start of advanced_topics",
    "multimodal.quick_start.seconds": "the quick start of multimodal",
}
RUNNER = str(PROJECT_ROOT / "run_all_tutorials.py")
BASE_MODEL = ("instruction_tuning/base_model.py", "--preset", "quick")  # trains it, or finds it


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.startup", description="Measure how long a user waits."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="measure this one")
    parser.add_argument("--rounds", type=int, default=9, help="starts of the menu to time")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and records.

    Raises:
        ValueError: a demo failed, or the menu did not appear.
    """
    args = build_parser().parse_args(argv)
    machine = prepare()
    measurements = {
        "gpt.start.menu_seconds": partial(menu_seconds, args.rounds),
        "gpt.start.all_smoke_seconds": partial(smoke_seconds, "gpt"),
        "gpt.quick_start.seconds": partial(demo_seconds, "gpt"),
        "gpt.quick_start.first_seconds": partial(demo_seconds, "gpt", empty_cache=True),
        "cbow.quick_start.seconds": partial(demo_seconds, "cbow"),
        "cbow.quick_start.first_seconds": partial(demo_seconds, "cbow", empty_cache=True),
        "transformer.quick_start.seconds": partial(demo_seconds, "transformer"),
        "bert.quick_start.seconds": partial(demo_seconds, "bert"),
        "vit.quick_start.seconds": partial(demo_seconds, "vit"),
        "instruction_tuning.quick_start.seconds": partial(
            demo_seconds, "instruction_tuning", before=BASE_MODEL
        ),
        "instruction_tuning.quick_start.first_seconds": partial(
            demo_seconds, "instruction_tuning", empty_cache=True
        ),
        "optimization.quick_start.seconds": partial(demo_seconds, "optimization"),
        "optimization.quick_start.first_seconds": partial(
            demo_seconds, "optimization", empty_cache=True
        ),
        "advanced_topics.quick_start.seconds": partial(demo_seconds, "advanced_topics"),
        "multimodal.quick_start.seconds": partial(demo_seconds, "multimodal"),
    }
    goals = {
        "gpt.start.menu_seconds": (0.5, 0.2),
        "gpt.start.all_smoke_seconds": (10.0, 5.0),
        "cbow.quick_start.first_seconds": (60.0, 20.0),
        "instruction_tuning.quick_start.seconds": (180.0, 90.0),
        "instruction_tuning.quick_start.first_seconds": (300.0, 180.0),
        "gpt.quick_start.first_seconds": (120.0, None),
        "optimization.quick_start.seconds": (90.0, None),
        "optimization.quick_start.first_seconds": (90.0, None),
        "advanced_topics.quick_start.seconds": (90.0, None),
        "multimodal.quick_start.seconds": (90.0, None),
    }
    for name, measure in measurements.items():
        if args.only not in (None, name):
            continue
        start = time.perf_counter()
        values = measure()
        at_least, aim = goals.get(name, (None, None))
        result = Result(
            name=name,
            value=statistics.median(values),
            unit="s",
            at_least=at_least,
            aim=aim,
            better="lower",
            spread=spread(values),
            seconds=time.perf_counter() - start,
            machine=machine,
            command=f"python -m benchmarks {name}",
            note=MEASURES[name],
        )
        record(name.partition(".")[0], result)
        print(f"{name}: {format_measured(result)}", flush=True)


def menu_seconds(rounds: int) -> list[float]:
    """Starts the menu on a pseudo-terminal; returns the seconds until its prompt appears."""
    import pty

    prompt = Texts(PROJECT_ROOT / "tutorial_kit").get("runner.prompt").strip().encode()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(sys.executable, [sys.executable, RUNNER])
        screen = b""
        try:
            while prompt not in screen:
                screen += os.read(terminal, 4096)
            seconds.append(time.perf_counter() - start)
            os.write(terminal, b"q\n")
        except OSError:  # the other side is gone
            raise ValueError(
                f"the menu did not appear: {screen.decode('utf-8', 'replace')}"
            ) from None
        finally:
            os.close(terminal)
            os.waitpid(pid, 0)
    return seconds


def smoke_seconds(family: str, rounds: int = 3) -> list[float]:
    """Runs the runner with the smoke preset; returns the whole process's seconds."""
    command = [sys.executable, RUNNER, "--only", family, "--preset", "smoke"]
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        if done.returncode:
            raise ValueError(f"the demo of {family} failed: {done.stdout[-500:]}")
    return seconds


def demo_seconds(family: str, before: Sequence[str] = (), empty_cache: bool = False) -> list[float]:
    """Runs one demo in a fresh process, as the runner does; returns its seconds.

    Args:
        family: whose quick start.
        before: a script with its arguments that is run first: what it leaves in the cache folder is
            there when the demo starts.
        empty_cache: whether to start with an empty cache folder, which is deleted afterwards.
    """
    code = (
        "from tutorial_kit import PROJECT_ROOT\n"
        "from tutorial_kit.demo_runner import run_demo\n"
        f"outcome = run_demo({family!r}, [], PROJECT_ROOT)\n"
        "assert outcome.status == 'finished', outcome.message\n"
        "print('seconds:', outcome.seconds)\n"
    )
    if before:
        _run(family, before, {})
    with tempfile.TemporaryDirectory() as outputs, tempfile.TemporaryDirectory() as cache:
        changes = {"LLM_TUTORIAL_OUTPUTS": outputs}  # nothing is kept from an earlier run
        if empty_cache:
            changes["LLM_TUTORIAL_CACHE"] = cache
        output = _run(family, ("-c", code), changes)
    return [float(output.splitlines()[-1].removeprefix("seconds: "))]


def _run(family: str, arguments: Sequence[str], changes: dict[str, str]) -> str:
    """Runs Python with a changed environment; returns what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=PROJECT_ROOT, env={**os.environ, **changes},
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise ValueError(f"the demo of {family} failed: {done.stderr[-500:]}")
    return done.stdout


if __name__ == "__main__":
    run_entry(main)
