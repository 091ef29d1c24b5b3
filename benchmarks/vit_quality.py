"""Measures how well ``vit`` learns Fashion-MNIST in given minutes, beside the CNN of the same size.

``RUNS`` says which trainings there are; minutes count training steps, not evaluations. The weights
that are tested are chosen by the validation split.

A training lies in ``outputs/vit/benchmark_<name>_<hash>``; the hash is that of its settings and its
data. A stopped one goes on at its last checkpoint, a finished one is not repeated. A change in the
code makes no new folder: then delete them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from benchmarks.seed_measures import NO_GOAL, Goal, over_seeds, print_and_record
from benchmarks.timing import THREADS, prepare
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.experiments import kept_outcome, variant_folder
from tutorial_kit.results import Result
from tutorial_kit.training import run_folder
from vit.image_data import ImageData, load_image_data
from vit.train_config import PRESETS, TrainConfig
from vit.vit_trainer import train

FAMILY = "vit"


@dataclass(frozen=True)
class Run:
    """A training on Fashion-MNIST and what is asked of its test accuracy, in %."""

    preset: str
    minutes: float  # of training steps
    what: str
    goal: Goal = NO_GOAL


LONG = PRESETS["long"].budget_minutes
RUNS = {
    "vit_5": Run("standard", 5.0, "ViT", (89.0, 92.0)),
    "cnn_5": Run("cnn", 5.0, "CNN"),
    "vit_15": Run("standard", 15.0, "ViT", (91.0, 93.5)),
    "plain_15": Run("plain", 15.0, "ViT with the paper's patch embedding", (87.0, 90.0)),
    "cnn_15": Run("cnn", 15.0, "CNN", (None, 94.0)),
    "vit_long": Run("long", LONG, "ViT of the preset long", (92.0, 94.0)),
    "cnn_long": Run("cnn-long", LONG, "CNN of the preset cnn-long"),
}
SEEDS: tuple[int, ...] = (0,)

MEASURES = {
    f"vit.fashion.{name}": f"Fashion-MNIST, test accuracy, {run.what}, "
    f"{run.minutes:g} minutes of training"
    for name, run in RUNS.items()
}


@lru_cache(maxsize=1)
def pictures_of(dataset: str) -> ImageData:
    """Returns the pictures of a training; the split does not depend on the training's seed."""
    return load_image_data(dataset)


def learn(name: str, config: TrainConfig) -> tuple[Path, dict[str, float]]:
    """Trains, goes on with what was stopped, or reads what is finished.

    Args:
        name: goes into the folder's name.
        config: the settings; other settings mean another folder.

    Returns:
        The run's folder, and its "accuracy" on the test split in %, and "seconds" of training.
    """
    data = pictures_of(config.dataset)
    digest = variant_folder(FAMILY, config, [data.name, data.fingerprint]).name[:8]
    folder = run_folder(FAMILY, f"benchmark_{name}_{digest}")
    started = (folder / "checkpoints" / "last.pt").is_file()

    def to_the_end() -> dict[str, float]:
        print(f"training {name}: {'going on in' if started else 'in'} {folder}", flush=True)
        result = train(config, data, folder, resume=started, device="cpu")
        return {"accuracy": 100 * result.test_accuracy, "seconds": result.seconds}

    return folder, kept_outcome(folder, to_the_end)


def fashion_config(run: Run, seed: int, threads: int = THREADS) -> TrainConfig:
    """Returns the settings of one of ``RUNS``."""
    return replace(PRESETS[run.preset], budget_minutes=run.minutes, seed=seed, threads=threads)


def measure(name: str, seeds: Sequence[int] = SEEDS, threads: int = THREADS) -> Result:
    """Trains one of ``RUNS``; the mean over the seeds, of which a single one has no spread."""
    run = RUNS[name]
    configs = {seed: fashion_config(run, seed, threads) for seed in seeds}
    outcomes = [learn(f"{name}_seed{seed}", config)[1] for seed, config in configs.items()]
    key = f"vit.fashion.{name}"
    row = over_seeds(
        key, [outcome["accuracy"] for outcome in outcomes], "%", run.goal, seeds=seeds,
        preset=run.preset, note=MEASURES[key],
        seconds=sum(outcome["seconds"] for outcome in outcomes),
    )  # fmt: skip
    if threads == THREADS:
        return row
    command = f"python -m benchmarks.vit_quality --only {key} --threads {threads}"
    return replace(row, command=command)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.vit_quality", description="Measure how well vit learns."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="measure this one alone")
    parser.add_argument("--threads", type=int, default=THREADS, metavar="N",
                        help="CPU threads; with 1, two trainings can run side by side")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Trains what is not there yet, records each as soon as it is done."""
    args = build_parser().parse_args(argv)
    machine = prepare(args.threads)
    results: list[Result] = []
    for name in RUNS:
        if args.only in (None, f"vit.fashion.{name}"):
            row = measure(name, threads=args.threads)
            results += print_and_record("vit_quality", [row], machine)
    return results


if __name__ == "__main__":
    run_entry(main)
