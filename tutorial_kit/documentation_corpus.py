"""The documentation corpus: English prose that every installation has, split for training.

The docstrings of the standard library, numpy, scipy, torch, sympy, networkx, scikit-learn and
matplotlib, read from their source and cleaned to prose, make 1.5 million words and more. It is the
text that gpt, bert and cbow learn from when there is no network. `tutorial_kit.docstring_cleaning`
states what counts as prose, `tutorial_kit.corpus_building` how the text is split. Built once in
some 15 seconds and kept in one file, whose name changes with the versions of the libraries and with
the rules, because both change the text. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import sys
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from tutorial_kit import corpus_building, docstring_blocks, docstring_cleaning, docstring_sources
from tutorial_kit.console import format_table, one_line, progress
from tutorial_kit.corpus_building import LIBRARIES, Document, Library, build_documents
from tutorial_kit.datasets import cache_folder
from tutorial_kit.files import atomic_write

SPLITS = ("train", "validation", "test")


class Paragraph(NamedTuple):
    """A paragraph and where it comes from."""

    text: str  # one line
    library: str
    module: str
    split: str


class DocumentationCorpus:
    """Documents (modules) of paragraphs, in the order of the libraries and of module names."""

    def __init__(self, all_documents: list[Document]) -> None:
        self.all_documents = all_documents

    def documents(self, split: str) -> list[Document]:
        """Returns the documents of a split.

        Args:
            split: "train", "validation" or "test".

        Raises:
            ValueError: there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(
                f"split={split!r} was asked of the documentation corpus, which has no such part. "
                f"Use one of: {', '.join(SPLITS)}."
            )
        return [document for document in self.all_documents if document.split == split]

    @cached_property
    def paragraphs(self) -> list[Paragraph]:
        """All paragraphs of all splits, in order."""
        return [
            Paragraph(text, document.library, document.module, document.split)
            for document in self.all_documents
            for text in document.paragraphs
        ]

    def text(self, split: str) -> str:
        """Returns a split as one text; a blank line stands between paragraphs.

        Args:
            split: "train", "validation" or "test".

        Raises:
            ValueError: there is no such split.
        """
        return "\n\n".join("\n\n".join(d.paragraphs) for d in self.documents(split))

    def statistics(self) -> dict[str, dict[str, int]]:
        """Counts the text.

        Returns:
            Library or split (and "total") -> its numbers of "documents", "paragraphs", "words"
            (separated by white space) and "bytes" (UTF-8, without what separates paragraphs).
        """
        names = [name for name in LIBRARIES if any(d.library == name for d in self.all_documents)]
        result = {
            name: dict.fromkeys(("documents", "paragraphs", "words", "bytes"), 0)
            for name in (*names, *SPLITS, "total")
        }
        for document in self.all_documents:
            words = sum(len(text.split()) for text in document.paragraphs)
            size = sum(len(text.encode()) for text in document.paragraphs)
            for name in (document.library, document.split, "total"):
                row = result[name]
                row["documents"] += 1
                row["paragraphs"] += len(document.paragraphs)
                row["words"] += words
                row["bytes"] += size
        return result


def documentation_corpus(only: tuple[str, ...] = ()) -> DocumentationCorpus:
    """Returns the corpus: from memory, from the cache file, or built anew (some 15 seconds).

    Building shows its progress and ends with the statistics. A library that is not installed is
    left out and said. A damaged cache file is replaced; where none can be written, a line says so
    and the corpus is built each time.

    Args:
        only: names of the libraries to read, such as ("numpy",), for tests that must be quick; none
            means all.

    Raises:
        FileNotFoundError: no library's source was found, not even the standard library's.
    """
    libraries, missing = corpus_building.find_libraries()
    if only:
        libraries = [library for library in libraries if library.name in only]
        missing = [name for name in missing if name in only]
    if not libraries:
        raise FileNotFoundError(
            "the documentation corpus is read from the source files of installed libraries, and "
            f"none of {', '.join(LIBRARIES)} was found: there is no text. Install requirements.txt."
        )
    return _load_or_build(tuple(libraries), tuple(missing), cache_folder())


@lru_cache(maxsize=1)
def _load_or_build(
    libraries: tuple[Library, ...], missing: tuple[str, ...], cache: Path
) -> DocumentationCorpus:
    fingerprint = corpus_fingerprint(libraries)
    path = cache / "documentation_corpus" / f"corpus-{fingerprint[:16]}.jsonl"
    documents = read_cache(path, fingerprint)
    if documents is not None:
        return DocumentationCorpus(documents)
    for name in missing:
        hint = f" (pip install {LIBRARIES[name]})" if LIBRARIES[name] else ""
        print(
            f"documentation corpus: no source of {name} found, its text is left out{hint}",
            file=sys.stderr,
        )
    with progress(1.0, "Reading the documentation of installed libraries", "") as bar:
        documents = build_documents(libraries, on_progress=lambda chunks: bar.update(1 / chunks))
    corpus = DocumentationCorpus(documents)
    print(describe(corpus))
    try:
        write_cache(path, fingerprint, documents)
    except OSError as error:
        print(f"warning: {one_line(error)} The corpus is built each time.", file=sys.stderr)
    return corpus


def describe(corpus: DocumentationCorpus) -> str:
    """Returns the statistics as a table."""
    rows = [
        [name, *(f"{row[unit]:,}" for unit in ("documents", "paragraphs", "words", "bytes"))]
        for name, row in corpus.statistics().items()
    ]
    headers = ["documentation corpus", "documents", "paragraphs", "words", "bytes"]
    return format_table(headers, rows)


def corpus_fingerprint(libraries: tuple[Library, ...]) -> str:
    """Returns a hash of what decides the text: the versions of libraries and the rules' code."""
    digest = hashlib.sha256()
    for module in (corpus_building, docstring_blocks, docstring_cleaning, docstring_sources):
        digest.update(Path(str(module.__file__)).read_bytes().replace(b"\r\n", b"\n"))
    for library in libraries:
        digest.update(f"\n{library.name} {library.version}".encode())
    return digest.hexdigest()


def write_cache(path: Path, fingerprint: str, documents: list[Document]) -> None:
    """Writes documents to one file: a line with the header, then one line of JSON a document.

    Raises:
        OSError: the file cannot be written; the text says why.
    """
    body = "".join(json.dumps(d, ensure_ascii=False) + "\n" for d in documents).encode()
    header = {"fingerprint": fingerprint, "sha256": hashlib.sha256(body).hexdigest()}
    with atomic_write(path) as file:
        file.write(json.dumps(header).encode() + b"\n" + body)


def read_cache(path: Path, fingerprint: str) -> list[Document] | None:
    """Reads what `write_cache` wrote; None if it is missing, damaged or for other versions."""
    try:
        first, _, body = path.read_bytes().partition(b"\n")
        header: Any = json.loads(first)
        if header != {"fingerprint": fingerprint, "sha256": hashlib.sha256(body).hexdigest()}:
            return None
        rows = map(json.loads, body.decode().split("\n")[:-1])
        return [Document(a, b, c, tuple(paragraphs)) for a, b, c, paragraphs in rows]
    except (OSError, ValueError):
        return None
