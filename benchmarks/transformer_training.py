"""Measures the training of ``transformer`` beside two peers: its speed and its memory.

Ours, torch.nn.Transformer and transformers' MarianMTModel, all of one size and with the same
dropout (see ``transformer_peers``), train on the same random minibatches: label smoothing 0.1, Adam
as in the paper, clipping at 1. Each side has a process of its own, because ours changes how the C
library keeps memory, and they take turns. At the end each process tells its peak memory.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.side_processes import Memory, race
from benchmarks.timing import THREADS, prepare, ratio, spread
from benchmarks.transformer_peers import SIZE, TorchTransformer, marian_model, random_batches
from transformer.batching import IGNORE, Batch
from transformer.train_transformer import batch_loss
from transformer.transformer_config import TransformerConfig
from transformer.transformer_model import Transformer
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.device import tune_cpu
from tutorial_kit.optimizers import decay_groups, fused_adamw
from tutorial_kit.results import Result, record

MEASURES = {
    "transformer.training.vs_nn_transformer": "target tokens/s in training, d 256, 3+3 layers, "
    "against torch.nn.Transformer",
    "transformer.training.vs_marian": "target tokens/s in training, d 256, 3+3 layers, against "
    "transformers' MarianMTModel",
    "transformer.training.memory_vs_nn_transformer": "peak memory of the process that trains, as a "
    "share of torch.nn.Transformer's",
    "transformer.training.added_memory_vs_nn_transformer": "the same without what the process held "
    "before the model was built",
    "transformer.training.tokens_per_second": "target tokens/s of ours",
    "transformer.training.megabytes": "peak memory of our process that trains",
}
GOALS = {"nn_transformer": (1.3, 1.6), "marian": (1.15, 1.4)}
SMOOTHING, LR, BETAS, EPS, CLIP = 0.1, 1e-3, (0.9, 0.98), 1e-9, 1.0

Step = Callable[[Batch], float]


def our_step(config: TransformerConfig) -> Step:
    """Returns a training step as ``train_transformer`` does it, without the average of weights."""
    tune_cpu()
    model = Transformer(config)
    optimizer = fused_adamw(decay_groups(model, 0.0), LR, BETAS, EPS)

    def step(batch: Batch) -> float:
        loss = batch_loss(model, batch, SMOOTHING)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def plain_step(model: nn.Module, logits: Callable[[Batch], Tensor]) -> Step:
    """Returns a training step as torch's documentation shows it; ``logits`` are (B, T, V)."""
    optimizer = torch.optim.Adam(model.parameters(), LR, BETAS, EPS)

    def step(batch: Batch) -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(
            logits(batch).flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORE,
            label_smoothing=SMOOTHING,
        )  # fmt: skip
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return loss.item()

    return step


def torch_step(config: TransformerConfig) -> Step:
    """Returns a training step of torch.nn.Transformer."""
    model = TorchTransformer(config)
    return plain_step(model, lambda b: model(b.source, b.target_in, b.source_mask))


def marian_step(config: TransformerConfig) -> Step:
    """Returns a training step of transformers' MarianMTModel."""
    model = marian_model(config).train()

    def logits(batch: Batch) -> Tensor:
        out: Tensor = model(
            input_ids=batch.source, attention_mask=batch.source_mask.long(),
            decoder_input_ids=batch.target_in, use_cache=False,
        ).logits  # fmt: skip
        return out

    return plain_step(model, logits)


SIDES = {"ours": our_step, "nn_transformer": torch_step, "marian": marian_step}


@dataclass(frozen=True)
class Plan:
    """What every process does, see ``side_processes.Contest``."""

    model: TransformerConfig = SIZE
    tokens_per_batch: int = 4096  # source and target together, padding included
    steps: int = 4  # minibatches a round
    rounds: int = 9  # timed, after one that is not
    threads: int = THREADS
    sides: tuple[str, ...] = tuple(SIDES)

    def load(self, side: str) -> None:
        """Imports nothing more: only ours is compared in memory with torch.nn, both are here."""

    def turns(self) -> list[list[Batch]]:
        """Returns the same random minibatches for every side."""
        generator = torch.Generator().manual_seed(0)
        count, vocab_size = self.steps * (self.rounds + 1), self.model.vocab_size
        batches = random_batches(count, vocab_size, self.tokens_per_batch, generator)
        return [batches[at : at + self.steps] for at in range(0, count, self.steps)]

    def start(self, side: str) -> Step:
        """Returns the training step of a side."""
        return SIDES[side](self.model)

    def amount(self, batch: Batch) -> int:
        """Returns the target tokens of a minibatch."""
        return batch.n_target_tokens


def speed_results(seconds: dict[str, list[float]]) -> list[Result]:
    """Returns how many times as fast ours is as each peer."""
    results = []
    for side, (at_least, aim) in GOALS.items():
        value, half_range = ratio(seconds[side], seconds["ours"])
        name = f"transformer.training.vs_{side}"
        results.append(Result(name, value, "x", at_least, aim, spread=half_range))
    return results


def memory_results(memory: dict[str, Memory]) -> list[Result]:
    """Returns our peak memory as a share of torch.nn.Transformer's, whole and what was added."""
    ours, theirs = memory["ours"], memory["nn_transformer"]
    prefix, suffix = "transformer.training.", "memory_vs_nn_transformer"
    return [
        Result(f"{prefix}{suffix}", ours.peak / theirs.peak, "x", 1.0, 0.7, "lower"),
        Result(f"{prefix}added_{suffix}", ours.added / theirs.added, "x", better="lower"),
        Result(f"{prefix}megabytes", ours.peak / 1e6, "MB", better="lower"),
    ]


def measure(plan: Plan) -> list[Result]:
    """Trains, prints a table, returns all results: they come from one run."""
    started = time.perf_counter()
    found = race(plan)
    rows = [
        (side, round(statistics.median(found.rates(side))), round(memory.peak / 1e6),
         round(memory.added / 1e6))
        for side, memory in found.memory.items()
    ]  # fmt: skip
    print(format_table(["training", "target tokens/s", "peak MB", "added MB"], rows), flush=True)
    rates = found.rates("ours")
    own = Result(
        "transformer.training.tokens_per_second", statistics.median(rates), "tokens/s",
        spread=spread(rates),
    )  # fmt: skip
    return [
        replace(
            result, note=MEASURES[result.name], seconds=time.perf_counter() - started,
            command=f"python -m benchmarks {result.name}",
        )
        for result in [*speed_results(found.seconds), *memory_results(found.memory), own]
    ]  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.transformer_training",
        description="Measure the training of transformer: speed and memory.",
    )
    parser.add_argument("--only", choices=list(MEASURES), help="all are measured together")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints and records."""
    build_parser().parse_args(argv)
    machine = prepare()
    results = [replace(result, machine=machine) for result in measure(Plan())]
    return record("transformer_training", results)


if __name__ == "__main__":
    run_entry(main)
