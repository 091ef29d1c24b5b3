"""Measures the training of ``vit`` beside transformers' ViTForImageClassification: speed, memory.

Both, of one size and without dropout (see ``vit_peers``), train on the same random minibatches, 128
pictures of 32 x 32 pixels: cross-entropy, fused AdamW, clipping at 1. Each side has a process of
its own, and they take turns. Theirs runs twice, as it comes and after ``tune_cpu``, the kit's
settings of the processor: what is left of the ratio then is the model's.

Memory: the peak of a process minus what it held before the model was built, so weights, gradients,
the optimizer's memory and everything a step needs in between. Every process has trained a model of
one layer before: what torch loads for its first step belongs to no model (and transformers, when it
is imported, loads a good part of it).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
from tutorial_kit.optimizers import decay_groups, fused_adamw
from tutorial_kit.results import Result, record
from vit.vit_config import ViTConfig
from vit.vit_model import ViT

MEASURES = {
    "vit.training.vs_transformers": "training images/s, 128x6, patch 4 on 32x32, B128, against "
    "transformers' ViTForImageClassification",
    "vit.training.vs_transformers_tuned": "the same, transformers after tune_cpu",
    "vit.training.memory_vs_transformers": "peak memory of a training step, as a share of "
    "transformers'",
    "vit.training.memory_vs_transformers_tuned": "the same, transformers after tune_cpu",
    "vit.training.process_memory_vs_transformers": "the same of the whole process, imported "
    "libraries included",
    "vit.training.images_per_second": "training images/s of ours, 128x6, patch 4 on 32x32",
}
Goal = tuple[float | None, float | None]  # at least, aim
SPEED_GOAL: Goal = (1.05, 1.3)
MEMORY_GOAL: Goal = (1.0, 0.7)
NO_GOAL: Goal = (None, None)
LR, BETAS, EPS, WEIGHT_DECAY, CLIP = 1e-3, (0.9, 0.999), 1e-8, 0.05, 1.0

Step = Callable[[Batch], float]


def training_step(
    model: nn.Module, loss_of: Callable[[Tensor, Tensor], Tensor], optimizer: Any
) -> Step:
    """Returns one step of training: what differs between the sides is ``loss_of``."""
    parameters = list(model.parameters())

    def step(batch: Batch) -> float:
        loss = loss_of(*batch)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    return step


def our_step(config: ViTConfig) -> Step:
    """Returns a training step as ``vit_trainer`` does it."""
    tune_cpu()
    model = ViT(config).train()
    optimizer = fused_adamw(decay_groups(model, WEIGHT_DECAY), LR, BETAS, EPS)
    return training_step(
        model, lambda images, labels: F.cross_entropy(model(images), labels), optimizer
    )


def peer_step(config: ViTConfig) -> Step:
    """Returns a training step of transformers, with the optimizer of its Trainer: fused AdamW."""
    from transformers import ViTForImageClassification

    model: Any = ViTForImageClassification(peer_config(config)).train()
    optimizer = torch.optim.AdamW(
        decay_groups(model, WEIGHT_DECAY), lr=LR, betas=BETAS, eps=EPS, fused=True
    )
    return training_step(
        model, lambda images, labels: model(pixel_values=images, labels=labels).loss, optimizer
    )


@dataclass(frozen=True)
class Plan:
    """What every process does, see ``side_processes.Contest``."""

    model: ViTConfig = SHAPE
    rows: int = ROWS  # pictures in a minibatch
    steps: int = 4  # minibatches a round
    rounds: int = 9  # timed, after one that is not
    threads: int = THREADS
    sides: tuple[str, ...] = SIDES

    def load(self, side: str) -> None:
        """Imports transformers where it is needed, and lets torch load what a first step needs."""
        import_peer(side)
        tiny = replace(self.model, n_layers=1, n_heads=1, d_model=8, d_ff=8)
        (batch,) = random_batches(1, 2, tiny, torch.Generator().manual_seed(0))
        self._step(side, tiny)(batch)

    def turns(self) -> list[list[Batch]]:
        """Returns the same random minibatches for every side."""
        generator = torch.Generator().manual_seed(0)
        return [
            random_batches(self.steps, self.rows, self.model, generator)
            for _ in range(self.rounds + 1)
        ]

    def start(self, side: str) -> Step:
        """Returns the training step of a side."""
        if side == TUNED:
            tune_cpu()
        return self._step(side, self.model)

    def _step(self, side: str, config: ViTConfig) -> Step:
        return our_step(config) if side == "ours" else peer_step(config)

    def amount(self, batch: Batch) -> int:
        """Returns the pictures of a minibatch."""
        return len(batch[0])


def results_of(found: Race) -> list[Result]:
    """Returns speed and memory of ours beside transformers'."""
    ours, rates = found.memory["ours"], found.rates("ours")

    def speed(peer: str, goal: Goal) -> Result:
        value, half_range = ratio(found.seconds[peer], found.seconds["ours"])
        return Result(f"vit.training.vs_{peer}", value, "x", *goal, spread=half_range)

    def memory(peer: str, goal: Goal) -> Result:
        value = ours.added / found.memory[peer].added
        return Result(f"vit.training.memory_vs_{peer}", value, "x", *goal, better="lower")

    return [
        speed(PEER, SPEED_GOAL),
        speed(TUNED, NO_GOAL),
        memory(PEER, MEMORY_GOAL),
        memory(TUNED, NO_GOAL),
        Result(
            f"vit.training.process_memory_vs_{PEER}", ours.peak / found.memory[PEER].peak, "x",
            better="lower",
        ),
        Result(
            "vit.training.images_per_second", statistics.median(rates), "images/s",
            spread=spread(rates),
        ),
    ]  # fmt: skip


def measure(plan: Plan) -> list[Result]:
    """Trains, prints a table, returns all results: they come from one run."""
    started = time.perf_counter()
    found = race(plan)
    rows = [
        (side, round(statistics.median(found.rates(side)), 1), round(memory.peak / 1e6),
         round(memory.added / 1e6))
        for side, memory in found.memory.items()
    ]  # fmt: skip
    print(format_table(["training", "images/s", "peak MB", "added MB"], rows), flush=True)
    return [
        replace(
            result, note=MEASURES[result.name], seconds=time.perf_counter() - started,
            command=f"python -m benchmarks {result.name}",
        )
        for result in results_of(found)
    ]  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.vit_training",
        description="Measure the training of vit: speed and memory.",
    )
    parser.add_argument("--only", choices=list(MEASURES), help="all are measured together")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints and records."""
    build_parser().parse_args(argv)
    machine = prepare()
    return record("vit_training", [replace(row, machine=machine) for row in measure(Plan())])


if __name__ == "__main__":
    run_entry(main)
