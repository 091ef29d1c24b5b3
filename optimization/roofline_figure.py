"""The roofline, drawn: the roof of the machine, and below it what the ways of writing reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from optimization.roofline_counts import Roof
from optimization.roofline_machine import Machine
from optimization.roofline_points import Point
from tutorial_kit.plotting import FAINT, INK, PALETTE, label, new_figure

GIGA = 1e9
MARKS = {"int8": ("D", PALETTE[1]), "speculative": ("s", PALETTE[2]), "prompt": ("^", PALETTE[3])}


def roofline_figure(machine: Machine, points: Sequence[Point]) -> Figure:
    """Draws the roofs and the points.

    Args:
        machine: measured speeds.
        points: "1 stream" and "8 streams" are among them.
    """
    figure, axis = new_figure(width=9.6, height=4.6)
    places = [one.cost.intensity for one in points]
    reach = np.geomspace(
        min(places) / 2.5, max(2 * max(places), 2 * machine.roof("int8").ridge), 200
    )

    def draw(roof: Roof, style: str, color: str, name: str) -> None:
        heights = [roof.attainable(intensity) / GIGA for intensity in reach]
        axis.plot(reach, heights, style, color=color, label=name, zorder=1)

    float32 = machine.roof()
    draw(float32, "-", INK, f"float32: {float32.bandwidth / GIGA:.0f} GB/s from memory, "
         f"{float32.arithmetic / GIGA:.0f} Gop/s")  # fmt: skip
    draw(machine.roof("int8"), "--", PALETTE[1],
         f"int8: {machine.arithmetic['int8'] / GIGA:.0f} Gop/s")  # fmt: skip
    best = max(points, key=lambda one: one.roof.bandwidth).roof
    if best.bandwidth > 1.1 * float32.bandwidth:
        draw(best, ":", FAINT, f"{best.bandwidth / GIGA:.0f} GB/s: weights partly in the cache")
    roofs, dots = axis.get_lines(), []
    for number, one in enumerate(points, start=1):
        seen = one.rate * one.cost.operations / GIGA
        roof = one.roof.attainable(one.cost.intensity) / GIGA
        marker, color = next(
            (mark for word, mark in MARKS.items() if word in one.name), ("o", PALETTE[0])
        )
        axis.plot([one.cost.intensity] * 2, [seen, roof], color=color, linewidth=0.8, alpha=0.6)
        name = f"{number}  {one.name}: {one.rate:,.0f} tokens/s, {one.share:.0f} %"
        dots += axis.plot(one.cost.intensity, seen, marker, color=color, label=name, zorder=3)
        axis.annotate(
            str(number), (one.cost.intensity, seen), xytext=(7, -4), textcoords="offset points",
            fontsize=8, color=INK, va="top",
        )  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(reach[0], reach[-1])
    bottom = min(one.rate * one.cost.operations for one in points) / GIGA
    axis.set_ylim(bottom / 3, 2 * max(machine.arithmetic.values()) / GIGA)
    axis.add_artist(axis.legend(handles=roofs, fontsize=8, frameon=False, loc="upper left"))
    axis.legend(
        handles=dots, fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0),
        title="tokens/s, and % of what its roof allows", title_fontsize=8,
        alignment="left",
    )  # fmt: skip
    label(axis, finding(points), "operations per byte", "Gop/s (a token costs its operations)")
    return figure


def finding(points: Sequence[Point]) -> str:
    """Says in a sentence what the points show."""
    named = {one.name: one for one in points}
    one, eight = named["1 stream"], named["8 streams"]
    limit = {
        "memory": "reading the weights lets it", "arithmetic": "the arithmetic lets it"
    }[one.limit]  # fmt: skip
    return (
        f"One stream is written at {one.share:.0f} % of what {limit}; eight share the reading and "
        f"are written {eight.rate / one.rate:.1f} times as fast together"
    )
