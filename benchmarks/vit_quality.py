"""Measures how well ``vit`` learns: Fashion-MNIST in given minutes, and larger pictures of digits.

``RUNS`` says which trainings there are on Fashion-MNIST; minutes count training steps, not
evaluations. The weights that are tested are chosen by the validation split.

"resized": ViTs of the quick start's preset, trained on digits of 8 x 8 pixels, read the test digits
at 1.5 times the size without any training for it. The pictures are enlarged, the positions of the
patches interpolated (Dosovitskiy et al. 2021, section 3.2).

A training lies in ``outputs/vit/benchmark_<name>_<hash>``; the hash is that of its settings and its
data. A stopped one goes on at its last checkpoint, a finished one is not repeated. A change in the
code makes no new folder: then delete them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import THREADS, prepare
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.experiments import kept_outcome, mean_and_spread, variant_folder
from tutorial_kit.results import Result, format_measured, record
from tutorial_kit.training import run_folder
from vit.image_data import ImageData, load_image_data
from vit.prediction import predict, unit_range
from vit.saved_model import load_run
from vit.train_config import PRESETS, TrainConfig
from vit.vit_model import ViT
from vit.vit_trainer import train

FAMILY = "vit"
Goal = tuple[float | None, float | None]  # at least, aim
NO_GOAL: Goal = (None, None)


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
FASHION_SEEDS: tuple[int, ...] = (0,)
RESIZED_PRESET, RESIZED_SEEDS = "quick", (0, 1, 2)
RESIZED = PRESETS[RESIZED_PRESET]
SCALE = 1.5  # of the pictures' side
LOSS_GOAL: Goal = (3.0, 1.0)  # points

MEASURES = {
    **{
        f"vit.fashion.{name}": f"Fashion-MNIST, test accuracy, {run.what}, "
        f"{run.minutes:g} minutes of training"
        for name, run in RUNS.items()
    },
    "vit.resized.loss": f"digits, points lost at {SCALE:g} times the size, positions interpolated",
    "vit.resized.accuracy": f"digits, test accuracy at {SCALE:g} times the size",
    "vit.resized.original_accuracy": "digits, test accuracy of the same models at 8 x 8 pixels",
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


def fashion_config(run: Run, seed: int) -> TrainConfig:
    """Returns the settings of one of ``RUNS``."""
    return replace(PRESETS[run.preset], budget_minutes=run.minutes, seed=seed, threads=THREADS)


def measure_fashion(name: str, seeds: Sequence[int] = FASHION_SEEDS) -> list[Result]:
    """Trains one of ``RUNS``."""
    run = RUNS[name]
    outcomes = [learn(f"{name}_seed{seed}", fashion_config(run, seed))[1] for seed in seeds]
    values = [outcome["accuracy"] for outcome in outcomes]
    seconds = sum(outcome["seconds"] for outcome in outcomes)
    row = result(f"vit.fashion.{name}", values, "%", run.goal, seeds, run.preset)
    return [replace(row, seconds=seconds)]


def measure_resized(config: TrainConfig, seeds: Sequence[int] = RESIZED_SEEDS) -> list[Result]:
    """Trains at the size of the data, tests there and at ``SCALE`` times the size."""
    started = time.perf_counter()
    original, resized = [], []
    for seed in seeds:
        settings = replace(config, seed=seed, threads=THREADS)
        folder, _ = learn(f"resized_seed{seed}", settings)
        model, _, _ = load_run(folder)
        assert isinstance(model, ViT)
        data = pictures_of(config.dataset)
        size = round(SCALE * data.image_size)
        original.append(accuracy_at(model, data, data.image_size))
        resized.append(accuracy_at(model.resized(size), data, size))
    rows = zip(seeds, original, resized, strict=True)
    headers = ["seed", f"{data.image_size} x {data.image_size}: %", f"{size} x {size}: %"]
    print(format_table(headers, [(s, round(a, 2), round(b, 2)) for s, a, b in rows]), flush=True)
    lost = [before - after for before, after in zip(original, resized, strict=True)]
    seconds, preset = time.perf_counter() - started, RESIZED_PRESET
    found = [
        result("vit.resized.loss", lost, "points", LOSS_GOAL, seeds, preset, better="lower"),
        result("vit.resized.accuracy", resized, "%", NO_GOAL, seeds, preset),
        result("vit.resized.original_accuracy", original, "%", NO_GOAL, seeds, preset),
    ]
    return [replace(row, seconds=seconds) for row in found]


def accuracy_at(model: ViT, data: ImageData, size: int) -> float:
    """Returns how many of the test pictures are told right, in %, at size x size pixels."""
    images = enlarged(data.test.images, size)
    found = predict(model, images, data.mean, data.std).classes
    return 100 * float((found == data.test.labels).double().mean())


def enlarged(images: Tensor, size: int) -> Tensor:
    """Returns pictures (B, C, size, size), from 0 to 1, enlarged by bilinear interpolation.

    At their own size they are what they were.
    """
    return F.interpolate(unit_range(images), size=(size, size), mode="bilinear")


def result(
    name: str, values: Sequence[float], unit: str, goal: Goal, seeds: Sequence[int],
    preset: str, better: str = "higher",
) -> Result:  # fmt: skip
    """Returns the mean over the seeds; one value has no spread."""
    mean, spread = mean_and_spread(values)
    return Result(
        name, mean, unit, *goal, better=better, seeds=tuple(seeds), preset=preset,
        spread=spread if len(values) > 1 else None, note=MEASURES[name],
        command=f"python -m benchmarks {name}",
    )  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.vit_quality", description="Measure how well vit learns."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="measure the part with this result")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Trains what is not there yet, records each part as soon as it is done."""
    only = build_parser().parse_args(argv).only
    machine = prepare(THREADS)
    parts: dict[str, Callable[[], list[Result]]] = {
        "vit.resized": partial(measure_resized, RESIZED),
        **{f"vit.fashion.{name}": partial(measure_fashion, name) for name in RUNS},
    }
    results: list[Result] = []
    for part, measure in parts.items():
        if only is not None and only != part and not only.startswith(f"{part}."):
            continue
        found = [replace(row, machine=machine) for row in measure()]
        for row in found:
            print(f"{row.name}: {format_measured(row)}", flush=True)
        results += record("vit_quality", found)
    return results


if __name__ == "__main__":
    run_entry(main)
