"""One update as word2vec.c and gensim make it, to the last quirk, and their random numbers.

Nothing here is used for training: it is what the parity tests hold against gensim, update for
update, and what shows how far the published programs are from the equations:

- the sigmoid is read from a table of 1,000 values, and the index is computed with an integer
  division, 1000 / 6 / 2 = 83 instead of 83.3: s(0) comes out as 0.494;
- scores beyond 6 on either side are not trained at all;
- with the mean of the context, each word receives the whole gradient, not its share 1 / count
  ("Corrected CBOW", Irsoy et al. 2021, describe it and what it does).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TABLE_SIZE, MAX_SCORE = 1000, 6
_SCORES = (np.arange(TABLE_SIZE) / TABLE_SIZE * 2 - 1) * MAX_SCORE
SIGMOID_TABLE = (np.exp(_SCORES) / (np.exp(_SCORES) + 1)).astype(np.float32)  # (1000,)
_MASK = 2**48 - 1


def table_sigmoid(score: float) -> float | None:
    """Returns the sigmoid as word2vec.c reads it from its table; None where it does not train.

    >>> round(table_sigmoid(0.0), 3), table_sigmoid(6.5)
    (0.494, None)
    """
    if not -MAX_SCORE < score < MAX_SCORE:
        return None
    return float(SIGMOID_TABLE[int((score + MAX_SCORE) * (TABLE_SIZE // MAX_SCORE // 2))])


def word2vec_update(
    vectors: np.ndarray,
    output: np.ndarray,
    context: Sequence[int],
    target: int,
    noise: Sequence[int],
    rate: float,
) -> None:
    """Makes the update of one target in place: the mean of the context, negative sampling.

    The output vectors change one after another, so a word that is drawn twice as noise has already
    moved the second time; a batch computes all gradients before any row changes.

    Args:
        vectors: (V, D) float32 input vectors.
        output: (V, D) float32 output vectors.
        context: words around the target; without any nothing changes.
        target: the word to predict.
        noise: words of noise; the target among them is passed over.
        rate: the learning rate.
    """
    if not context:
        return
    hidden = vectors[list(context)].sum(axis=0) * np.float32(1 / len(context))  # (D,)
    change = np.zeros_like(hidden)  # (D,)
    words = [(target, 1.0)] + [(word, 0.0) for word in noise if word != target]
    for word, label in words:
        predicted = table_sigmoid(float(hidden @ output[word]))
        if predicted is None:
            continue
        step = np.float32((label - predicted) * rate)
        change += step * output[word]
        output[word] += step * hidden
    for word in context:
        vectors[word] += change


class Word2VecRandom:
    """The linear congruential generator of word2vec.c, with which gensim draws noise."""

    def __init__(self, state: int, noise: np.ndarray) -> None:
        """Starts it.

        Args:
            state: the first state, below 2^48.
            noise: (V,) uint32, gensim's running sum of count^0.75, scaled to 2^31 - 1.
        """
        self.state, self.noise = state, noise

    def draw(self, count: int) -> list[int]:
        """Returns so many words of noise."""
        words = []
        for _ in range(count):
            place = (self.state >> 16) % int(self.noise[-1])
            words.append(int(np.searchsorted(self.noise, place)))
            self.state = (self.state * 25214903917 + 11) & _MASK
        return words
