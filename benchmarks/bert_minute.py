"""Measures what the quick start of ``bert`` learns, three times, beside its twin and TF-IDF.

The seed decides the pre-training, which passages are labeled, and the fine-tuning.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.seed_measures import over_seeds, print_and_record
from benchmarks.timing import prepare
from bert import quick_start
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.results import Result
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
    return [
        over_seeds(
            f"bert.quick_start.{key}", values, unit, seeds=seeds, preset=preset, better=better,
            note=MEASURES[f"bert.quick_start.{key}"], seconds=time.perf_counter() - started,
        )
        for key, values, unit, better in rows
    ]  # fmt: skip


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
    return print_and_record("bert_quality", measure(args.seeds), machine)


if __name__ == "__main__":
    run_entry(main)
