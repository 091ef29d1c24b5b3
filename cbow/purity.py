"""Do the nearest neighbors of a word come from the same library? A measure that needs no raters.

The documentation corpus tells for each sentence which library it describes. A word that is used
nearly always by one library ("tensor" by torch, "axes" by matplotlib) has its **home** there; a
word of everybody ("returns") has none. **Purity@10** is the share of the 10 nearest words with a
home that have the same home, averaged over all words with one. It is the precision of a search for
words of the same topic. Vectors that know nothing reach the share of pairs of words with a common
home, which is what `chance` returns.

Nothing of this is told to the training: where a sentence comes from is used by the measure alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cbow.cbow_data import CBOWData
from cbow.embeddings import Embeddings

HOME_SHARE = 0.6  # of a word's use, each library counted as if all had equally much text
FEWEST_USES = 20  # of a rarer word the share is chance
NEIGHBORS = 10
ROWS_AT_ONCE = 1024  # their cosines with all words with a home are in memory together


@dataclass(frozen=True)
class Homes:
    """Which words belong to one library."""

    rows: np.ndarray  # (H,) int64, numbers of the words with a home, most frequent first
    home: np.ndarray  # (H,) int64, number of each one's library in `names`
    names: tuple[str, ...]  # of the libraries

    def words_of(self, words: Sequence[str], n: int = 5) -> dict[str, list[str]]:
        """Returns the n most frequent words of each library; ``words`` are the vocabulary's."""
        return {
            name: [words[row] for row in self.rows[self.home == number][:n]]
            for number, name in enumerate(self.names)
        }


def find_homes(
    counts: np.ndarray,
    names: tuple[str, ...],
    share: float = HOME_SHARE,
    fewest: int = FEWEST_USES,
) -> Homes:
    """Finds the words that belong to one library.

    Of a library with much text every word is frequent, so counts are divided by the length of the
    library's text first: p(library | word) if all libraries were equally long.

    Args:
        counts: (L, V), how often each library uses each word, of `CBOWData.labels`.
        names: of the libraries.
        share: the least p(library | word) of a home.
        fewest: the least number of uses in the whole text.
    """
    lengths = counts.sum(axis=1, keepdims=True).clip(min=1)  # (L, 1)
    use = counts / lengths  # (L, V)
    profile = use / use.sum(axis=0).clip(min=1e-12)  # (L, V), columns sum to 1
    rows = np.flatnonzero((profile.max(axis=0) >= share) & (counts.sum(axis=0) >= fewest))
    return Homes(rows, profile[:, rows].argmax(axis=0), names)


def homes_of(data: CBOWData) -> Homes:
    """Returns the words of a text that belong to one library.

    Raises:
        ValueError: the text does not tell where its sentences come from.
    """
    names, counts = data.labels()
    if not names:
        raise ValueError(
            f"the text {data.name!r} does not tell from which library a sentence comes: purity "
            "cannot be measured. Use the documentation corpus."
        )
    return find_homes(counts, names)


def purity(embeddings: Embeddings, homes: Homes, k: int = NEIGHBORS) -> float:
    """Returns the share of the k nearest words with a home that have the same home, 0 to 1.

    Args:
        embeddings: their rows are numbered as the corpus' words.
        homes: of the same corpus.
        k: how many neighbors are looked at.

    Raises:
        ValueError: there are not more than k words with a home.
    """
    if len(homes.rows) <= k:
        raise ValueError(
            f"{len(homes.rows)} words belong to one library: no word has {k} such neighbors. Use a "
            "longer text, or a smaller k."
        )
    vectors = embeddings.vectors[homes.rows]  # (H, D)
    home = torch.from_numpy(homes.home)  # (H,)
    same = 0
    for begin in range(0, len(vectors), ROWS_AT_ONCE):
        cosines = vectors[begin : begin + ROWS_AT_ONCE] @ vectors.T  # (R, H)
        cosines.diagonal(begin).fill_(-torch.inf)  # no word is its own neighbor
        nearest = cosines.topk(k, dim=1).indices  # (R, k)
        same += int((home[nearest] == home[begin : begin + ROWS_AT_ONCE, None]).sum())
    return same / (k * len(vectors))


def chance(homes: Homes) -> float:
    """Returns the purity that is expected of neighbors drawn by lot, 0 to 1."""
    sizes = np.bincount(homes.home)  # words of each library
    pairs = len(homes.rows) * (len(homes.rows) - 1)
    return float((sizes * (sizes - 1)).sum() / pairs) if pairs else 0.0
