"""Builds the documentation corpus: finds the libraries, reads them on all cores, splits by module.

The files are shared out in chunks to worker processes. Each worker is a fresh interpreter that
reads file names from its input and writes JSON to its output, so that it works alike from a script,
a notebook, standard input or another worker, and never runs the caller's main module again as
``multiprocessing`` would. A chunk whose worker fails is read here instead.

Held-out text never occurs in training: of paragraphs with the same letters one copy stays, and a
held-out paragraph that shares 13 words in a row with training text is left out (the rule of Brown
et al. 2020, appendix C). Standard library only; the result is the same for any number of processes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.docstring_sources import ModuleText, SourceFile, find_source_files, read_modules
from tutorial_kit.processor import core_count

LIBRARIES = {
    "python": "",
    "numpy": "numpy",
    "scipy": "scipy",
    "torch": "torch",
    "sympy": "sympy",
    "networkx": "networkx",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
}
"""Import name -> name to install it by, in the corpus' order; "python" is the standard library."""

SHARED_WORDS = 13
"""A held-out paragraph with so many words in a row from the training split is left out."""

# Of 400 tried, the salt that gives every library nearly 5 % of validation and of test text.
_SPLIT_SALT = "corpus-365"
_MOST_PROCESSES = 8
_CHUNK_FILES = 150  # about a second's work: even shares, and few starts of interpreters
_WORKER = (
    "import sys; sys.path.insert(0, sys.argv[1]); import tutorial_kit.docstring_sources as worker;"
    " worker.main()"
)


class Library(NamedTuple):
    """An installed library."""

    name: str  # import name, "python" for the standard library
    version: str
    folder: Path  # holds its source files


class Document(NamedTuple):
    """The prose of one module, in the order of its source."""

    library: str
    module: str  # dotted name
    split: str  # "train", "validation" or "test"
    paragraphs: tuple[str, ...]


def find_libraries() -> tuple[list[Library], list[str]]:
    """Locates the libraries without importing them.

    Returns:
        Those that are installed, in the order of `LIBRARIES`, and the names of those that are not.
    """
    found: list[Library] = []
    missing: list[str] = []
    for name, distribution in LIBRARIES.items():
        if name == "python":
            folder: Path | None = Path(sysconfig.get_paths()["stdlib"])
            version = platform.python_version()
        else:
            folder, version = _folder(name), _version(distribution)
        if folder and folder.is_dir():
            found.append(Library(name, version, folder))
        else:
            missing.append(name)
    return found, missing


def _folder(package: str) -> Path | None:
    """Returns where a top-level package is; looking for it does not run its code."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # something without a spec pretends to be this package
        return None
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def split_of(module: str) -> str:
    """Returns the split of a module: 90 % "train", 5 % "validation", 5 % "test" by its name's hash.

    >>> split_of("numpy.linalg") == split_of("numpy.linalg")
    True
    """
    digest = hashlib.sha256(f"{_SPLIT_SALT}:{module}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return "train" if share < 0.9 else "validation" if share < 0.95 else "test"


def build_documents(
    libraries: Sequence[Library],
    processes: int | None = None,
    on_progress: Callable[[int], None] = lambda chunks: None,
) -> list[Document]:
    """Reads, cleans, de-duplicates and splits the documentation of libraries.

    Args:
        libraries: where to read.
        processes: how many to use, by default one for each core, at most eight.
        on_progress: called after each chunk of files, with the number of chunks.

    Returns:
        Documents by library in the order given, then by module. Modules without prose are left out.
    """
    files: list[SourceFile] = []
    for library in libraries:
        package = "" if library.name == "python" else library.name
        files += find_source_files(library.name, package, library.folder)
    texts: dict[tuple[str, str], list[str]] = {}
    chunks = [files[k : k + _CHUNK_FILES] for k in range(0, len(files), _CHUNK_FILES)]
    for modules in _read_chunks(chunks, processes or min(_MOST_PROCESSES, core_count())):
        for text in modules:
            texts.setdefault((text.library, text.module), []).extend(text.paragraphs)
        on_progress(len(chunks))
    documents = [Document(*key, split_of(key[1]), tuple(texts[key])) for key in texts]
    return _without_leaks(_without_copies(documents))


def _read_chunks(chunks: list[list[SourceFile]], processes: int) -> Iterator[list[ModuleText]]:
    """Yields what each chunk holds, in order."""
    if processes == 1 or not sys.executable:
        yield from map(read_modules, chunks)
        return
    pool = ThreadPoolExecutor(processes)  # its threads only wait, each for a worker process
    try:
        for chunk, result in zip(chunks, pool.map(_read_elsewhere, chunks), strict=True):
            yield read_modules(chunk) if result is None else result
    finally:
        pool.shutdown(cancel_futures=True)


def _read_elsewhere(chunk: list[SourceFile]) -> list[ModuleText] | None:
    """Reads a chunk in a process of its own; None if that failed."""
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", _WORKER, str(PROJECT_ROOT)]
    files = json.dumps(chunk).encode("ascii")
    try:
        worker = subprocess.run(
            command, input=files, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        )
        return [ModuleText(a, b, tuple(c)) for a, b, c in json.loads(worker.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _without_copies(documents: Iterable[Document]) -> list[Document]:
    """Keeps the first of paragraphs that have the same letters and digits."""
    seen: set[str] = set()
    result = []
    for document in documents:
        kept = []
        for paragraph in document.paragraphs:
            key = re.sub(r"[\W_]+", "", paragraph.casefold())
            if key not in seen:
                seen.add(key)
                kept.append(paragraph)
        if kept:
            result.append(document._replace(paragraphs=tuple(kept)))
    return result


def _without_leaks(documents: Sequence[Document]) -> list[Document]:
    """Leaves out held-out paragraphs that share `SHARED_WORDS` words in a row with training."""
    held_out: dict[tuple[str, ...], list[str]] = {}
    for document in documents:
        if document.split != "train":
            for paragraph in document.paragraphs:
                for words in _word_runs(paragraph):
                    held_out.setdefault(words, []).append(paragraph)
    leaks: set[str] = set()
    for document in documents:
        if document.split == "train":
            for paragraph in document.paragraphs:
                for words in _word_runs(paragraph):
                    if words in held_out:
                        leaks.update(held_out[words])
    kept = (
        d._replace(paragraphs=tuple(p for p in d.paragraphs if p not in leaks)) for d in documents
    )
    return [document for document in kept if document.paragraphs]


def _word_runs(paragraph: str) -> Iterator[tuple[str, ...]]:
    """Yields each `SHARED_WORDS` words in a row, in lower case and without punctuation."""
    words = re.findall(r"\w+", paragraph.lower())
    return zip(*(words[k:] for k in range(SHARED_WORDS)), strict=False)
