"""The figures of the chapter's experiments; each title states the finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from tutorial_kit.plotting import FAINT, PALETTE, headline, label, new_figure


class Row(NamedTuple):
    """One line of an experiment's table: means over the seeds, and standard deviations."""

    label: str
    accuracy: float  # on test paragraphs, %
    accuracy_spread: float
    gain: float | None  # nats below the unigram entropy; None without a pre-training
    gain_spread: float
    seconds: float  # of one pre-training and one fine-tuning
    parameters: int
    place: float | None = None  # on the axis of ``curve_figure``; None: a horizontal line there


AXES = (
    "accuracy with few labels (%), higher is better",
    "MLM loss below unigram (nats), higher is better",
)


def dots_figure(question: str, rows: Sequence[Row]) -> Figure:
    """Draws accuracy and MLM gain of each variant, mean and spread; the title names the best.

    Where only the fine-tuning differs, all gains are the same and are left out.
    """
    height = 1.5 + 0.33 * len(rows)
    highest, learned = max(rows, key=_accuracy), max(rows, key=_gain)
    panels = [
        (highest, [r.accuracy for r in rows], [r.accuracy_spread for r in rows], AXES[0]),
        (learned, [r.gain or 0.0 for r in rows], [r.gain_spread for r in rows], AXES[1]),
    ]
    if len({row.gain for row in rows}) == 1:
        panels = panels[:1]
    figure, drawn = new_figure(columns=len(panels), width=2.6 + 3.0 * len(panels), height=height)
    all_axes = drawn if len(panels) > 1 else [drawn]
    for axes, (best, values, spreads, name) in zip(all_axes, panels, strict=True):
        for place, (row, value, spread) in enumerate(zip(rows, values, spreads, strict=True)):
            color = PALETTE[2] if row is best else PALETTE[0]
            axes.errorbar(value, place, xerr=spread, fmt="o", color=color, capsize=3)
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        label(axes, "", name)
        if axes is not all_axes[0]:
            axes.set_yticklabels([])
    headline(figure, f"{question} {_finding(rows, rows if len(panels) > 1 else ())}")
    return figure


def curve_figure(question: str, rows: Sequence[Row], x: str) -> Figure:
    """Draws accuracy and MLM gain against a quantity; rows without a place are horizontal lines.

    Args:
        question: what was asked.
        rows: in the order of the quantity.
        x: the quantity, with its unit.
    """
    figure, (left, right) = new_figure(columns=2, width=8.6, height=3.6)
    placed = [row for row in rows if row.place is not None]
    scored = [row for row in placed if row.gain is not None]
    for axes, line, values, spreads, name in (
        (left, placed, [r.accuracy for r in placed], [r.accuracy_spread for r in placed], AXES[0]),
        (right, scored, [r.gain for r in scored], [r.gain_spread for r in scored], AXES[1]),
    ):
        axes.errorbar([row.place for row in line], values, spreads, marker="o", color=PALETTE[0],
                      capsize=3)  # fmt: skip
        label(axes, "", x, name)
    for color, row in zip((PALETTE[1], PALETTE[3]), (r for r in rows if r.place is None),
                          strict=False):  # fmt: skip
        left.axhline(row.accuracy, color=color, linestyle="--", linewidth=1.2)
        left.annotate(row.label, (1.0, row.accuracy), xycoords=("axes fraction", "data"),
                      ha="right", va="bottom", fontsize=8, color=FAINT)  # fmt: skip
    headline(figure, f"{question} {_finding(rows, scored)}")
    return figure


def _accuracy(row: Row) -> float:
    return row.accuracy


def _gain(row: Row) -> float:
    return float("-inf") if row.gain is None else row.gain


def _finding(rows: Sequence[Row], scored: Sequence[Row]) -> str:
    """Says which rows are best, as far as the spread over the seeds allows to say it.

    Args:
        rows: whose accuracies are compared.
        scored: whose gains are compared; none leaves the gains out.
    """
    accuracies = [(row.accuracy, row.accuracy_spread, row.label) for row in rows]
    text = f"Most accurate: {_lead(accuracies, '{:.1f} ± {:.1f} %')}"
    gains = [(row.gain, row.gain_spread, row.label) for row in scored if row.gain is not None]
    return f"{text}; largest gain: {_lead(gains, '{:.2f} ± {:.2f} nats')}" if gains else text


def _lead(rows: Sequence[tuple[float, float, str]], form: str) -> str:
    """Names the row with the largest value, and those that may be as good.

    Args:
        rows: (mean, spread, label) each.
        form: how mean and spread are written.

    >>> _lead([(3.0, 0.1, "a"), (2.0, 0.1, "b")], "{:.0f} ± {:.1f}")
    'a, 3 ± 0.1'
    >>> _lead([(3.0, 0.1, "a"), (2.0, 2.0, "b")], "{:.0f} ± {:.1f}")
    'none beyond the spread'
    """
    mean, spread, label_of_best = max(rows)
    level = [name for m, s, name in rows if name != label_of_best and mean - m <= max(spread, s)]
    if level and len(level) == len(rows) - 1:
        return "none beyond the spread"
    also = f" (level: {', '.join(level)})" if level else ""
    return f"{label_of_best}, {form.format(mean, spread)}{also}"
