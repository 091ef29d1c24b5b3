"""The text that word vectors are learned from: read, cut into words, numbered, kept on the disk.

Every text is read twice, in pieces: once to count its words, once to number them. The numbers are
kept in the cache folder and mapped into memory, so neither the text nor its words are ever in
memory as a whole. The parts of this work stand, in reading order, in `cbow.vocabulary` (words and
counts), `cbow.text_sources`, `cbow.corpus` (numbers) and `cbow.windows` (training examples).
"""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cbow import corpus as corpus_module
from cbow import text_sources
from cbow import vocabulary as vocabulary_module
from cbow.corpus import Corpus, read_corpus, write_corpus
from cbow.text_sources import SPLITS, TextSource, open_source
from cbow.vocabulary import SENTENCE_ENDS, Vocabulary, split_pieces, tokenize
from cbow.windows import (
    context_windows,
    drop_frequent,
    epoch_stretches,
    shuffle_sentences,
    window_extents,
)
from tutorial_kit.console import one_line, progress
from tutorial_kit.datasets import cache_folder
from tutorial_kit.files import atomic_write, folder_lock

__all__ = [
    "CBOWData",
    "Corpus",
    "Vocabulary",
    "context_windows",
    "drop_frequent",
    "epoch_stretches",
    "load_corpus",
    "shuffle_sentences",
    "tokenize",
    "window_extents",
]


@dataclass(frozen=True, eq=False)
class CBOWData:
    """A text to learn from and one to measure on; the vocabulary is that of the training text."""

    name: str  # the data set's name or the file's path, as given
    train: Corpus
    validation: Corpus  # may be without sentences if the text is tiny

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of the training text that occur often enough."""
        return self.train.vocabulary

    def labels(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Counts which library's documentation each word occurs in.

        Returns:
            names: of the L libraries; none for other texts.
            counts: (L, V) int64, occurrences in the training text.
        """
        names, sources = self.train.source_names, self.train.sources
        n_words = len(self.vocabulary)
        if not names or sources is None:
            return (), np.zeros((0, n_words), dtype=np.int64)
        source = np.repeat(sources.astype(np.int64), np.diff(self.train.starts))  # (N,)
        flat = np.bincount(source * n_words + self.train.tokens, minlength=len(names) * n_words)
        return names, flat.reshape(len(names), n_words)


def load_corpus(dataset: str, min_count: int, max_tokens: int = 0) -> CBOWData:
    """Reads a text; the second time, its numbers come from the cache folder.

    Args:
        dataset: "documentation", "documentation-small" (numpy and networkx, for smoke tests),
            "wikitext2", or the path of a UTF-8 text file.
        min_count: a word that is rarer in the training text gets no vector.
        max_tokens: train on the first so many words only, rare ones counted; 0 takes all.

    Raises:
        FileNotFoundError: the data set is neither a known name nor a file.
        ValueError: the file is empty, binary, not UTF-8 or has too few words; max_tokens < 0.
        OSError: WikiText-2 cannot be fetched.
    """
    if max_tokens < 0:
        raise ValueError(
            f"max_tokens={max_tokens} is no number of words to train on. Use 0 for the whole text, "
            "or 1 and more."
        )
    source = open_source(dataset)
    folder = cache_folder() / "tokens" / f"cbow-{_fingerprint(source, min_count, max_tokens)[:20]}"
    try:
        with folder_lock(folder, 600.0, "waiting: another process is reading this text"):
            stored = _read(folder, dataset, source.source_names)
            if stored is None:
                _build(folder, source, min_count, max_tokens)
    except OSError as error:
        print(f"note: {one_line(error)} The text is read each time.", file=sys.stderr)
        folder = Path(tempfile.mkdtemp(prefix="cbow-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _build(folder, source, min_count, max_tokens)
        stored = None
    data = stored or _read(folder, dataset, source.source_names)
    assert data is not None, "what has just been written can be read"
    if len(data.train) == 0 or np.diff(data.train.starts).max() < 2:
        raise ValueError(
            f"no sentence of {dataset} has two words that occur min_count={min_count} times: no "
            "target has a context. Use a longer text or a smaller --min-count."
        )
    return data


def _fingerprint(source: TextSource, min_count: int, max_tokens: int) -> str:
    """Returns a hash of what decides the numbers: text, settings and the rules' code."""
    digest = hashlib.sha256(f"{source.fingerprint} {min_count} {max_tokens}".encode())
    for module in (vocabulary_module, text_sources, corpus_module):
        digest.update(Path(str(module.__file__)).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def _build(folder: Path, source: TextSource, min_count: int, max_tokens: int) -> None:
    """Counts the words of the training text, then writes both parts; the vocabulary last."""
    limits = {"train": max_tokens, "validation": 0}
    with progress(2 * source.size, "Reading text", "B") as bar:

        def words(split: str) -> Iterator[tuple[int, list[str]]]:
            left = limits[split]
            for number, text in source.pieces(split):
                pieces = split_pieces(text)
                if limits[split]:
                    pieces = first_words(pieces, left)
                    left -= sum(piece not in SENTENCE_ENDS for piece in pieces)
                bar.update(len(text))
                yield number, pieces
                if limits[split] and left == 0:
                    return

        vocabulary = Vocabulary.count((pieces for _, pieces in words("train")), min_count)
        for split in SPLITS:
            (folder / split).mkdir(exist_ok=True)
            write_corpus(folder / split, words(split), vocabulary)
    with atomic_write(folder / "vocabulary.json", "w") as file:
        json.dump(vocabulary.to_dict(), file)


def first_words(pieces: list[str], n: int) -> list[str]:
    """Returns a list up to its n-th word; marks of sentence ends are not words."""
    if len(pieces) <= n:
        return pieces
    places = [place for place, piece in enumerate(pieces) if piece not in SENTENCE_ENDS]
    return pieces[: places[n]] if len(places) > n else pieces


def _read(folder: Path, name: str, source_names: tuple[str, ...]) -> CBOWData | None:
    """Opens what `_build` wrote; None if it is missing or damaged."""
    try:
        stored: dict[str, Any] = json.loads((folder / "vocabulary.json").read_text("utf-8"))
        vocabulary = Vocabulary.from_dict(stored)
        train, validation = (
            read_corpus(folder / split, name, vocabulary, source_names) for split in SPLITS
        )
    except (OSError, ValueError, KeyError, EOFError):
        return None
    return CBOWData(name, train, validation)
