"""The figures of the chapter's experiments; each title states the finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from tutorial_kit.plotting import INK, PALETTE, headline, label, new_figure

ACCURACY = "test accuracy (%), higher is better"


class Row(NamedTuple):
    """One line of an experiment's table: means over the seeds, and standard deviations."""

    label: str
    accuracy: float  # on test pictures, %
    spread: float
    speed: float  # training pictures a second
    seconds: float  # of one training
    parameters: int
    line: str = ""  # which line of ``shares_figure`` it belongs to
    share: float = 1.0  # of the training pictures


def dots_figure(question: str, rows: Sequence[Row]) -> Figure:
    """Draws the accuracy of each variant, mean and spread; the title names the best."""
    figure, axes = new_figure(width=6.4, height=1.3 + 0.33 * len(rows))
    best = most_accurate(rows)
    for place, row in enumerate(rows):
        color = PALETTE[2] if row is best else PALETTE[0]
        axes.errorbar(row.accuracy, place, xerr=row.spread, fmt="o", color=color, capsize=3)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    headline(figure, f"{question} {finding(rows)}")  # wider than the axes beside their names
    label(axes, "", ACCURACY)
    return figure


def cost_figure(question: str, rows: Sequence[Row]) -> Figure:
    """Draws accuracy against speed, so that one sees what an accuracy costs."""
    figure, axes = new_figure(width=6.4, height=3.8)
    best = most_accurate(rows)
    for row in rows:
        color = PALETTE[2] if row is best else PALETTE[0]
        axes.errorbar(row.speed, row.accuracy, yerr=row.spread, fmt="o", color=color, capsize=3)
        axes.annotate(row.label, (row.speed, row.accuracy), xytext=(6, 5), fontsize=8, color=INK,
                      textcoords="offset points")  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.2, y=0.15)
    fastest = max(rows, key=lambda row: row.speed)
    text = f"{question} {finding(rows)}"
    if fastest is not best:
        times = fastest.speed / best.speed
        text += f"; {fastest.label} learns {times:.1f} times as fast, {fastest.accuracy:.1f} %"
    label(axes, text, "training speed (pictures/s)", ACCURACY)
    return figure


def shares_figure(question: str, rows: Sequence[Row]) -> Figure:
    """Draws accuracy against the share of the training pictures, a line for each contestant.

    The title compares the first line with the last, at the least data and at the most.
    """
    figure, axes = new_figure(width=6.8, height=4.0)
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(row.line, []).append(row)
    for color, (name, placed) in zip(PALETTE, lines.items(), strict=False):
        axes.errorbar([100 * row.share for row in placed], [row.accuracy for row in placed],
                      [row.spread for row in placed], marker="o", color=color, capsize=3,
                      label=name)  # fmt: skip
    axes.set_xscale("log")
    percents = sorted({100 * row.share for row in rows})
    axes.set_xticks(percents, [f"{percent:g}" for percent in percents])
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    first, *_, last = lines.values()
    gaps = [
        f"{high.accuracy - low.accuracy:+.1f} ± {(high.spread**2 + low.spread**2) ** 0.5:.1f} "
        f"points at {100 * low.share:g} %"
        for low, high in ((first[0], last[0]), (first[-1], last[-1]))
    ]
    text = f"{question} {last[0].line} against {first[0].line}: {', '.join(dict.fromkeys(gaps))}"
    label(axes, text, "share of the training pictures (%)", ACCURACY)
    return figure


def most_accurate(rows: Sequence[Row]) -> Row:
    """Returns the row with the highest mean."""
    return max(rows, key=lambda row: row.accuracy)


def finding(rows: Sequence[Row]) -> str:
    """Says which row is best, or that several cannot be told apart within their spreads."""
    best = most_accurate(rows)
    near = [
        row.label
        for row in rows
        if row is not best and best.accuracy - row.accuracy < max(best.spread, row.spread)
    ]
    text = f"Most accurate: {best.label}, {best.accuracy:.1f} ± {best.spread:.1f} %"
    return f"{text}; within the spread: {', '.join(near)}" if near else text
