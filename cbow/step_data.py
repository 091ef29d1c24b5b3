"""What one step of the training sees: targets, the text around them, the noise drawn for them.

A **stretch** is some ten thousand words of the text after all chance has been drawn for it; steps
take **batches** of consecutive targets from it. Both ways to train read the same batches, which is
why they can be compared number by number. What is drawn depends on the seed, the epoch and the
stretch alone: a resumed run draws it again instead of remembering generators.

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
from cbow.cbow_data import Corpus, draw_sentences, epoch_stretches, window_extents

WORDS_PER_STRETCH = 50_000  # at most about so many; what is drawn for them takes some megabytes


class NoiseSampler:
    """Draws words in proportion to count^power (Mikolov et al. 2013b, section 2.2)."""

    def __init__(self, probabilities: np.ndarray) -> None:
        """Keeps the running sum of the probabilities.

        Args:
            probabilities: (V,), from ``Vocabulary.noise``.
        """
        self.cumulative = np.cumsum(probabilities)  # (V,) the last is 1, but for rounding

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
        """Returns words as numbers, int64 of this shape.

        A uniform number u means the first word whose running sum exceeds it: the words share out
        the line from 0 to 1 in proportion to their probabilities.
        """
        u = generator.random(shape) * self.cumulative[-1]
        return np.searchsorted(self.cumulative, u, side="right")


@dataclass(frozen=True)
class Batch:
    """n consecutive examples of a stretch; C is the span of a context: 2 W + 1, or 1 (skip-gram).

    Example i may look at the words text[i], ..., text[i + C - 1], and ``inside`` says at which.
    """

    text: (
        Tensor  # (n + C - 1,) int64 words; at the ends of a stretch word 0 where no window reaches
    )
    inside: Tensor  # (n, C) bool, True where the word belongs to the context
    targets: Tensor  # (n,) int64 words to predict
    noise: Tensor  # (groups, K) int64 words of noise, for each group of G examples
    shared_by: int  # examples in a group, G; the last group may have fewer

    @property
    def has_context(self) -> Tensor:
        """(n,) bool: False for the only word of a sentence, which teaches nothing."""
        return self.inside.any(dim=1)

    def contexts(self) -> Tensor:
        """Returns the words in reach of every example, (n, C), a view."""
        return self.text.unfold(0, self.inside.shape[1], 1)

    def to(self, device: torch.device) -> Batch:
        """Returns the batch on a device."""
        if device == self.text.device:
            return self
        return Batch(
            self.text.to(device), self.inside.to(device), self.targets.to(device),
            self.noise.to(device), self.shared_by,
        )  # fmt: skip


@dataclass(frozen=True)
class Stretch:
    """All examples of a stretch of text, in order."""

    text: Tensor  # (N + C - 1,)
    inside: Tensor  # (N, C)
    targets: Tensor  # (N,)
    noise: Tensor  # (ceil(N / G), K)
    shared_by: int  # examples in a group, G

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, begin: int, size: int) -> Batch:
        """Returns up to ``size`` examples.

        Args:
            begin: the first, a multiple of G.
            size: how many, if there are so many left.
        """
        end, span = min(begin + size, len(self)), self.inside.shape[1]
        groups = slice(begin // self.shared_by, -(-end // self.shared_by))
        return Batch(
            self.text[begin : end + span - 1], self.inside[begin:end], self.targets[begin:end],
            self.noise[groups], self.shared_by,
        )  # fmt: skip

    def batches(self, size: int) -> Iterator[Batch]:
        """Yields all examples, ``size`` at a time."""
        for begin in range(0, len(self), size):
            yield self.batch(begin, size)


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
        lanes, words = config.lanes, len(corpus.tokens)
        count = lanes * max(1, -(-words // (lanes * words_per_stretch)))  # the same for each lane
        self.slices = list(epoch_stretches(corpus, max(1, -(-words // count))))

    def words(self, number: int) -> int:
        """Returns the words of the text in a stretch, before subsampling."""
        sentences = self.slices[number]
        return int(self.corpus.starts[sentences.stop] - self.corpus.starts[sentences.start])

    def draw(self, number: int, epoch: int) -> Stretch:
        """Draws a stretch; the same numbers give the same draws.

        Args:
            number: of the stretch, from 0.
            epoch: of the training, from 0.
        """
        c = self.config
        generator = np.random.default_rng([c.seed, epoch, number])
        tokens, starts = draw_sentences(self.corpus, self.keep, generator, self.slices[number])
        left, right, _ = window_extents(starts, c.window, generator)  # (N,) each
        inside = places_inside(left, right, c.window)  # (N, 2W + 1)
        text = np.pad(tokens.astype(np.int64), c.window)  # (N + 2W,)
        targets = text[c.window : c.window + len(tokens)]
        if c.model.architecture == "skipgram":
            row, place = np.nonzero(inside)  # (P,) each: pairs, in the order of their targets
            text, targets = text[row + place], targets[row]
            inside = np.ones((len(row), 1), dtype=bool)
        noise = self.noise.draw((-(-len(targets) // c.shared_by), c.draws), generator)
        return Stretch(
            torch.from_numpy(text), torch.from_numpy(inside), torch.from_numpy(targets),
            torch.from_numpy(noise), c.shared_by,
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
    small = np.int16 if window > 127 else np.int8  # narrow numbers are compared faster
    around = np.arange(-window, window + 1, dtype=small)  # (2W + 1,)
    left, right = left.astype(small)[:, None], right.astype(small)[:, None]
    return (around >= -left) & (around <= right) & (around != 0)
