"""Measures how well ``transformer`` translates: its quick start, and minutes of Multi30k.

The quick start trains three times and translates sentences whose word combinations it has never
seen. Multi30k, English to German, trains the standard preset for 4 and for 10 minutes (the clock
counts training steps, not evaluations), then translates test_2016_flickr by beam search: BLEU of
sacrebleu, cased, on whole words.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.timing import THREADS, prepare
from transformer.scoring import Scores
from transformer.train_config import PRESETS, TrainConfig
from transformer.train_transformer import TEST_BEAMS, score_split, train
from transformer.translation_data import TranslationData, load_translation_data
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.results import Result, format_measured, record
from tutorial_kit.training import run_folder

MEASURES = {
    "transformer.quick_start.exact_match": "unseen combinations, English to Chinese, greedy, equal "
    "to the reference",
    "transformer.quick_start.bleu": "unseen combinations, English to Chinese, greedy",
    "transformer.quick_start.training_seconds": "training time of the quick start",
    "transformer.multi30k.bleu_4_minutes": "test_2016_flickr, English to German, beam 4, after 4 "
    "minutes of training",
    "transformer.multi30k.bleu_10_minutes": "test_2016_flickr, English to German, beam 4, after 10 "
    "minutes of training",
    "transformer.multi30k.bleu_long": "test_2016_flickr, English to German, beam 4, preset long",
}
BUDGETS = {  # name: preset, minutes of training, at least, aim
    "bleu_4_minutes": ("standard", 4.0, 27.0, 30.0),
    "bleu_10_minutes": ("standard", 10.0, 31.0, 35.0),
    "bleu_long": ("long", PRESETS["long"].budget_minutes, 35.0, 38.5),
}
SEEDS, MULTI30K_SEEDS = (0, 1, 2), (0,)


@dataclass(frozen=True)
class Run:
    """One training and its test."""

    scores: Scores  # on the test split
    seconds: float  # of training


def load(config: TrainConfig) -> TranslationData:
    """Returns the data that a config names."""
    return load_translation_data(config.dataset, config.bpe_tokens, config.model.max_len)


def train_and_score(config: TrainConfig, data: TranslationData, name: str, beams: int) -> Run:
    """Trains in ``outputs/transformer/<name>`` on the CPU and translates the whole test split."""
    result = train(config, data, run_folder("transformer", name), device="cpu")
    scores, _ = score_split(result.model, data, "test", beams=beams)
    print(f"{name}: {result.steps:,} steps, {result.seconds:.1f} s; {scores}", flush=True)
    return Run(scores, result.seconds)


def summarize(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns mean and standard deviation over the seeds; None for a single one."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def measure_quick_start(seeds: Sequence[int], preset: str = "quick") -> list[Result]:
    """Trains the quick start's preset once for each seed."""
    started, data = time.perf_counter(), load(PRESETS[preset])
    runs = [
        train_and_score(
            replace(PRESETS[preset], seed=seed), data, f"benchmark_{preset}_{seed}", beams=1
        )
        for seed in seeds
    ]
    signature = runs[0].scores.signature
    rows: list[tuple[str, list[float], str, str, float | None, float | None, str]] = [
        ("exact_match", [100 * run.scores.exact_match for run in runs], "%", "higher", 95.0, 99.0,
         ""),
        ("bleu", [run.scores.bleu for run in runs], "BLEU", "higher", None, None, signature),
        ("training_seconds", [run.seconds for run in runs], "s", "lower", None, None, ""),
    ]  # fmt: skip
    results = []
    for name, values, unit, better, at_least, aim, extra in rows:
        full = f"transformer.quick_start.{name}"
        mean, spread = summarize(values)
        results.append(
            Result(
                full, mean, unit, at_least, aim, better, tuple(seeds), spread,
                time.perf_counter() - started, preset=preset,
                command=f"python -m benchmarks {full}",
                note=f"{MEASURES[full]}; {extra}" if extra else MEASURES[full],
            )
        )  # fmt: skip
    return results


def measure_multi30k(name: str, seeds: Sequence[int]) -> Result:
    """Trains one row of ``BUDGETS`` once for each seed."""
    preset, minutes, at_least, aim = BUDGETS[name]
    started = time.perf_counter()
    config = replace(
        PRESETS[preset], dataset="multi30k", budget_minutes=minutes, bleu_sentences=0,
        checkpoint_every=10**9,
    )  # fmt: skip
    data = load(config)
    runs = [
        train_and_score(
            replace(config, seed=seed), data, f"benchmark_{name}_{seed}", beams=TEST_BEAMS
        )
        for seed in seeds
    ]
    full = f"transformer.multi30k.{name}"
    mean, spread = summarize([run.scores.bleu for run in runs])
    return Result(
        full, mean, "BLEU", at_least, aim, seeds=tuple(seeds), spread=spread, preset=preset,
        seconds=time.perf_counter() - started, command=f"python -m benchmarks {full}",
        note=f"{MEASURES[full]}; {runs[0].scores.signature}",
    )  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.transformer_quality",
        description="Measure how well transformer translates.",
    )
    parser.add_argument("--only", choices=list(MEASURES), help="measure the part with this result")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS),
                        help="of the quick start, three at least")  # fmt: skip
    parser.add_argument("--multi30k-seeds", type=int, nargs="+", default=list(MULTI30K_SEEDS),
                        help="of the minutes of Multi30k")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Trains, translates, records each part as soon as it is done."""
    args = build_parser().parse_args(argv)
    machine = prepare(THREADS)
    results: list[Result] = []

    def keep(found: list[Result]) -> None:
        for row in found:
            print(f"{row.name}: {format_measured(row)}", flush=True)
        described = [replace(row, machine=machine) for row in found]
        results.extend(record("transformer_quality", described))

    if args.only is None or args.only.startswith("transformer.quick_start"):
        keep(measure_quick_start(args.seeds))
    for name in BUDGETS:
        if args.only in (None, f"transformer.multi30k.{name}"):
            keep([measure_multi30k(name, args.multi30k_seeds)])
    return results


if __name__ == "__main__":
    run_entry(main)
