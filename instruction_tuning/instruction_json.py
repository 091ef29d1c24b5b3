"""Instructions and preferences from JSON files, in the two forms that most of them have.

    instructions   [{"instruction": "...", "input": "...", "output": "..."}, ...]
    preferences    [{"prompt": "...", "chosen": "...", "rejected": "..."}, ...]

``input`` may be missing or empty. Instead of ``prompt``, preferences may have ``instruction`` and
``input``. A file whose name ends in ``.jsonl`` has one entry a line. The registry's data sets
"instructions" and "preferences" (``tutorial_kit/datasets.json``) have these forms, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA_SETS = ("instructions", "preferences")
"""Names of the registry's data sets that can stand for a file's path."""


@dataclass(frozen=True)
class Instruction:
    """A prompt and the reply to imitate."""

    prompt: str
    reply: str


@dataclass(frozen=True)
class Comparison:
    """A prompt and two replies, the first of which is better."""

    prompt: str
    chosen: str
    rejected: str


def read_instructions(path: Path | str) -> list[Instruction]:
    """Reads instructions.

    Args:
        path: a file, or the name of one of `DATA_SETS`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, malformed (the line is named), or an entry lacks a field.
    """
    file = _find(path)
    return [
        Instruction(_instruction(entry, file, number), _text(entry, "output", file, number))
        for number, entry in enumerate(_entries(file), start=1)
    ]


def read_preferences(path: Path | str) -> list[Comparison]:
    """Reads preferences; those whose two replies are equal are dropped, and a note says how many.

    Args:
        path: a file, or the name of one of `DATA_SETS`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `read_instructions`; or all pairs are equal.
    """
    file = _find(path)
    found = []
    for number, entry in enumerate(_entries(file), start=1):
        if "prompt" in entry or "instruction" not in entry:
            prompt = _text(entry, "prompt", file, number)
        else:
            prompt = _instruction(entry, file, number)
        chosen, rejected = (_text(entry, name, file, number) for name in ("chosen", "rejected"))
        found.append(Comparison(prompt, chosen, rejected))
    different = [pair for pair in found if pair.chosen != pair.rejected]
    equal = len(found) - len(different)
    if not different:
        raise ValueError(
            f"{file} has {len(found)} pairs, and in each chosen equals rejected: nothing says "
            "which reply is better. Give pairs of different replies."
        )
    if equal:
        print(f"note: {file.name}: {equal} of {len(found):,} pairs are dropped: "
              "chosen equals rejected, which prefers nothing")  # fmt: skip
    return different


def _find(path: Path | str) -> Path:
    """Returns the file that is meant; a data set of the registry is fetched if need be."""
    if str(path) in DATA_SETS:
        from tutorial_kit.datasets import dataset_files  # needed for these names alone

        return dataset_files(str(path))["records"]
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{str(path)!r} is neither a file nor one of {', '.join(DATA_SETS)}: there is nothing "
            "to learn from. Check the path."
        )
    return file


def _entries(file: Path) -> list[Mapping[str, Any]]:
    """Parses a file into its entries, each an object with fields."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not UTF-8 (byte {error.start:,}), as JSON must be: it cannot be read. "
            "Convert it, such as: iconv -f LATIN1 -t UTF-8."
        ) from None
    if not text.strip():
        raise ValueError(
            f"{file} is empty: there is nothing to learn from. Write an entry or more."
        )
    if file.suffix == ".jsonl":
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        entries = [_parse(line, file, number) for number, line in lines]
    else:
        entries = _parse(text, file, 1)
    if not isinstance(entries, list) or not entries:
        raise ValueError(
            f"{file} holds {_kind(entries)}, where a list of entries is needed. "
            "Write [{...}, {...}], or one entry a line in a file that ends in .jsonl."
        )
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise ValueError(
                f"entry {number} of {file} is {_kind(entry)}, which has no fields. "
                "Write an object: {...}."
            )
    return entries


def _parse(text: str, file: Path, first_line: int) -> Any:
    """Parses JSON; of what is malformed, the file's line is named."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{file}, line {first_line + error.lineno - 1}, column {error.colno}: {error.msg}, so "
            "the file is no JSON. Mend that line."
        ) from None


def _instruction(entry: Mapping[str, Any], file: Path, number: int) -> str:
    """Returns an instruction and, on a line of its own, its input if there is one."""
    instruction = _text(entry, "instruction", file, number)
    if entry.get("input") in (None, ""):
        return instruction
    return f"{instruction}\n{_text(entry, 'input', file, number)}"


def _text(entry: Mapping[str, Any], field: str, file: Path, number: int) -> str:
    """Returns a field's text."""
    if field not in entry:
        raise ValueError(
            f"entry {number} of {file} has no field {field!r}, only {', '.join(entry) or 'none'}. "
            "Add it; the forms are instruction/input/output and prompt/chosen/rejected."
        )
    value = entry[field]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"entry {number} of {file}: {field!r} is {_kind(value)}, where text is needed. "
            "Write the text, or remove the entry."
        )
    return value


def _kind(value: Any) -> str:
    """Names a value for an error."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value"}
    if value is None:
        return "null"
    if value in ([], {}) or isinstance(value, str) and not value.strip():
        return f"an empty {names[type(value)].split()[-1]}"
    return names.get(type(value), "a number")
