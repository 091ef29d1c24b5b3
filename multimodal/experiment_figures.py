"""The figure of an experiment: mean and spread of each variant; the title states the finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from tutorial_kit.plotting import PALETTE, headline, label, new_figure


class Row(NamedTuple):
    """One variant over its seeds."""

    label: str
    value: float  # mean, %
    spread: float  # standard deviation, %


def dots_figure(question: str, meaning: str, rows: Sequence[Row]) -> Figure:
    """Draws each variant's mean and spread; the title names the best.

    Args:
        question: what the experiment asks.
        meaning: of the values.
        rows: the variants.
    """
    figure, axes = new_figure(width=6.4, height=1.5 + 0.36 * len(rows))
    best = max(rows, key=lambda row: row.value)
    for place, row in enumerate(rows):
        color = PALETTE[2] if row is best else PALETTE[0]
        axes.errorbar(row.value, place, xerr=row.spread, fmt="o", color=color, capsize=3)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    headline(figure, f"{question} {finding(rows)}")
    label(axes, "", f"{meaning} (%), higher is better")
    return figure


def finding(rows: Sequence[Row]) -> str:
    """Says which variant is best, or that several cannot be told apart within their spreads.

    >>> finding([Row("a", 80.0, 1.0), Row("b", 90.0, 2.0), Row("c", 89.0, 1.0)])
    'Best: b, 90.0 ± 2.0 %; within the spread: c'
    """
    best = max(rows, key=lambda row: row.value)
    near = [
        row.label
        for row in rows
        if row is not best and best.value - row.value < max(best.spread, row.spread)
    ]
    text = f"Best: {best.label}, {best.value:.1f} ± {best.spread:.1f} %"
    return f"{text}; within the spread: {', '.join(near)}" if near else text
