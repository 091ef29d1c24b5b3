"""The figures of the chapter's experiments; each title states the finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from tutorial_kit.plotting import PALETTE, label, new_figure


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
    finding = f"{question} Best: {best.label}, {best.bits:.3f} ± {best.spread:.3f}"
    label(axes, finding, "bits per byte of held-out text, lower is better (axis cut off)")
    return figure


def sampling_figure(rows: Sequence[tuple[str, float, float]]) -> Figure:
    """Draws variety and repetition of each strategy side by side.

    Args:
        rows: (label, distinct pairs in percent, repeated 4-grams in percent).
    """
    figure, (left, right) = new_figure(columns=2, width=8.0, height=1.3 + 0.3 * len(rows))
    labels = [row[0] for row in rows]
    left.barh(labels, [row[1] for row in rows], color=PALETTE[0], height=0.7)
    right.barh(labels, [row[2] for row in rows], color=PALETTE[1], height=0.7)
    most = max(rows, key=lambda row: row[2])
    varied = max(rows, key=lambda row: row[1])
    label(left, f"Most varied: {varied[0]}", "token pairs that are distinct (%)")
    label(right, f"Most repetitive: {most[0]}", "4-grams already in the same text (%)")
    for axes in (left, right):
        axes.set_xlim(0, 100)
        axes.invert_yaxis()
    right.set_yticklabels([])
    return figure
