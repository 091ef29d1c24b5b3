"""Finds the commands that pages show and gives them to the scripts' own parsers.

Looked at: blocks of ``bash``, ``sh``, ``shell`` and ``console``, inline code that begins with
``python``, and the commands of the results. Checked: that the script exists and its
``build_parser()`` takes the flags and values (full names only), that requirement files, test files
and scripts exist. Commands count from the project's root. A line with the comment
``# wrong on purpose`` is left out, and so is inline code with a placeholder in angle brackets.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tools.docs_page import Page, Problem
from tools.docs_run import start_child
from tutorial_kit.results import Result

SHELLS = ("bash", "sh", "shell", "console")
FOREIGN_MODULES = {"pip", "pytest", "ruff", "mypy", "torch", *sys.stdlib_module_names}
_PYTHON = re.compile(r"(?:.*/)?python(?:3(?:\.\d+)?)?")


class Command(NamedTuple):
    """One command as a page shows it."""

    page: str
    line: int
    text: str


def find_commands(pages: Iterable[Page], results: Mapping[str, Result]) -> list[Command]:
    """Returns every command shown in blocks, in inline code and in results."""
    found = []
    for page in pages:
        for fence in page.fences:
            if fence.info.split()[:1] and fence.info.split()[0] in SHELLS:
                found += _in_block(page.name, fence.line, fence.text)
        for offset, code in page.inline_code:
            if re.match(r"python3? (?:-m \w|\S+\.py)", code) and not re.search(r"<|…|\.\.\.", code):
                found.append(Command(page.name, page.line(offset), code))
    for result in results.values():
        if result.command:
            found.append(Command(f"benchmarks/results: {result.name}", 1, result.command))
    return found


def _in_block(page: str, opening: int, text: str) -> list[Command]:
    """Splits a block into commands: joins continued lines, takes prompts off."""
    lines = text.splitlines()
    prompted = any(line.lstrip().startswith("$ ") for line in lines)
    found, start, pending = [], 0, ""
    for number, line in enumerate(lines, opening + 1):
        line = line.strip()
        if not pending:
            start = number
            if prompted and not line.startswith("$ "):
                continue  # what the command prints
            line = line.removeprefix("$ ")
        pending += line.removesuffix("\\")
        if not line.endswith("\\"):
            if pending.strip() and "wrong on purpose" not in pending:
                found.append(Command(page, start, pending))
            pending = ""
    return found


def check_commands(commands: list[Command], root: Path, timeout: float = 120.0) -> list[Problem]:
    """Checks commands; every script is imported once, all in one process that is started for it."""
    problems, calls = [], []
    for command in commands:
        try:
            for words in _split(command.text):
                call = _resolve(words, root)
                if call:
                    calls.append((command, call))
        except ValueError as error:
            problems.append(Problem(command.page, command.line, f"`{command.text}`: {error}."))
    if not calls:
        return problems
    task = {"job": "parse", "commands": [call for _, call in calls]}
    answers, ended = start_child(task, root, timeout)
    for (command, _), answer in zip(calls, answers, strict=False):
        if answer:
            text = f"`{command.text}`: {answer}. Correct the command or its script."
            problems.append(Problem(command.page, command.line, text))
    if len(answers) < len(calls):
        command = calls[len(answers)][0]
        text = f"`{command.text}`: importing its script {ended}."
        problems.append(Problem(command.page, command.line, text))
    return problems


def _split(text: str) -> list[list[str]]:
    """Splits a line into simple commands at ``&&``, ``;`` and pipes; drops redirections."""
    if placeholder := re.search(r"<\w[\w -]*>", text):
        raise ValueError(f"nobody can type {placeholder[0]}: show a command as it is typed")
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        tokens = list(lexer)
    except ValueError as error:
        raise ValueError(f"a shell cannot read it ({error})") from None
    commands: list[list[str]] = [[]]
    skip = False
    for token in tokens:
        if skip:
            skip = False
        elif set(token) <= set("|&;()"):
            commands.append([])
        elif set(token) <= set("<>&"):
            skip = True
        else:
            commands[-1].append(token)
    return [command for command in commands if command]


def _resolve(words: list[str], root: Path) -> tuple[str, list[str]] | None:
    """Returns (script, arguments) if the command runs one of the project's; None if it does not.

    Raises:
        ValueError: a script, module or file that the command names is missing.
    """
    while words and (re.match(r"\w+=", words[0]) or words[0] in ("env", "time", "nohup")):
        words = words[1:]
    if not words:
        return None
    head, arguments = words[0], words[1:]
    if head in ("pip", "pip3", "pytest"):
        _check_files(arguments, root)
    if head in ("bash", "sh") and arguments and not arguments[0].startswith("-"):
        head = f"./{arguments[0]}"
    if head.startswith("./"):
        _check_files(["-r", head], root)
    if head == "torchrun":
        return _resolve_python(_after_launcher(arguments), root)
    if _PYTHON.fullmatch(head):
        return _resolve_python(arguments, root)
    return None


def _resolve_python(arguments: list[str], root: Path) -> tuple[str, list[str]] | None:
    """Resolves what follows the word ``python``."""
    while arguments and arguments[0].startswith("-") and arguments[0] not in ("-m", "-c"):
        arguments = arguments[2:] if arguments[0] in ("-X", "-W") else arguments[1:]
    if not arguments or arguments[0] == "-c":
        return None
    if arguments[0] != "-m":
        path, rest = arguments[0].removeprefix("./"), arguments[1:]
    elif len(arguments) < 2:
        raise ValueError("-m needs a module's name")
    else:
        module, rest = arguments[1], arguments[2:]
        path = module.replace(".", "/")
        path = f"{path}/__main__.py" if (root / path).is_dir() else f"{path}.py"
        if not (root / path).is_file() and module.partition(".")[0] in FOREIGN_MODULES:
            if module == "torch.distributed.run":
                return _resolve_python(_after_launcher(rest), root)
            if module in ("pip", "pytest"):
                _check_files(rest, root)
            return None
    if not (root / path).is_file():
        raise ValueError(f"there is no {path}. Correct the path (from the project's root)")
    if any("$" in word for word in rest):  # a shell variable: its value is not known here
        return None
    return path, rest


def _after_launcher(arguments: list[str]) -> list[str]:
    """Drops torchrun's own options: the script is the first word that ends with .py, or ``-m``."""
    for index, word in enumerate(arguments):
        if word.endswith(".py") or word == "-m":
            return arguments[index:]
    return []


def _check_files(arguments: list[str], root: Path) -> None:
    """Checks the files that pip and pytest are given."""
    named = [b for a, b in zip(arguments, arguments[1:], strict=False) if a in ("-r", "-e")]
    named += [word for word in arguments if word.endswith(".py") or ".py::" in word]
    for name in named:
        path = name.partition("::")[0].partition("[")[0]
        if path and not path.startswith("$") and not (root / path).exists():
            raise ValueError(f"there is no {path}. Correct the path (from the project's root)")
