"""What a demo hands back, how its run ended, and the table that closes a run of several.

Every family's `quick_start.main(argv)` ends by returning a `DemoResult`; the runner makes an
`Outcome` of it, or of its failure. Standard library only: the runner needs these types before it
knows whether torch is installed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tutorial_kit.console import format_table


@dataclass(frozen=True)
class DemoResult:
    """The outcome of one demo, in the terms a learner compares demos by.

    Raises:
        ValueError: if a text is empty, or if `seconds` or `value` is not a usable number.
    """

    family: str  # package name, such as "gpt"
    learned: str  # what the model learned, in a few words: "to continue library documentation"
    headline: str  # the held-out result to read: "1.72 bits per byte (best n-gram 2.05)"
    value: float  # the headline's number
    unit: str  # unit of `value`: "bits per byte"
    seconds: float  # wall-clock time of the whole demo
    files: tuple[str, ...]  # paths of the files written, in the order they appeared

    def __post_init__(self) -> None:
        """Check that the result can be shown in a table."""
        for name in ("family", "learned", "headline", "unit"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip():
                raise ValueError(
                    f"DemoResult.{name} is {text!r}: the closing table needs a text there. "
                    "Say it in a few words."
                )
        if not math.isfinite(self.value):
            raise ValueError(
                f"DemoResult.value is {self.value}: a demo that diverged has no held-out result. "
                "Raise an error in the demo instead, saying what went wrong."
            )
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(
                f"DemoResult.seconds is {self.seconds}: a duration is a number of seconds, "
                "0 or more. Measure it with time.perf_counter()."
            )
        object.__setattr__(self, "files", tuple(str(path) for path in self.files))


@dataclass(frozen=True)
class Outcome:
    """How one demo ended."""

    family: str
    status: str  # "finished", "failed" or "interrupted"
    seconds: float  # wall-clock time, imports included
    result: DemoResult | None = None  # of a finished demo
    message: str = ""  # of a failed demo: what went wrong, in one line
    log: Path | None = None  # of a failed demo: where the traceback is; None if it has no place


def summary(outcomes: Sequence[Outcome], root: Path, width: int) -> str:
    """Returns the closing table; as one block per family where the terminal is too narrow for it.

    Args:
        outcomes: what the demos gave.
        root: paths are shown relative to it.
        width: columns of the terminal.
    """
    headers = ("family", "what was learned", "held-out result", "seconds", "files written")
    rows = []
    for outcome in outcomes:
        learned, headline = outcome.status, "-"
        files = relative(outcome.log, root) if outcome.log else "-"
        if outcome.result:
            learned, headline = outcome.result.learned, outcome.result.headline
            files = _files_in_short(outcome.result.files, root)
        rows.append((outcome.family, learned, headline, round(outcome.seconds, 1), files))
    table = format_table(headers, rows)
    if max(map(len, table.splitlines())) <= width:
        return table
    blocks = []
    for row in rows:
        lines = [
            f"  {header:<17} {cell}" for header, cell in zip(headers[1:], row[1:], strict=True)
        ]
        blocks.append("\n".join([str(row[0]), *lines]))
    return "\n".join(blocks)


def relative(path: Path | str, root: Path) -> str:
    """Returns the path as seen from the project's folder, or as it is if it lies elsewhere."""
    try:
        return Path(path).resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return str(path)


def _files_in_short(files: Sequence[str], root: Path) -> str:
    """Names a single file, or the folder that several have in common and their number."""
    paths = [relative(file, root) for file in files]
    if len(paths) < 2:
        return paths[0] if paths else "-"
    try:
        folder = os.path.commonpath([Path(path).parent.as_posix() for path in paths])
    except ValueError:  # inside the project and outside, or on two drives
        return f"{len(paths)} files"
    return f"{len(paths)} in {folder}/"
