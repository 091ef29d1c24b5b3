"""The tree of hierarchical softmax: frequent words stand near the root, so their ways are short.

A Huffman tree joins the two rarest subtrees again and again (Huffman 1952). With V words it has
V - 1 inner nodes, each with a vector of its own, and a word's probability is a product along its
way down: some log2 V factors instead of a sum over V words (Mikolov et al. 2013b, section 2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class WordPaths(NamedTuple):
    """The way from the root to every word; L is the length of the longest."""

    nodes: Tensor  # (V, L) int64, inner nodes from 0 to V - 2, the root first
    turns_left: Tensor  # (V, L) bool, to which side the way goes on from there
    on_path: Tensor  # (V, L) bool, False behind the end of a shorter way


def huffman_paths(counts: Sequence[int]) -> WordPaths:
    """Builds the tree and returns the ways to all words.

    With the words in order of frequency two queues replace a heap: one of words, the rarest first,
    and one of inner nodes, which are made in order of their counts.

    Args:
        counts: (V,) how often each word occurs, the most frequent first; at least two.

    Raises:
        ValueError: there are fewer than two words, or they are not in order.

    >>> paths = huffman_paths([5, 2, 1])  # ways of one turn, two turns, two turns
    >>> paths.on_path.sum(dim=1).tolist()
    [1, 2, 2]
    """
    words = len(counts)
    if words < 2 or any(a < b for a, b in zip(counts, counts[1:], strict=False)):
        raise ValueError(
            f"a tree over {words} words cannot be built: it needs two or more, the most frequent "
            "first. Use the counts of a Vocabulary."
        )
    total = [*counts] + [0] * (words - 1)  # leaves 0..V-1, then inner nodes in order of making
    parent = [0] * len(total)
    is_left = [False] * len(total)
    leaf, inner = words - 1, words  # the rarest leaf and the rarest inner node without a parent

    for made in range(words, 2 * words - 1):
        for side in (True, False):
            if leaf >= 0 and (inner == made or total[leaf] <= total[inner]):
                child, leaf = leaf, leaf - 1
            else:
                child, inner = inner, inner + 1
            total[made] += total[child]
            parent[child], is_left[child] = made, side

    ways: list[list[tuple[int, bool]]] = []
    for word in range(words):
        way, place = [], word
        while place != len(total) - 1:  # the last node made is the root
            way.append((parent[place] - words, is_left[place]))
            place = parent[place]
        ways.append(way[::-1])
    longest = max(map(len, ways))
    filled = [way + [(0, False)] * (longest - len(way)) for way in ways]
    lengths = torch.tensor([len(way) for way in ways])
    return WordPaths(
        torch.tensor([[node for node, _ in way] for way in filled]),
        torch.tensor([[left for _, left in way] for way in filled]),
        torch.arange(longest) < lengths[:, None],
    )
