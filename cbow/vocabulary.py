"""Words and their numbers: how text becomes words, which words are kept, how often each occurs.

A **vocabulary** is the list of words that get a vector, the most frequent first. From its counts
come two distributions of Mikolov et al. 2013b ("Distributed Representations of Words and Phrases
and their Compositionality"): with which probability an occurrence is kept (section 2.3), and from
which the negatives are drawn (section 2.2).
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

SENTENCE_ENDS = (".", "!", "?", "\n")
MAX_DISTINCT = 1_000_000  # different words that are counted at a time, some 150 MB

_POSSESSIVE = re.compile(r"'s\b")
_PIECE = re.compile(
    r"\d+(?:[.,]\d+)+"  # a number with a point or commas: 3.14, 10,000
    r"|[^\W_]+(?:[_'][^\W_]+)*"  # letters and digits: float32, n_samples, don't
    r"|\n|(?<![\s.(][^\W\d_])[.!?](?=[\"')\]]*(?:\s|$))"  # an end, but not behind one letter: e.g.
)


def split_pieces(text: str) -> list[str]:
    """Cuts a text into lower-case words and marks of sentence ends, the four of `SENTENCE_ENDS`."""
    return _PIECE.findall(_POSSESSIVE.sub("", text.lower().replace("\u2019", "'")))


def tokenize(text: str) -> list[list[str]]:
    """Cuts a text into sentences of lower-case words; the rule is the same for every text here.

    A word is a run of letters and digits; one apostrophe or underscore may join two runs ("don't",
    "n_samples"), a hyphen does not, and "'s" is dropped ("cat's" counts as "cat", "it's" as "it").
    A number keeps its point and commas. A sentence ends with its line, or at one of ``. ! ?``
    before white space, unless a single letter stands before it ("e.g.", "J. S. Bach"); "etc." ends
    one, which costs a window. Scripts without spaces between words must be segmented beforehand.

    >>> tokenize("The cat's state-of-the-art mat, e.g. 3.5 m long! It isn't np.float32.")
    [['the', 'cat', 'state', 'of', 'the', 'art', 'mat', 'e', 'g', '3.5', 'm', 'long'], \
['it', "isn't", 'np', 'float32']]
    """
    sentences: list[list[str]] = [[]]
    for piece in split_pieces(text):
        if piece in SENTENCE_ENDS:
            sentences.append([])
        else:
            sentences[-1].append(piece)
    return [sentence for sentence in sentences if sentence]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words that get a vector, numbered from 0 by falling frequency."""

    words: tuple[str, ...]
    counts: np.ndarray  # (V,) int64, occurrences in the training text

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def index(self) -> dict[str, int]:
        """Word -> its number."""
        return {word: number for number, word in enumerate(self.words)}

    def find(self, word: str) -> int:
        """Returns a word's number; if it is not there as written, that of its lower case.

        Raises:
            ValueError: the word has no vector; close spellings are named.
        """
        for spelling in (word, word.lower()):
            if spelling in self.index:
                return self.index[spelling]
        close = self.suggest(word)
        advice = f"Did you mean {', '.join(close)}?" if close else "Try another word."
        raise ValueError(
            f"{word!r} is not one of the {len(self):,} words of the vocabulary: the training text "
            f"has it too rarely or never, so it has no vector. {advice}"
        )

    def suggest(self, word: str, n: int = 5) -> list[str]:
        """Returns up to n words that are spelled like this one, the closest first."""
        word = word.lower()
        near = [other for other in self.words if abs(len(other) - len(word)) <= 3]
        return difflib.get_close_matches(word, near, n, cutoff=0.7)

    def keep_probability(self, sample: float) -> np.ndarray:
        """Returns with which probability an occurrence of each word stays in the text.

        ``sqrt(t / f) + t / f``, at most 1, with f the share of the word in the text and t the
        threshold. This is what word2vec.c and gensim compute; Mikolov et al. 2013b, eq. 5, prints
        ``sqrt(t / f)`` alone.

        Args:
            sample: the threshold t; 0 keeps every word.

        Returns:
            (V,) float64.

        Raises:
            ValueError: sample is not in [0, 1).
        """
        if not 0 <= sample < 1:
            raise ValueError(
                f"sample={sample} is not a share of the text: more frequent words than this are "
                "thinned out. Use 1e-3 to 1e-5, or 0 to keep every word."
            )
        if sample == 0:
            return np.ones(len(self))
        ratio = sample * self.counts.sum() / self.counts  # t / f
        return np.minimum(1.0, np.sqrt(ratio) + ratio)

    def noise(self, power: float = 0.75) -> np.ndarray:
        """Returns the distribution of negatives, count^power / sum (Mikolov 2013b, section 2.2).

        Args:
            power: 1 draws words as often as they occur, 0 all alike.

        Returns:
            (V,) float64, sums to 1.
        """
        weights = self.counts.astype(np.float64) ** power
        return weights / weights.sum()

    @classmethod
    def count(cls, sentences: Iterable[Sequence[str]], min_count: int = 1) -> Vocabulary:
        """Counts the words of sentences and keeps those that occur often enough.

        Marks of sentence ends are not words. Where a text has more than `MAX_DISTINCT` different
        words, the rarest are forgotten on the way, as word2vec.c does, so memory stays bounded.

        Args:
            sentences: lists of words, read once.
            min_count: a rarer word gets no vector; windows are drawn as if it were not there.

        Raises:
            ValueError: min_count < 1, or fewer than two words are left.
        """
        if min_count < 1:
            raise ValueError(
                f"min_count={min_count} asks for words that never occur: they would learn nothing. "
                "Use 1 or more."
            )
        counter: Counter[str] = Counter()
        least = 1
        for sentence in sentences:
            counter.update(sentence)
            while len(counter) > MAX_DISTINCT:
                least += 1
                counter = Counter({word: n for word, n in counter.items() if n >= least})
        for mark in SENTENCE_ENDS:
            counter.pop(mark, None)
        kept = sorted(
            ((word, n) for word, n in counter.items() if n >= min_count),
            key=lambda item: (-item[1], item[0]),  # ties by the alphabet: the same in every run
        )
        if len(kept) < 2:
            raise ValueError(
                f"the text has {len(counter):,} different words, and {len(kept)} of them occur at "
                f"least min_count={min_count} times: a vector is learned from other words around, "
                "so two are needed. Use a longer text or a smaller --min-count."
            )
        return cls(tuple(w for w, _ in kept), np.array([n for _, n in kept], dtype=np.int64))

    def to_dict(self) -> dict[str, Any]:
        """Returns the vocabulary as plain types, for checkpoints and JSON."""
        return {"words": list(self.words), "counts": self.counts.tolist()}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Vocabulary:
        """Returns the vocabulary that `to_dict` stored."""
        return cls(tuple(stored["words"]), np.array(stored["counts"], dtype=np.int64))
