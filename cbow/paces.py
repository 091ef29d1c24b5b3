"""How far a row moves in a step that adds up the updates of many targets.

A training that takes one target after the other moves "the" again and again, and sees each time
where the last move has led. A step of some thousand targets sees where "the" stood before all of
them: hundreds of updates are added, it is carried past its goal, and back again, farther each time.
So of a row that expects more than B updates in a step, B times their mean counts, not their sum.
Rare words, which are nearly all words, are not slowed down. No paper has it: it is what large steps
ask for, and word2vec.c makes none.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cbow.cbow_config import TrainConfig
from cbow.huffman import WordPaths


def kept_shares(counts: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Returns the share of each word in what subsampling leaves of a text, (V,).

    Args:
        counts: (V,) how often each word occurs.
        keep: (V,) the probability that an occurrence is kept.
    """
    return counts * keep / np.dot(counts, keep)


def input_paces(shares: np.ndarray, config: TrainConfig) -> Tensor:
    """Returns what the updates of the input vectors are multiplied by, (V, 1).

    A word is in the context of W + 1 targets on average, as widths are drawn from 1 to W. The exact
    gradient of a mean hands it a share of each, together about one update; so does a pair.

    Args:
        shares: (V,) from ``kept_shares``.
        config: ``words_per_step``, ``summed_updates`` (B), and what an occurrence brings.
    """
    model = config.model
    one = model.architecture == "skipgram" or (model.combine, model.gradient) == ("mean", "exact")
    return _paces(torch.from_numpy(shares) * (1 if one else config.window + 1), config)


def output_paces(shares: np.ndarray, noise: np.ndarray, config: TrainConfig) -> Tensor:
    """Returns the same for the output vectors of words: a word is met as a target and as noise.

    Args:
        shares: (V,) from ``kept_shares``.
        noise: (V,) from ``Vocabulary.noise``.
        config: the settings, ``negatives`` among them.
    """
    return _paces(torch.from_numpy(shares + config.negatives * noise), config)


def node_paces(shares: np.ndarray, config: TrainConfig, paths: WordPaths) -> Tensor:
    """Returns the same for the nodes of the tree, (V - 1, 1): a node is met by all words below it.

    Args:
        shares: (V,) from ``kept_shares``.
        config: the settings.
        paths: from the root to each word.
    """
    met = torch.from_numpy(shares)[:, None] * paths.on_path  # (V, L)
    below = torch.zeros(len(shares) - 1, dtype=met.dtype)
    return _paces(below.index_add_(0, paths.nodes.flatten(), met.flatten()), config)


def _paces(updates: Tensor, config: TrainConfig) -> Tensor:
    """Turns the expected updates for each target into paces: B / expected, at most 1."""
    expected = updates * config.words_per_step
    return (config.summed_updates / expected).clamp(max=1).float()[:, None]
