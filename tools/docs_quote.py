"""Finds the source of a function, class or constant by its name, without importing anything."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

OPTIONS = ("signature", "body", "no-docstring")
_Definition = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class MarkerError(ValueError):
    """A marker that cannot be filled; the text says why and what to do."""


def quote(root: Path, path: str, symbol: str = "", option: str = "") -> tuple[str, int]:
    """Returns the source of a symbol, or of a whole file, and the number of its first line.

    Args:
        root: the project's folder.
        path: the file, from the root.
        symbol: ``Class.function``, a function, a class, a constant; "" for the whole file.
        option: "signature" (the head alone), "body" (without head and docstring), "no-docstring".

    Raises:
        MarkerError: there is no such file, symbol or option.
    """
    file = root / path
    if not file.is_file():
        raise MarkerError(f"{path} does not exist. Correct the marker's path (from the root).")
    text = file.read_text(encoding="utf-8")
    if not symbol:
        return text.rstrip("\n"), 1
    node = find_symbol(text, symbol)
    if node is None:
        raise MarkerError(f"{path} has no {symbol!r}: renamed or moved? Correct the marker.")
    if option and option not in OPTIONS:
        raise MarkerError(f"{option!r} is no option. Use one of: {', '.join(OPTIONS)}.")
    first, last = _extent(node)
    lines = text.splitlines()
    if option and isinstance(node, _Definition):
        chosen = _without_parts(lines, node, option)
    else:
        chosen = lines[first - 1 : last]
    return textwrap.dedent("\n".join(chosen)).strip("\n"), first


def find_symbol(text: str, symbol: str) -> ast.stmt | None:
    """Finds the statement that defines a dotted name in a module's source.

    Raises:
        MarkerError: the source is not valid Python.

    >>> find_symbol("class A:\\n    def f(self): ...", "A.f").lineno
    2
    """
    try:
        body: list[ast.stmt] = ast.parse(text).body
    except SyntaxError as error:
        raise MarkerError(
            f"{symbol!r} cannot be looked up: line {error.lineno} of its file is not valid Python. "
            "Mend the file first."
        ) from None
    node: ast.stmt | None = None
    for part in symbol.split("."):
        node = next((child for child in body if part in _defined(child)), None)
        body = getattr(node, "body", [])
    return node


def _defined(node: ast.stmt) -> list[str]:
    """Returns the names that a statement defines."""
    if isinstance(node, _Definition):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _extent(node: ast.stmt) -> tuple[int, int]:
    """Returns the numbers of the first and last line; decorators belong to what they decorate."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return first, node.end_lineno or node.lineno


def _without_parts(
    lines: list[str], node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, option: str
) -> list[str]:
    """Leaves out what the option does not want of a definition: head, docstring or body."""
    first, last = _extent(node)
    body = node.body[0]
    if body.lineno == node.lineno:  # all on one line: there are no parts to choose from
        return lines[first - 1 : last]
    head, rest = lines[first - 1 : body.lineno - 1], lines[body.lineno - 1 : last]
    if ast.get_docstring(node, clean=False) is not None:
        rest = lines[body.end_lineno or last : last]
    while rest and not rest[0].strip():
        rest = rest[1:]
    return {"signature": head, "body": rest, "no-docstring": head + rest}[option]
