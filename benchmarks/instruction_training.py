"""Measures two trainings of ``instruction_tuning`` beside TRL's SFTTrainer and DPOTrainer: steps/s.

Each side trains in a process of its own, and they take turns of eight steps (on what, says
``instruction_peers``; how, ``instruction_lockstep``). The minibatches are the same on both sides,
and they are ours: their rows are of similar length, which saves padding on either side. What that
is worth tells the side ``trl_shuffled``: the same rows in random order.

DPO needs the reference's log-probabilities. Ours computes them once, before the first step; TRL
computes them in every step, unless it is told not to. What that alone is worth, two more sides
tell: ``trl_precomputed`` has computed them before, too, and ``ours_counted`` does its pass within
the steps, as if every pair were seen once.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from benchmarks import instruction_peers as peers
from benchmarks.instruction_lockstep import Lockstep, pause_behind_steps, pausing
from benchmarks.side_processes import Race, race
from benchmarks.timing import THREADS, prepare, ratio, spread
from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from instruction_tuning import dpo_trainer, sft_trainer
from instruction_tuning.instruction_data import build_tokenizer
from instruction_tuning.pair_data import PairData, Pairs, pair_log_probs
from instruction_tuning.tuning_config import DPOConfig, SFTConfig
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.device import tune_cpu
from tutorial_kit.results import Result, record

NAME = "instruction_tuning.training"
MEASURES = {
    "instruction_tuning.training.sft_vs_trl": "SFT steps/s, GPT-2 4x128, 32 conversations, against "
    "TRL's SFTTrainer in float32 without checkpointing",
    "instruction_tuning.training.sft_vs_trl_tuned": "the same, TRL after tune_cpu",
    "instruction_tuning.training.sft_vs_trl_shuffled": "the same, TRL with minibatches in random "
    "order, not sorted by length",
    "instruction_tuning.training.sft_steps_per_second": "SFT steps/s of ours",
    "instruction_tuning.training.dpo_vs_trl": "DPO steps/s, GPT-2 4x128, 32 pairs, the reference "
    "computed once, against TRL's DPOTrainer, which does so in every step, in float32 without "
    "checkpointing",
    "instruction_tuning.training.dpo_vs_trl_tuned": "the same, TRL after tune_cpu",
    "instruction_tuning.training.dpo_vs_trl_shuffled": "the same, TRL with minibatches in random "
    "order, not sorted by length",
    "instruction_tuning.training.dpo_vs_trl_precomputed": "the same, TRL too with the reference "
    "computed before the training",
    "instruction_tuning.training.dpo_vs_trl_counted": "the same, our pass of the reference counted "
    "in, each pair seen once",
    "instruction_tuning.training.dpo_steps_per_second": "DPO steps/s of ours",
}
Goal = tuple[float | None, float | None]  # at least, aim
NO_GOAL: Goal = (None, None)
GOALS: dict[str, Goal] = {"sft_vs_trl": (1.2, 2.0), "dpo_vs_trl": (2.0, 3.0)}
OURS, COUNTED, TRL = "ours", "ours_counted", "trl"
SIDES = {
    "sft": (OURS, TRL, "trl_tuned", "trl_shuffled"),
    "dpo": (OURS, COUNTED, TRL, "trl_tuned", "trl_shuffled", "trl_precomputed"),
}
NEVER = 10**9  # steps: no evaluation, no checkpoint within the measurement


@dataclass(frozen=True)
class Plan:
    """What every process does, see ``side_processes.Contest``; a batch is the number of a step."""

    task: str  # "sft" or "dpo"
    model: GPTConfig = field(default_factory=peers.shape)
    rows: int = peers.ROWS  # conversations or pairs in a minibatch
    steps: int = 8  # a round: as many minibatches as are sorted by length together
    rounds: int = 9  # timed, after one that is not
    threads: int = THREADS

    @property
    def sides(self) -> Sequence[str]:
        """Names of the sides."""
        return SIDES[self.task]

    @property
    def total(self) -> int:
        """Steps in all rounds, and one round more: no training comes to its end."""
        return (self.rounds + 2) * self.steps

    def load(self, side: str) -> None:
        """Imports TRL where it is needed; shows no bars and none of its notes to programmers."""
        os.environ["TQDM_DISABLE"] = "1"
        warnings.simplefilter("ignore", FutureWarning)
        if side.startswith(TRL):
            from trl import DPOTrainer, SFTTrainer  # noqa: F401

    def turns(self) -> list[range]:
        """Returns the steps of each round."""
        starts = range(0, (self.rounds + 1) * self.steps, self.steps)
        return [range(start, start + self.steps) for start in starts]

    def start(self, side: str) -> Callable[[int], None]:
        """Returns what a side does in a step."""
        if side == "trl_tuned":
            tune_cpu()
        torch.manual_seed(0)
        model = GPT(self.model)
        if side.startswith(TRL):
            return self._their_steps(side, model)
        return our_sft(self, model) if self.task == "sft" else our_dpo(self, model, side)

    def _their_steps(self, side: str, model: GPT) -> Callable[[int], None]:
        """Returns a step of TRL."""
        by_length, lockstep = side != "trl_shuffled", Lockstep()
        if self.task == "sft":
            rows = peers.demonstration_rows(self.total * self.rows)
            lengths = [len(ids) for ids, _ in rows]
            order = peers.in_order(lengths, self.rows, by_length=by_length)
            trainer = peers.sft_trainer(model, [rows[i] for i in order], self.rows, lockstep.folder)
        else:
            pairs = peers.preference_rows(self.total * self.rows)
            lengths = Pairs.of(pairs, self.model.max_len).lengths
            order = peers.in_order(lengths, self.rows, by_length=by_length)
            trainer = peers.dpo_trainer(
                model, [pairs[i] for i in order], self.rows, lockstep.folder,
                precompute=side == "trl_precomputed",
            )  # fmt: skip
        pause_behind_steps(trainer, lockstep)
        lockstep.start(trainer.train)
        return lambda _: lockstep.step()

    def amount(self, batch: int) -> int:
        """Returns 1: a step."""
        return 1


def settings(plan: Plan) -> dict[str, object]:
    """Returns what our trainers are told; TRL's are told the same in ``peers``."""
    return {
        "batch_size": plan.rows, "max_steps": plan.total, "lr": peers.LR, "beta2": peers.BETAS[1],
        "weight_decay": peers.WEIGHT_DECAY, "clip": peers.CLIP, "schedule": "linear", "warmup": 0.0,
        "precision": "float32", "threads": plan.threads, "seed": 0,
        "eval_every": NEVER, "checkpoint_every": NEVER,
    }  # fmt: skip


def our_sft(plan: Plan, model: GPT) -> Callable[[int], None]:
    """Returns a step of ``sft_trainer``."""
    rows = peers.demonstration_rows(plan.total * plan.rows)
    data = sft_trainer.SFTData(rows, rows[: plan.rows], [])
    config = SFTConfig(**settings(plan))  # type: ignore[arg-type]
    lockstep = Lockstep()

    def train() -> object:
        folder = Path(lockstep.folder)
        return sft_trainer.train(config, model, build_tokenizer(), data, folder, device="cpu")

    lockstep.start(pausing(train, lockstep))
    return lambda _: lockstep.step()


def our_dpo(plan: Plan, model: GPT, side: str) -> Callable[[int], None]:
    """Returns a step of ``dpo_trainer``; if counted, with the reference's pass over its pairs.

    That is done in the first step of a round for all of its pairs, as the trainer does it for the
    whole data before the first step.
    """
    pairs = Pairs.of(peers.preference_rows(plan.total * plan.rows), plan.model.max_len)
    few = Pairs(pairs.prompts[: plan.rows], pairs.replies[: plan.rows], pairs.max_len)
    data = PairData(pairs, few, [])
    config = DPOConfig(**settings(plan), beta=peers.BETA, likelihood=0.0)  # type: ignore[arg-type]
    lockstep = Lockstep()

    def train() -> object:
        folder = Path(lockstep.folder)
        return dpo_trainer.train(config, model, build_tokenizer(), data, folder, device="cpu")

    order = peers.in_order(pairs.lengths, plan.rows)
    size = plan.steps * plan.rows

    def step(number: int) -> None:
        if side == COUNTED and number % plan.steps == 0:
            chosen = order[number * plan.rows :][:size]
            pair_log_probs(
                model,
                Pairs([pairs.prompts[i] for i in chosen], [pairs.replies[i] for i in chosen],
                      pairs.max_len),
            )  # fmt: skip
        lockstep.step()

    lockstep.start(pausing(train, lockstep))
    return step


def results_of(found: Race, task: str) -> list[Result]:
    """Returns the speed of ours beside each side of TRL."""
    pairs = {f"{task}_vs_{side}": (side, OURS) for side in found.seconds if side.startswith(TRL)}
    if COUNTED in found.seconds:
        pairs["dpo_vs_trl_counted"] = (TRL, COUNTED)
    results = []
    for key, (theirs, ours) in pairs.items():
        value, half_range = ratio(found.seconds[theirs], found.seconds[ours])
        goal = GOALS.get(key, NO_GOAL)
        results.append(Result(f"{NAME}.{key}", value, "x", *goal, spread=half_range))
    rates = found.rates(OURS)
    key = f"{NAME}.{task}_steps_per_second"
    return [*results, Result(key, statistics.median(rates), "steps/s", spread=spread(rates))]


def measure(plan: Plan) -> list[Result]:
    """Trains, prints a table, returns all results of a task: they come from one run."""
    started = time.perf_counter()
    found = race(plan)
    rows = [
        (side, round(statistics.median(found.rates(side)), 2), round(memory.peak / 1e6))
        for side, memory in found.memory.items()
    ]
    print(format_table([plan.task, "steps/s", "peak MB"], rows), flush=True)
    return [
        replace(
            result, note=MEASURES[result.name], seconds=time.perf_counter() - started,
            command=f"python -m benchmarks {result.name}",
        )
        for result in results_of(found, plan.task)
    ]  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.instruction_training",
        description="Measure two trainings of instruction_tuning beside TRL: speed.",
    )
    parser.add_argument(
        "--only", choices=list(MEASURES), help="all of SFT, or all of DPO, are measured together"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints and records."""
    only = build_parser().parse_args(argv).only
    machine = prepare()
    results: list[Result] = []
    for task in SIDES:
        if only is None or only.startswith(f"{NAME}.{task}_"):
            found = [replace(row, machine=machine) for row in measure(Plan(task))]
            results += record("instruction_training", found)
    return results


if __name__ == "__main__":
    run_entry(main)
