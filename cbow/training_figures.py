"""The pictures of a training: how the neighbors of a word change, how loss and rate fall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from cbow.embedding_maps import COLORS, darker, kept_counts
from tutorial_kit.plotting import FAINT, PALETTE, drawable, headline, label, new_figure


def neighbors_figure(word: str, at: Sequence[float], steps: Sequence[Sequence[str]]) -> Figure:
    """Draws which words are nearest to a word at moments of a training; lines follow each word.

    Args:
        word: whose neighbors they are.
        at: moments, in millions of words read.
        steps: for each moment the nearest words, the nearest first, equally many.
    """
    count = len(steps[0])
    figure, axes = new_figure(width=1.5 + 1.2 * len(steps), height=1.5 + 0.38 * count)
    colors = dict(zip(steps[-1], COLORS, strict=False))
    for name in steps[-1]:
        ranks = [row.index(name) if name in row else None for row in steps]
        for moment, (left, right) in enumerate(zip(ranks, ranks[1:], strict=False)):
            if left is not None and right is not None:
                axes.plot([moment, moment + 1], [left, right], color=colors[name], linewidth=2,
                          alpha=0.35, zorder=1)  # fmt: skip
    stroke = [withStroke(linewidth=3, foreground="white")]  # the lines do not cross the letters
    for moment, row in enumerate(steps):
        for rank, name in enumerate(row):
            color = darker(colors[name]) if name in colors else FAINT
            axes.text(moment, rank, drawable(_cut(name)), color=color, fontsize=8, ha="center",
                      va="center", path_effects=stroke)  # fmt: skip
    axes.set_xlim(-0.55, len(steps) - 0.45)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xticks(range(len(steps)), [f"{moment:.1f}" for moment in at])
    axes.set_yticks(range(count), [str(rank + 1) for rank in range(count)])
    axes.grid(False)
    label(axes, "", "words read (millions)", "rank")
    kept = kept_counts(steps)
    settled = next(number for number, count in enumerate(kept) if 2 * count > kept[-1])
    headline(figure, f'Of the {kept[-1]} words nearest to "{word}" at the end, {kept[settled]} are '
             f"there after {at[settled]:.1f} of {at[-1]:.1f} million words read")  # fmt: skip
    return figure


def _cut(name: str, length: int = 15) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def training_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws the held-out loss and the learning rate of a training against the words read.

    Args:
        rows: of ``metrics.jsonl``.
    """
    figure, (left, right) = new_figure(2, width=8.4, height=3.4)
    read = [row["words"] / 1e6 for row in rows]
    losses = [row["validation_loss"] for row in rows]
    left.plot(read, losses, marker="o", markersize=4, color=PALETTE[0])
    label(left, "", "words read (millions)", "held-out loss (nats per target)")
    right.plot(read, [row["lr"] for row in rows], marker="o", markersize=4, color=PALETTE[1])
    right.set_ylim(bottom=0)
    label(right, "", "words read (millions)", "learning rate")
    fallen = "falls" if losses[-1] < losses[0] else "does not fall"
    headline(figure, f"Loss on held-out words {fallen}: {losses[0]:.3f} after {read[0]:.1f} "
             f"million words, {losses[-1]:.3f} after {read[-1]:.1f} million")  # fmt: skip
    return figure
