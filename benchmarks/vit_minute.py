"""Measures what the quick start of ``vit`` learns, three times, beside three rivals.

The seed decides the weights, the order of the pictures and their augmentation. The rivals are the
CNN of similar size, which sees the same minibatches, and scikit-learn's SVM and nearest neighbors.
The test pictures are always the same: a fixed quarter of the digits, looked at once a training.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.seed_measures import NO_GOAL, over_seeds, print_and_record
from benchmarks.timing import prepare
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.results import Result
from tutorial_kit.texts import Texts
from vit import quick_start
from vit.quick_start import QuickNumbers

MEASURES = {
    "vit.quick_start.accuracy": "digits, test accuracy of the quick start's ViT",
    "vit.quick_start.cnn_accuracy": "digits, test accuracy of the quick start's CNN",
    "vit.quick_start.svm_accuracy": "digits, test accuracy of scikit-learn's SVM",
    "vit.quick_start.neighbors_accuracy": "digits, test accuracy of the nearest neighbors",
    "vit.quick_start.training_seconds": "time of the quick start's training of the ViT",
    "vit.quick_start.cnn_training_seconds": "time of the quick start's training of the CNN",
}
GOALS = {"accuracy": (98.0, 99.0), "cnn_accuracy": (98.5, 99.4)}  # at least, aim
PRESET, SEEDS = "quick", (0, 1, 2)


def values_of(told: Sequence[QuickNumbers]) -> dict[str, tuple[list[float], str]]:
    """Returns what each result is the mean of, and its unit."""
    return {
        "accuracy": ([100 * one.accuracy for one in told], "%"),
        "cnn_accuracy": ([100 * one.cnn_accuracy for one in told], "%"),
        "svm_accuracy": ([100 * one.svm_accuracy for one in told], "%"),
        "neighbors_accuracy": ([100 * one.neighbors_accuracy for one in told], "%"),
        "training_seconds": ([one.seconds for one in told], "s"),
        "cnn_training_seconds": ([one.cnn_seconds for one in told], "s"),
    }


def measure(seeds: Sequence[int], preset: str = PRESET) -> list[Result]:
    """Tells the quick start's story once for each seed."""
    started, texts = time.perf_counter(), Texts(Path(quick_start.__file__).parent)
    told = [quick_start.tell(preset, seed, "cpu", texts) for seed in seeds]
    return [
        over_seeds(
            f"vit.quick_start.{key}", values, unit, GOALS.get(key, NO_GOAL), seeds=seeds,
            better="lower" if unit == "s" else "higher", preset=preset,
            note=MEASURES[f"vit.quick_start.{key}"], seconds=time.perf_counter() - started,
        )
        for key, (values, unit) in values_of(told).items()
    ]  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.vit_minute", description="Measure vit's quick start."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="all are measured together")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="three at least")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Tells, compares, records."""
    args = build_parser().parse_args(argv)
    machine = prepare()
    return print_and_record("vit_quality", measure(args.seeds), machine)


if __name__ == "__main__":
    run_entry(main)
