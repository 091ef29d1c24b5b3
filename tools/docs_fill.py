"""Fills markdown with quoted source code and measured numbers, between invisible comments.

==========================================  ====================================================
marker                                      what stands between it and its closing marker
==========================================  ====================================================
``<!-- code: FILE [SYMBOL] [OPTION] -->``   a block with the source of a function, class or
                                            constant; OPTION: signature, body, no-docstring
``<!-- source: FILE SYMBOL -->``            a link to the symbol's line
``<!-- value: NAME[@FIELD] [FORMAT] -->``   one number of benchmarks/results
``<!-- table: PATTERN ... -->``             a table of all results whose names match, and below
                                            it the command and the seeds that all rows share
``<!-- grid: PATTERN ... -->``              the same where each note is "ROW: COLUMN": a row for
                                            each variant, a column for each thing measured
==========================================  ====================================================

Each is closed by ``<!-- /code -->``, ``<!-- /value -->`` and so on. FIELD is a field of
``tutorial_kit.results.Result``, or ``measured`` (value, spread and unit), ``verdict``,
``machine.cpu`` and the like; ``seeds`` gives their number. FORMAT is Python's (``.2f``), before it
optionally ``/60`` or ``*100``.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tools.docs_page import Edit, Page, Problem
from tools.docs_quote import MarkerError, quote
from tutorial_kit.results import Result, format_goal, format_measured, format_number, status

_OPENING = re.compile(r"<!--\s*(/?\w+)(:?)\s*(.*?)\s*-->", re.DOTALL)
_LANGUAGES = {".py": "python", ".json": "json", ".toml": "toml", ".sh": "bash", ".md": "markdown"}
KINDS = ("code", "source", "value", "table", "grid")


def fill_markers(
    page: Page, root: Path, results: Mapping[str, Result]
) -> tuple[list[Edit], list[Problem]]:
    """Works out what belongs between the markers of a page.

    Returns:
        One edit for each marker, and the problems of those that cannot be filled.
    """
    edits: list[Edit] = []
    problems: list[Problem] = []
    for kind, arguments, offset, start, end in _markers(page, problems):
        line_start = page.text.rfind("\n", 0, offset) + 1
        if kind in ("value", "source") and not page.text[line_start:offset].strip():
            text = (
                f"a {kind} marker begins the line: GitHub then shows the whole line as raw HTML. "
                "Put a word before it."
            )
            problems.append(page.problem(offset, text))
        try:
            new, complaint = _content(kind, arguments.split(), page, root, results)
        except MarkerError as error:
            problems.append(page.problem(offset, str(error)))
            continue
        shown = " ".join(page.text[start:end].split())
        edits.append(Edit(start, end, new, complaint.replace("SHOWN", shown[:60])))
    return edits, problems


def _markers(page: Page, problems: list[Problem]) -> list[tuple[str, str, int, int, int]]:
    """Pairs the markers: (kind, arguments, offset, start and end of what stands between)."""
    found = []
    opened: re.Match[str] | None = None
    for match in _OPENING.finditer(page.prose):
        kind, colon = match[1], match[2]
        if opened and kind == "/" + opened[1]:
            found.append((opened[1], opened[3], opened.start(), opened.end(), match.start()))
            opened = None
        elif opened or (kind.startswith("/") and kind[1:] in KINDS):
            culprit = opened or match
            name = culprit[1].strip("/")
            advice = (
                f"Write <!-- {name}: ... --> before the stretch and <!-- /{name} --> behind it."
            )
            text = f"marker {culprit[0]!r} has no partner. {advice}"
            problems.append(page.problem(culprit.start(), text))
            opened = match if colon and kind in KINDS else None
        elif colon and kind in KINDS:
            opened = match
        elif colon and kind != "figure":
            known = ", ".join((*KINDS, "figure"))
            text = f"marker {kind!r} is unknown. Use one of: {known}."
            problems.append(page.problem(match.start(), text))
    if opened:
        problems.append(page.problem(opened.start(), f"marker {opened[0]!r} is never closed."))
    return found


def _content(
    kind: str, words: list[str], page: Page, root: Path, results: Mapping[str, Result]
) -> tuple[str, str]:
    """Returns what belongs into a marker and what to say if something else is there."""
    if not words:
        raise MarkerError(f"the {kind} marker is empty. See tools/docs_fill.py for what it takes.")
    name = " ".join(words)
    if kind == "value":
        new = value_text(words, results)
        return new, f"{words[0]} is shown as 'SHOWN', measured is '{new}'"
    if kind in ("table", "grid"):
        chosen = _matching(words, results)
        table = _table(chosen) if kind == "table" else _grid(chosen)
        return f"\n\n{table}\n\n", f"the {kind} of {name} is out of date"
    path, symbol, option = (*words, "", "")[:3]
    if kind == "source":
        _, line = quote(root, path, symbol)
        target = os.path.relpath(path, PurePosixPath(page.name).parent).replace(os.sep, "/")
        return f"[`{symbol}`]({target}#L{line})", f"the link to {name} is out of date"
    code, _ = quote(root, path, symbol, option)
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", code)), default=0))
    language = _LANGUAGES.get(PurePosixPath(path).suffix, "text")
    return f"\n{ticks}{language}\n{code}\n{ticks}\n", f"the quote of {name} is out of date"


def value_text(words: list[str], results: Mapping[str, Result]) -> str:
    """Returns the text for ``NAME[@FIELD] [/N or *N] [FORMAT]``."""
    name, _, field = words[0].partition("@")
    value = _field(_result(name, results), field or "value")
    for word in words[1:]:
        try:
            if re.fullmatch(r"[*/][\d.]+", word):
                factor = float(word[1:])
                value = value * factor if word[0] == "*" else value / factor
            else:
                return format(value, word)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise MarkerError(f"{word!r} does not fit {words[0]}={value!r}: {error}.") from None
    return format_number(value) if isinstance(value, (int, float)) else str(value)


def _result(name: str, results: Mapping[str, Result]) -> Result:
    if name not in results:
        raise MarkerError(
            f"result {name!r} is not in benchmarks/results. Measure it (python -m benchmarks lists "
            "what can be measured) or correct the name."
        )
    return results[name]


def _field(result: Result, field: str) -> Any:
    """Looks a field of a result up."""
    if field == "measured":
        return format_measured(result)
    if field == "verdict":
        return status(result)
    value: Any = dataclasses.asdict(result)
    for part in field.split("."):  # "machine.cpu"
        value = value.get(part) if isinstance(value, dict) else None
    if value in (None, "", ()) or isinstance(value, dict):
        raise MarkerError(f"result {result.name!r} has no {field!r}. Measure again or drop it.")
    return len(value) if field == "seeds" else value


def _matching(patterns: list[str], results: Mapping[str, Result]) -> list[Result]:
    """Returns the results whose names match one of the patterns, each once."""
    chosen: dict[str, Result] = {}
    for pattern in patterns:
        matching = {name: results[name] for name in fnmatch.filter(results, pattern)}
        if not matching:
            raise MarkerError(f"no result matches {pattern!r}. Measure first, or correct the name.")
        chosen.update(matching)
    return list(chosen.values())


def _table(rows: list[Result]) -> str:
    """Returns a markdown table, a row for each result; columns without content are left out."""
    columns = {
        "what": [result.note or f"`{result.name}`" for result in rows],
        "measured": [format_measured(result) for result in rows],
        "at least": [format_goal(result, result.at_least) for result in rows],
        "aim": [format_goal(result, result.aim) for result in rows],
        "command": [f"`{result.command}`" if result.command else "" for result in rows],
    }
    below = _shared(rows)
    if len(rows) > 1 and len(set(columns["command"])) == 1 and rows[0].command:
        del columns["command"]
    columns = {title: cells for title, cells in columns.items() if any(cells)}
    return _markdown([list(columns), *zip(*columns.values(), strict=True)], below)


def _grid(rows: list[Result]) -> str:
    """Returns a markdown table with a row and a column for the two halves of each note."""
    cells: dict[str, dict[str, str]] = {}
    for result in rows:
        label, colon, what = result.note.partition(": ")
        if not colon:
            raise MarkerError(
                f"the note of {result.name} is {result.note!r}: a grid needs 'ROW: COLUMN'. "
                "Use a table."
            )
        cells.setdefault(label, {})[what] = format_measured(result)
    cells = dict(sorted(cells.items(), key=lambda row: _natural(row[0])))
    columns = list(dict.fromkeys(what for row in cells.values() for what in row))
    lines = [["", *columns]]
    lines += [[label, *(row.get(what, "") for what in columns)] for label, row in cells.items()]
    return _markdown(lines, _shared(rows))


def _natural(label: str) -> tuple[bool, list[int]]:
    """Sorts labels that begin with a number by their numbers, before all others.

    >>> sorted(["TF-IDF", "1,000 steps", "50 steps", "2 x 128", "2 x 64"], key=_natural)
    ['2 x 64', '2 x 128', '50 steps', '1,000 steps', 'TF-IDF']
    """
    numbered = label[:1].isdigit()
    return not numbered, list(map(int, re.findall(r"\d+", label.replace(",", "")))) * numbered


def _shared(rows: list[Result]) -> str:
    """Returns what is true of all rows of a table: their seeds and their command."""
    below = []
    seeds = {len(result.seeds) for result in rows}
    if len(seeds) == 1 and seeds != {0}:
        count = seeds.pop()
        below.append("One seed." if count == 1 else f"Mean ± spread over {count} seeds.")
    if len(rows) > 1 and len({result.command for result in rows}) == 1 and rows[0].command:
        below.append(f"Measured by `{rows[0].command}`.")
    return " ".join(below)


def _markdown(lines: Sequence[Sequence[str]], below: str) -> str:
    """Returns a markdown table, the first line its header, and a sentence below it."""
    whole = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    table = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in whole]
    return "\n".join(f"| {line} |" for line in table) + (f"\n\n{below}" if below else "")
