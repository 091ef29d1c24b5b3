"""The four analyses of trained models: what each asks, measures and draws.

``run_examples.py`` runs them with three seeds, ``quick_start.py`` shows them in a few seconds. What
one seed measured is kept under ``outputs/advanced_topics/experiments`` and not repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from advanced_topics import (
    induction,
    induction_heads,
    logit_lens,
    scaling_law,
    sparse_features,
    text_model,
)
from advanced_topics.analysis_figures import (
    GROUPS,
    Outcomes,
    induction_figure,
    induction_finding,
    lens_figure,
    lens_finding,
    scaling_figure,
    scaling_finding,
    sparse_figure,
    sparse_finding,
)
from advanced_topics.topic import FAMILY, Meaning, Topic, Tour
from tutorial_kit.config import config_to_dict
from tutorial_kit.experiments import (
    Study,
    experiment_figures,
    kept_outcome,
    mean_and_spread,
    print_table,
    result_name,
    seed_result,
    variant_folder,
)
from tutorial_kit.plotting import save_figure
from tutorial_kit.results import Result
from tutorial_kit.texts import Texts


@dataclass(frozen=True)
class Analysis:
    """One question to trained models."""

    name: str  # "scaling": its results are named advanced_topics.scaling.*
    question: str  # what it asks
    presets: Mapping[str, Any]  # "standard", "tour" and "smoke" -> settings
    measure: Callable[[int, Any], dict[str, Any]]  # seed, settings -> what was found
    numbers: Callable[[Mapping[str, Any]], dict[str, float]]  # what was found -> label -> number
    meanings: Mapping[str, Meaning]  # label -> what it is
    finding: Callable[[Outcomes], str]  # of all seeds -> a sentence
    figure: Callable[[Outcomes], Figure]


SCALING = {
    "exponent": Meaning("", "exponent of the law, fitted without the largest size", "higher"),
    "floor": Meaning("nats", "floor of the law"),
    "r_squared": Meaning("", "share of the variance of the five smaller sizes", "higher"),
    "predicted": Meaning("nats", "largest size, predicted"),
    "measured": Meaning("nats", "largest size, measured"),
    "error": Meaning("%", "error of the prediction, of the loss"),
    "step_error": Meaning("%", "error of the prediction, of the last step between sizes"),
    "line_error": Meaning("%", "the same for a line in log N through the two sizes before"),
}
INDUCTION = {
    "score.one_layer": Meaning("", "one layer: prefix matching of its best head", "higher"),
    "score.two_layers": Meaning("", "two layers: prefix matching of their best head", "higher"),
    "loss.one_layer": Meaning("nats", "one layer: loss where the context tells"),
    "loss.two_layers": Meaning("nats", "two layers: loss where the context tells"),
    "turn.score": Meaning("steps", "two layers: half the way of the best prefix matching"),
    "turn.loss": Meaning("steps", "two layers: half the way of the loss"),
} | {
    f"removed.{what}": Meaning("nats", f"two layers without {words}: the same loss", "higher")
    for what, words in induction_heads.ROLES.items()
}
DEPTHS = ["embedding", *(f"block {i + 1}" for i in range(text_model.BASE.model.n_layers))]
LENS = {
    f"{name}.{depth}": Meaning(unit, f"{depth}: {words}", better)
    for name, unit, words, better in (
        ("plain", "nats", "logit lens", "lower"),
        ("mapped", "nats", "behind a linear map", "lower"),
        ("agree", "%", "guesses that are the final ones", "higher"),
        ("settled", "%", "and stay it", "higher"),
    )
    for depth in DEPTHS
} | {"frequency": Meaning("nats", "anywhere: guessing by frequency")}
SPARSE = {
    "explained": Meaning("%", "variance of the stream that the features keep", "higher"),
    "used": Meaning("", "features above zero a token"),
    "dead": Meaning("%", "features that no held-out token uses"),
    "recovered": Meaning("%", "loss recovered, between erased stream and clean one", "higher"),
    "clean": Meaning("nats", "loss of the model"),
    "rebuilt": Meaning("nats", "loss with the stream rebuilt from the features"),
    "erased": Meaning("nats", "loss with the stream's mean instead"),
} | {
    f"{name}.{group}": Meaning("%", f"{words}: {meaning}", "higher")
    for name, meaning in (("readable", "readable on new text"), ("before", "by the token before"),
                          ("wider", "readable among the strongest 100 places"))
    for group, words in GROUPS.items()
}  # fmt: skip


def _scaling_numbers(outcome: Mapping[str, Any]) -> dict[str, float]:
    return {label: outcome[label] for label in SCALING}


def _induction_numbers(outcome: Mapping[str, Any]) -> dict[str, float]:
    numbers = {
        f"{what}.{name.replace(' ', '_')}": outcome[name][what][-1]
        for what in ("score", "loss")
        for name in induction.MODELS
    }
    curves = outcome["two layers"]
    for what in ("score", "loss"):
        numbers[f"turn.{what}"] = induction.step_of_turn(curves["steps"], curves[what])
    return numbers | {f"removed.{what}": loss for what, loss in outcome["removed"].items()}


def _lens_numbers(outcome: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"{name}.{depth}": value
        for name in ("plain", "mapped", "agree", "settled")
        for depth, value in zip(outcome["depths"], outcome[name], strict=True)
    } | {"frequency": outcome["frequency"]}


def _sparse_numbers(outcome: Mapping[str, Any]) -> dict[str, float]:
    return {
        label: outcome[label] if "." not in label else _share(outcome, *label.split("."))
        for label in SPARSE
    }


def _share(outcome: Mapping[str, Any], name: str, group: str) -> float:
    share: float = outcome["shares"][group][name]
    return share


ANALYSES = (
    Analysis(
        "scaling", "Can the loss of a larger model be told from smaller ones?",
        scaling_law.PRESETS, scaling_law.measure_scaling, _scaling_numbers, SCALING,
        scaling_finding, scaling_figure,
    ),
    Analysis(
        "induction", "When does a model learn to look for what came next before?",
        induction.PRESETS, induction.measure_induction, _induction_numbers, INDUCTION,
        induction_finding, induction_figure,
    ),
    Analysis(
        "lens", "What does each block already know about the next token?",
        logit_lens.PRESETS, logit_lens.measure_lens, _lens_numbers, LENS,
        lens_finding, lens_figure,
    ),
    Analysis(
        "sparse", "Do sparse features of the stream mean something that a word can say?",
        sparse_features.PRESETS, sparse_features.measure_features, _sparse_numbers, SPARSE,
        sparse_finding, sparse_figure,
    ),
)  # fmt: skip


def found(analysis: Analysis, preset: str, seed: int) -> dict[str, Any]:
    """Measures with one seed, or reads what an earlier run of the same settings found."""
    settings = analysis.presets[preset]
    facts = [analysis.name, preset, seed, text_model.SIZES,
             *map(config_to_dict, (text_model.BASE, scaling_law.BASE))]  # fmt: skip

    def measure() -> dict[str, Any]:
        started = time.perf_counter()
        outcome = analysis.measure(seed, settings)
        return outcome | {"seconds": time.perf_counter() - started}

    return kept_outcome(variant_folder(FAMILY, settings, facts), measure)


def run(analysis: Analysis, study: Study) -> list[Result]:
    """Measures with the study's seeds; prints the table and the finding, saves the figure."""
    preset = "smoke" if study.smoke else "standard"
    outcomes = [found(analysis, preset, seed) for seed in study.seeds]
    numbers = [analysis.numbers(outcome) for outcome in outcomes]
    rows, results = [], []
    for label in numbers[0]:
        values = [float(measured[label]) for measured in numbers]
        unit, words, better, _ = analysis.meanings[label]
        rows.append((words, *(round(x, 3) for x in mean_and_spread(values)), unit))
        results.append(
            seed_result(FAMILY, analysis.name, label, values, unit, study=study, note=words,
                        better=better, seconds=sum(outcome["seconds"] for outcome in outcomes))
        )  # fmt: skip
    print_table(analysis.question, ["measured", "mean", "spread", "unit"], rows)
    for line in outcomes[0].get("examples", {}).get("features", []):
        print(f"  feature {line}")
    print(analysis.finding(outcomes))
    Texts(Path(__file__).parent).say(f"{analysis.name}.reading")
    path = experiment_figures(FAMILY) / f"{analysis.name}.png"
    save_figure(analysis.figure(outcomes), path)
    return results


def tour(analysis: Analysis, smoke: bool) -> Tour:
    """Measures a small form with seed 0, in a few seconds."""
    with redirect_stdout(StringIO()):  # what the trainings print would hide what was found
        outcome = found(analysis, "smoke" if smoke else "tour", 0)
    return Tour(analysis.finding([outcome]), analysis.figure([outcome]))


EXPERIMENTS = [
    Topic(
        name=analysis.name,
        question=analysis.question,
        measures={
            result_name(FAMILY, analysis.name, label): f"{analysis.question} {meaning.words}"
            for label, meaning in analysis.meanings.items()
        },
        run=partial(run, analysis),
        tour=partial(tour, analysis),
    )
    for analysis in ANALYSES
]
