"""Draws scenes as pixels with numpy: signed distances, so that edges are smooth.

A shape is given by its signed distance d(x, y) in pixels: negative inside, 0 on the edge. A pixel
is covered by clip(1/2 - d, 0, 1), the share of it that a straight edge at that distance leaves
inside. Position, radius, shade and background vary from picture to picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from multimodal.scenes import Group, Scene

SIDE = 32  # pixels
RGB = {
    "red": (0.90, 0.22, 0.20),
    "green": (0.18, 0.72, 0.25),
    "blue": (0.22, 0.38, 0.94),
    "yellow": (0.88, 0.78, 0.16),
    "purple": (0.66, 0.24, 0.74),
    "cyan": (0.16, 0.76, 0.82),
}
RADIUS = {"small": (3.4, 3.7), "large": (4.8, 5.1)}  # pixels, least and most
STEP = 10.5  # pixels between the centers of a group's things
ALONG = {1: 4.0, 2: 2.0, 3: 0.3}  # how far a group of that many may shift along its band, pixels
ACROSS = 1.2  # and across it
NOISE = 0.03  # standard deviation of what is added to each pixel
JITTER = 0.1  # how far a shade may differ from its color, either way, in each channel
MARGIN = 6  # pixels around the picture while it is drawn, and around a thing's center

Floats = NDArray[np.float32]
Distance = Callable[[Floats, Floats, Floats], Floats]


def circle(x: Floats, y: Floats, r: Floats) -> Floats:
    """Distance to a disk of radius r."""
    return np.hypot(x, y) - r


def square(x: Floats, y: Floats, r: Floats) -> Floats:
    """Distance to a square of side 1.9 r."""
    return np.maximum(abs(x), abs(y)) - np.float32(0.95) * r


def triangle(x: Floats, y: Floats, r: Floats) -> Floats:
    """Distance to an equilateral triangle that points up, a circle of radius r around it."""
    slope = np.float32(np.sqrt(3) / 2) * abs(x) - y / 2
    return np.maximum(slope, y) - r / 2


def cross(x: Floats, y: Floats, r: Floats) -> Floats:
    """Distance to a plus sign, arms 0.6 r thick."""
    long, thin = r, np.float32(0.3) * r
    upright = np.maximum(abs(x) - thin, abs(y) - long)
    return np.minimum(upright, np.maximum(abs(x) - long, abs(y) - thin))


def ring(x: Floats, y: Floats, r: Floats) -> Floats:
    """Distance to a ring with a hole of radius 0.55 r."""
    return abs(np.hypot(x, y) - np.float32(0.775) * r) - np.float32(0.225) * r


def bar(x: Floats, y: Floats, r: Floats) -> Floats:
    """Distance to a lying bar, 2 r long and 0.7 r high."""
    return np.maximum(abs(x) - r, abs(y) - np.float32(0.35) * r)


DISTANCES: dict[str, Distance] = {
    "circle": circle, "square": square, "triangle": triangle, "cross": cross, "ring": ring,
    "bar": bar,
}  # fmt: skip


def centers(group: Group, random: np.random.Generator) -> list[tuple[float, float]]:
    """Returns where the things of a group stand, (x, y) in pixels from the upper left corner.

    The picture's half that the place names is a band; the things stand in a line along it.
    """
    middle = SIDE / 2
    along = middle + random.uniform(-1, 1) * ALONG[group.count]
    across = SIDE / 4 + random.uniform(-1, 1) * ACROSS  # from the edge that the place names
    if group.place in ("right", "bottom"):
        across = SIDE - across
    line = [along + STEP * (i - (group.count - 1) / 2) for i in range(group.count)]
    upright = group.place in ("left", "right")
    return [(across, spot) if upright else (spot, across) for spot in line]


def render(scenes: Sequence[Scene], seed: int) -> NDArray[np.uint8]:
    """Draws scenes.

    Args:
        scenes: descriptions.
        seed: of positions, radii, shades, backgrounds, noise.

    Returns:
        (N, 3, SIDE, SIDE), levels 0 to 255.
    """
    random = np.random.default_rng(seed)
    count, side = len(scenes), SIDE + 2 * MARGIN
    images = np.empty((count, 3, side, side), dtype=np.float32)
    images[:] = random.uniform(0.05, 0.25, (count, 1, 1, 1))  # a dark gray
    things: dict[tuple[str, int], list[tuple[float, ...]]] = defaultdict(list)
    for number, scene in enumerate(scenes):
        for group in scene.groups:
            radius = random.uniform(*RADIUS[group.size])
            shade = np.clip(np.array(RGB[group.color]) + random.uniform(-JITTER, JITTER, 3), 0, 1)
            for turn, (x, y) in enumerate(centers(group, random)):
                things[group.shape, turn].append((number, x, y, radius, *shade))
    for (shape, _), rows in things.items():
        _paint(images, DISTANCES[shape], np.array(rows, dtype=np.float32))
    inside = slice(MARGIN, MARGIN + SIDE)
    images = images[:, :, inside, inside]
    images = images + NOISE * random.standard_normal(images.shape, dtype=np.float32)
    return np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)


def _paint(images: Floats, distance: Distance, things: Floats) -> None:
    """Paints things of one shape, one for a picture at most, each in a window of its own.

    Args:
        images: (N, 3, SIDE + 2 MARGIN, SIDE + 2 MARGIN), changed in place.
        distance: the shape's.
        things: (M, 7): number of the picture, x, y, radius, red, green, blue.
    """
    number = things[:, 0].astype(int)
    x, y, radius = things[:, 1:4].T[:, :, None, None]  # (M, 1, 1) each
    window = np.arange(-MARGIN, MARGIN + 1)
    columns = np.round(x).astype(int) + window[None, None, :]  # (M, 1, W)
    rows = np.round(y).astype(int) + window[None, :, None]  # (M, W, 1)
    center = np.float32(0.5)  # of a pixel
    cover = np.clip(0.5 - distance(columns + center - x, rows + center - y, radius), 0, 1)
    place = (number[:, None, None], slice(None), rows + MARGIN, columns + MARGIN)
    under = images[place]  # (M, W, W, 3)
    images[place] = under + cover[..., None] * (things[:, None, None, 4:] - under)
