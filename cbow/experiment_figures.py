"""The figures of the chapter's experiments: two panels, one for each text; titles say the finding.

What is compared differs little, and seeds differ too, so every value has its spread, and what lies
within it is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from tutorial_kit.plotting import INK, PALETTE, headline, label, new_figure

PANELS = {  # measure -> (its axis with its text, what the best one is in a title)
    "purity": ("neighbors of the same library (%), documentation", "Purest"),
    "wordsim": ("WordSim-353, rank correlation (%), WikiText-2", "nearest to human ratings"),
}


class Row(NamedTuple):
    """One line of an experiment's table: means over the seeds, and standard deviations."""

    label: str
    means: Mapping[str, float]  # measure -> mean
    spreads: Mapping[str, float]
    line: str = ""  # which line of ``shares_figure`` it belongs to
    share: float = 1.0  # of the training text


def dots_figure(question: str, rows: Sequence[Row]) -> Figure:
    """Draws the two measures of each variant, mean and spread; the title names the best."""
    figure, panels = new_figure(2, width=9.6, height=1.5 + 0.33 * len(rows))
    for axis, (measure, (name, _)) in zip(panels, PANELS.items(), strict=True):
        best = highest(rows, measure)
        for place, row in enumerate(rows):
            color = PALETTE[2] if row is best else PALETTE[0]
            axis.errorbar(row.means[measure], place, xerr=row.spreads[measure], fmt="o",
                          color=color, capsize=3)  # fmt: skip
        axis.set_ylim(len(rows) - 0.5, -0.5)
        names = [row.label for row in rows] if axis is panels[0] else [""] * len(rows)
        axis.set_yticks(range(len(rows)), names)
        label(axis, "", name)
    headline(figure, f"{question} {findings(rows)}")
    return figure


def cost_figure(question: str, rows: Sequence[Row]) -> Figure:
    """Draws the two measures against the speed, so that one sees what they cost."""
    figure, panels = new_figure(2, width=9.6, height=4.0)
    for axis, (measure, (name, _)) in zip(panels, PANELS.items(), strict=True):
        best = highest(rows, measure)
        for row in rows:
            color = PALETTE[2] if row is best else PALETTE[0]
            at = (row.means["speed"] / 1e6, row.means[measure])
            axis.errorbar(*at, yerr=row.spreads[measure], fmt="o", color=color, capsize=3)
            axis.annotate(row.label, at, xytext=(6, 5), fontsize=8, color=INK,
                          textcoords="offset points")  # fmt: skip
        axis.margins(x=0.3, y=0.15)
        label(axis, "", "million words of documentation a second", name)
    fastest, slowest = highest(rows, "speed"), min(rows, key=lambda row: row.means["speed"])
    times = fastest.means["speed"] / max(slowest.means["speed"], 1e-9)
    headline(figure, f"{question} {findings(rows)}; {fastest.label} reads {times:.1f} times as "
             f"fast as {slowest.label}")  # fmt: skip
    return figure


def shares_figure(question: str, rows: Sequence[Row]) -> Figure:
    """Draws the two measures against the share of the text, a line for each method.

    The title compares the first line with the last, at the least text and at the most.
    """
    figure, panels = new_figure(2, width=9.6, height=4.0)
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(row.line, []).append(row)
    gaps = []
    for axis, (measure, (name, _)) in zip(panels, PANELS.items(), strict=True):
        for color, (line, placed) in zip(PALETTE, lines.items(), strict=False):
            axis.errorbar([100 * row.share for row in placed],
                          [row.means[measure] for row in placed],
                          [row.spreads[measure] for row in placed],
                          marker="o", color=color, capsize=3, label=line)  # fmt: skip
        axis.set_xscale("log")
        percents = sorted({100 * row.share for row in rows})
        axis.set_xticks(percents, [f"{percent:g}" for percent in percents])
        axis.xaxis.set_minor_formatter(NullFormatter())
        label(axis, "", "share of the training text (%)", name)
        first, last = list(lines.values())[0], list(lines.values())[-1]
        ends = [
            f"{one.means[measure] - other.means[measure]:+.1f} at {100 * one.share:g} %"
            for one, other in ((first[0], last[0]), (first[-1], last[-1]))
        ]
        gaps.append(f"{', '.join(dict.fromkeys(ends))} ({measure})")
    panels[0].legend(fontsize=8, frameon=False)
    names = list(lines)
    headline(figure, f"{question} {names[0]} against {names[-1]}, points: {'; '.join(gaps)}")
    return figure


def highest(rows: Sequence[Row], measure: str) -> Row:
    """Returns the row with the highest mean."""
    return max(rows, key=lambda row: row.means[measure])


def findings(rows: Sequence[Row]) -> str:
    """Says for both texts which row is best, or what cannot be told from it."""
    return "; ".join(finding(rows, measure) for measure in PANELS)


def finding(rows: Sequence[Row], measure: str) -> str:
    """Says which row is best, and which ones are within the spread of it."""
    best = highest(rows, measure)
    top, spread = best.means[measure], best.spreads[measure]
    near = [
        row.label
        for row in rows
        if row is not best and top - row.means[measure] < max(spread, row.spreads[measure])
    ]
    text = f"{PANELS[measure][1]}: {best.label}, {top:.1f} ± {spread:.1f}"
    return f"{text} (within the spread: {', '.join(near)})" if near else text
