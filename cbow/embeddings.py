"""What can be done with finished word vectors: nearest words, analogies, the odd one out.

Every row has length 1, so that the dot product of two is the cosine of their angle. Analogies come
in the two forms of Levy & Goldberg (2014): 3CosAdd, the word nearest to b - a + c (Mikolov et al.
2013c), and 3CosMul, which multiplies the three cosines so that no single one decides alone.

>>> toy = toy_embeddings()
>>> [near.word for near in toy.analogy("man", "king", "woman", n=1)]
['queen']
>>> toy.odd_one_out(["king", "queen", "prince", "apple"])
'apple'
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

Method = Literal["add", "mul"]
EPSILON = 1e-3  # keeps 3CosMul from dividing by zero (Levy & Goldberg 2014)
ALIKE = 0.6  # how alike two spellings must be to be suggested, 0 to 1


class Neighbor(NamedTuple):
    """A word near a query."""

    word: str
    similarity: float  # cosine, -1 to 1; of 3CosMul its score


class Embeddings:
    """V words with one vector each."""

    def __init__(self, words: Sequence[str], vectors: Tensor | np.ndarray) -> None:
        """Keeps the words and their vectors, scaled to length 1.

        Args:
            words: V different ones, most frequent first (where it is known).
            vectors: (V, D) of any lengths; a vector of zeros stays one.

        Raises:
            ValueError: there are not as many vectors as words, a word stands twice, or a number is
                not finite.
        """
        rows = torch.as_tensor(vectors).detach().cpu().float()
        if rows.ndim != 2 or not len(words) or len(rows) != len(words):
            raise ValueError(
                f"vectors of shape {tuple(rows.shape)} do not belong to {len(words):,} words: each "
                "word needs one row. Use files that belong together."
            )
        self.words = tuple(words)
        self.index = {word: row for row, word in enumerate(self.words)}
        if len(self.index) < len(self.words):
            twice = next(word for row, word in enumerate(words) if self.index[word] != row)
            raise ValueError(
                f"the word {twice!r} has two vectors: which one is meant cannot be known. Give "
                "each word one."
            )
        if not bool(rows.isfinite().all()):
            worst = self.words[int((~rows.isfinite()).any(dim=1).nonzero()[0])]
            raise ValueError(
                f"the vector of {worst!r} holds a number that is not finite: nothing can be near "
                "it. Its training failed; train again with a smaller learning rate."
            )
        self.vectors = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)  # (V, D)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and self.row(word) is not None

    @cached_property
    def folded(self) -> dict[str, int]:
        """Lower-case spelling -> row; of several spellings the first, the most frequent."""
        found: dict[str, int] = {}
        for row, word in enumerate(self.words):
            found.setdefault(word.lower(), row)
        return found

    def row(self, word: str) -> int | None:
        """Returns a word's row, whatever its capitals; None for an unknown word."""
        exact = self.index.get(word)
        return self.folded.get(word.lower()) if exact is None else exact

    def find(self, word: str) -> int:
        """Returns a word's row.

        Raises:
            ValueError: it is unknown; the text names words with a close spelling.
        """
        row = self.row(word)
        if row is None:
            close = self.suggest(word)
            hint = f"Close spellings: {', '.join(close)}." if close else "Try a more frequent word."
            raise ValueError(
                f"the word {word!r} is not among the {len(self):,} known: it was too rare in the "
                f"text, so it has no vector. {hint}"
            )
        return row

    def suggest(self, word: str, n: int = 5) -> list[str]:
        """Returns known words spelled alike, the closest first."""
        near = [known for known in self.words if abs(len(known) - len(word)) <= 3]
        return difflib.get_close_matches(word.lower(), near, n, cutoff=ALIKE)

    def vector(self, word: str) -> Tensor:
        """Returns the vector (D,) of a word, of length 1.

        Raises:
            ValueError: it is unknown.
        """
        return self.vectors[self.find(word)]

    def similarity(self, first: str, second: str) -> float:
        """Returns the cosine of two words."""
        return float(self.vector(first) @ self.vector(second))

    def most_similar(
        self, query: str | Tensor, n: int = 10, exclude: Iterable[str] = ()
    ) -> list[Neighbor]:
        """Returns the words with the greatest cosine, the nearest first.

        Args:
            query: a word, which is no neighbor of itself, or a vector (D,) of any length.
            n: how many; fewer if there are no more words.
            exclude: words that shall not be answers.

        Raises:
            ValueError: a word is unknown, n is not positive, or the vector has another width.
        """
        if isinstance(query, str):
            return self._best(self.vectors @ self.vector(query), n, {query, *exclude})
        if query.shape != self.vectors.shape[1:]:
            raise ValueError(
                f"a vector of shape {tuple(query.shape)} was compared with word vectors of "
                f"{self.vectors.shape[1]} numbers: they have no common space. Use vectors of one "
                "training."
            )
        direction = query.float() / query.norm().clamp_min(1e-12)
        return self._best(self.vectors @ direction.float(), n, exclude)

    def analogy(self, a: str, b: str, c: str, n: int = 5, method: Method = "add") -> list[Neighbor]:
        """Answers "a is to b as c is to ...": the words nearest to b - a + c.

        Raises:
            ValueError: a word is unknown, n is not positive, or the method is unknown.
        """
        return self.nearest_to_sum([b, c], [a], n, method)

    def nearest_to_sum(
        self,
        positive: Sequence[str],
        negative: Sequence[str] = (),
        n: int = 5,
        method: Method = "add",
    ) -> list[Neighbor]:
        """Returns the words nearest to a sum and difference of words; these are no answers.

        Args:
            positive: words that are added, at least one.
            negative: words that are taken away.
            n: how many answers.
            method: "add": the cosine with the sum of the unit vectors (3CosAdd); "mul": products
                and quotients of the cosines moved to 0..1, (1 + cos) / 2 (3CosMul).

        Raises:
            ValueError: no word is added, a word or the method is unknown, n is not positive.
        """
        if not positive:
            raise ValueError("no word is added: the result has no direction. Add at least one.")
        plus = self.vectors[[self.find(word) for word in positive]]  # (P, D)
        minus = self.vectors[[self.find(word) for word in negative]]  # (M, D)
        excluded = {*positive, *negative}
        if check_method(method) == "add":
            total = plus.sum(dim=0) - minus.sum(dim=0)  # (D,)
            return self.most_similar(total, n, excluded)
        near, far = self._moved_cosines(plus), self._moved_cosines(minus)  # (P, V), (M, V)
        return self._best(near.prod(dim=0) / (far + EPSILON).prod(dim=0), n, excluded)

    def odd_one_out(self, words: Sequence[str]) -> str:
        """Returns the word that is farthest from the mean of all of them.

        Raises:
            ValueError: there are fewer than three, or one is unknown.
        """
        if len(words) < 3:
            raise ValueError(
                f"{len(words)} words were given: of fewer than three, none is the odd one. Give "
                "three or more."
            )
        rows = self.vectors[[self.find(word) for word in words]]  # (N, D)
        return words[int((rows @ rows.mean(dim=0)).argmin())]

    def _moved_cosines(self, rows: Tensor) -> Tensor:
        """Cosines of rows (N, D) with all words, moved from -1..1 to 0..1: (N, V)."""
        return (1 + rows @ self.vectors.T) / 2

    def _best(self, scores: Tensor, n: int, exclude: Iterable[str]) -> list[Neighbor]:
        """Returns the n words with the greatest scores (V,) that are not excluded."""
        if n < 1:
            raise ValueError(f"n={n} asks for no word. Use 1 or more.")
        rows = {self.find(word) for word in exclude}
        scores = scores.clone()
        scores[list(rows)] = -torch.inf
        best = scores.topk(min(n, len(self) - len(rows)))
        return [
            Neighbor(self.words[row], score)
            for row, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


def check_method(method: str) -> str:
    """Returns the name of a form of analogy.

    Raises:
        ValueError: there is no such form.
    """
    if method not in get_args(Method):
        raise ValueError(
            f"method={method!r} is unknown. Use one of: {', '.join(get_args(Method))}."
        )
    return method


def random_embeddings(words: Sequence[str], dim: int, seed: int = 0) -> Embeddings:
    """Returns vectors that know nothing: what any training has to beat."""
    generator = torch.Generator().manual_seed(seed)
    return Embeddings(words, torch.randn(len(words), dim, generator=generator))


TOY = {  # royal, female, young, a fruit
    "king": (1, -1, -1, -1), "queen": (1, 1, -1, -1), "man": (0, -1, -1, -1),
    "woman": (0, 1, -1, -1), "prince": (1, -1, 1, -1), "princess": (1, 1, 1, -1),
    "boy": (0, -1, 1, -1), "girl": (0, 1, 1, -1), "apple": (0, 0, 0, 1), "pear": (0, 0.2, 0, 1),
}  # fmt: skip


def toy_embeddings() -> Embeddings:
    """Returns ten words whose vectors were written by hand, one number for each property."""
    return Embeddings(list(TOY), torch.tensor(list(TOY.values())))
