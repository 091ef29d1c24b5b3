"""What a demo hands back, how its run ended, where it is kept, and the table that closes a run.

Every family's `quick_start.main(argv)` ends by returning a `DemoResult`; the runner makes an
`Outcome` of it, or of its failure, and keeps what finished in ``outputs/<family>/demo.json``, so
that the report need not run it again. Standard library only: the runner needs these types before
it knows whether torch is installed.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tutorial_kit.console import format_table
from tutorial_kit.files import atomic_write

MOST_FAILURES = 100  # of demos in an exit code: those above 125 have a meaning of their own
LONGEST_STORY = 60_000  # characters of what a demo printed that are kept, its end
_COLOR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # what tells a terminal to change color or line


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
class KeptDemo:
    """A finished demo, as ``outputs/<family>/demo.json`` keeps it."""

    result: DemoResult
    preset: str  # "smoke" or "quick"
    finished: str  # local date and time: "2026-03-01 12:30"
    story: str  # what it printed


@dataclass(frozen=True)
class Outcome:
    """How one demo ended."""

    family: str
    status: str  # "finished", "failed" or "interrupted"
    seconds: float  # wall-clock time, imports included
    result: DemoResult | None = None  # of a finished demo
    message: str = ""  # of a failed demo: what went wrong, in one line
    log: Path | None = None  # of a failed demo: where the traceback is; None if it has no place
    kept: KeptDemo | None = None  # of a finished demo: the result, when it was and what it printed


def outputs_folder(root: Path) -> Path:
    """Returns where runs leave their files: ``LLM_TUTORIAL_OUTPUTS``, or ``outputs`` of a root."""
    return Path(os.environ.get("LLM_TUTORIAL_OUTPUTS") or root / "outputs")


def keep_demo(kept: KeptDemo, root: Path) -> None:
    """Writes ``outputs/<family>/demo.json``; a short run does not take the place of a long one.

    Args:
        kept: what to keep. Of its story the colors and all but the end are left out.
        root: the project's folder; files in it are named relative to it, so that it can be moved.

    Raises:
        OSError: the folder cannot be written.
    """
    family = kept.result.family
    if kept.preset == "smoke" and find_kept(family, "quick", root):
        return
    files = tuple(relative(file, root) for file in kept.result.files)
    story = _COLOR.sub("", kept.story)[-LONGEST_STORY:]
    content = asdict(replace(kept, result=replace(kept.result, files=files), story=story))
    with atomic_write(outputs_folder(root) / family / "demo.json", "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def find_kept(family: str, preset: str, root: Path) -> KeptDemo | None:
    """Returns what was kept of a family's demo, if it can stand for a run now.

    Args:
        family: package name.
        preset: what a run now would use; a quick run also stands for a smoke run.
        root: the project's folder.

    Returns:
        The kept demo with absolute paths; None if there is none, if the file is damaged, if it is
        of a shorter run, or if one of the files it names is gone.
    """
    try:
        text = (outputs_folder(root) / family / "demo.json").read_text(encoding="utf-8")
        content = json.loads(text)
        result = DemoResult(**content.pop("result"))
        kept = KeptDemo(result=result, **content)
        if not all(isinstance(part, str) for part in (kept.preset, kept.finished, kept.story)):
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    files = tuple(str(root / file) for file in result.files)
    long_enough = kept.preset == "quick" or preset == "smoke"
    if result.family != family or not long_enough or not all(Path(f).exists() for f in files):
        return None
    return replace(kept, result=replace(result, files=files))


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
