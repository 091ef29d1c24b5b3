"""The findings of the architecture topics, as sentences and as figures that have them for a title.

Every sentence is computed from the numbers it speaks of. ``values`` hold one number a seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from tutorial_kit.experiments import mean_and_spread
from tutorial_kit.plotting import FAINT, PALETTE, headline, label, new_figure

Values = Sequence[float]


class GroupRow(NamedTuple):
    """One number of key/value heads."""

    label: str
    losses: Values  # nats per token
    cache: float  # bytes a token


class ExpertRow(NamedTuple):
    """One feed-forward: a plain one, or experts."""

    label: str
    losses: Values  # nats per token
    loads: Sequence[Values]  # one list a seed: shares of the experts, the busiest first


class MemoryRow(NamedTuple):
    """One length of the sequence."""

    length: int  # tokens
    plain: float  # bytes at the peak
    tiled: float


def shown(values: Values, digits: int = 2, *, signed: bool = False) -> str:
    """Writes mean and spread.

    >>> shown([1.0, 2.0, 3.0]), shown([1.5], signed=True)
    ('2.00 ± 1.00', '+1.50')
    """
    mean, spread = mean_and_spread(values)
    text = f"{mean:{'+' if signed else ''}.{digits}f}"
    return f"{text} ± {spread:.{digits}f}" if len(values) > 1 else text


def positions_finding(inside: Mapping[str, Values], far: Mapping[str, Values]) -> str:
    """Says who loses most and least beyond the training length, and who is best there.

    Args:
        inside: label -> loss inside the training length, nats per token.
        far: label -> loss at three to four times the length.
    """
    growth = {
        name: [a - b for a, b in zip(far[name], inside[name], strict=True)] for name in inside
    }
    order = sorted(growth, key=lambda name: mean_and_spread(growth[name])[0])
    best = min(far, key=lambda name: mean_and_spread(far[name])[0])
    gains = ", ".join(
        f"{name} {shown(growth[name], signed=True)} nats" for name in (order[-1], order[0])
    )
    return (
        f"At three to four times the training length, against inside: {gains}; lowest loss there: "
        f"{best}, {shown(far[best])}"
    )


def positions_figure(
    curves: Mapping[str, Sequence[Values]], finding: str, window: int, stretch: int
) -> Figure:
    """Draws loss against position, a line for each way of saying the position.

    Args:
        curves: label -> for each seed the losses of the stretches.
        finding: the title.
        window: training length, tokens.
        stretch: how much longer the window is.
    """
    figure, axes = new_figure(width=7.4, height=4.2)
    styles = ("-", "-", "-", "--", ":", "-")
    for number, (name, runs) in enumerate(curves.items()):
        losses = np.array(runs)  # (seeds, stretches)
        step = stretch * window / losses.shape[1]
        places = step * (np.arange(losses.shape[1]) + 0.5)
        middle, color = losses.mean(axis=0), PALETTE[number % len(PALETTE)]
        axes.plot(places, middle, styles[number % len(styles)], color=color, label=name)
        if len(losses) > 1:
            spread = losses.std(axis=0, ddof=1)
            axes.fill_between(places, middle - spread, middle + spread, color=color, alpha=0.15)
    axes.axvline(window, color=FAINT, linewidth=1.0)
    axes.text(window, 0.99, " training length", transform=axes.get_xaxis_transform(), va="top",
              fontsize=8, color=FAINT)  # fmt: skip
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    label(axes, finding, "position in the window (tokens)", "loss (nats per token)")
    return figure


def groups_finding(rows: Sequence[GroupRow]) -> str:
    """Compares every smaller cache with the full one, the first row."""
    full = rows[0]
    parts = []
    for row in rows[1:]:
        change = [a - b for a, b in zip(row.losses, full.losses, strict=True)]
        share = f"cache 1/{full.cache / row.cache:.0f}"
        parts.append(f"{row.label}: {share}, loss {shown(change, 3, signed=True)}")
    return f"{'; '.join(parts)} nats"


def groups_figure(rows: Sequence[GroupRow], finding: str) -> Figure:
    """Draws loss against the cache's bytes for each token."""
    figure, axes = new_figure(width=6.6, height=3.4)
    for number, row in enumerate(rows):
        mean, spread = mean_and_spread(row.losses)
        axes.errorbar(row.cache, mean, yerr=spread, fmt="o", color=PALETTE[number], capsize=3,
                      label=row.label)  # fmt: skip
    axes.set_xlim(0, 1.15 * max(row.cache for row in rows))
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    label(axes, finding, "cache of keys and values (bytes a token)", "loss (nats per token)")
    return figure


def experts_finding(rows: Sequence[ExpertRow]) -> str:
    """Compares experts with and without balancing, the last row and the one before."""
    plain, free, balanced = rows[0], rows[-2], rows[-1]
    busy = [100 * float(np.mean([run[0] for run in row.loads])) for row in (free, balanced)]
    change = [a - b for a, b in zip(balanced.losses, plain.losses, strict=True)]
    return (
        f"The busiest of {len(free.loads[0])} experts gets {busy[0]:.0f} % of the tokens "
        f"(first layer), with balancing {busy[1]:.0f} %; against one feed-forward of equal cost "
        f"the balanced experts change the loss by {shown(change, 3, signed=True)} nats"
    )


def experts_figure(rows: Sequence[ExpertRow], finding: str) -> Figure:
    """Draws the experts' loads at the left, the losses at the right."""
    figure, (left, right) = new_figure(columns=2, width=9.4, height=3.8)
    headline(figure, finding)
    mixed = [row for row in rows if row.loads]
    for number, row in enumerate(mixed):
        loads = 100 * np.array(row.loads).mean(axis=0)  # (E,)
        places = np.arange(len(loads)) + 0.4 * number
        left.bar(places, loads, width=0.4, color=PALETTE[number + 1], label=row.label)
    count = len(mixed[0].loads[0])
    left.axhline(100 / count, color=FAINT, linewidth=1.0, label="equal loads")
    left.set_xticks(np.arange(count) + 0.2, [str(number + 1) for number in range(count)])
    left.legend(fontsize=8, frameon=False)
    label(left, "Loads, first layer", "experts, the busiest first", "held-out tokens (%)")
    for number, row in enumerate(rows):
        mean, spread = mean_and_spread(row.losses)
        right.errorbar(number, mean, yerr=spread, fmt="o", color=PALETTE[number], capsize=3)
    names = [row.label.replace(", ", ",\n") for row in rows]
    right.set_xticks(range(len(rows)), names)
    right.set_xlim(-0.5, len(rows) - 0.5)
    label(right, "Loss at equal cost", "", "loss (nats per token)")
    return figure


def memory_finding(rows: Sequence[MemoryRow], difference: float) -> str:
    """Compares the longest sequence; the exponents come from the last two lengths."""
    last, before = rows[-1], rows[-2]
    powers = [
        np.log(getattr(last, name) / getattr(before, name)) / np.log(last.length / before.length)
        for name in ("plain", "tiled")
    ]
    return (
        f"Tiles give the same numbers (to {difference:.0e}) and hold "
        f"{last.plain / last.tiled:.0f} times less at {last.length:,} tokens: the peak grows as "
        f"T^{powers[1]:.1f} instead of T^{powers[0]:.1f}"
    )


def memory_figure(rows: Sequence[MemoryRow], finding: str) -> Figure:
    """Draws the peak of memory against the length, on two logarithmic axes."""
    figure, axes = new_figure(width=6.6, height=3.8)
    lengths = [row.length for row in rows]
    for number, (name, peaks) in enumerate(
        {"plain": [row.plain for row in rows], "in tiles": [row.tiled for row in rows]}.items()
    ):
        axes.plot(lengths, np.array(peaks) / 2**20, "o-", color=PALETTE[number], label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.legend(fontsize=8, frameon=False)
    headline(figure, finding)
    label(axes, "", "tokens, T", "peak, forward and backward (MiB)")
    return figure


def recall_finding(accuracies: Mapping[str, Mapping[int, Values]], d_head: int) -> str:
    """Says what each mixer recalls of the longest sequences that it was trained on.

    Args:
        accuracies: mixer -> number of pairs -> share of right answers for each seed; the last
            number of pairs is beyond training.
        d_head: width of a head.
    """
    longest = list(next(iter(accuracies.values())))[-2]
    parts = [
        f"{name} {100 * mean_and_spread(found[longest])[0]:.0f} %"
        for name, found in accuracies.items()
    ]
    return f"Of {longest} pairs, with heads {d_head} wide: {', '.join(parts)} recalled"


def recall_figure(
    accuracies: Mapping[str, Mapping[int, Values]], finding: str, trained: int
) -> Figure:
    """Draws accuracy against the number of pairs, a line a mixer.

    Args:
        accuracies: as for ``recall_finding``.
        finding: the title.
        trained: most pairs in a training sequence.
    """
    figure, axes = new_figure(width=6.6, height=3.8)
    for number, (name, found) in enumerate(accuracies.items()):
        stats = [mean_and_spread([100 * x for x in values]) for values in found.values()]
        axes.errorbar(list(found), [mean for mean, _ in stats], yerr=[s for _, s in stats],
                      fmt="o-", color=PALETTE[number], capsize=3, label=name)  # fmt: skip
    counts = list(next(iter(accuracies.values())))
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.axvline(trained, color=FAINT, linewidth=1.0)
    axes.text(trained, 0.03, " most in training", transform=axes.get_xaxis_transform(),
              fontsize=8, color=FAINT)  # fmt: skip
    axes.set_ylim(0, 105)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    label(axes, finding, "pairs to be remembered", "values recalled (%)")
    return figure
