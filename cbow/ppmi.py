"""Word vectors by counting: which words stand together more often than chance, then an SVD.

**PMI** of a word and a context word is log(p(w, c) / (p(w) p(c))); PPMI cuts it off at 0, so that
"never seen together" and "as often as by chance" are the same. A truncated SVD makes D numbers of
the V numbers of a row. Levy & Goldberg (2014, "Neural Word Embedding as Implicit Matrix
Factorization") show that word2vec with negative sampling factors a matrix of PMI, shifted by log K,
so the two are nearer than they look. The choices that make counting strong are those of Levy,
Goldberg & Dagan (2015, "Improving Distributional Similarity with Lessons Learned from Word
Embeddings"): near contexts count more, as with word2vec's random windows; the counts of contexts
are raised to 0.75; and singular values enter with the power 0.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cbow.corpus import Corpus
from cbow.embeddings import Embeddings
from cbow.windows import epoch_stretches

SMOOTHING = 0.75  # power of the contexts' counts, word2vec's for its noise
POWER = 0.5  # of the singular values; 1 is what an SVD gives, 0 drops them
WORDS_AT_ONCE = 500_000  # whose pairs are counted together


def cooccurrences(corpus: Corpus, window: int = 5, words_at_once: int = WORDS_AT_ONCE) -> Any:
    """Counts which words stand near each other in a sentence.

    A pair d places apart counts (window + 1 - d) / window: the probability that a width drawn from
    1..window reaches so far.

    Args:
        corpus: the text.
        window: most places between two words.
        words_at_once: how much of the text is in memory.

    Returns:
        A sparse matrix (V, V), symmetric, float64.

    Raises:
        ValueError: the window has no place.
    """
    from scipy.sparse import csr_matrix

    if window < 1:
        raise ValueError(
            f"window={window} leaves no context: nothing can be counted. Use 1 or more."
        )
    n_words = len(corpus.vocabulary)
    total = csr_matrix((n_words, n_words))
    for stretch in epoch_stretches(corpus, words_at_once):
        tokens, starts = corpus.stretch(stretch)
        sentence = np.repeat(np.arange(len(starts) - 1), np.diff(starts))  # (n,)
        pairs, weights = [], []
        for apart in range(1, min(window, len(tokens) - 1) + 1):
            together = sentence[:-apart] == sentence[apart:]
            pairs.append(np.stack([tokens[:-apart][together], tokens[apart:][together]]))
            weights.append(np.full(pairs[-1].shape[1], (window + 1 - apart) / window))
        if pairs:
            places = np.concatenate(pairs, axis=1)  # (2, pairs)
            total = total + csr_matrix((np.concatenate(weights), tuple(places)), total.shape)
    return total + total.T


def ppmi(counts: Any, smoothing: float = SMOOTHING, shift: float = 1.0) -> Any:
    """Turns counts into positive pointwise mutual information.

    max(0, log(n(w, c) / (n(w) q(c))) - log shift), with q(c) proportional to n(c)^smoothing.

    Args:
        counts: (V, V) sparse, words by contexts.
        smoothing: 1 is plain PMI; less makes rare contexts weigh less.
        shift: word2vec's K; 1 shifts nothing.

    Returns:
        (V, V) sparse; pairs that were never seen are 0.
    """
    from scipy.sparse import csr_matrix

    pairs = counts.tocoo()
    of_word = np.asarray(counts.sum(axis=1)).ravel()  # (V,) n(w)
    of_context = np.asarray(counts.sum(axis=0)).ravel() ** smoothing  # (V,)
    share = of_context / of_context.sum()  # (V,) q(c)
    values = np.log(pairs.data / (of_word[pairs.row] * share[pairs.col])) - np.log(shift)
    positive = values > 0
    places = (pairs.row[positive], pairs.col[positive])
    return csr_matrix((values[positive], places), shape=counts.shape)


def reduce(matrix: Any, dim: int, seed: int = 0, power: float = POWER) -> np.ndarray:
    """Returns a row of dim numbers for each word: U S^power of the truncated SVD (scikit-learn).

    Args:
        matrix: (V, V) sparse.
        dim: numbers of a vector, at most V.
        seed: of the random projection with which the SVD begins.
        power: of the singular values.
    """
    from sklearn.decomposition import TruncatedSVD

    svd = TruncatedSVD(n_components=dim, random_state=seed)
    scaled = svd.fit_transform(matrix)  # (V, D) = U S
    values = np.maximum(svd.singular_values_, 1e-12)  # (D,) S; 0 beyond the matrix' rank
    return np.asarray(scaled * values ** (power - 1))


def counting_embeddings(
    corpus: Corpus, dim: int = 100, window: int = 5, seed: int = 0
) -> Embeddings:
    """Returns the vectors of PPMI and SVD for a corpus.

    Args:
        corpus: the text.
        dim: numbers of a vector.
        window: most places between two words.
        seed: of the SVD.

    Raises:
        ValueError: dim is greater than the number of words.
    """
    if dim > len(corpus.vocabulary):
        raise ValueError(
            f"dim={dim} asks for more numbers than there are words ({len(corpus.vocabulary)}): a "
            "matrix of their counts has no such rank. Use a smaller dim."
        )
    vectors = reduce(ppmi(cooccurrences(corpus, window)), dim, seed)
    return Embeddings(corpus.vocabulary.words, vectors)
