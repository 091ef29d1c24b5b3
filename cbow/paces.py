"""How far a word moves in a step that adds up the updates of many targets.

A training that takes one target after the other moves "the" again and again, and sees each time
where the last move has led. A step of some thousand targets sees where "the" stood before all of
them: fifty equal updates are added, it is carried past its goal, and back again, farther each time.
So of a word that is expected more often than B times in a step, B times the mean of its updates
counts, not their sum. Rare words, which are nearly all words, are not slowed down. No paper has it:
it is what large steps ask for, and word2vec.c makes none.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cbow.cbow_config import TrainConfig
from cbow.huffman import WordPaths


def word_paces(counts: np.ndarray, keep: np.ndarray, config: TrainConfig) -> Tensor:
    """Returns what the updates of each word are multiplied by, (V, 1): B / expected, at most 1.

    Args:
        counts: (V,) how often each word occurs.
        keep: (V,) the probability that an occurrence is kept (subsampling).
        config: ``words_per_step``, and B, ``summed_updates``.
    """
    return _paces(_expected(counts, keep, config), config)


def node_paces(
    counts: np.ndarray, keep: np.ndarray, config: TrainConfig, paths: WordPaths
) -> Tensor:
    """Returns the same for the nodes of the tree, (V - 1, 1): a node is met by all words below it.

    Args:
        counts: here and below as for ``word_paces``.
        keep: (V,).
        config: the settings.
        paths: from the root to each word.
    """
    met = _expected(counts, keep, config)[:, None] * paths.on_path  # (V, L)
    expected = torch.zeros(len(counts) - 1, dtype=met.dtype)
    return _paces(expected.index_add_(0, paths.nodes.flatten(), met.flatten()), config)


def _expected(counts: np.ndarray, keep: np.ndarray, config: TrainConfig) -> Tensor:
    """Returns how often each word is expected among the targets of a step, (V,)."""
    kept = counts * keep
    return torch.from_numpy(kept / kept.sum() * config.words_per_step)


def _paces(expected: Tensor, config: TrainConfig) -> Tensor:
    return (config.summed_updates / expected).clamp(max=1).float()[:, None]
