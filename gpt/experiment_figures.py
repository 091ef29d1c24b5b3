"""The figures of the chapter's experiments; each title states the finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from tutorial_kit.plotting import PALETTE, new_figure


class Row(NamedTuple):
    """One line of an experiment's table."""

    label: str
    bits: float  # per byte of held-out text, mean over the seeds
    spread: float  # standard deviation over the seeds
    seconds: float  # of one training, mean
    parameters: int


def bars_figure(question: str, rows: Sequence[Row]) -> Figure:
    """Draws one bar a variant; the title states which one is best."""
    best = min(rows, key=lambda row: row.bits)
    figure, axes = new_figure(width=7.0, height=1.3 + 0.33 * len(rows))
    bits, spreads = [row.bits for row in rows], [row.spread for row in rows]
    colors = [PALETTE[2] if row is best else PALETTE[0] for row in rows]
    axes.barh([row.label for row in rows], bits, xerr=spreads, color=colors, height=0.7)
    axes.invert_yaxis()
    low, high = min(bits), max(bits)
    axes.set_xlim(max(0.0, low - 0.3 * (high - low) - 0.01), high + 0.1 * (high - low) + 0.01)
    axes.set_xlabel("bits per byte of held-out text, lower is better (axis cut off)")
    axes.set_title(
        f"{question}\nBest: {best.label}, {best.bits:.3f} ± {best.spread:.3f}", loc="left"
    )
    return figure


def sampling_figure(rows: Sequence[tuple[str, float, float]]) -> Figure:
    """Draws repetition against variety, one point a strategy.

    Args:
        rows: (label, distinct pairs in percent, repeated 4-grams in percent).
    """
    figure, axes = new_figure(width=7.0, height=4.5)
    for index, (label, distinct, repeated) in enumerate(rows):
        axes.scatter(distinct, repeated, color=PALETTE[index % len(PALETTE)], s=40)
        axes.annotate(f" {label}", (distinct, repeated), fontsize=9)
    most = max(rows, key=lambda row: row[2])
    axes.set_xlabel("token pairs that are distinct (%)")
    axes.set_ylabel("4-grams already written in the same text (%)")
    axes.set_title(f"{most[0]} repeats itself most: {most[2]:.0f} % of its 4-grams", loc="left")
    return figure
