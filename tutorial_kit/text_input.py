"""Lines of text as they come: given as arguments, typed one by one, or piped in as a file."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

CHUNK = 1024  # lines of a pipe that are worked on together, sorted by length


def read_lines(invitation: str, together: int = CHUNK) -> Iterator[list[str]]:
    """Yields lines from the input: one by one as they are typed, many at once from a pipe.

    Args:
        invitation: printed once, if somebody types.
        together: lines of a pipe that are yielded at once.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        print(invitation)
        while True:
            try:
                yield [input("> ")]
            except EOFError:
                print()
                return
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    lines = (line.rstrip("\r\n").lstrip("\ufeff") for line in sys.stdin or ())
    while chunk := list(islice(lines, together)):
        yield chunk


def check_text(line: str) -> str:
    """Refuses a line whose bytes were not UTF-8; returns it otherwise.

    Raises:
        ValueError: such bytes were read (as half of a surrogate pair, see `read_lines`).
    """
    strange = next((c for c in line if unicodedata.category(c) == "Cs"), None)
    if strange is not None:
        raise ValueError(
            f"the byte 0x{ord(strange) & 0xFF:02X} is not UTF-8, so the text is in another "
            "encoding. Convert it, such as: iconv -f LATIN1 -t UTF-8."
        )
    return line


def lines_of_file(path: Path) -> list[str]:
    """Returns the lines of a UTF-8 file that are not blank, without spaces around them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, not UTF-8, or has no text.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: sentences are the lines of a file. Name a file.")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: there are no sentences. Check the path.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.start:,}): its text cannot be read. Convert it, "
            "such as: iconv -f LATIN1 -t UTF-8."
        ) from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path} has no text: there is nothing to search. Write a line or more.")
    return lines
