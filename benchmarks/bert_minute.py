"""Measures what the quick start of ``bert`` learns, three times, beside its twin and TF-IDF.

The seed decides the pre-training, which passages are labeled, and the fine-tuning.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.timing import prepare
from bert import quick_start
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.experiments import mean_and_spread
from tutorial_kit.results import Result, format_measured, record
from tutorial_kit.texts import Texts

MEASURES = {
    "bert.quick_start.accuracy": "library task after the quick start, pre-trained",
    "bert.quick_start.scratch_accuracy": "library task after the quick start, from scratch",
    "bert.quick_start.tfidf_accuracy": "library task with the quick start's labels, TF-IDF",
    "bert.quick_start.above_scratch": "quick start, pre-trained above from scratch",
    "bert.quick_start.above_tfidf": "quick start, pre-trained above TF-IDF",
    "bert.quick_start.mlm_below_unigram": "quick start, validation loss below the unigram model's",
    "bert.quick_start.pretraining_seconds": "time of the quick start's pre-training",
}
PRESET, SEEDS = "quick", (0, 1, 2)


def measure(seeds: Sequence[int], preset: str = PRESET) -> list[Result]:
    """Tells the quick start's story once for each seed."""
    started, texts = time.perf_counter(), Texts(Path(quick_start.__file__).parent)
    told = [quick_start.tell(preset, seed, "cpu", texts) for seed in seeds]
    rows: list[tuple[str, list[float], str, str]] = [
        ("accuracy", [100 * one.accuracy for one in told], "%", "higher"),
        ("scratch_accuracy", [100 * one.scratch_accuracy for one in told], "%", "higher"),
        ("tfidf_accuracy", [100 * one.tfidf_accuracy for one in told], "%", "higher"),
        ("above_scratch", [100 * (one.accuracy - one.scratch_accuracy) for one in told], "points",
         "higher"),
        ("above_tfidf", [100 * (one.accuracy - one.tfidf_accuracy) for one in told], "points",
         "higher"),
        ("mlm_below_unigram", [one.unigram - one.mlm_loss for one in told], "nats", "higher"),
        ("pretraining_seconds", [one.pretraining_seconds for one in told], "s", "lower"),
    ]  # fmt: skip
    results = []
    for key, values, unit, better in rows:
        name, (mean, spread) = f"bert.quick_start.{key}", mean_and_spread(values)
        results.append(
            Result(
                name, mean, unit, better=better, seeds=tuple(seeds), preset=preset,
                spread=spread if len(values) > 1 else None, seconds=time.perf_counter() - started,
                command=f"python -m benchmarks {name}", note=MEASURES[name],
            )
        )  # fmt: skip
    return results


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.bert_minute", description="Measure bert's quick start."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="all are measured together")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="three at least")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Tells, compares, records."""
    args = build_parser().parse_args(argv)
    machine = prepare()
    results = [replace(row, machine=machine) for row in measure(args.seeds)]
    for row in results:
        print(f"{row.name}: {format_measured(row)}")
    return record("bert_quality", results)


if __name__ == "__main__":
    run_entry(main)
