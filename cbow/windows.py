"""From sentences to training examples: thinned-out text, targets, contexts that end at sentences.

A **target** is the word that is predicted, its **context** the words at most b places away in the
same sentence, with b drawn anew for every target from 1..window, so that a near word is seen more
often than a far one (Mikolov et al. 2013a, "Efficient Estimation of Word Representations in Vector
Space", section 3.2, does so for skip-gram; word2vec.c for both). Everything is array arithmetic on
whole stretches of text; no loop visits single words.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cbow.corpus import Corpus

PADDING = -1  # stands where a context has no word


def epoch_stretches(corpus: Corpus, words_per_stretch: int) -> Iterator[slice]:
    """Cuts a corpus into stretches of whole sentences that are worked on at a time.

    Args:
        corpus: the text.
        words_per_stretch: a stretch has about so many words, at least one sentence.

    Yields:
        Slices of sentence numbers, in order, each sentence once.
    """
    marks = np.arange(words_per_stretch, len(corpus.tokens), words_per_stretch)
    cuts = np.searchsorted(corpus.starts, marks)  # the first sentence that begins there or later
    last = len(corpus.starts) - 1
    bounds = np.unique(np.concatenate([[0], np.minimum(cuts, last), [last]]))
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        yield slice(begin, end)


def shuffle_sentences(
    tokens: np.ndarray, starts: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Puts sentences in a random order; their words stay in theirs.

    Neighboring sentences tell of one thing. Updates that are added up in one step, all computed
    from where the vectors stood before, should not all be about the same few words.

    Args:
        tokens: (N,) words.
        starts: (S + 1,), where each sentence begins, and N.
        generator: draws the order.

    Returns:
        The same for the new order.
    """
    order = generator.permutation(len(starts) - 1)
    lengths = np.diff(starts)[order]
    shuffled = np.concatenate([[0], np.cumsum(lengths)])  # (S + 1,)
    from_place = np.repeat(starts[:-1][order] - shuffled[:-1], lengths) + np.arange(len(tokens))
    return tokens[from_place], shuffled


def drop_frequent(
    tokens: np.ndarray, starts: np.ndarray, keep: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Drops occurrences of frequent words by chance (Mikolov et al. 2013b, section 2.3).

    Words are dropped before windows are drawn, so a window reaches further than it does in print.

    Args:
        tokens: (N,) words.
        starts: (S + 1,), where each sentence begins, and N.
        keep: (V,), `Vocabulary.keep_probability`.
        generator: one number is drawn for every word, unless all are kept.

    Returns:
        The words that are left and where the sentences begin now; some can be empty.
    """
    if np.min(keep) >= 1:
        return tokens, starts
    kept = np.flatnonzero(generator.random(len(tokens)) < keep[tokens])  # their places
    return tokens[kept], np.searchsorted(kept, starts)


def window_extents(
    starts: np.ndarray, window: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws every target's window and clips it at its sentence.

    Args:
        starts: (S + 1,), as from `draw_sentences`.
        window: the largest width W.
        generator: one number is drawn for every target.

    Returns:
        left, right: (N,) int64 each, the context words before and behind a target.
        widths: (N,) int64, the width that was drawn, 1..W.

    Raises:
        ValueError: window < 1.
    """
    if window < 1:
        raise ValueError(
            f"window={window} leaves no word on either side of a target: there would be no context "
            "to predict it from. Use 1 or more; 5 is usual."
        )
    lengths = np.diff(starts)
    place = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)  # (N,) place in its sentence
    behind = np.repeat(lengths, lengths) - 1 - place  # (N,) words of the sentence behind it
    widths = generator.integers(1, window + 1, len(place))
    return np.minimum(widths, place), np.minimum(widths, behind), widths


def context_windows(
    tokens: np.ndarray, starts: np.ndarray, window: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the context of every word, in the order of the text.

    Args:
        tokens: (N,), words as numbers.
        starts: (S + 1,), where each sentence begins, and N.
        window: the largest width W.
        generator: as for `window_extents`, which draws the same widths from the same generator.

    Returns:
        contexts: (N, 2 * W) int32, places -W..-1 and 1..W around the target, `PADDING` where there
            is no word.
        mask: (N, 2 * W) bool, True where there is a word. A row is all False for the only word of a
            sentence: it has no context and is no training example.
        widths: (N,) int64, the width that was drawn.

    >>> tokens, starts = np.array([7, 8, 9, 4, 5]), np.array([0, 3, 5])  # two sentences
    >>> contexts, mask, widths = context_windows(tokens, starts, 1, np.random.default_rng(0))
    >>> contexts.tolist()
    [[-1, 8], [7, 9], [8, -1], [-1, 5], [4, -1]]
    """
    left, right, widths = window_extents(starts, window, generator)
    around = np.concatenate([np.arange(-window, 0), np.arange(1, window + 1)])  # (2W,)
    mask = (around >= -left[:, None]) & (around <= right[:, None])  # (N, 2W)
    numbers = np.asarray(tokens, dtype=np.int32)
    padded = np.pad(numbers, (window, window + 1), constant_values=PADDING)  # one more: N may be 0
    views = np.lib.stride_tricks.sliding_window_view(padded, 2 * window + 1)[:-1]  # (N, 2W + 1)
    contexts = np.where(mask, views[:, around + window], np.int32(PADDING))
    return contexts, mask, widths
