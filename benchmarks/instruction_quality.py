"""Measures how good an assistant every stage of ``instruction_tuning`` makes, three times.

The seed decides all: the base model's text and weights, the demonstrations, the replies that are
compared, the order of the data, what is drawn. The test is the same for every seed: 400 requests
about words that occur in no training. The settings were chosen by requests of the validation split;
that DPO needed another look, a first run on the test had shown.

A stage is trained when a number first needs it, and kept under the hash of its settings where
``run_examples.py`` keeps its own, so what both need is trained once. Gains are in points, against
the SFT model of the same seed. ``likelihood`` is the control of DPO: the same chosen replies,
imitated, without a comparison.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.seed_measures import NO_GOAL, Goal, over_seeds, print_and_record
from benchmarks.timing import prepare
from instruction_tuning.recipes import STAGES, make_recipe
from instruction_tuning.stages import Stages
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.results import Result

NAME = "instruction_tuning.quality"
PRESET, SEEDS = "quick", (0, 1, 2)
THREADS = 1  # a process: seeds can be trained side by side
SAMPLES = (1, 4, 16)  # of best-of-n
TRAINED = tuple(stage for stage in STAGES if stage != "base")
Numbers = dict[str, float]


class Assistant:
    """All stages of one seed; each is trained when it is first asked for."""

    def __init__(self, preset: str, seed: int) -> None:
        """Trains nothing yet."""
        threads: dict[str, Any] = dict.fromkeys(TRAINED, {"threads": THREADS})
        recipe = make_recipe(preset, seed, threads, base_seed=seed)
        control = replace(recipe, dpo=replace(recipe.dpo, loss="likelihood"))
        self.stages, self.control = Stages(recipe, device="cpu"), Stages(control, device="cpu")
        self.told: dict[str, Numbers] = {}

    def __call__(self, stage: str) -> Numbers:
        """Returns a stage's numbers; "likelihood" is DPO's control."""
        if stage not in self.told:
            stages = self.control if stage == "likelihood" else self.stages
            self.told[stage] = stages.outcome("dpo" if stage == "likelihood" else stage)
        return self.told[stage]


@dataclass(frozen=True)
class Quantity:
    """What is read off the assistants, in ``unit``."""

    what: str  # in a few words
    read: Callable[[Sequence[Assistant]], list[float]]  # one value a seed
    unit: str = "%"
    goal: Goal = NO_GOAL
    better: str = "higher"


def each(read: Callable[[Assistant], float]) -> Callable[[Sequence[Assistant]], list[float]]:
    """Returns what reads one value off each assistant."""
    return lambda assistants: [read(told) for told in assistants]


def share(stage: str, key: str, what: str, goal: Goal = NO_GOAL) -> Quantity:
    """Returns a share of a stage in %."""
    return Quantity(what, each(lambda told: 100 * told(stage)[key]), goal=goal)


def gain(stage: str, over: str, key: str, what: str, goal: Goal = NO_GOAL) -> Quantity:
    """Returns by how many points a stage is above another one."""
    read = each(lambda told: 100 * (told(stage)[key] - told(over)[key]))
    return Quantity(what, read, "points", goal)


def policy_quantities(
    stage: str, name: str, greedy: Goal = NO_GOAL, sampled: Goal = NO_GOAL
) -> dict[str, Quantity]:
    """Returns what is measured of every policy that SFT's model was tuned to.

    Args:
        stage: its name here.
        name: in words.
        greedy: goal of the gain over SFT, greedy.
        sampled: goal of the gain over SFT at temperature 1.
    """
    return {
        f"{stage}_exact": share(stage, "exact", f"{name}: answered exactly, greedy"),
        f"{stage}_sampled": share(stage, "exact_sampled", f"{name}: answered exactly, sampled"),
        f"{stage}_gain": gain(stage, "sft", "exact", f"{name} above SFT, greedy", greedy),
        f"{stage}_sampled_gain": gain(
            stage, "sft", "exact_sampled", f"{name} above SFT, sampled", sampled
        ),
        f"{stage}_chatter": share(stage, "chatter", f"{name}: replies with chatter, sampled"),
        f"{stage}_kl": Quantity(
            f"{name}: KL to SFT",
            each(lambda told: told(stage)["kl"]),
            "nats a reply",
            better="lower",
        ),
    }


def worst_task(assistants: Sequence[Assistant]) -> list[float]:
    """Returns how many points GRPO is above SFT in one task, a number for each seed.

    It is the task in which it is least above SFT on the mean over the seeds: the worst task of each
    seed by itself would mostly be the unluckiest one.
    """
    changes = {
        key: [100 * (told("grpo")[key] - told("sft")[key]) for told in assistants]
        for key in assistants[0]("sft")
        if key.startswith("task.")
    }
    return min(changes.values(), key=statistics.fmean)


QUANTITIES: dict[str, Quantity] = {
    "base_exact": share("base", "exact", "base model: answered exactly, greedy"),
    "sft_exact": share("sft", "exact", "SFT: answered exactly, greedy", (70.0, 90.0)),
    "sft_sampled": share("sft", "exact_sampled", "SFT: answered exactly, sampled"),
    "sft_chatter": share("sft", "chatter", "SFT: replies with chatter, sampled"),
    "reward_accuracy": share(
        "reward", "accuracy", "reward model: pairs of unseen requests told right", (88.0, 95.0)
    ),
    "reward_accuracy_all": share(
        "reward", "accuracy_all", "the same, with pairs that no labeler can tell apart"
    ),
    **{
        f"best_of_{n}": share("reward", f"best_of.{n}", f"best of {n} by the reward model: exact")
        for n in SAMPLES
    },
    **{
        f"pass_at_{n}": share("reward", f"pass.{n}", f"at least one of {n} samples is exact")
        for n in SAMPLES[1:]
    },
    "best_of_16_above_4": Quantity(
        "best of 16 above best of 4",
        each(lambda told: 100 * (told("reward")["best_of.16"] - told("reward")["best_of.4"])),
        "points", (0.0, None),
    ),
    "best_of_16_share": Quantity(
        "best of 16, as a share of pass@16",
        each(lambda told: 100 * told("reward")["best_of.16"] / told("reward")["pass.16"]),
        goal=(None, 80.0),
    ),
    **policy_quantities("dpo", "DPO with the likelihood term", (5.0, 15.0), (15.0, 30.0)),
    **policy_quantities("likelihood", "training on the chosen replies alone"),
    "dpo_above_likelihood": gain(
        "dpo", "likelihood", "exact", "DPO above training on the chosen replies alone, greedy",
        (0.0, None),
    ),
    "dpo_sampled_above_likelihood": gain(
        "dpo", "likelihood", "exact_sampled",
        "DPO above training on the chosen replies alone, sampled", (0.0, None),
    ),
    **policy_quantities("ppo", "PPO on the reward model", (0.0, 5.0), (10.0, 20.0)),
    **policy_quantities("grpo", "GRPO with the verifier", (3.0, 10.0), (20.0, 35.0)),
    "grpo_worst_task": Quantity(
        "GRPO above SFT in the task where it is least so, greedy", worst_task, "points", (None, 0.0)
    ),
}  # fmt: skip
QUANTITIES["ppo_kl"] = replace(QUANTITIES["ppo_kl"], goal=(1.5, None))

MEASURES = {f"{NAME}.{key}": quantity.what for key, quantity in QUANTITIES.items()}


def measure(
    keys: Sequence[str], seeds: Sequence[int] = SEEDS, preset: str = PRESET
) -> list[Result]:
    """Returns some of ``QUANTITIES``, each the mean over the seeds."""
    assistants = [Assistant(preset, seed) for seed in seeds]
    found = {key: QUANTITIES[key].read(assistants) for key in keys}
    return [
        over_seeds(
            f"{NAME}.{key}", values, QUANTITIES[key].unit, QUANTITIES[key].goal, seeds=seeds,
            note=QUANTITIES[key].what, preset=preset, seconds=seconds_of(assistants),
            better=QUANTITIES[key].better,
        )
        for key, values in found.items()
    ]  # fmt: skip


def seconds_of(assistants: Sequence[Assistant]) -> float:
    """Returns what all stages that were asked for took, now or earlier; not the base model."""
    stages = [numbers for told in assistants for numbers in told.told.values()]
    return sum(numbers["wall_seconds"] for numbers in stages)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.instruction_quality",
        description="Measure every stage of instruction_tuning.",
    )
    parser.add_argument("--only", choices=list(MEASURES), help="train no more than this one needs")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="three at least")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Trains what is not there yet, reads, records."""
    args = build_parser().parse_args(argv)
    machine = prepare(THREADS)
    keys = list(QUANTITIES) if args.only is None else [args.only.removeprefix(f"{NAME}.")]
    return print_and_record("instruction_quality", measure(keys, args.seeds), machine)


if __name__ == "__main__":
    run_entry(main)
