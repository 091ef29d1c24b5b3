"""The questions people wrote down for word vectors: analogies and rated pairs of words.

questions-words has 19,544 analogies in 14 sections, "Athens is to Greece as Baghdad is to ..."
(Mikolov et al. 2013a, section 4.1). WordSim-353 rates how related two words are (coffee, cup),
SimLex-999 how similar they are: there coffee and cup are unlike. `evaluation` asks them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tutorial_kit.datasets import dataset_files, read_text_lines


class Section(NamedTuple):
    """Analogies of one kind: rows of four words, "a is to b as c is to d"."""

    name: str
    questions: tuple[tuple[str, str, str, str], ...]


class Pair(NamedTuple):
    """Two words and how similar people found them."""

    first: str
    second: str
    rating: float  # 0 to 10


@dataclass(frozen=True)
class WordTests:
    """What people wrote down."""

    analogies: tuple[Section, ...]
    wordsim: tuple[Pair, ...]  # WordSim-353
    simlex: tuple[Pair, ...]  # SimLex-999


@lru_cache(maxsize=1)
def load_tests() -> WordTests:
    """Fetches the three lists (0.6 MB) or reads them from the cache.

    Raises:
        OSError: they are not there and cannot be fetched.
    """
    return WordTests(
        read_analogies(dataset_files("questions_words")["analogies"]),
        read_pairs(dataset_files("wordsim353")["pairs"]),
        read_pairs(dataset_files("simlex999")["pairs"]),
    )


def read_analogies(path: Path) -> tuple[Section, ...]:
    """Reads a file of analogies: ": name" begins a section, four words a line are a question.

    Raises:
        ValueError: a line is neither, or questions stand before the first section.
    """
    sections: list[tuple[str, list[tuple[str, str, str, str]]]] = []
    for number, line in enumerate(read_text_lines(path), start=1):
        words = line.split()
        if words[:1] == [":"]:
            sections.append((" ".join(words[1:]), []))
        elif len(words) == 4 and sections:
            sections[-1][1].append((words[0], words[1], words[2], words[3]))
        elif words:
            raise ValueError(
                f"{path}, line {number} is {line[:60]!r}: neither ': section' nor four words below "
                "one. Give a file in the form of questions-words.txt."
            )
    return tuple(Section(name, tuple(questions)) for name, questions in sections)


def read_pairs(path: Path) -> tuple[Pair, ...]:
    """Reads a file of pairs: two words and a rating a line.

    Raises:
        ValueError: a line is not of that form.
    """
    pairs = []
    for number, line in enumerate(read_text_lines(path), start=1):
        cells = line.split()
        if not cells:
            continue
        try:
            first, second, rating = cells
            pairs.append(Pair(first, second, float(rating)))
        except ValueError:
            raise ValueError(
                f"{path}, line {number} is {line[:60]!r}: not two words and a rating. Give one "
                "pair a line."
            ) from None
    return tuple(pairs)
