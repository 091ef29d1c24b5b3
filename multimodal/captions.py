"""What is said about a scene: captions, questions with one-word answers, and their tokens.

Captions are full or leave something out, as people's do. Questions come in six kinds, each equally
often, and within a kind no answer is much more likely than the others: who cannot see the picture
gains little from the question alone (Goyal et al. 2017 balance theirs for the same reason).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import NamedTuple

import numpy as np

from multimodal.scenes import COLORS, PLACES, SHAPES, SIZES, Group, Scene
from tutorial_kit.word_tokenizer import WordTokenizer

COUNTS = ("one", "two", "three")
WHERE = {
    "left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom",
}  # fmt: skip
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
REQUEST = "describe"  # asks the language model for a caption
SPECIAL = ("<pad>", "<bos>", "<eos>")
LETTERS = " ?" + "".join(map(chr, range(ord("a"), ord("z") + 1)))
DROPPED = {"size": 0.8, "color": 0.5, "shape": 0.1, "place": 0.8}  # share of captions without it


class Question(NamedTuple):
    """What is asked about a picture, and the one right answer."""

    kind: str
    text: str
    answer: str


def phrase(group: Group, without: Collection[str] = ()) -> str:
    """Describes a group.

    Args:
        group: what is to be described.
        without: what is left out, any of "size", "color", "shape", "place".

    >>> phrase(Group("circle", "red", "small", "left", 2))
    'two small red circles on the left'
    >>> phrase(Group("ring", "blue", "large", "top", 1), without={"size", "shape", "place"})
    'one blue thing'
    """
    noun = "thing" if "shape" in without else group.shape
    words = {
        "count": COUNTS[group.count - 1],
        "size": group.size,
        "color": group.color,
        "shape": plural(noun) if group.count > 1 else noun,
        "place": WHERE[group.place],
    }
    return " ".join(word for name, word in words.items() if name == "shape" or name not in without)


def plural(shape: str) -> str:
    """Returns the shape's plural.

    >>> plural("cross")
    'crosses'
    """
    return shape + ("es" if shape.endswith("s") else "s")


def caption(scene: Scene, random: np.random.Generator | None = None) -> str:
    """Describes a scene; the left and the upper group come first.

    Args:
        scene: what is to be described.
        random: leaves out attributes by chance, the same for both groups; None leaves out nothing.
    """
    without = {name for name in DROPPED if random is not None and random.random() < DROPPED[name]}
    groups = sorted(scene.groups, key=lambda group: group.place in ("right", "bottom"))
    return " and ".join(phrase(group, without) for group in groups)


def _color(scene: Scene, random: np.random.Generator) -> Question:
    group = _any(scene, random)
    return Question("color", f"what color is each {group.shape}?", group.color)


def _shape(scene: Scene, random: np.random.Generator) -> Question:
    group = _any(scene, random)
    return Question("shape", f"which shape is {group.color}?", group.shape)


def _size(scene: Scene, random: np.random.Generator) -> Question:
    group = _any(scene, random)
    return Question("size", f"how large is each {group.shape}?", group.size)


def _count(scene: Scene, random: np.random.Generator) -> Question:
    group = _any(scene, random)
    return Question("count", f"how many {plural(group.shape)} are there?", COUNTS[group.count - 1])


def _where(scene: Scene, random: np.random.Generator) -> Question:
    group = _any(scene, random)
    return Question("where", f"where is each {group.shape}?", group.place)


def _exists(scene: Scene, random: np.random.Generator) -> Question:
    """Asks for something that is there, or, half of the time, for something close to it.

    With two groups the wrong combination is made of what is there: the color of one and the shape
    of the other. Seeing both words somewhere is not enough.
    """
    group = _any(scene, random)
    color, shape, answer = group.color, group.shape, "yes"
    if random.random() < 0.5:
        answer = "no"
        if len(scene.groups) == 2:
            shape = next(other.shape for other in scene.groups if other is not group)
        else:
            color = str(random.choice([name for name in COLORS if name != color]))
    return Question("exists", f"is there a {color} {shape}?", answer)


ASKED: dict[str, Callable[[Scene, np.random.Generator], Question]] = {
    "color": _color, "shape": _shape, "size": _size, "count": _count, "where": _where,
    "exists": _exists,
}  # fmt: skip


def _any(scene: Scene, random: np.random.Generator) -> Group:
    return scene.groups[random.integers(len(scene.groups))]


def question(scene: Scene, random: np.random.Generator, kind: str | None = None) -> Question:
    """Asks something about a scene.

    Args:
        scene: what the picture shows.
        random: chooses the kind, the group that is asked for, and yes or no.
        kind: a key of ``ASKED``; None means any.
    """
    return ASKED[kind or str(random.choice(list(ASKED)))](scene, random)


@cache
def build_tokenizer() -> WordTokenizer:
    """Returns the tokenizer of this package: each word of its world is a token, others are spelled.

    A word has two tokens, at the beginning of a text and with a space before it. Spelled words let
    a reader ask what the world has no word for; the model has never seen one.
    """
    sentences = [
        *COLORS, *SHAPES, *map(plural, SHAPES), *SIZES, *PLACES, *COUNTS, *DIGITS, *WHERE.values(),
        REQUEST, "thing things and yes no", "what color is each", "which shape", "how large many",
        "where are there a", "the digit handwritten picture of",
    ]  # fmt: skip
    words = sorted({word for sentence in sentences for word in sentence.split()})
    forms = [form for word in words for form in (word, " " + word) if len(form) > 1]
    return WordTokenizer(forms, LETTERS, SPECIAL)
