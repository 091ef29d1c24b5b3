"""Measures what pre-training gives ``bert``: filled masks, next sentences, tasks with few labels.

``PRETRAININGS`` says which trainings there are; a training serves every result that names it, and
goes on where it was stopped. Minutes count training steps, not evaluations. Masks and pairs are
those of held-out modules; the unigram entropy is that of the held-out tokens themselves, the least
that any guess without context can reach. Contestants learn from the same labeled examples for the
same seed: the pre-trained model, its twin with fresh weights, TF-IDF with logistic regression.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from benchmarks.bert_runs import CONTESTANTS, Pretrained, accuracy, held_out, pretrain
from benchmarks.bert_runs import pretraining_config as config_of
from benchmarks.timing import THREADS, prepare
from bert.finetuning_config import PRESETS as FINETUNINGS
from bert.finetuning_config import FinetuneConfig
from bert.finetuning_tasks import TextTask, load_task
from bert.training_figures import CurvePoint, few_label_figure
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.experiments import experiment_figures, mean_and_spread
from tutorial_kit.plotting import save_figure
from tutorial_kit.results import Result, format_measured, record

MINUTES, ALL_LABELS_MINUTES = 10.0, 30.0  # of a pre-training; the most with all labels
PRESET = "standard"
PRETRAININGS: dict[str, dict[str, Any]] = {  # name -> what differs from the preset
    "documentation": {"budget_minutes": MINUTES},  # MLM alone: masks, and the library task
    "pairs": {  # next sentences: with fewer masks there is more of both texts to compare
        "budget_minutes": MINUTES,
        "objective": "mlm+nsp",
        "mask_rate": 0.15,
    },
    "reviews": {  # no labels; reviews six times over, or Wikipedia would choose the vocabulary
        "budget_minutes": MINUTES,
        "dataset": "wikitext2" + 6 * "+sst2",
        "wordpiece_tokens": 10000,
    },
}
SEEDS, PRETRAINING_SEED = (0, 1, 2), 0

Goal = tuple[float | None, float | None]  # at least, aim
NO_GOAL: Goal = (None, None)
ALL = 0  # labels: every one there is


@dataclass(frozen=True)
class Comparison:
    """A task, the labels it is learned from, and what is asked of the pre-trained model."""

    task: str
    pretraining: str  # one of PRETRAININGS
    labels: tuple[int, ...]
    above_scratch: dict[int, Goal]  # labels -> goal, in points
    above_tfidf: dict[int, Goal]
    accuracy: dict[int, Goal]  # in %
    few: dict[str, Any] = field(default_factory=dict)  # what differs from "standard", few labels
    outside_spread: tuple[int, ...] = ()  # labels where `above_scratch` must exceed the spreads


COMPARISONS = {
    "library": Comparison(
        "library", "documentation", (50, 200, 1000),
        above_scratch={50: (15.0, 25.0), 200: (10.0, 20.0)},
        above_tfidf={50: (10.0, 20.0), 200: (6.0, 15.0), 1000: (0.0, 3.0)},
        accuracy={},
    ),
    "sst2": Comparison(
        "sst2", "reviews", (200, 500, ALL),
        above_scratch={500: (None, 5.0)}, above_tfidf={500: (None, 0.0)},
        accuracy={ALL: (80.0, 84.0)}, few={"lr": 3e-4}, outside_spread=(200, 500),
    ),
}  # fmt: skip
LABELS = {ALL: "all"}
NAMES = {"pretrained": "pre-trained", "scratch": "from scratch", "tfidf": "TF-IDF"}


def comparison_names(name: str) -> dict[str, str]:
    """Returns what a comparison measures: result name -> description."""
    wanted = {}
    for labels in COMPARISONS[name].labels:
        count = LABELS.get(labels, str(labels))
        for contestant in CONTESTANTS:
            wanted[f"bert.{name}.{contestant}_{count}"] = f"{count} labels: {NAMES[contestant]}"
        for rival in CONTESTANTS[1:]:
            wanted[f"bert.{name}.above_{rival}_{count}"] = f"{count} labels: above {NAMES[rival]}"
    if ALL in COMPARISONS[name].labels:
        wanted[f"bert.{name}.minutes"] = "pre-training and fine-tuning with all labels together"
    return wanted


MEASURES = {
    "bert.documentation.mlm_below_unigram": "held-out masked-token loss below the unigram entropy "
    f"after {MINUTES:g} minutes of pre-training",
    "bert.documentation.mlm_loss": "that loss, each masked token behind [MASK]",
    "bert.documentation.mlm_accuracy": "masked tokens of held-out text filled in right",
    "bert.documentation.unigram_entropy": "entropy of the held-out tokens, context ignored",
    "bert.documentation.unigram_loss": "loss of the training text's frequencies, same masks",
    "bert.pairs.nsp_accuracy": "held-out pairs told right: next or from another document, "
    f"after {MINUTES:g} minutes of pre-training with pairs",
    "bert.pairs.mlm_below_unigram": "the loss below the unigram entropy of that training",
    **comparison_names("library"),
    **comparison_names("sst2"),
}


def load_pretraining(name: str) -> Pretrained:
    """Returns one of ``PRETRAININGS``, trained now or before."""
    return pretrain(name, config_of(PRESET, PRETRAININGS[name], PRETRAINING_SEED))


def result(name: str, values: Sequence[float], unit: str, goal: Goal, **fields: Any) -> Result:
    """Returns the mean over the seeds; one value has no spread."""
    (mean, spread), (at_least, aim) = mean_and_spread(values), goal
    fields["spread"] = spread if len(values) > 1 else None
    return Result(name, mean, unit, at_least, aim, **fields)


def measure_masks() -> list[Result]:
    """Scores held-out masks after the pre-training without pairs."""
    found = held_out(load_pretraining("documentation"))
    loss, below = found.scores.mlm_loss, found.entropy - found.scores.mlm_loss
    prefix, seeds = "bert.documentation.", (PRETRAINING_SEED,)
    return [
        result(f"{prefix}mlm_below_unigram", [below], "nats", (0.8, 1.5), seeds=seeds),
        result(f"{prefix}mlm_loss", [loss], "nats", NO_GOAL, seeds=seeds, better="lower"),
        result(f"{prefix}mlm_accuracy", [100 * found.scores.mlm_accuracy], "%", NO_GOAL,
               seeds=seeds),
        result(f"{prefix}unigram_entropy", [found.entropy], "nats", NO_GOAL, better="lower"),
        result(f"{prefix}unigram_loss", [found.unigram], "nats", NO_GOAL, better="lower"),
    ]  # fmt: skip


def measure_pairs() -> list[Result]:
    """Scores held-out pairs after the pre-training with pairs."""
    found, seeds = held_out(load_pretraining("pairs")), (PRETRAINING_SEED,)
    below = found.entropy - found.scores.mlm_loss
    return [
        result("bert.pairs.nsp_accuracy", [100 * found.scores.nsp_accuracy], "%", (75.0, 85.0),
               seeds=seeds),
        result("bert.pairs.mlm_below_unigram", [below], "nats", NO_GOAL, seeds=seeds),
    ]  # fmt: skip


def finetuning(task: str, labels: int, seed: int) -> FinetuneConfig:
    """Returns how a task is learned from so many labels."""
    if labels == ALL:
        return replace(FINETUNINGS["full"], labels=labels, seed=seed)
    return replace(FINETUNINGS["standard"], labels=labels, seed=seed, **COMPARISONS[task].few)


def measure_comparison(
    name: str, run: Pretrained, task: TextTask, seeds: Sequence[int]
) -> list[Result]:
    """Lets the contestants learn a task from each number of labels; draws the curves."""
    asked, results, rows = COMPARISONS[name], [], []
    points: list[CurvePoint] = []
    for labels in asked.labels:
        count = LABELS.get(labels, str(labels))
        outcomes = {
            contestant: [
                accuracy(contestant, run, task, finetuning(name, labels, s)) for s in seeds
            ]
            for contestant in CONTESTANTS
        }
        values = {key: [one["accuracy"] for one in found] for key, found in outcomes.items()}
        for contestant, of_seeds in values.items():
            shares = tuple(value / 100 for value in of_seeds)
            points.append(CurvePoint(NAMES[contestant], labels or len(task.train), shares))
            goal = asked.accuracy.get(labels, NO_GOAL) if contestant == "pretrained" else NO_GOAL
            key = f"bert.{name}.{contestant}_{count}"
            results.append(result(key, of_seeds, "%", goal, seeds=tuple(seeds)))
        rows.append([count, *(format_measured(row) for row in results[-len(CONTESTANTS) :])])
        for rival, goals in (("scratch", asked.above_scratch), ("tfidf", asked.above_tfidf)):
            at_least, aim = goals.get(labels, NO_GOAL)
            if rival == "scratch" and labels in asked.outside_spread:
                at_least = max(mean_and_spread(values[who])[1] for who in ("pretrained", rival))
            pairs = zip(values["pretrained"], values[rival], strict=True)
            above = [ours - theirs for ours, theirs in pairs]
            key = f"bert.{name}.above_{rival}_{count}"
            results.append(result(key, above, "points", (at_least, aim), seeds=tuple(seeds)))
        if labels == ALL:
            minutes = [(run.seconds + one["seconds"]) / 60 for one in outcomes["pretrained"]]
            results.append(
                result(f"bert.{name}.minutes", minutes, "min", (ALL_LABELS_MINUTES, None),
                       seeds=tuple(seeds), better="lower")
            )  # fmt: skip
    headers = [f"{name}: labels", *(NAMES[contestant] for contestant in CONTESTANTS)]
    print(format_table(headers, rows), flush=True)
    figure = few_label_figure(points, name, chance=1 / len(task.labels))
    print(save_figure(figure, experiment_figures("bert") / f"few_labels_{name}.png"))
    return results


def compare(name: str, seeds: Sequence[int]) -> list[Result]:
    """Pre-trains for a comparison and measures it."""
    run = load_pretraining(COMPARISONS[name].pretraining)
    return measure_comparison(name, run, load_task(COMPARISONS[name].task), seeds)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.bert_quality",
        description="Measure what pre-training gives bert.",
    )
    parser.add_argument("--only", choices=list(MEASURES), help="measure the part with this result")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS),
                        help="of the labels and the fine-tunings, three at least")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Trains what is not there yet, records each part as soon as it is done."""
    args = build_parser().parse_args(argv)
    machine = prepare(THREADS)
    parts: dict[str, Callable[[], list[Result]]] = {
        "documentation": measure_masks,
        "pairs": measure_pairs,
        **{name: partial(compare, name, args.seeds) for name in COMPARISONS},
    }
    results: list[Result] = []
    for part, measure in parts.items():
        if args.only is not None and args.only.split(".")[1] != part:
            continue
        started = time.perf_counter()
        found = measure()
        for row in found:
            print(f"{row.name}: {format_measured(row)}", flush=True)
        described = [
            replace(
                row, note=MEASURES[row.name], seconds=time.perf_counter() - started,
                preset=PRESET, machine=machine, command=f"python -m benchmarks {row.name}",
            )
            for row in found
        ]  # fmt: skip
        results += record("bert_quality", described)
    return results


if __name__ == "__main__":
    run_entry(main)
