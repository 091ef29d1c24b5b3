"""Names beside the points of a map, such that none covers another name or a point.

A map of words is read by its names, so an unreadable one is worth less than none: names are placed
in the order of their importance, each where the first free place around its point is, and those
that find none are left out. Finding the best placement of all at once is NP-hard (Formann & Wagner
1991); this greedy one is enough for some hundred words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from tutorial_kit.plotting import drawable

DIRECTIONS = 12  # in which a place beside the point is looked for, counted from the right
REACHES = (5.0, 10.0, 16.0)  # from the point, in points (1/72 inch); far names get a line
GAP = 1.0  # free space around a name, in points


class Box(NamedTuple):
    """A rectangle on the figure, in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box) -> bool:
        """Tells whether the two share some area.

        >>> Box(0, 0, 2, 2).meets(Box(1, 1, 3, 3)), Box(0, 0, 2, 2).meets(Box(2, 0, 3, 3))
        (True, False)
        """
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )


def place_labels(
    axes: Axes,
    points: np.ndarray,
    names: Sequence[str],
    colors: Sequence[str],
    *,
    size: float = 7.5,
    marker: float = 4.0,
) -> list[int]:
    """Writes names beside their points.

    The axes must have their final limits and titles: the layout is computed once, here.

    Args:
        axes: where the points are drawn.
        points: (N, 2), in the units of the axes.
        names: N, the most important first; "" marks a point that keeps others off, without a name.
        colors: N, of the names.
        size: of the letters, in points.
        marker: width of a point that no name may cover, in points.

    Returns:
        The numbers of the names that found a place, in order.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]  # settles where the axes are
    pixels = axes.transData.transform(points)  # (N, 2)
    scale = figure.dpi / 72.0  # pixels of a point
    half = 0.5 * marker * scale
    taken = [Box(x - half, y - half, x + half, y + half) for x, y in pixels]
    inside = axes.get_window_extent()
    limits = Box(inside.x0, inside.y0, inside.x1, inside.y1)
    placed = []
    for number, (name, color) in enumerate(zip(names, colors, strict=True)):
        if not name:
            continue
        text = axes.annotate(drawable(name), points[number], (0.0, 0.0), fontsize=size, color=color,
                             textcoords="offset points", ha="center", va="center")  # fmt: skip
        if _put(text, pixels[number], taken, limits, scale):
            placed.append(number)
        else:
            text.remove()
    return placed


def _put(text: Annotation, pixel: np.ndarray, taken: list[Box], limits: Box, scale: float) -> bool:
    """Moves a name to the first free place beside its point; adds that place to those taken."""
    extent = text.get_window_extent()
    width, height = extent.width + 2 * GAP * scale, extent.height + 2 * GAP * scale
    for reach in REACHES:
        for step in range(DIRECTIONS):
            angle = 2 * math.pi * step / DIRECTIONS
            # The name's nearest edge, not its middle, lies at the reach.
            x = math.cos(angle) * (reach * scale + width / 2)
            y = math.sin(angle) * (reach * scale + height / 2)
            box = Box(pixel[0] + x - width / 2, pixel[1] + y - height / 2,
                      pixel[0] + x + width / 2, pixel[1] + y + height / 2)  # fmt: skip
            inside = (limits.left <= box.left and box.right <= limits.right
                      and limits.bottom <= box.bottom and box.top <= limits.top)  # fmt: skip
            if inside and not any(box.meets(other) for other in taken):
                text.set_position((x / scale, y / scale))
                taken.append(box)
                if reach > REACHES[0]:
                    _add_line(text, (x, y), scale)
                return True
    return False


def _add_line(text: Annotation, offset: tuple[float, float], scale: float) -> None:
    """Draws a thin line from a point to a name that stands some way off."""
    text.axes.annotate(  # type: ignore[union-attr]
        "", text.xy, (offset[0] / scale, offset[1] / scale), textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": text.get_color(), "linewidth": 0.4,
                    "alpha": 0.6, "shrinkA": 6, "shrinkB": 2},
    )  # fmt: skip
