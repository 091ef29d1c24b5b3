"""The architecture topics: what their numbers mean, and how they are run, recorded and shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from advanced_topics.topic import FAMILY, Meaning, Topic, Tour
from advanced_topics.topic_measures import (
    EXPERTS,
    GROUPS,
    MIXERS,
    PAIRS,
    POSITIONS,
    TINY,
    Outcome,
    experts,
    groups,
    key_of,
    memory,
    positions,
    recall,
)
from tutorial_kit.experiments import (
    Study,
    experiment_figures,
    mean_and_spread,
    print_table,
    result_name,
    seed_result,
)
from tutorial_kit.plotting import save_figure
from tutorial_kit.results import Result


class _Plan(NamedTuple):
    """One topic: how it is measured, what its numbers mean."""

    question: str
    measure: Callable[[str, Sequence[int], Sequence[str]], Outcome]  # level, seeds, labels
    labels: Sequence[str]  # all variants
    short: Sequence[str]  # those of the tour
    meanings: Mapping[str, Meaning]


PLANS = {
    "positions": _Plan(
        "What happens beyond the training length?", positions, list(POSITIONS),
        ["rotary", "rotary, NTK-aware", "ALiBi"],
        {
            "inside": Meaning("nats", "loss inside the training length"),
            "twice": Meaning("nats", "loss at up to twice the length"),
            "four": Meaning("nats", "loss at three to four times the length"),
        },
    ),
    "groups": _Plan(
        "What do fewer key/value heads cost, and what do they save?", groups, list(GROUPS),
        ["4 key/value heads", "1 key/value head"],
        {
            "loss": Meaning("nats", "loss"),
            "cache": Meaning("bytes", "cache of a token"),
            "parameters": Meaning("", "parameters"),
        },
    ),
    "experts": _Plan(
        "What do experts bring, and what does balancing them?", experts, list(EXPERTS),
        list(EXPERTS),
        {
            "loss": Meaning("nats", "loss"),
            "busiest": Meaning("%", "tokens of the busiest expert"),
            "overflow": Meaning("%", "tokens beyond a capacity of 1.25"),
            "parameters": Meaning("", "parameters"),
            "active": Meaning("", "parameters that a token uses"),
        },
    ),
    "memory": _Plan(
        "Does attention need its matrix of weights?", memory, ["all"], ["all"],
        {
            "equal": Meaning("10⁻¹⁵", "largest difference to plain attention, float64",
                             at_least=1e-12 / TINY),
            "ratio": Meaning("x", "plain peak over tiled peak", "higher"),
            "peak": Meaning("MiB", "peak of forward and backward, 2,048 tokens, two heads"),
        },
    ),
    "recall": _Plan(
        "How many pairs can each mixer keep apart?", recall, list(MIXERS), list(MIXERS)[:3],
        {f"accuracy.{key_of(name)}": Meaning("%", name, "higher") for name in MIXERS},
    ),
}  # fmt: skip


def run(name: str, study: Study) -> list[Result]:
    """Measures a topic with the study's seeds; prints the table and the finding, saves both."""
    plan = PLANS[name]
    level = "smoke" if study.smoke else "standard"
    outcome = plan.measure(level, study.seeds, plan.labels)
    results, rows = [], []
    for (what, label), values in outcome.numbers.items():
        meaning = plan.meanings[what]
        result = seed_result(
            FAMILY, f"{name}.{what}", label, values, meaning.unit, study=study,
            better=meaning.better, note=note_of(what, label, meaning),
        )  # fmt: skip
        results.append(replace(result, at_least=meaning.at_least))
        rows.append((result.note, *(round(x, 4) for x in mean_and_spread(values)), meaning.unit))
    print_table(plan.question, ["measured", "mean", "spread", "unit"], rows)
    print(outcome.finding)
    save_figure(outcome.figure, experiment_figures(FAMILY) / f"{name}.png")
    return results


def note_of(what: str, label: str, meaning: Meaning) -> str:
    """Returns what a number is, as "ROW: COLUMN"."""
    return f"{meaning.words}: {label}" if "." in what else f"{label}: {meaning.words}"


def tour(name: str, smoke: bool) -> Tour:
    """Measures the short form of a topic with seed 0, in a few seconds."""
    plan = PLANS[name]
    outcome = plan.measure("smoke" if smoke else "quick", [0], plan.short)
    return Tour(outcome.finding, outcome.figure)


def _names(name: str, plan: _Plan) -> dict[str, str]:
    """Returns every result that a topic can give, and what it says."""
    labels: Sequence[str] = plan.labels
    found = {}
    for what, meaning in plan.meanings.items():
        if name == "memory":
            labels = {"equal": ["outputs", "gradients"], "ratio": ["longest"],
                      "peak": ["plain", "tiled"]}[what]  # fmt: skip
        elif name == "recall":
            labels = [f"{n} pairs" for n in PAIRS]
        elif what in ("busiest", "overflow"):
            labels = plan.labels[1:]
        else:
            labels = plan.labels
        for label in labels:
            text = f"{plan.question} {note_of(what, label, meaning)}"
            found[result_name(FAMILY, f"{name}.{what}", label)] = text
    return found


def _topic(name: str, plan: _Plan) -> Topic:
    return Topic(
        name, plan.question, _names(name, plan),
        run=partial(run, name), tour=partial(tour, name),
    )  # fmt: skip


TOPICS = [_topic(name, plan) for name, plan in PLANS.items()]
