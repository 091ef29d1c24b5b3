"""The figures of the chapter; each title states the finding, computed from what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from optimization.techniques import Row
from tutorial_kit.plotting import PALETTE, headline, label, new_figure

BAR = 0.68


class Point(NamedTuple):
    """One point of a curve: mean and spread over the seeds or rounds."""

    x: float
    y: float
    spread: float = 0.0


Curves = Mapping[str, Sequence[Point]]


def techniques_figure(rows: Sequence[Row]) -> Figure:
    """Draws size, perplexity and speed of every technique side by side; ``rows[0]`` is the base."""
    figure, axes = new_figure(columns=3, width=11.0, height=1.5 + 0.27 * len(rows))
    base, names = rows[0], [row.name for row in rows]
    smallest = min(rows, key=lambda row: row.megabytes)
    fastest = max(rows, key=lambda row: row.tokens_per_s)
    close = [row for row in rows if row.perplexity < 1.01 * base.perplexity]
    lean = min(close, key=lambda row: row.megabytes)
    columns = [
        ([row.megabytes for row in rows], "file (MB)", f"Smallest: {smallest.name}"),
        ([row.perplexity for row in rows], "perplexity of held-out text (axis cut off)",
         f"Within 1 %: {len(close)} of {len(rows)}"),
        ([row.tokens_per_s for row in rows], "tokens written a second", f"Fastest: {fastest.name}"),
    ]  # fmt: skip
    for axis, (values, x, finding), color in zip(axes, columns, PALETTE, strict=False):
        axis.barh(names, values, color=color, height=BAR)
        axis.axvline(values[0], color="#222222", linewidth=0.8, linestyle=":")
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        label(axis, finding, x)
    low = min(row.perplexity for row in rows)
    axes[1].set_xlim(left=0.8 * low)
    for axis in axes[1:]:
        axis.set_yticklabels([])
    headline(
        figure,
        f"At the same quality, {lean.name} needs {lean.megabytes / base.megabytes:.2f} of the "
        f"bytes; {fastest.name} writes {fastest.ratio:.1f} times as fast as {base.name}",
    )
    return figure


def bits_figure(curves: Curves, limit: float = 1.0) -> Figure:
    """Draws the rise of the perplexity over the bits of a weight.

    Args:
        curves: which weights share a scale -> (bits with the scale's share, rise in percent).
        limit: the rise that is drawn as "unchanged".
    """
    figure, axes = new_figure(width=6.4, height=3.8)
    for (name, points), marker in zip(curves.items(), "osD", strict=False):
        rises = [max(point.y, 0.01) for point in points]
        spreads = [min(p.spread, 0.9 * y) for p, y in zip(points, rises, strict=True)]
        axes.errorbar([p.x for p in points], rises, yerr=spreads, marker=marker, capsize=2,
                      label=name)  # fmt: skip
    axes.axhline(limit, color="#222222", linewidth=0.8, linestyle=":")
    axes.set_yscale("log")
    fewest = {
        name: min((p.x for p in points if p.y < limit), default=float("inf"))
        for name, points in curves.items()
    }
    best = min(fewest, key=lambda name: fewest[name])
    finding = (
        f"Perplexity stays within {limit:g} % down to {fewest[best]:.3g} bits a weight, with one "
        f"scale for {best}"
        if fewest[best] < float("inf")
        else f"No rounding keeps the perplexity within {limit:g} %"
    )
    label(axes, finding, "bits a weight, with its share of the scale",
          "perplexity rises by (%; 0.01 at least)")  # fmt: skip
    axes.legend(frameon=False, fontsize=8, title="one scale for", title_fontsize=8)
    return figure


def pruning_figure(curves: Curves) -> Figure:
    """Draws the rise of the perplexity over the share left out; the title compares at the middle.

    Args:
        curves: name -> (share left out in percent, rise in percent).
    """
    figure, axes = new_figure(width=6.4, height=3.8)
    for (name, points), marker in zip(curves.items(), "osD^", strict=False):
        axes.errorbar([p.x for p in points], [p.y for p in points], yerr=[p.spread for p in points],
                      marker=marker, capsize=2, label=name)  # fmt: skip
    axes.set_yscale("symlog", linthresh=10)
    axes.axhline(0.0, color="#222222", linewidth=0.8, linestyle=":")
    first, second = (list(points) for points in list(curves.values())[:2])
    at = first[len(first) // 2].x
    before = next(p.y for p in first if p.x == at)
    after = next((p.y for p in second if p.x == at), before)
    label(
        axes,
        f"Without {at:.0f} % of the blocks' weights the perplexity rises by {before:.0f} %, after "
        f"a short training by {after:.0f} %",
        "left out (%)", "perplexity rises by (%)",
    )  # fmt: skip
    axes.legend(frameon=False, fontsize=8)
    return figure


def students_figure(rows: Mapping[str, Point], alone: str) -> Figure:
    """Draws the held-out loss of students; the title says what the best teacher's help is worth.

    Args:
        rows: label -> point whose y is the loss in nats; x is not used.
        alone: the label of the student without a teacher.
    """
    figure, axes = new_figure(width=6.8, height=1.3 + 0.33 * len(rows))
    best = min(rows, key=lambda name: rows[name].y)
    colors = [PALETTE[2] if name == best else PALETTE[0] for name in rows]
    values = [point.y for point in rows.values()]
    axes.barh(list(rows), values, xerr=[p.spread for p in rows.values()], color=colors, height=BAR)
    axes.invert_yaxis()
    low, high = min(values), max(values)
    axes.set_xlim(low - 0.5 * (high - low) - 0.01, high + 0.15 * (high - low) + 0.01)
    gain = rows[alone].y - rows[best].y
    spread = max(rows[alone].spread, rows[best].spread)
    finding = f"Best: {best}, {gain:.3f} nats below the student alone (spread {spread:.3f})"
    label(axes, "", "held-out loss in nats a token, lower is better (axis cut off)")
    headline(figure, finding)
    return figure


def ratios_figure(curves: Curves, finding: str, x: str, y: str = "times as fast") -> Figure:
    """Draws how many times as fast each technique is, over a size; both axes double.

    Args:
        curves: technique -> points.
        finding: the title, made from the same numbers.
        x: the size and its unit.
        y: what is drawn upwards.
    """
    figure, axes = new_figure(width=6.4, height=3.8)
    for (name, points), marker in zip(curves.items(), "osD^vP", strict=False):
        axes.errorbar([p.x for p in points], [p.y for p in points], yerr=[p.spread for p in points],
                      marker=marker, capsize=2, label=name)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    ticks = sorted({point.x for points in curves.values() for point in points})
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    highest = max(point.y for points in curves.values() for point in points)
    lowest = min(point.y for points in curves.values() for point in points)
    steps = [2.0**n for n in range(-6, 8) if lowest / 2 <= 2.0**n <= 2 * highest]
    axes.set_yticks(steps, [f"{step:g}" for step in steps])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axes.axhline(1.0, color="#222222", linewidth=0.8, linestyle=":")
    label(axes, "", x, y)
    headline(figure, finding)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure
