"""The process in which a page's code runs; started by docs_run and docs_commands as a file.

It imports nothing of the tools, so that the code it runs finds the project whose pages are checked
first on its path, and nothing else of ours. The task comes as JSON on standard input, one answer
a line goes to the standard output that the process was started with. Standard library only.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import linecache
import os
import sys
import traceback
import types
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any


def run_blocks(task: dict[str, Any], answer: Callable[[object], None]) -> None:
    """Runs blocks of Python in one namespace; answers with what each printed.

    Args:
        task: "page" (its name) and "blocks": (number of the line above the code, code) of each.
        answer: sends {"output": str} or {"output": str, "error": str, "line": int}; a failing block
            is the last one.
    """
    page = types.ModuleType("__main__")  # classes that a block defines can then be pickled
    page.__file__ = task["page"]  # where `inspect` looks for the source of such a class
    sys.modules["__main__"] = page
    text = ""
    for line, code in task["blocks"]:
        text += "\n" * (line - text.count("\n")) + code
    linecache.cache[task["page"]] = (len(text), None, text.splitlines(True), task["page"])
    for line, code in task["blocks"]:
        source = "\n" * line + code  # a traceback then names the page's own line
        output = io.StringIO()
        result: dict[str, object] = {}
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
            try:
                exec(compile(source, task["page"], "exec"), page.__dict__)
            except BaseException as error:  # also SystemExit: a page must not end the check
                result = {"error": _say(error), "line": _line_in(task["page"], error, line + 1)}
        answer({"output": output.getvalue(), **result})
        if "error" in result:
            return


def parse_commands(task: dict[str, Any], answer: Callable[[object], None]) -> None:
    """Gives command lines to the parsers of their scripts; answers with an error's text or null.

    Args:
        task: "commands": (script's path from the root, arguments) of each.
        answer: sends one string or None for each command.
    """
    modules: dict[str, types.ModuleType | str] = {}
    for path, arguments in task["commands"]:
        if path not in modules:
            modules[path] = _import(path, Path(task["root"]))
        module = modules[path]
        if isinstance(module, str):
            answer(module)
        elif not hasattr(module, "build_parser"):
            answer(f"{path} has no build_parser(): its flags cannot be checked. Write one")
        else:
            answer(_parse(module.build_parser(), arguments))


def _import(path: str, root: Path) -> types.ModuleType | str:
    """Imports a script without running it; returns an error's text if that fails."""
    parts = Path(path).with_suffix("").parts
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if all(part.isidentifier() for part in parts):
                return importlib.import_module(".".join(parts))
            spec = importlib.util.spec_from_file_location("script", root / path)
            assert spec and spec.loader
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    except BaseException as error:
        return f"{path} cannot be imported: {_say(error)}"


def _parse(parser: ArgumentParser, arguments: list[str]) -> str | None:
    """Parses without accepting shortened flags: a page shows the full name."""
    parser.allow_abbrev = False
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            parser.parse_args(arguments)
        except SystemExit as leave:
            if leave.code not in (0, None):
                return errors.getvalue().strip().splitlines()[-1]
        except Exception as error:
            return _say(error)
    return None


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _line_in(page: str, error: BaseException, otherwise: int) -> int:
    """Returns the page's line that failed."""
    if isinstance(error, SyntaxError) and error.filename == page:
        return error.lineno or otherwise
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == page and frame.lineno]
    return lines[-1] if lines else otherwise


def _main() -> None:
    task = json.load(sys.stdin)
    sys.path[0] = task["root"]
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what C code prints is no answer

    def answer(content: object) -> None:
        print(json.dumps(content), file=out, flush=True)

    {"run": run_blocks, "parse": parse_commands}[task["job"]](task, answer)


if __name__ == "__main__":
    _main()
