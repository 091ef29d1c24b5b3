"""Plants a bug in a function of the repository: one line of its source is changed, for a while.

A function's code is an object that can be replaced while the program runs. So a bug is planted in
the very line that is quoted, whoever imported the function sees it, and no file is touched.
"""

from __future__ import annotations
import __future__

import ast
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any


@dataclass(frozen=True)
class Patch:
    """A bug of one line."""

    place: str  # "gpt.gpt_model:GPT._run": module, then function or method
    right: str  # the line as it stands in the file, without its indentation
    wrong: str  # what the bug has instead; "" if it lacks the line

    @property
    def file(self) -> str:
        """The file, from the root of the repository."""
        return self.place.partition(":")[0].replace(".", "/") + ".py"

    @property
    def function(self) -> str:
        """Name of the function in its module."""
        return self.place.partition(":")[2]

    @property
    def diff(self) -> str:
        """The bug as a difference between two files.

        >>> print(Patch("a.b:f", "y = x + 1", "y = x").diff)
        # a/b.py, f
        -y = x + 1
        +y = x
        """
        added = f"\n+{self.wrong}" if self.wrong else ""
        return f"# {self.file}, {self.function}\n-{self.right}{added}"


def patched_function(patch: Patch) -> Callable[..., Any]:
    """Returns the function that a patch changes, without its decorators."""
    module, _, dotted = patch.place.partition(":")
    found: Any = importlib.import_module(module)
    for name in dotted.split("."):
        found = getattr(found, name)
    return inspect.unwrap(found)


def buggy_code(patch: Patch) -> CodeType:
    """Compiles the function with the bug in it.

    Raises:
        ValueError: the line does not stand in the function, or stands there more than once.
    """
    function = patched_function(patch)
    lines, first = inspect.getsourcelines(function)
    places = [number for number, line in enumerate(lines) if line.strip() == patch.right]
    if len(places) != 1:
        raise ValueError(
            f"{patch.function} of {patch.file} has the line {patch.right!r} {len(places)} times: "
            "a patch needs exactly one. Write the patch for the line as it stands now."
        )
    line = lines[places[0]]
    indentation = line[: len(line) - len(line.lstrip())]
    lines[places[0]] = f"{indentation}{patch.wrong}\n" if patch.wrong else "\n"
    definition = ast.parse(textwrap.dedent("".join(lines))).body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    ast.increment_lineno(definition, first - 1)
    return _compile(definition, function)


def _compile(definition: ast.FunctionDef, function: Callable[..., Any]) -> CodeType:
    """Compiles a definition as if it stood where the function does.

    What the function takes from around it, such as the class that ``super()`` needs, must be taken
    from around it again: so it is defined inside a function that has these names.
    """
    around = function.__code__.co_freevars
    tree = ast.parse(f"def around({', '.join(around)}):\n    pass")
    outer = tree.body[0]
    assert isinstance(outer, ast.FunctionDef)
    outer.body = [definition, ast.Return(ast.Name(definition.name, ast.Load()))]
    ast.fix_missing_locations(tree)
    flags = __future__.annotations.compiler_flag
    code = compile(tree, function.__code__.co_filename, "exec", flags, dont_inherit=True)
    names = dict(function.__globals__)
    exec(code, names)
    made = names["around"](*[None] * len(around))
    return made.__code__


@contextmanager
def planted(patch: Patch | None) -> Iterator[None]:
    """Runs what is inside with the bug; None means without any.

    Raises:
        ValueError: the patch does not fit the source.
    """
    if patch is None:
        yield
        return
    function: Any = patched_function(patch)
    sound = function.__code__
    function.__code__ = buggy_code(patch)
    try:
        yield
    finally:
        function.__code__ = sound
