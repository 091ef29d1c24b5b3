"""The terminal: one-line errors, progress bars and aligned tables.

Only the standard library is imported at once; tqdm comes with the first progress bar.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NoReturn

USER_ERROR = 2  # exit code of a mistake that the user can mend
INTERRUPTED = 128 + signal.SIGINT


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit code 2; flags are written out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Prints the message and how to get help, then leaves."""
        print(f"error: {message} (--help lists what is possible)", file=sys.stderr)
        raise SystemExit(USER_ERROR)


def run_entry(main: Callable[[], object]) -> NoReturn:
    """Runs a script's ``main`` and leaves with its exit code.

    A ``ValueError`` or ``OSError`` is a mistake that its text explains: it is printed as one line
    and the exit code is 2. Set ``LLM_TUTORIAL_DEBUG=1`` to see the traceback instead.

    Args:
        main: takes no argument; an ``int`` it returns is the exit code, anything else counts as 0.
    """
    for stream in (sys.stdout, sys.stderr):  # a terminal that is not UTF-8 shows "?" and lives on
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        result = main()
    except (ValueError, OSError) as error:
        if os.environ.get("LLM_TUTORIAL_DEBUG"):
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    raise SystemExit(result if isinstance(result, int) else 0)


def one_line(error: BaseException) -> str:
    """Returns an exception's text with line breaks folded, or its type's name if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def format_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns an aligned plain-text table; numbers stand to the right, words to the left.

    >>> print(format_table(["family", "seconds"], [["gpt", 61.5], ["bert", 8.0]]))
    family  seconds
    ------  -------
    gpt        61.5
    bert        8.0
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    numeric = [
        bool(rows) and all(isinstance(row[i], (int, float)) for row in rows)
        for i in range(len(headers))
    ]

    def line(row: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *map(line, cells)])


def progress(total: int | float, description: str, unit: str) -> Any:
    """Returns a progress bar with ``update(n)``, ``set_postfix(**values)`` and ``close()``.

    On a terminal this is tqdm's bar: done, rate, time left. Elsewhere (a pipe, a log file) it
    prints at most one line every ten seconds, so that logs stay readable.

    Args:
        total: how many units there are.
        description: what is being done, a few words.
        unit: the unit's name, "token" or "B".
    """
    if not sys.stderr.isatty():
        return PlainProgress(total, description, unit)
    from tqdm import tqdm

    return tqdm(
        total=total, desc=description, unit=unit, unit_scale=True, dynamic_ncols=True, leave=False
    )


class PlainProgress:
    """The part of tqdm's interface that this project uses, as rare plain lines on stderr."""

    def __init__(self, total: int | float, description: str, unit: str) -> None:
        self.total, self.description, self.unit = total, description, unit
        self.n: int | float = 0
        self.postfix = ""
        self.last_line = time.monotonic()

    def update(self, n: int | float = 1) -> None:
        """Counts ``n`` more units; prints a line if the last one is ten seconds old."""
        self.n += n
        if time.monotonic() - self.last_line >= 10:
            self.last_line = time.monotonic()
            share = self.n / self.total if self.total else 1.0
            print(f"{self.description}: {share:4.0%}{self.postfix}", file=sys.stderr, flush=True)

    def set_postfix(self, **values: object) -> None:
        """Sets the values shown after the percentage."""
        self.postfix = "".join(f"  {name} {value}" for name, value in values.items())

    def write(self, text: str) -> None:
        """Prints a line without disturbing the bar."""
        print(text, flush=True)

    def close(self) -> None:
        """Nothing to close; here for tqdm's interface."""

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
