"""How far a word moves in a step that adds up the updates of many targets.

A training that takes one target after the other moves "the" again and again, and sees each time
where the last move has led. A step of a thousand targets sees where "the" stood before all of
them: a dozen equal wishes are added, it is carried past its goal, and back again, farther each
time. So a word that is expected more than once in a step moves by the mean of its wishes, not by
their sum. Rare words, which are nearly all words, are not slowed down. No paper has it: it is what
the large steps ask for, and word2vec.c makes none.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cbow.huffman import WordPaths


def word_paces(counts: np.ndarray, keep: np.ndarray, words_per_step: int) -> Tensor:
    """Returns what the updates of each word are multiplied by, (V, 1): 1 / expected, at most 1.

    Args:
        counts: (V,) how often each word occurs.
        keep: (V,) the probability that an occurrence is kept (subsampling).
        words_per_step: targets of a step.

    >>> word_paces(np.array([90, 9, 1]), np.ones(3), 20).flatten().tolist()
    [0.0555555559694767, 0.5555555820465088, 1.0]
    """
    return _paces(_expected(counts, keep, words_per_step))


def node_paces(
    counts: np.ndarray, keep: np.ndarray, words_per_step: int, paths: WordPaths
) -> Tensor:
    """Returns the same for the nodes of the tree, (V - 1, 1): a node is met by all words below it.

    Args:
        counts: here and below as for ``word_paces``.
        keep: (V,).
        words_per_step: targets of a step.
        paths: from the root to each word.
    """
    met = _expected(counts, keep, words_per_step)[:, None] * paths.on_path  # (V, L)
    expected = torch.zeros(len(counts) - 1, dtype=met.dtype)
    return _paces(expected.index_add_(0, paths.nodes.flatten(), met.flatten()))


def _expected(counts: np.ndarray, keep: np.ndarray, words_per_step: int) -> Tensor:
    """Returns how often each word is expected among the targets of a step, (V,)."""
    kept = counts * keep
    return torch.from_numpy(kept / kept.sum() * words_per_step)


def _paces(expected: Tensor) -> Tensor:
    return expected.clamp(min=1).reciprocal().float()[:, None]
