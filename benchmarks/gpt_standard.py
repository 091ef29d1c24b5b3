"""Measures the ``standard`` preset of ``gpt``: one training, its held-out results and its minutes.

The test split is scored once, after the training, with the weights of the last step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.timing import prepare
from gpt.quick_start import measure_baselines
from gpt.text_data import load_text_data
from gpt.train_config import PRESETS
from gpt.train_gpt import evaluate, train
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.device import pick_device
from tutorial_kit.results import Result, format_measured, record
from tutorial_kit.training import run_folder

MEASURES = {
    "gpt.standard.bits_per_byte": "documentation, validation split, after the standard preset",
    "gpt.standard.test_bits_per_byte": "documentation, test split, after the standard preset",
    "gpt.standard.below_ngram": "standard preset below the best n-gram model of all training text",
    "gpt.standard.training_minutes": "training time of the standard preset",
}
COMMAND = "python -m benchmarks gpt.standard.bits_per_byte"
PRESET = "standard"


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.gpt_standard", description="Train gpt's standard preset."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="all are measured together")
    parser.add_argument("--seed", type=int, default=0, help="one training, one seed")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Trains once, scores, records."""
    args = build_parser().parse_args(argv)
    machine, started, device = prepare(), time.perf_counter(), pick_device("cpu")
    config = replace(PRESETS[PRESET], seed=args.seed)
    data = load_text_data(config.dataset, config.tokenizer, config.bpe_tokens)
    rival = min(measure_baselines(data, data.tokens["train"].numpy()).values())
    result = train(config, data, run_folder("gpt", PRESET), device="cpu")
    test = evaluate(result.model, data.tokens["test"], config.model.max_len, device)
    rows: list[tuple[str, float, str, str]] = [
        ("bits_per_byte", result.bits_per_byte, "bits per byte", "lower"),
        ("test_bits_per_byte", data.bits_per_byte(test, "test"), "bits per byte", "lower"),
        ("below_ngram", 100 * (1 - result.bits_per_byte / rival), "%", "higher"),
        ("training_minutes", result.seconds / 60, "min", "lower"),
    ]
    results = [
        Result(
            f"gpt.standard.{name}", value, unit, better=better, seeds=(args.seed,),
            seconds=time.perf_counter() - started, machine=machine, preset=PRESET,
            command=COMMAND, note=MEASURES[f"gpt.standard.{name}"],
        )
        for name, value, unit, better in rows
    ]  # fmt: skip
    for row in results:
        print(f"{row.name}: {format_measured(row)}")
    return record("gpt", results)


if __name__ == "__main__":
    run_entry(main)
