"""Measures what the quick start of ``gpt`` learns, three times, beside the n-gram models.

The n-gram models count either all of the training text, which takes them seconds, or exactly the
windows that the GPT reads in its minute.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.seed_measures import NO_GOAL, Goal, over_seeds, print_and_record
from benchmarks.timing import prepare
from gpt.quick_start import measure_baselines, text_read
from gpt.text_data import load_text_data
from gpt.train_config import PRESETS
from gpt.train_gpt import train
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.results import Result
from tutorial_kit.training import run_folder

MEASURES = {
    "gpt.quick_start.bits_per_byte": "documentation, held out, after the quick start",
    "gpt.quick_start.training_seconds": "training time of the quick start",
    "gpt.quick_start.ngram_bits_per_byte": "best n-gram model that has counted all training text",
    "gpt.quick_start.ngram_same_text": "best n-gram model of the text that the GPT reads",
    "gpt.quick_start.below_ngram": "quick start below the best n-gram model of all training text",
    "gpt.quick_start.below_ngram_same_text": "quick start below the best n-gram of the same text",
}
PRESET = "quick"


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.gpt_minute", description="Measure gpt's quick start."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="all are measured together")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="three at least")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Trains, compares, records."""
    args = build_parser().parse_args(argv)
    machine, started = prepare(), time.perf_counter()
    config = PRESETS[PRESET]
    data = load_text_data(config.dataset, config.tokenizer, config.bpe_tokens)
    all_text = min(measure_baselines(data, data.tokens["train"].numpy()).values())
    bits, seconds, same_text = [], [], []
    for seed in args.seeds:
        seeded = replace(config, seed=seed)
        same_text.append(min(measure_baselines(data, text_read(data, seeded)).values()))
        result = train(seeded, data, run_folder("gpt", f"benchmark_quick_{seed}"), device="cpu")
        bits.append(result.bits_per_byte)
        seconds.append(result.seconds)
    below_all = [100 * (1 - value / all_text) for value in bits]
    below_same = [100 * (1 - value / rival) for value, rival in zip(bits, same_text, strict=True)]
    rows: list[tuple[str, list[float], str, str, Goal]] = [
        ("bits_per_byte", bits, "bits per byte", "lower", NO_GOAL),
        ("training_seconds", seconds, "s", "lower", NO_GOAL),
        ("ngram_bits_per_byte", [all_text], "bits per byte", "lower", NO_GOAL),
        ("ngram_same_text", same_text, "bits per byte", "lower", NO_GOAL),
        ("below_ngram", below_all, "%", "higher", (0.0, 20.0)),
        ("below_ngram_same_text", below_same, "%", "higher", NO_GOAL),
    ]
    results = [
        over_seeds(
            f"gpt.quick_start.{name}", values, unit, goal, seeds=args.seeds, better=better,
            preset=PRESET, note=MEASURES[f"gpt.quick_start.{name}"],
            seconds=time.perf_counter() - started,
        )
        for name, values, unit, better, goal in rows
    ]  # fmt: skip
    return print_and_record("gpt", results, machine)


if __name__ == "__main__":
    run_entry(main)
