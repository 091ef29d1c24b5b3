"""What one topic of the chapter offers: a question, its measurement, and a short form of it.

``run_examples.py`` calls ``run`` of every topic, ``quick_start.py`` calls ``tour``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.figure import Figure

from tutorial_kit.experiments import Study
from tutorial_kit.results import Result

FAMILY = "advanced_topics"


class Tour(NamedTuple):
    """What the short form of a topic found in a few seconds."""

    finding: str  # one sentence with the numbers just measured
    figure: Figure | None = None  # drawn from the same numbers


class Meaning(NamedTuple):
    """What a number of a topic is."""

    unit: str
    words: str  # what was measured
    better: str = "lower"
    at_least: float | None = None  # for better="lower": at most


@dataclass(frozen=True)
class Topic:
    """One question about what language models are made of, and how it is answered here."""

    name: str  # "positions": its results are named advanced_topics.positions.*
    question: str  # what it asks, in one sentence
    measures: Mapping[str, str]  # name of each result -> what was measured
    run: Callable[[Study], list[Result]]
    """Measures with the study's seeds, prints a table, saves ``<name>.png``; resumes."""
    tour: Callable[[bool], Tour]
    """The same in at most eight seconds, seed 0; True asks for a smoke test instead."""
