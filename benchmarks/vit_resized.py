"""Measures what ``vit`` loses on larger pictures, its positions interpolated.

ViTs of the quick start's preset are trained on digits of 8 x 8 pixels and tested at 1.5 times the
size: the pictures are enlarged, the positions of the patches interpolated (Dosovitskiy et al. 2021,
section 3.2). First as they are; then after a few steps of training at the new size, which is what
the paper does ("fine-tuning at higher resolution").

An enlarged picture has wider strokes than any that the quick start shows, and positions alone do
not mend that. So the pictures of these trainings grow and shrink by up to half (``zoom``; chosen by
the validation pictures). What the quick start's own settings lose is measured beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F

from benchmarks.seed_measures import NO_GOAL, over_seeds, print_and_record
from benchmarks.timing import THREADS, prepare
from benchmarks.vit_quality import learn, pictures_of
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.optimizers import decay_groups, fused_adamw
from tutorial_kit.results import Result
from tutorial_kit.training import warmup_cosine
from vit.image_data import ImageData, ImageSplit
from vit.prediction import predict, unit_range
from vit.saved_model import load_run
from vit.train_config import PRESETS, TrainConfig
from vit.training_batches import ImageSampler
from vit.vit_model import ViT

MEASURES = {
    "vit.resized.loss": "digits, points lost at 1.5 times the size, positions interpolated, no "
    "training at that size",
    "vit.resized.quick_loss": "the same with the quick start's own augmentation",
    "vit.resized.accuracy": "digits, test accuracy at 1.5 times the size, no training at that size",
    "vit.resized.tuned_loss": "digits, points lost at 1.5 times the size after fine-tuning there",
    "vit.resized.tuned_accuracy": "digits, test accuracy at 1.5 times the size after fine-tuning",
    "vit.resized.original_accuracy": "digits, test accuracy of the same models at their own size",
}
PRESET, SEEDS = "quick", (0, 1, 2)
QUICK = PRESETS[PRESET]
CONFIG = replace(QUICK, zoom=0.5, shift=2)
SCALE = 1.5  # of the pictures' side
LOSS_GOAL = (3.0, 1.0)  # points: at most, aim
TUNING_STEPS, TUNING_LR = 100, 1e-3  # a tenth of the training's steps, AdamW
NEW_BATCHES = 1_000_000  # added to the seed of the minibatches: others than those of the training


def enlarged(data: ImageData, size: int) -> ImageData:
    """Returns pictures of (C, size, size), by bilinear interpolation; mean and deviation stay.

    At their own size they are what they were.
    """

    def larger(split: ImageSplit) -> ImageSplit:
        images = F.interpolate(unit_range(split.images), size=(size, size), mode="bilinear")
        return replace(split, images=images)

    return replace(
        data, train=larger(data.train), validation=larger(data.validation), test=larger(data.test)
    )


def fine_tune(model: ViT, data: ImageData, config: TrainConfig, steps: int) -> None:
    """Trains for some more steps, at the size of ``data``.

    Args:
        model: is changed.
        data: the pictures.
        config: of the training before; says batch size, augmentation, label smoothing, seed.
        steps: updates.
    """
    sampler = ImageSampler(data, config.augmentation, config.batch_size, config.seed + NEW_BATCHES)
    optimizer = fused_adamw(
        decay_groups(model, config.weight_decay), TUNING_LR, (0.9, config.beta2)
    )
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = TUNING_LR * warmup_cosine((step + 1) / steps, config.warmup, 0.0)
        batch = sampler.next_batch()
        batch.loss(model(batch.images), config.label_smoothing).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def accuracy_of(model: ViT, data: ImageData) -> float:
    """Returns how many of the test pictures are told right, in %."""
    found = predict(model, data.test.images, data.mean, data.std).classes
    return 100 * float((found == data.test.labels).double().mean())


def accuracies(config: TrainConfig, tuning_steps: int) -> tuple[float, float, float]:
    """Trains, or reads what is trained, and tests.

    Args:
        config: of the training, at the size of the data.
        tuning_steps: updates of the fine-tuning at the larger size.

    Returns:
        The test accuracy at the size of the data, at ``SCALE`` times the size, and there after
        fine-tuning, in %.
    """
    folder, _ = learn(f"resized_seed{config.seed}", config)
    model, data = cast(ViT, load_run(folder)[0]), pictures_of(config.dataset)
    larger = enlarged(data, round(SCALE * data.image_size))
    resized = model.resized(larger.image_size)
    before = accuracy_of(resized, larger)
    torch.manual_seed(config.seed)  # dropout
    fine_tune(resized, larger, config, tuning_steps)
    return accuracy_of(model, data), before, accuracy_of(resized, larger)


def measure(
    config: TrainConfig = CONFIG, quick: TrainConfig = QUICK, seeds: Sequence[int] = SEEDS
) -> list[Result]:
    """Measures all, once for each seed."""
    started = time.perf_counter()
    found, of_quick = (
        [accuracies(replace(one, seed=seed, threads=THREADS), steps) for seed in seeds]
        for one, steps in ((config, TUNING_STEPS), (quick, 0))
    )
    pairs = zip(seeds, found, strict=True)
    rows = [[seed, *(round(value, 2) for value in row)] for seed, row in pairs]
    print(format_table(["seed", "original %", "larger %", "fine-tuned %"], rows), flush=True)
    values: dict[str, list[float]] = {
        "loss": [original - before for original, before, _ in found],
        "quick_loss": [original - before for original, before, _ in of_quick],
        "accuracy": [before for _, before, _ in found],
        "tuned_loss": [original - after for original, _, after in found],
        "tuned_accuracy": [after for _, _, after in found],
        "original_accuracy": [original for original, _, _ in found],
    }
    return [
        over_seeds(
            f"vit.resized.{key}", of_seeds, "points" if key.endswith("loss") else "%",
            LOSS_GOAL if key in ("loss", "tuned_loss") else NO_GOAL, seeds=seeds, preset=PRESET,
            better="lower" if key.endswith("loss") else "higher",
            note=MEASURES[f"vit.resized.{key}"], seconds=time.perf_counter() - started,
        )
        for key, of_seeds in values.items()
    ]  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.vit_resized", description="Measure vit on larger pictures."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="all are measured together")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Trains, resizes, records."""
    build_parser().parse_args(argv)
    machine = prepare(THREADS)
    return print_and_record("vit_quality", measure(), machine)


if __name__ == "__main__":
    run_entry(main)
