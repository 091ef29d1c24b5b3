"""Measures the reading of pictures with ``vit`` beside transformers' ViTForImageClassification.

Two of ours against theirs (see ``vit_peers``): the same model, and "best", the model of the preset
that is most accurate, made for the same pictures of 32 x 32 pixels in color: its stem leaves fewer
tokens. All get the same random minibatches; random weights, for the speed does not depend on them.

Each side has a process of its own, and they take turns. Theirs runs twice, as it comes and after
``tune_cpu``, the kit's settings of the processor: what is left of the ratio then is the model's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.side_processes import Race, race
from benchmarks.timing import THREADS, prepare, ratio, spread
from benchmarks.vit_peers import (
    PEER,
    ROWS,
    SHAPE,
    SIDES,
    TUNED,
    Batch,
    import_peer,
    peer_config,
    random_batches,
)
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.device import tune_cpu
from tutorial_kit.results import Result, record
from vit.train_config import PRESETS
from vit.vit_config import ViTConfig
from vit.vit_model import ViT

MEASURES = {
    "vit.inference.vs_transformers": "images/s, 128x6, patch 4 on 32x32, against transformers' "
    "ViTForImageClassification",
    "vit.inference.vs_transformers_tuned": "the same, transformers after tune_cpu",
    "vit.inference.best_vs_transformers": "images/s of our most accurate ViT on 32x32, against "
    "transformers' of 128x6, patch 4",
    "vit.inference.best_vs_transformers_tuned": "the same, transformers after tune_cpu",
    "vit.inference.images_per_second": "images/s of ours, 128x6, patch 4 on 32x32",
    "vit.inference.best_images_per_second": "images/s of our most accurate ViT on 32x32",
}
BEST, BEST_PRESET = "best", "standard"  # by validation accuracy, see vit_quality
GOALS = {"ours": (1.05, 1.3), BEST: (3.0, 5.0)}  # at least, aim; against PEER
PREFIX = {"ours": "vit.inference.", BEST: "vit.inference.best_"}

Read = Callable[[Batch], Tensor]


def best_shape() -> ViTConfig:
    """Returns our most accurate model for the pictures that the others read: of as many patches."""
    model = PRESETS[BEST_PRESET].model
    return replace(
        model, image_size=SHAPE.image_size, patch_size=SHAPE.image_size // model.grid,
        channels=SHAPE.channels, n_classes=SHAPE.n_classes,
    )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What every process does, see ``side_processes.Contest``."""

    model: ViTConfig = SHAPE  # of ours and theirs
    best: ViTConfig | None = None  # of ours that has fewer tokens; None: ``best_shape``
    rows: int = ROWS  # pictures in a minibatch
    steps: int = 4  # minibatches a round
    rounds: int = 11  # timed, after one that is not
    threads: int = THREADS
    sides: tuple[str, ...] = (*SIDES, BEST)

    def load(self, side: str) -> None:
        """Imports transformers where it is needed."""
        if side != BEST:
            import_peer(side)

    def turns(self) -> list[list[Batch]]:
        """Returns the same random minibatches for every side and every round."""
        generator = torch.Generator().manual_seed(0)
        return [random_batches(self.steps, self.rows, self.model, generator)] * (self.rounds + 1)

    def start(self, side: str) -> Read:
        """Returns what a side does with a minibatch."""
        if side != PEER:
            tune_cpu()
        return reader(side, (self.best or best_shape()) if side == BEST else self.model)

    def amount(self, batch: Batch) -> int:
        """Returns the pictures of a minibatch."""
        return len(batch[0])


def reader(side: str, config: ViTConfig) -> Read:
    """Returns a function that computes the logits (B, n_classes) of a minibatch.

    Args:
        side: "ours", "best" or a peer.
        config: the model's shape.
    """
    if side in ("ours", BEST):
        model = ViT(config).eval()

        def read(batch: Batch) -> Tensor:
            with torch.inference_mode():
                logits: Tensor = model(batch[0])
            return logits

        return read

    from transformers import ViTForImageClassification

    peer: Any = ViTForImageClassification(peer_config(config)).eval()

    def read_peer(batch: Batch) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = peer(pixel_values=batch[0]).logits
        return logits

    return read_peer


def results_of(found: Race) -> list[Result]:
    """Returns the speed of both of ours beside transformers'."""
    results = []
    for side, prefix in PREFIX.items():
        for peer in (PEER, TUNED):
            value, half_range = ratio(found.seconds[peer], found.seconds[side])
            at_least, aim = GOALS[side] if peer == PEER else (None, None)
            name = f"{prefix}vs_{peer}"
            results.append(Result(name, value, "x", at_least, aim, spread=half_range))
        rates = found.rates(side)
        results.append(
            Result(
                f"{prefix}images_per_second", statistics.median(rates), "images/s",
                spread=spread(rates),
            )
        )  # fmt: skip
    return results


def measure(plan: Plan) -> list[Result]:
    """Reads, prints a table, returns all results: they come from one run."""
    started = time.perf_counter()
    found = race(plan)
    rows = [(side, round(statistics.median(found.rates(side)))) for side in plan.sides]
    print(format_table(["reading", "images/s"], rows), flush=True)
    return [
        replace(
            result, note=MEASURES[result.name], seconds=time.perf_counter() - started,
            preset=BEST_PRESET if ".best_" in result.name else None,
            command=f"python -m benchmarks {result.name}",
        )
        for result in results_of(found)
    ]  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.vit_inference", description="Measure reading with vit."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="all are measured together")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints and records."""
    build_parser().parse_args(argv)
    machine = prepare()
    return record("vit_inference", [replace(row, machine=machine) for row in measure(Plan())])


if __name__ == "__main__":
    run_entry(main)
