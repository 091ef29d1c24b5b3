"""A text as numbers: one long array of words, and where its sentences begin.

The words of a large text do not fit in memory as Python strings, and need not: 35 million words are
140 MB of int32 on the disk, mapped into memory and read stretch by stretch. `write_corpus` makes
these files from pieces of text that come one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import numpy as np

from cbow.vocabulary import SENTENCE_ENDS, Vocabulary

MAX_SENTENCE = 1_000  # words; a longer sentence is cut, as word2vec.c does

_UNKNOWN, _END = -1, -2  # a word without a vector, and the end of a sentence


@dataclass(frozen=True, eq=False)
class Corpus:
    """Sentences of known words; words that are too rare have been left out."""

    name: str
    vocabulary: Vocabulary
    tokens: np.ndarray  # (N,) int32, words as numbers, may be mapped from the start of a file
    starts: np.ndarray  # (S + 1,) int64, where each sentence begins, and N
    sources: np.ndarray | None = None  # (S,) int16, which of source_names a sentence is from
    source_names: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        """Returns the number of sentences, S."""
        return len(self.starts) - 1

    def stretch(self, sentences: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Reads whole sentences into memory.

        Returns:
            tokens: (n,) int32.
            starts: (s + 1,) int64, where each of them begins in these tokens, and n.
        """
        begin, end, _ = sentences.indices(len(self))
        starts = np.asarray(self.starts[begin : end + 1], dtype=np.int64)
        return self._read(int(starts[0]), int(starts[-1])), starts - starts[0]

    def _read(self, begin: int, end: int) -> np.ndarray:
        """Returns words as a copy, (n,) int32.

        From a file they are read, not copied out of its map: what has been looked at through a map
        stays in the process's memory.
        """
        if not isinstance(self.tokens, np.memmap) or self.tokens.filename is None:
            return np.array(self.tokens[begin:end])
        return np.fromfile(self.tokens.filename, np.int32, end - begin, offset=4 * begin)

    def sentences(self) -> Iterator[list[str]]:
        """Yields each sentence as its words."""
        words = self.vocabulary.words
        for begin in range(0, len(self), 10_000):
            tokens, starts = self.stretch(slice(begin, begin + 10_000))
            spelled = [words[number] for number in tokens.tolist()]
            bounds = starts.tolist()
            yield from (spelled[a:b] for a, b in zip(bounds, bounds[1:], strict=False))

    def write_lines(self, path: Path) -> None:
        """Writes one sentence a line, words apart by spaces: what gensim's `corpus_file` reads."""
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for sentence in self.sentences():
                file.write(" ".join(sentence) + "\n")


def encode(pieces: list[str], index: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Turns words and sentence ends into numbers.

    Args:
        pieces: from `split_pieces`.
        index: word -> number, and the marks of `SENTENCE_ENDS` -> -2, as from `piece_index`.

    Returns:
        tokens: (n,) int32, the known words.
        lengths: (s,) int64, words in each sentence, from 1 to `MAX_SENTENCE`.
    """
    numbers = np.fromiter(map(index.get, pieces, repeat(_UNKNOWN)), np.int32, len(pieces))
    known = numbers >= 0
    sentence = np.cumsum(numbers == _END)[known]  # (n,) which sentence each word is in
    lengths = np.bincount(sentence) if len(sentence) else np.zeros(0, dtype=np.int64)
    lengths = lengths[lengths > 0]
    parts = -(-lengths // MAX_SENTENCE)  # a sentence is cut into so many
    cut = np.full(parts.sum(), MAX_SENTENCE, dtype=np.int64)
    cut[np.cumsum(parts) - 1] = lengths - (parts - 1) * MAX_SENTENCE
    return numbers[known], cut


def piece_index(vocabulary: Vocabulary) -> dict[str, int]:
    """Returns word -> number, with the marks of sentence ends."""
    return vocabulary.index | dict.fromkeys(SENTENCE_ENDS, _END)


def write_corpus(
    folder: Path, parts: Iterable[tuple[int, list[str]]], vocabulary: Vocabulary
) -> None:
    """Writes the numbers of a text that comes in parts; only one part is in memory at a time.

    A sentence does not reach over from one part to the next.

    Args:
        folder: an existing folder; gets ``tokens.i32``, ``starts.npy`` and ``sources.npy``.
        parts: (source number, words and sentence ends from `split_pieces`).
        vocabulary: the words to keep.

    Raises:
        OSError: the disk is full or read-only.
    """
    index = piece_index(vocabulary)
    all_lengths = [np.zeros(1, dtype=np.int64)]
    all_sources = [np.zeros(0, dtype=np.int16)]
    with (folder / "tokens.i32").open("wb") as file:
        for source, pieces in parts:
            tokens, lengths = encode(pieces, index)
            file.write(tokens.tobytes())
            all_lengths.append(lengths)
            all_sources.append(np.full(len(lengths), source, dtype=np.int16))
    np.save(folder / "starts.npy", np.cumsum(np.concatenate(all_lengths)))
    np.save(folder / "sources.npy", np.concatenate(all_sources))


def read_corpus(
    folder: Path, name: str, vocabulary: Vocabulary, source_names: tuple[str, ...] = ()
) -> Corpus:
    """Opens what `write_corpus` wrote; the tokens stay on the disk until they are read.

    Raises:
        OSError: a file is missing.
        ValueError: the files do not belong together.
    """
    starts = np.load(folder / "starts.npy", allow_pickle=False)
    sources = np.load(folder / "sources.npy", allow_pickle=False)
    path = folder / "tokens.i32"
    if path.stat().st_size != 4 * starts[-1] or len(sources) != len(starts) - 1:
        raise ValueError(f"{path} and its sentences differ in length: it is damaged. Delete it.")
    if starts[-1] == 0:  # nothing can be mapped
        tokens: np.ndarray = np.zeros(0, dtype=np.int32)
    else:
        tokens = np.memmap(path, dtype=np.int32, mode="r")
    return Corpus(name, vocabulary, tokens, starts, sources, source_names)
