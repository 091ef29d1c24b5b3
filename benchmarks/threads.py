"""What it is worth that torch's threads go to sleep soon when they wait for each other.

A small GPT's training step, with the wait that ``tutorial_kit`` sets and with GNU OpenMP's own, on
an idle machine and while another process holds a core. The library reads the setting when it is
loaded, so each round is a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial

from benchmarks.runner import a_busy_core
from benchmarks.timing import alternate, prepare, ratio
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.results import Result, format_measured, record

MEASURES = {
    "runner.threads.idle": "steps/s of a small GPT with short waits, against OpenMP's own, idle",
    "runner.threads.busy": "the same while another process holds a core",
}
SHORT_WAIT = "1000"  # what tutorial_kit sets
LONG_WAIT = "300000"  # GNU OpenMP's own choice if no more threads than cores are started
STEP = """
import time, torch
from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT, next_token_loss
torch.set_num_threads(2)
torch.manual_seed(0)
model = GPT(GPTConfig(vocab_size=1024, d_model=128, n_heads=4, n_layers=4, max_len=64))
tokens = torch.randint(0, 1024, (8, 65))
for number in range(STEPS + 3):
    if number == 3:
        started = time.perf_counter()
    next_token_loss(model(tokens[:, :-1]), tokens[:, 1:]).backward()
print((time.perf_counter() - started) / STEPS)
"""


def step_seconds(wait: str, steps: int) -> float:
    """Returns the seconds of a forward and backward pass in a process of its own.

    Args:
        wait: GOMP_SPINCOUNT, how often a thread looks for work before it sleeps.
        steps: timed passes.
    """
    done = subprocess.run(
        [sys.executable, "-c", STEP.replace("STEPS", str(steps))], cwd=PROJECT_ROOT,
        env={**os.environ, "GOMP_SPINCOUNT": wait}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.threads", description="Compare short and long waits of threads."
    )
    parser.add_argument("--only", choices=list(MEASURES), metavar="NAME", help="this result")
    parser.add_argument("--rounds", type=int, default=5, help="times that each side is run")
    parser.add_argument("--steps", type=int, default=60, help="passes in each")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures both loads and records."""
    args = build_parser().parse_args(argv)
    machine = prepare()
    for name, note in MEASURES.items():
        if args.only not in (None, name):
            continue
        started = time.perf_counter()
        with a_busy_core(name.endswith("busy")):
            seconds = alternate(
                {wait: partial(step_seconds, wait, args.steps) for wait in (SHORT_WAIT, LONG_WAIT)},
                args.rounds, warmup=0,
            )  # fmt: skip
        value, half = ratio(seconds[LONG_WAIT], seconds[SHORT_WAIT])
        result = Result(
            name, value, "x", spread=half, seconds=time.perf_counter() - started, machine=machine,
            command=f"python -m benchmarks {name}", note=note,
        )  # fmt: skip
        record("runner", result)
        print(f"{name}: {format_measured(result)}", flush=True)


if __name__ == "__main__":
    run_entry(main)
