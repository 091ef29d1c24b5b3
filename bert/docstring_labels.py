"""Labels that authors have already written: what a docstring marks as code, and its parameters.

Both tasks need the markup that the documentation corpus takes away, so they read the sources again,
with the same split by module. Reading takes some seconds; the result is kept in a file whose name
changes with the versions of the libraries and with the rules.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tutorial_kit.console import progress
from tutorial_kit.corpus_building import Library, find_libraries, split_of
from tutorial_kit.datasets import cache_folder
from tutorial_kit.docstring_blocks import text_blocks
from tutorial_kit.docstring_cleaning import is_prose, is_readable, plain_text
from tutorial_kit.docstring_sources import docstrings, find_source_files
from tutorial_kit.documentation_corpus import corpus_fingerprint
from tutorial_kit.files import atomic_write

NUMPYDOC_LIBRARIES = ("numpy", "scipy", "sklearn", "networkx", "matplotlib")
"""Libraries whose docstrings follow the numpydoc standard, with underlined sections."""

CODE, PLAIN = "code", "O"
MOST_WORDS = 16
"""Longer descriptions are passed over: three of them have to fit into a sequence."""

_ROLE_OR_MARK = re.compile(  # ``x``, :func:`x`, `x`; not a link `x <...>`_ and not :math:`x`
    r"``(.+?)``(?!`)|((?::(?!math|ref|doc)[\w+.-]+)+:`[^`]+`)|(?<![:`\w])`([^`<>]+)`(?![`_])"
)
_OPEN, _CLOSE = "\ue000", "\ue001"  # private characters: no docstring has them
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_HEAD = re.compile(r"\*{0,2}([A-Za-z]\w{2,})( *:.*)?$")


class MarkedText(NamedTuple):
    """A paragraph as words, and which of them its author has marked as code."""

    words: tuple[str, ...]
    tags: tuple[str, ...]  # CODE or PLAIN for each word


class Parameter(NamedTuple):
    """A parameter's name and the first sentence about it."""

    name: str
    sentence: str


def marked_texts(docstring: str) -> list[MarkedText]:
    """Returns the paragraphs that mark a word as code, the marks taken away.

    >>> [text] = marked_texts("If ``axis`` is None, the sum of all of `a` is returned.")
    >>> " ".join(word if tag == "O" else word.upper() for word, tag in zip(*text))
    'If AXIS is None, the sum of all of A is returned.'
    """
    result = []
    for block in text_blocks(docstring):
        raw = "\n".join(block.lines)
        if "`" not in raw:
            continue
        text = plain_text(_ROLE_OR_MARK.sub(_between_marks, raw))
        words, tags, inside = [], [], False
        for word in text.split():
            bare = word.replace(_OPEN, "").replace(_CLOSE, "")
            if bare:
                words.append(bare)
                tags.append(CODE if inside or _OPEN in word else PLAIN)
            last = max(word.rfind(_OPEN), word.rfind(_CLOSE))
            inside = word[last] == _OPEN if last >= 0 else inside
        if CODE in tags and is_prose(" ".join(words)):
            result.append(MarkedText(tuple(words), tuple(tags)))
    return result


def _between_marks(match: re.Match[str]) -> str:
    return _OPEN + plain_text(match[1] or match[2] or match[3]) + _CLOSE


def parameters(docstring: str) -> list[Parameter]:
    """Returns the parameters of a numpydoc section "Parameters" that a short sentence describes.

    A sentence that says the name itself is passed over: finding it would be a search for a string.

    >>> parameters('''Sums.
    ...
    ... Parameters
    ... ----------
    ... axis : int, optional
    ...     Direction along which to add. All of them by default.
    ... ''')
    [Parameter(name='axis', sentence='Direction along which to add.')]
    """
    lines = inspect.cleandoc(docstring).splitlines()
    starts = [i for i, line in enumerate(lines[1:], 1)
              if set(line.strip()) == {"-"} and lines[i - 1].strip() == "Parameters"]  # fmt: skip
    if not starts:
        return []
    result, name, described = [], "", [""]
    indent = len(lines[starts[0]]) - len(lines[starts[0]].lstrip())
    for line in [*lines[starts[0] + 1 :], "end"]:
        depth = len(line) - len(line.lstrip())
        if line.strip() and depth <= indent:  # the next head, the next section or the end
            if name:
                result += _first_sentence(name, described)
            head = _HEAD.match(line.strip())
            if line == "end" or line.strip().startswith("---"):
                break
            name, described = (head[1] if head else ""), []
        else:
            described.append(line)
    return result


def _first_sentence(name: str, lines: list[str]) -> list[Parameter]:
    paragraph = "\n".join(lines).strip().split("\n\n")[0]
    sentence = _SENTENCE_END.split(plain_text(paragraph))[0]
    words = re.findall(r"\w+", sentence.lower())
    is_short = 3 <= len(words) <= MOST_WORDS and sentence.endswith(".")
    if is_short and is_readable(sentence) and name.lower() not in words:
        return [Parameter(name, sentence)]
    return []


def kept_labels(
    name: str, read: Callable[[str], list[Any]], only: tuple[str, ...] = ()
) -> dict[str, list[list[Any]]]:
    """Returns what ``read`` finds in every docstring, by split, from the cache file if it is there.

    Args:
        name: of the cache file.
        read: docstring -> a list of plain types; a docstring without any is left out.
        only: libraries to read; none means ``NUMPYDOC_LIBRARIES``.
    """
    libraries = tuple(x for x in find_libraries()[0] if x.name in (only or NUMPYDOC_LIBRARIES))
    rules = hashlib.sha256(Path(__file__).read_bytes() + corpus_fingerprint(libraries).encode())
    path = cache_folder() / "documentation_corpus" / f"{name}-{rules.hexdigest()[:16]}.json"
    try:
        kept: dict[str, list[list[Any]]] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    except (OSError, ValueError):
        pass  # missing or damaged: make it anew
    found: dict[str, list[list[Any]]] = {"train": [], "validation": [], "test": []}
    seen: set[str] = set()
    with progress(len(libraries), "reading the docstrings of libraries again", "library") as bar:
        for library in libraries:
            for split, docstring in _docstrings_of(library):
                if docstring not in seen and (rows := read(docstring)):
                    seen.add(docstring)
                    found[split].append(rows)
            bar.update(1)
    try:
        with atomic_write(path, "w") as file:
            json.dump(found, file, ensure_ascii=False)
    except OSError as error:
        print(f"note: the labels are not cached: {error}")
    return found


def _docstrings_of(library: Library) -> Iterator[tuple[str, str]]:
    """Yields the split of the module, and a docstring as it is written."""
    for file in find_source_files(library.name, library.name, library.folder):
        for docstring in docstrings(Path(file.path).read_bytes()):
            yield split_of(file.module), docstring
