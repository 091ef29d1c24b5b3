"""What one step of the training sees: targets, the text around them, the noise drawn for them.

A **stretch** is some hundred thousand words of the text after all chance has been drawn for it, the
order of its sentences included; steps take **batches** of consecutive targets from it. Both ways to
train read the same batches, which is why they can be compared number by number. What is drawn
depends on the seed, the epoch and the stretch alone: a resumed run draws it again instead of
remembering generators.

Skip-gram is the same with windows that have been taken apart: every pair of a target and one of its
context words is an example whose context is one word long. word2vec.c has it this way around too;
Mikolov et al. 2013a lets the target predict its context, which makes the same pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cbow.cbow_config import TrainConfig
from cbow.cbow_data import (
    Corpus,
    drop_frequent,
    epoch_stretches,
    shuffle_sentences,
    window_extents,
)

WORDS_PER_STRETCH = 200_000  # at most about so many, shuffled together; they take some megabytes


class NoiseSampler:
    """Draws words in proportion to count^power (Mikolov et al. 2013b, section 2.2).

    The alias method (Walker 1977, Vose 1991): V boxes of equal size hold at most two words each, in
    such amounts that every word has its probability. A draw picks a box, and one of its two words:
    the same work for any V.
    """

    def __init__(self, probabilities: np.ndarray) -> None:
        """Fills the boxes.

        Args:
            probabilities: (V,), from ``Vocabulary.noise``.
        """
        size = len(probabilities)
        amounts = (probabilities / probabilities.sum() * size).tolist()  # 1 fills a box
        self.alias = np.arange(size)  # (V,) the second word of box v; the first is v
        small = [word for word, amount in enumerate(amounts) if amount < 1]
        large = [word for word, amount in enumerate(amounts) if amount >= 1]
        while small and large:
            word, other = small.pop(), large[-1]
            self.alias[word] = other  # fills up the box of a rare word
            amounts[other] -= 1 - amounts[word]
            if amounts[other] < 1:
                small.append(large.pop())
        for word in small + large:  # full, but for rounding
            amounts[word] = 1.0
        self.share = np.array(amounts)  # (V,) of box v that belongs to word v

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
        """Returns words as numbers, int64 of this shape."""
        boxes = generator.integers(0, len(self.share), shape)
        return np.where(generator.random(shape) < self.share[boxes], boxes, self.alias[boxes])


@dataclass(frozen=True)
class Batch:
    """n consecutive examples; C is the span of a context: 2 W + 1, or 1 (skip-gram).

    Example i may look at the words text[i], ..., text[i + C - 1], and ``inside`` says at which. A
    whole stretch is a batch, too.
    """

    text: Tensor  # (n + C - 1,) int64 words; beyond the ends of a stretch word 0, out of reach
    shape: Tensor  # (n,) int64, the shape of each context: a row of ``shapes``
    shapes: Tensor  # (shapes, C) bool, the few different contexts; the same for all batches
    targets: Tensor  # (n,) int64 words to predict
    noise: Tensor  # (groups, Q) int64 words of noise, for each group of G examples
    shared_by: int  # examples in a group, G; the last group may have fewer

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def span(self) -> int:
        """Places of a context, C."""
        return self.shapes.shape[1]

    @property
    def inside(self) -> Tensor:
        """(n, C) bool: True where the word belongs to the context."""
        return self.shapes[self.shape]

    @property
    def has_context(self) -> Tensor:
        """(n,) bool: False for the only word of a sentence, which teaches nothing."""
        return self.inside.any(dim=1)

    def contexts(self) -> Tensor:
        """Returns the words in reach of every example, (n, C), a view."""
        return self.text.unfold(0, self.span, 1)

    def part(self, begin: int, size: int) -> Batch:
        """Returns up to ``size`` examples.

        Args:
            begin: the first, a multiple of G.
            size: how many, if there are so many left.
        """
        end = min(begin + size, len(self))
        groups = slice(begin // self.shared_by, -(-end // self.shared_by))
        return Batch(
            self.text[begin : end + self.span - 1], self.shape[begin:end], self.shapes,
            self.targets[begin:end], self.noise[groups], self.shared_by,
        )  # fmt: skip

    def parts(self, size: int) -> Iterator[Batch]:
        """Yields all examples, ``size`` at a time."""
        for begin in range(0, len(self), size):
            yield self.part(begin, size)

    def to(self, device: torch.device) -> Batch:
        """Returns the batch on a device."""
        if device == self.text.device:
            return self
        return Batch(
            self.text.to(device), self.shape.to(device), self.shapes.to(device),
            self.targets.to(device), self.noise.to(device), self.shared_by,
        )  # fmt: skip


class StretchDrawer:
    """Draws stretches of a corpus: subsampling, windows, noise."""

    def __init__(
        self, corpus: Corpus, config: TrainConfig, words_per_stretch: int = WORDS_PER_STRETCH
    ) -> None:
        """Prepares the probabilities.

        Args:
            corpus: the text.
            config: window, sample, negatives, seed and how negatives are shared.
            words_per_stretch: the most words of a stretch, about.
        """
        self.corpus, self.config = corpus, config
        self.keep = corpus.vocabulary.keep_probability(config.sample)  # (V,)
        self.noise = NoiseSampler(corpus.vocabulary.noise(config.noise_power))
        left, right = np.divmod(np.arange((config.window + 1) ** 2), config.window + 1)
        self.shapes = places_inside(left, right, config.window)  # ((W + 1)^2, 2W + 1)
        lanes, words = config.lanes, len(corpus.tokens)
        count = lanes * max(1, -(-words // (lanes * words_per_stretch)))  # the same for each lane
        self.slices = list(epoch_stretches(corpus, max(1, -(-words // count))))

    def words(self, number: int) -> int:
        """Returns the words of the text in a stretch, before subsampling."""
        sentences = self.slices[number]
        return int(self.corpus.starts[sentences.stop] - self.corpus.starts[sentences.start])

    def draw(self, number: int, epoch: int) -> Batch:
        """Draws a stretch; the same numbers give the same draws.

        Args:
            number: of the stretch, from 0.
            epoch: of the training, from 0.
        """
        c = self.config
        generator = np.random.default_rng([c.seed, epoch, number])
        tokens, starts = self.corpus.stretch(self.slices[number])
        if c.shuffle:
            tokens, starts = shuffle_sentences(tokens, starts, generator)
        tokens, starts = drop_frequent(tokens, starts, self.keep, generator)
        left, right, _ = window_extents(starts, c.window, generator)  # (N,) each
        shape, shapes = left * (c.window + 1) + right, self.shapes  # (N,), a row for each pair
        text = np.pad(tokens.astype(np.int64), c.window)  # (N + 2W,)
        targets = text[c.window : c.window + len(tokens)]
        if c.model.architecture == "skipgram":
            row, place = np.nonzero(shapes[shape])  # (P,) each: pairs, by their targets
            text, targets = text[row + place], targets[row]
            shape, shapes = np.zeros(len(row), dtype=np.int64), np.ones((1, 1), dtype=bool)
        noise = self.noise.draw((-(-len(targets) // c.shared_by), c.draws), generator)
        return Batch(
            torch.from_numpy(text), torch.from_numpy(shape), torch.from_numpy(shapes),
            torch.from_numpy(targets), torch.from_numpy(noise), c.shared_by,
        )  # fmt: skip


def places_inside(left: np.ndarray, right: np.ndarray, window: int) -> np.ndarray:
    """Marks the words of each context among the places -W..W around its target.

    Args:
        left: (N,) words of the context before the target, 0..W.
        right: (N,) words of the context behind it.
        window: W.

    Returns:
        (N, 2W + 1) bool; the middle, the target itself, is False.

    >>> places_inside(np.array([0, 2]), np.array([1, 1]), 2).astype(int).tolist()
    [[0, 0, 0, 1, 0], [1, 1, 0, 1, 0]]
    """
    around = np.arange(-window, window + 1)  # (2W + 1,)
    left, right = left[:, None], right[:, None]
    return (around >= -left) & (around <= right) & (around != 0)
