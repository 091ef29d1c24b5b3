"""The figures of the chapter's experiments; each title states the finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from tutorial_kit.plotting import PALETTE, label, new_figure


class Bar(NamedTuple):
    """One variant in one panel: the mean over the seeds and the standard deviation."""

    label: str
    value: float
    spread: float


class Panel(NamedTuple):
    """One measure of all variants."""

    what: str  # is measured, with its unit
    bars: Sequence[Bar]  # a variant each
    better: str = ""  # "higher" or "lower"; empty: no variant is the better for it


def panels_figure(question: str, panels: Sequence[Panel]) -> Figure:
    """Draws one panel a measure, one point a variant; the titles state the findings.

    Args:
        question: what the experiment asks.
        panels: the first is the most important.
    """
    count = len(panels[0].bars)
    figure, axes = new_figure(columns=len(panels), width=4.2 + 3.2 * len(panels),
                              height=1.6 + 0.33 * count)  # fmt: skip
    every = axes if isinstance(axes, list) else [axes]
    for number, (panel, axis) in enumerate(zip(panels, every, strict=True)):
        best = best_bar(panel)
        for place, bar in enumerate(panel.bars):
            color = PALETTE[2] if bar is best else PALETTE[0]
            spread = bar.spread or None
            axis.errorbar(bar.value, place, xerr=spread, fmt="o", color=color, capsize=3)
        names = [bar.label for bar in panel.bars] if number == 0 else [""] * count
        axis.set_yticks(range(count), names)
        axis.set_ylim(count - 0.5, -0.5)
        text = f"{question} {finding(panel)}" if number == 0 else finding(panel)
        label(axis, text, f"{panel.what}, {panel.better} is better" if best else panel.what)
    return figure


def best_bar(panel: Panel) -> Bar | None:
    """Returns the best variant, if there is a better and a worse."""
    if not panel.better:
        return None
    return (min if panel.better == "lower" else max)(panel.bars, key=lambda bar: bar.value)


def finding(panel: Panel) -> str:
    """Names the best variant, and those that cannot be told from it within their spreads.

    >>> bars = [Bar("a", 70.0, 1.0), Bar("b", 70.5, 1.0), Bar("c", 60.0, 1.0)]
    >>> finding(Panel("exact match (%)", bars, "higher"))
    'Best: b, 70.5 ± 1.0; within the spread: a'
    >>> finding(Panel("KL (nats)", bars))
    'From 60.0 (c) to 70.5 (b)'
    """
    best = best_bar(panel)
    if best is None:
        low, *_, high = sorted(panel.bars, key=lambda bar: bar.value)
        return f"From {_rounded(low.value)} ({low.label}) to {_rounded(high.value)} ({high.label})"
    near = [
        bar.label
        for bar in panel.bars
        if bar is not best and abs(best.value - bar.value) < max(best.spread, bar.spread)
    ]
    digits = 1 if abs(best.value) >= 10 else 2
    text = f"Best: {best.label}, {_rounded(best.value)} ± {best.spread:.{digits}f}"
    return f"{text}; within the spread: {', '.join(near)}" if near else text


def _rounded(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
