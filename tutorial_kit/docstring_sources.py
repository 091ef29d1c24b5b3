"""Finds the docstrings of installed libraries by parsing their source, without importing them.

Importing eight libraries would take seconds and run their code; ``ast`` only reads. Three places
hold documentation: docstrings; strings handed to functions such as ``add_newdoc`` and
``_add_docstr``, which document what is compiled from C; and ``pydoc_data.topics``, the chapters of
the Python language reference behind ``help("topics")``. Test folders and vendored copies of other
projects are skipped. Run as a program, the module reads file names and writes cleaned documents:
that is how `tutorial_kit.documentation_corpus` uses a second core. Standard library only.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tutorial_kit.docstring_cleaning import clean_docstring

_SKIPPED_FOLDER = re.compile(
    r"tests?|testing|idle_test|site-packages|dist-packages|__pycache__"  # no documentation
    r"|_vendor|vendored|externals?|extern|array_api_(compat|extra)"  # copies of other projects
    r"|encodings"  # one sentence, a hundred times
)

MIN_SHARE = 0.08
"""Files with less between triple quotes are not parsed: a fifth of the time, 3 % of the words."""

HELP_TOPICS = "pydoc_data.topics"
"""The standard library's module that holds the language reference as a dictionary of strings."""


class SourceFile(NamedTuple):
    """A Python file to read, and the names its text is labeled with."""

    library: str  # "numpy"; "python" for the standard library
    module: str  # dotted name, "numpy.linalg._linalg"
    path: str  # absolute path of the file


class ModuleText(NamedTuple):
    """The prose of one module, in the order of the source."""

    library: str
    module: str
    paragraphs: tuple[str, ...]


def find_source_files(library: str, package: str, folder: Path) -> list[SourceFile]:
    """Lists the Python files of a library in sorted order, without its tests.

    Args:
        library: label of the library, such as ``"python"``.
        package: import name that dotted names begin with, ``""`` for the standard library.
        folder: the folder that holds the files of ``package``.
    """
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _SKIPPED_FOLDER.fullmatch(name)]
        inner = Path(place).relative_to(folder).parts
        for name in names:
            if name.endswith(".py") and not name.startswith("test_"):
                parts = [package, *inner, name[:-3].replace("__init__", "")]
                path = os.path.join(place, name)  # noqa: PTH118 (a Path for each takes a second)
                found.append(SourceFile(library, ".".join(filter(None, parts)), path))
    return sorted(found)


def docstrings(source: bytes) -> Iterator[str]:
    """Yields the documentation strings of one Python file, in the order of the source.

    Args:
        source: the file's content, encoded as Python says (UTF-8, or by its coding line).

    Yields:
        Raw docstrings, indentation included. Nothing if the file is no valid Python, as are some
        files that libraries ship as templates.
    """
    quotes = b'"""' if b'"""' in source else b"'''"
    if sum(map(len, source.split(quotes)[1::2])) < MIN_SHARE * len(source):
        return
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield text
        elif isinstance(node, (ast.Expr, ast.Assign)):
            yield from _handed_over(node)
            continue
        # Only statements can hold definitions: leaving out expressions makes this 10 times faster.
        for field in ("finalbody", "orelse", "handlers", "body"):
            pending.extend(reversed(getattr(node, field, ())))


def _handed_over(statement: ast.Expr | ast.Assign) -> Iterator[str]:
    """Yields the strings of ``add_newdoc("name", "text")`` and of ``f.__doc__ = "text"``."""
    value = statement.value
    if isinstance(value, ast.Call) and "doc" in _name(value.func).lower():
        for argument in value.args:
            yield from _string(argument)
    elif isinstance(statement, ast.Assign) and _name(statement.targets[0]) == "__doc__":
        yield from _string(value)


def _name(node: ast.expr) -> str:
    """Returns the last part of a dotted name, ``""`` for any other expression."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _string(node: ast.expr) -> Iterator[str]:
    """Yields a string constant, seen through ``+`` and ``.format``; names of things are no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
        yield node.value
    elif isinstance(node, ast.BinOp):
        yield from _string(node.left)
        yield from _string(node.right)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield from _string(node.func.value)


def _help_topics(source: bytes) -> dict[str, str]:
    """Returns topic -> text of the standard library's ``pydoc_data/topics.py``."""
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and _name(statement.targets[0]) == "topics":
            return dict(ast.literal_eval(statement.value))
    return {}


def read_modules(files: Iterable[SourceFile]) -> list[ModuleText]:
    """Reads files and cleans their docstrings to prose.

    Args:
        files: what to read; a file that cannot be read is left out.

    Returns:
        One entry per module with any prose, in the order given. Each help topic counts as a module.
    """
    result = []
    was_collecting = gc.isenabled()
    gc.disable()  # syntax trees have no cycles; the collector would walk millions of nodes
    try:
        for file in files:
            try:
                source = Path(file.path).read_bytes()
            except OSError:
                continue
            if file.module == HELP_TOPICS:
                texts = [(f"{HELP_TOPICS}.{k}", [v]) for k, v in _help_topics(source).items()]
            else:
                texts = [(file.module, list(docstrings(source)))]
            for module, raw in texts:
                paragraphs = tuple(p for text in raw for p in clean_docstring(text))
                if paragraphs:
                    result.append(ModuleText(file.library, module, paragraphs))
    finally:
        if was_collecting:
            gc.enable()
    return result


def main() -> None:
    """Reads a JSON list of files from standard input, writes their texts to standard output."""
    files = [SourceFile(*fields) for fields in json.load(sys.stdin.buffer)]
    sys.stdout.buffer.write(json.dumps(read_modules(files)).encode("ascii"))


if __name__ == "__main__":
    main()
