"""The world of this package: small scenes of colored shapes, described before they are drawn.

A scene has one or two groups. A group is one to three equal things: a shape, a color, a size, a
place. Two groups differ in shape and in color and lie opposite each other, so that "the circles"
names one of them.

The split is made before a scene is drawn, in two ways at once. Combinations of color and shape: 27
are trained on, 3 are for choosing settings, 6 for the test. Descriptions of trained combinations:
one in five is for choosing, one in five for the test, by a hash, whatever the seed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

COLORS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("circle", "square", "triangle", "cross", "ring", "bar")
SIZES = ("small", "large")
PLACES = ("left", "right", "top", "bottom")
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
MOST = 3  # things in a group

Combination = tuple[str, str]  # color, shape
Split = Literal["train", "validation", "test", "unseen_validation", "unseen_test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "unseen_validation", "unseen_test")
FIFTHS = {"validation": (0,), "test": (1,), "train": (2, 3, 4)}  # hash of a description, modulo 5


@dataclass(frozen=True)
class Group:
    """Equal things side by side."""

    shape: str
    color: str
    size: str
    place: str
    count: int  # 1 to MOST

    @property
    def combination(self) -> Combination:
        """What the test for unseen combinations is about."""
        return self.color, self.shape


@dataclass(frozen=True)
class Scene:
    """What a picture shows, in words; how it is drawn depends on random numbers besides."""

    groups: tuple[Group, ...]  # one or two


def diagonal(offset: int) -> tuple[Combination, ...]:
    """Returns six combinations: every color once, every shape once.

    Args:
        offset: 0 to 5; two different ones share no combination.
    """
    shapes = len(SHAPES)
    return tuple((color, SHAPES[(i + offset) % shapes]) for i, color in enumerate(COLORS))


SEEN = 27  # combinations that are trained on, at most
COMBINATIONS: tuple[Combination, ...] = tuple((c, s) for c in COLORS for s in SHAPES)


def combinations_of(split: Split, seen: int = SEEN) -> tuple[Combination, ...]:
    """Returns the combinations of color and shape that scenes of a split are made of.

    Args:
        split: "train", "validation" and "test" share theirs; the other two have their own.
        seen: how many the training has. From 6 on, each color and each shape is among them.

    Raises:
        ValueError: ``seen`` is out of range.
    """
    if not len(COLORS) <= seen <= SEEN:
        raise ValueError(
            f"combinations={seen} is not possible: each color must be seen, and "
            f"{len(COMBINATIONS) - SEEN} of the {len(COMBINATIONS)} combinations are held out. "
            f"Use {len(COLORS)} to {SEEN}."
        )
    if split == "unseen_test":
        return diagonal(0)
    if split == "unseen_validation":
        return diagonal(1)[::2]
    rest = [*diagonal(2), *diagonal(3), *diagonal(4), *diagonal(5), *diagonal(1)[1::2]]
    return tuple(rest[:seen])


def fifth(scene: Scene) -> int:
    """Returns 0 to 4: which part of all descriptions this one belongs to, without randomness.

    The order of the groups does not count: it would be the same scene in both parts.
    """
    parts = sorted(repr(group) for group in scene.groups)
    return zlib.crc32("|".join(parts).encode()) % 5


def belongs(scene: Scene, split: Split) -> bool:
    """Tells whether a description is in a split; of unseen combinations all are."""
    return split.startswith("unseen") or fifth(scene) in FIFTHS[split]


def sample_scenes(
    split: Split, count: int, seed: int, *, groups: Sequence[int] = (1, 2), seen: int = SEEN
) -> list[Scene]:
    """Draws descriptions at random, every attribute evenly.

    Args:
        split: which combinations and descriptions may occur.
        count: how many.
        seed: of the choice.
        groups: numbers of groups, each equally likely.
        seen: combinations in the training, see ``combinations_of``.
    """
    order = SPLITS.index(split)
    random = np.random.default_rng([seed, order])
    combinations = combinations_of(split, seen)
    found: list[Scene] = []
    while len(found) < count:
        scene = _one_scene(random, combinations, int(random.choice(list(groups))))
        if belongs(scene, split):
            found.append(scene)
    return found


def _one_scene(
    random: np.random.Generator, combinations: Sequence[Combination], n_groups: int
) -> Scene:
    color, shape = combinations[int(random.integers(len(combinations)))]
    first = Group(
        shape=shape,
        color=color,
        size=SIZES[random.integers(len(SIZES))],
        place=PLACES[random.integers(len(PLACES))],
        count=int(random.integers(1, MOST + 1)),
    )
    if n_groups == 1:
        return Scene((first,))
    others = [pair for pair in combinations if pair[0] != color and pair[1] != shape]
    other_color, other_shape = others[int(random.integers(len(others)))]
    second = replace(
        first,
        shape=other_shape,
        color=other_color,
        size=SIZES[random.integers(len(SIZES))],
        place=OPPOSITE[first.place],
        count=int(random.integers(1, MOST + 1)),
    )
    return Scene((first, second))
