"""Scores of word vectors on questions whose answers people wrote down: analogies, similarity.

Analogies (Mikolov et al. 2013a, section 4.1): "Athens is to Greece as Baghdad is to ..."; right is
only the expected word, and the three words of the question are no answers. 14 sections, of which
the five about meaning count as semantic and those whose names begin with "gram" as syntactic.

Similarity: people rated pairs of words; Spearman's rank correlation says whether the cosines put
the pairs in the same order. Only what has vectors can be asked, so every score comes with how much
was asked. Questions and vocabulary are compared whatever their capitals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cbow.embeddings import EPSILON, Embeddings, Method, check_method
from cbow.word_tests import Pair, Section, WordTests, load_tests
from tutorial_kit.console import format_table

QUESTIONS_AT_ONCE = 256  # their scores with all words, (256, V), are in memory together
FEWEST_PAIRS = 3  # an order of two pairs says nothing


class Score(NamedTuple):
    """How many analogies of a section were answered rightly."""

    name: str
    right: int
    asked: int  # all four words have vectors
    total: int  # in the file

    @property
    def accuracy(self) -> float:
        """Share of right answers among those asked, 0 to 1; 0 if none was asked."""
        return self.right / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class AnalogyScores:
    """The analogies, section by section."""

    sections: tuple[Score, ...]

    @property
    def semantic(self) -> Score:
        """The sections about meaning, such as capitals and currencies."""
        return self._sum("semantic", [s for s in self.sections if not s.name.startswith("gram")])

    @property
    def syntactic(self) -> Score:
        """The sections about grammar, such as plurals and past tenses."""
        return self._sum("syntactic", [s for s in self.sections if s.name.startswith("gram")])

    @property
    def total(self) -> Score:
        """All questions together."""
        return self._sum("total", self.sections)

    def table(self) -> str:
        """Returns sections and totals for the terminal."""
        rows = [
            (s.name, round(100 * s.accuracy, 1), s.asked, s.total)
            for s in (*self.sections, self.semantic, self.syntactic, self.total)
        ]
        return format_table(["analogies", "right %", "asked", "in the file"], rows)

    @staticmethod
    def _sum(name: str, scores: Sequence[Score]) -> Score:
        return Score(
            name, sum(s.right for s in scores), sum(s.asked for s in scores),
            sum(s.total for s in scores),
        )  # fmt: skip


class PairScores(NamedTuple):
    """How well cosines order the pairs of a list."""

    spearman: float  # rank correlation, -1 to 1; not a number below three pairs
    found: int  # pairs whose words both have vectors
    total: int


@dataclass(frozen=True)
class Evaluation:
    """All scores of one set of vectors."""

    analogies: AnalogyScores  # 3CosAdd
    multiplied: AnalogyScores  # 3CosMul
    wordsim: PairScores
    simlex: PairScores

    def percentages(self) -> dict[str, float]:
        """Returns each score in percent (correlations times 100), by name."""
        return {
            "analogies": 100 * self.analogies.total.accuracy,
            "semantic": 100 * self.analogies.semantic.accuracy,
            "syntactic": 100 * self.analogies.syntactic.accuracy,
            "analogies_mul": 100 * self.multiplied.total.accuracy,
            "wordsim": 100 * self.wordsim.spearman,
            "simlex": 100 * self.simlex.spearman,
        }


def evaluate(embeddings: Embeddings, tests: WordTests | None = None) -> Evaluation:
    """Returns all scores.

    Args:
        embeddings: the vectors.
        tests: what to ask; None means ``load_tests()``.
    """
    tests = tests or load_tests()
    return Evaluation(
        score_analogies(embeddings, tests.analogies, "add"),
        score_analogies(embeddings, tests.analogies, "mul"),
        score_pairs(embeddings, tests.wordsim),
        score_pairs(embeddings, tests.simlex),
    )


def score_analogies(
    embeddings: Embeddings, sections: Sequence[Section], method: Method = "add"
) -> AnalogyScores:
    """Asks all analogies whose four words are known.

    Args:
        embeddings: the vectors.
        sections: the questions.
        method: "add" for 3CosAdd, "mul" for 3CosMul (see ``Embeddings.nearest_to_sum``).
    """
    check_method(method)
    scores = []
    for section in sections:
        known = [[embeddings.row(word) for word in question] for question in section.questions]
        rows = [row for row in known if None not in row]
        questions = torch.tensor(rows, dtype=torch.long).reshape(-1, 4)  # (Q, 4) rows of words
        right = sum(
            int((answer(embeddings.vectors, part[:, :3], method) == part[:, 3]).sum())
            for part in questions.split(QUESTIONS_AT_ONCE)
        )
        scores.append(Score(section.name, right, len(rows), len(section.questions)))
    return AnalogyScores(tuple(scores))


def answer(vectors: Tensor, questions: Tensor, method: Method) -> Tensor:
    """Answers "a is to b as c is to ..." for many questions with matrix products.

    Args:
        vectors: (V, D) of length 1.
        questions: (Q, 3) rows of a, b and c.
        method: "add": argmax of d . (b - a + c); "mul": argmax of s(d, b) s(d, c) / s(d, a) with
            s = (1 + cosine) / 2 (Levy & Goldberg 2014).

    Returns:
        (Q,) the row of each answer, which is none of a, b and c.
    """
    a, b, c = (vectors[column] for column in questions.T)  # (Q, D) each
    if method == "add":
        scores = (b - a + c) @ vectors.T  # (Q, V)
    else:
        to_a, to_b, to_c = ((1 + part @ vectors.T) / 2 for part in (a, b, c))  # (Q, V) each
        scores = to_b * to_c / (to_a + EPSILON)
    scores.scatter_(1, questions, -math.inf)
    return scores.argmax(dim=1)


def score_pairs(embeddings: Embeddings, pairs: Sequence[Pair]) -> PairScores:
    """Compares the order of the cosines with that of the ratings (Spearman's correlation)."""
    from scipy.stats import spearmanr  # comes with scikit-learn; takes a second to import

    known = [(embeddings.row(p.first), embeddings.row(p.second), p.rating) for p in pairs]
    found = [(a, b, rating) for a, b, rating in known if a is not None and b is not None]
    if len(found) < FEWEST_PAIRS:
        return PairScores(math.nan, len(found), len(pairs))
    first, second, ratings = zip(*found, strict=True)
    vectors = embeddings.vectors
    cosines = (vectors[list(first)] * vectors[list(second)]).sum(dim=1)  # (P,)
    return PairScores(float(spearmanr(cosines.numpy(), ratings)[0]), len(found), len(pairs))
