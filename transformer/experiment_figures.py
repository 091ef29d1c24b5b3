"""The figures of the chapter's experiments; each title states the finding."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from tutorial_kit.plotting import PALETTE, headline, label, new_figure


class Row(NamedTuple):
    """One line of an experiment's table: means over the seeds, and standard deviations."""

    label: str
    exact: float  # translations equal to the reference, %
    exact_spread: float
    loss: float  # validation, nats per target token
    loss_spread: float
    seconds: float  # of one training
    parameters: int


def bars_figure(question: str, rows: Sequence[Row]) -> Figure:
    """Draws exact match and loss of each variant side by side; the title names the best."""
    figure, (left, right) = new_figure(columns=2, width=8.6, height=1.5 + 0.33 * len(rows))
    labels = [row.label for row in rows]
    highest = max(rows, key=lambda row: row.exact)
    lowest = min(rows, key=lambda row: row.loss)
    for axes, best, values, spreads, name in (
        (left, highest, [r.exact for r in rows], [r.exact_spread for r in rows],
         "exact match (%), higher is better"),
        (right, lowest, [r.loss for r in rows], [r.loss_spread for r in rows],
         "validation loss (nats per token), lower is better"),
    ):  # fmt: skip
        colors = [PALETTE[2] if row is best else PALETTE[0] for row in rows]
        axes.barh(labels, values, xerr=spreads, color=colors, height=0.7)
        axes.set_xlim(left=0)
        axes.invert_yaxis()
        label(axes, "", name)
    left.set_xlim(0, 100)
    right.set_yticklabels([])
    headline(
        figure,
        f"{question} Most exact: {highest.label}, {highest.exact:.1f} ± "
        f"{highest.exact_spread:.1f} %; lowest loss: {lowest.label}, {lowest.loss:.3f} ± "
        f"{lowest.loss_spread:.3f}",
    )
    return figure


class BeamRow(NamedTuple):
    """One way to search: means over the seeds, and the standard deviation of BLEU."""

    label: str
    beams: int  # 1 is greedy choice
    length_penalty: float  # alpha
    bleu: float
    bleu_spread: float
    exact: float  # %
    brevity: float  # BLEU's brevity penalty, 1 where the translations are long enough


def beam_figure(rows: Sequence[BeamRow]) -> Figure:
    """Draws BLEU, and how much too short the translations are, against the number of beams."""
    figure, (left, right) = new_figure(columns=2, width=8.6, height=3.6)
    greedy = [row for row in rows if row.beams == 1]
    for color, alpha in zip(PALETTE, sorted({r.length_penalty for r in rows}), strict=False):
        line = [*greedy, *(r for r in rows if r.beams > 1 and r.length_penalty == alpha)]
        beams = [row.beams for row in line]
        left.errorbar(beams, [r.bleu for r in line], [r.bleu_spread for r in line], marker="o",
                      color=color, capsize=3, label=f"length penalty {alpha:g}")  # fmt: skip
        right.plot(beams, [row.brevity for row in line], marker="o", color=color)
    for axes, name in ((left, "BLEU"), (right, "brevity penalty (1: long enough)")):
        axes.set_xticks(sorted({row.beams for row in rows}))
        label(axes, "", "beams (1: greedy)", name)
    left.legend(frameon=False, fontsize=8)
    best = max(rows, key=lambda row: row.bleu)
    start = greedy[0].bleu if greedy else best.bleu
    headline(
        figure,
        f"The best search is {best.label}: BLEU {best.bleu:.1f} ± {best.bleu_spread:.1f}, "
        f"{best.bleu - start:+.1f} over greedy choice",
    )
    return figure


def places_figure(curves: Mapping[str, Sequence[Sequence[float]]], trained: int) -> Figure:
    """Draws how well each kind of position copies, place by place.

    Args:
        curves: kind -> one curve for each seed, the share of letters right at each place, in %.
        trained: letters of the longest word in training.
    """
    figure, axes = new_figure(width=6.8, height=3.6)
    falls = []
    for color, (kind, seeds) in zip(PALETTE, curves.items(), strict=False):
        columns = list(zip(*seeds, strict=True))
        places = range(1, len(columns) + 1)
        middle = [statistics.mean(column) for column in columns]
        axes.plot(places, middle, color=color, label=kind)
        axes.fill_between(places, [min(c) for c in columns], [max(c) for c in columns],
                          color=color, alpha=0.2, linewidth=0)  # fmt: skip
        behind = statistics.mean(middle[trained:]) if middle[trained:] else 0.0
        falls.append(f"{kind} {behind:.0f} %")
    axes.axvline(trained + 0.5, color=PALETTE[6], linewidth=1, linestyle="--")
    axes.set_ylim(0, 103)
    axes.legend(frameon=False, fontsize=8)
    label(
        axes,
        f"Behind the longest word of the training ({trained} letters) copying falls to: "
        + ", ".join(falls),
        "place in the word (letters)",
        "letters copied right (%)",
    )
    return figure
