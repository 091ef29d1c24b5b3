"""Measures the pre-training of ``bert`` beside transformers' BertForPreTraining: speed and memory.

Both, of one size and with the same dropout (see ``bert_peers``), train on the same random
minibatches, 32 sequences of 128 tokens with 15 % masked: MLM and NSP, fused AdamW, clipping at 1.
Each side has a process of its own, and they take turns. Theirs runs twice, as it comes and after
``tune_cpu``, the kit's settings of the processor: what is left of the ratio then is the model's.

Memory: the peak of a process minus what it held with all imported and before the model was built,
so weights, gradients, the optimizer's memory and everything a step needs in between.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from benchmarks.bert_peers import (
    PEER,
    SIDES,
    SIZES,
    TUNED,
    import_peer,
    peer_config,
    random_batches,
)
from benchmarks.side_processes import Race, race
from benchmarks.timing import THREADS, prepare, ratio, spread
from bert.bert_config import BertConfig
from bert.bert_data import PretrainingBatch
from bert.bert_heads import BertForPreTraining
from bert.bert_model import BertModel
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.device import tune_cpu
from tutorial_kit.optimizers import decay_groups, fused_adamw
from tutorial_kit.results import Result, record

MEASURES = {
    "bert.training.vs_transformers_128x4": "pre-training tokens/s, 128x4, B32 T128, against "
    "transformers' BertForPreTraining",
    "bert.training.vs_transformers_256x4": "pre-training tokens/s, 256x4, B32 T128, against "
    "transformers' BertForPreTraining",
    "bert.training.vs_transformers_tuned_128x4": "the same at 128x4, transformers after tune_cpu",
    "bert.training.vs_transformers_tuned_256x4": "the same at 256x4, transformers after tune_cpu",
    "bert.training.memory_vs_transformers_128x4": "peak memory of a training step, 128x4, as a "
    "share of transformers'",
    "bert.training.memory_vs_transformers_256x4": "peak memory of a training step, 256x4, as a "
    "share of transformers'",
    "bert.training.process_memory_vs_transformers_128x4": "the same of the whole process, 128x4, "
    "imported libraries included",
    "bert.training.process_memory_vs_transformers_256x4": "the same of the whole process, 256x4, "
    "imported libraries included",
    "bert.training.tokens_per_second_128x4": "pre-training tokens/s of ours, 128x4",
    "bert.training.tokens_per_second_256x4": "pre-training tokens/s of ours, 256x4",
}
SPEED_GOAL, MEMORY_GOAL = (2.0, 3.0), (0.8, 0.5)
LR, BETAS, EPS, WEIGHT_DECAY, CLIP = 1e-3, (0.9, 0.999), 1e-8, 0.01, 1.0
STEPS = {"128x4": 4, "256x4": 2}  # minibatches a round

Step = Callable[[PretrainingBatch], float]


def our_step(config: BertConfig) -> Step:
    """Returns a training step as ``bert_pretraining`` does it."""
    tune_cpu()
    model = BertForPreTraining(BertModel(config)).train()
    optimizer = fused_adamw(decay_groups(model, WEIGHT_DECAY), LR, BETAS, EPS)

    def step(batch: PretrainingBatch) -> float:
        out = model(batch.tokens, batch.mask, batch.segments, batch.labels, batch.next_labels)
        out.loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return float(out.loss.item())

    return step


def peer_step(config: BertConfig) -> Step:
    """Returns a training step of transformers, with the optimizer of its Trainer: fused AdamW."""
    from transformers import BertForPreTraining as Peer

    model = Peer(peer_config(config)).train()
    optimizer = torch.optim.AdamW(
        decay_groups(model, WEIGHT_DECAY), lr=LR, betas=BETAS, eps=EPS, fused=True
    )

    def step(batch: PretrainingBatch) -> float:
        optimizer.zero_grad()
        loss = model(
            input_ids=batch.tokens, attention_mask=batch.mask, token_type_ids=batch.segments,
            labels=batch.labels, next_sentence_label=batch.next_labels,
        ).loss  # fmt: skip
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return float(loss.item())

    return step


@dataclass(frozen=True)
class Plan:
    """What every process does, see ``side_processes.Contest``."""

    model: BertConfig
    rows: int = 32  # sequences in a minibatch, all of max_len tokens
    steps: int = 4  # minibatches a round
    rounds: int = 9  # timed, after one that is not
    threads: int = THREADS
    sides: tuple[str, ...] = SIDES

    def load(self, side: str) -> None:
        """Imports transformers where it is needed."""
        import_peer(side)

    def turns(self) -> list[list[PretrainingBatch]]:
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
        return our_step(self.model) if side == "ours" else peer_step(self.model)

    def amount(self, batch: PretrainingBatch) -> int:
        """Returns the tokens of a minibatch; none is padding."""
        return batch.tokens.numel()


def results_of(found: Race, size: str) -> list[Result]:
    """Returns speed and memory of ours beside transformers'."""
    ours, theirs = found.memory["ours"], found.memory[PEER]
    rates = found.rates("ours")

    def speed(peer: str, goal: tuple[float | None, float | None]) -> Result:
        value, half_range = ratio(found.seconds[peer], found.seconds["ours"])
        return Result(f"bert.training.vs_{peer}_{size}", value, "x", *goal, spread=half_range)

    return [
        speed(PEER, SPEED_GOAL),
        speed(TUNED, (None, None)),
        Result(
            f"bert.training.memory_vs_transformers_{size}", ours.added / theirs.added, "x",
            *MEMORY_GOAL, "lower",
        ),
        Result(
            f"bert.training.process_memory_vs_transformers_{size}", ours.peak / theirs.peak, "x",
            better="lower",
        ),
        Result(
            f"bert.training.tokens_per_second_{size}", statistics.median(rates), "tokens/s",
            spread=spread(rates),
        ),
    ]  # fmt: skip


def measure(size: str, plan: Plan) -> list[Result]:
    """Trains one size, prints a table, returns all results: they come from one run."""
    started = time.perf_counter()
    found = race(plan)
    rows = [
        (side, round(statistics.median(found.rates(side))), round(memory.peak / 1e6),
         round(memory.added / 1e6))
        for side, memory in found.memory.items()
    ]  # fmt: skip
    print(format_table([f"training {size}", "tokens/s", "peak MB", "added MB"], rows), flush=True)
    return [
        replace(
            result, note=MEASURES[result.name], seconds=time.perf_counter() - started,
            preset=size, command=f"python -m benchmarks {result.name}",
        )
        for result in results_of(found, size)
    ]  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.bert_training",
        description="Measure the pre-training of bert: speed and memory.",
    )
    parser.add_argument(
        "--only", choices=list(MEASURES), help="all of a size are measured together"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints and records."""
    only = build_parser().parse_args(argv).only
    machine = prepare()
    results: list[Result] = []
    for size, config in SIZES.items():
        if only is None or only.endswith(size):
            found = measure(size, Plan(config, steps=STEPS[size]))
            results += record("bert_training", [replace(row, machine=machine) for row in found])
    return results


if __name__ == "__main__":
    run_entry(main)
