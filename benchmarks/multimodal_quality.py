"""Measures what the quick start of ``multimodal`` learns, three times, and the digits by captions.

The seed decides weights, training pictures and their order. The held-out pictures are always the
same: descriptions and combinations of color and shape that no training picture has.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.seed_measures import NO_GOAL, Goal, over_seeds, print_and_record
from benchmarks.timing import prepare
from multimodal import quick_start
from multimodal.multimodal_config import PRESETS
from multimodal.multimodal_trainer import train
from multimodal.quick_start import QuickNumbers
from tutorial_kit.config import override
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.results import Result
from tutorial_kit.texts import Texts
from tutorial_kit.training import run_folder

MEASURES = {
    "multimodal.quick_start.unseen": "zero-shot, combinations never trained, out of 36",
    "multimodal.quick_start.seen": "zero-shot, trained combinations, new pictures, out of 36",
    "multimodal.quick_start.picture_to_text": "new pictures that find their caption first",
    "multimodal.quick_start.text_to_picture": "captions that find their new picture first",
    "multimodal.quick_start.answers": "questions about new pictures answered exactly",
    "multimodal.quick_start.blank": "the same questions with the picture blanked",
    "multimodal.quick_start.answers_unseen": "the same, pictures of combinations never trained",
    "multimodal.quick_start.captions": "captions of new pictures with every word right",
    "multimodal.digits.accuracy": "scikit-learn's digits, test pictures, named by captions",
}
GOALS: dict[str, Goal] = {
    "unseen": (80.0, 95.0), "answers": (80.0, 95.0), "blank": (60.0, None),
}  # fmt: skip
LESS_IS_BETTER = ("blank",)
PRESET, SEEDS = "quick", (0, 1, 2)


def values_of(told: Sequence[QuickNumbers]) -> dict[str, tuple[list[float], str]]:
    """Returns what each result is the mean of, and its unit."""
    matching = {"unseen": "unseen", "seen": "accuracy", "picture_to_text": "picture_to_text",
                "text_to_picture": "text_to_picture"}  # fmt: skip
    answering = {"answers": "answers", "blank": "blank", "answers_unseen": "unseen",
                 "captions": "captions"}  # fmt: skip
    found = {
        name: ([100 * one.matching[key] for one in told], "%") for name, key in matching.items()
    }
    found |= {
        name: ([100 * one.answering[key] for one in told], "%") for name, key in answering.items()
    }
    return found


def measure_story(seeds: Sequence[int], preset: str = PRESET) -> list[Result]:
    """Tells the quick start's story once for each seed."""
    started, texts = time.perf_counter(), Texts(Path(quick_start.__file__).parent)
    told = [quick_start.tell(preset, seed, "cpu", texts) for seed in seeds]
    return [
        over_seeds(
            f"multimodal.quick_start.{key}", values, unit, GOALS.get(key, NO_GOAL), seeds=seeds,
            better="lower" if key in LESS_IS_BETTER else "higher", preset=preset,
            note=MEASURES[f"multimodal.quick_start.{key}"], seconds=time.perf_counter() - started,
        )
        for key, (values, unit) in values_of(told).items()
    ]  # fmt: skip


def measure_digits(
    seeds: Sequence[int], steps: int | None = None, dataset: str = "digits"
) -> list[Result]:
    """Trains the two encoders on digits with captions, once for each seed.

    Args:
        seeds: of weights and order; the split is fixed.
        steps: instead of the preset's, for a test.
        dataset: "digits" or "digits-small".
    """
    started, name = time.perf_counter(), "multimodal.digits.accuracy"
    base = override(PRESETS["digits"], {"dataset": dataset})
    base = replace(base, max_steps=steps or base.max_steps)
    shares = [
        train(
            replace(base, seed=seed), run_folder("multimodal", f"benchmark_{dataset}_{seed}"),
            device="cpu",
        ).scores["accuracy"]
        for seed in seeds
    ]  # fmt: skip
    return [
        over_seeds(
            name, [100 * share for share in shares], "%", seeds=seeds, preset="digits",
            note=MEASURES[name], seconds=time.perf_counter() - started,
        )
    ]  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.multimodal_quality",
        description="Measure what multimodal learns.",
    )
    parser.add_argument("--only", choices=list(MEASURES), metavar="NAME",
                        help="this result and those that are measured with it")  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="three at least")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Tells, trains, records."""
    args = build_parser().parse_args(argv)
    machine = prepare()
    results: list[Result] = []
    for part, measure in (("quick_start", measure_story), ("digits", measure_digits)):
        if args.only is None or args.only.split(".")[1] == part:
            results += print_and_record("multimodal_quality", measure(args.seeds), machine)
    return results


if __name__ == "__main__":
    run_entry(main)
