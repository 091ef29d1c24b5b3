"""Measured results: the only place from which numbers enter the documents.

A benchmark or an experiment ends with ``record``, which merges its results into
``benchmarks/results/<stem>.json``. ``tools/docs_sync.py`` puts them into the markdown, and
``python -m benchmarks`` shows each beside its goal. An entry says how it can be measured again: the
command, the preset, the seeds, the machine, the commit. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.files import atomic_write

RESULTS_FOLDER = PROJECT_ROOT / "benchmarks" / "results"
NO_GOAL, BELOW, GOAL, AIM = "no goal", "below goal", "meets goal", "meets aim"

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+")
_NUMBERS = ("value", "at_least", "aim", "spread", "seconds")


@dataclass(frozen=True)
class Result:
    """One measured number and all that is needed to judge it and to measure it again.

    Raises:
        ValueError: the name is not of the form ``family.what.detail``, or a number is not finite.
    """

    name: str  # "gpt.training.tokens_per_second_vs_transformers"
    value: float  # what was measured, in `unit`
    unit: str = ""  # "x" (times as fast), "%" (0 to 100), "s", "tokens/s", ...; a score has none
    at_least: float | None = None  # the goal in `unit`; for better="lower" the most allowed
    aim: float | None = None  # the goal hoped for, in `unit`
    better: str = "higher"  # "higher" or "lower": which direction is better
    seeds: tuple[int, ...] = ()  # seeds of the runs that `value` is the mean of
    spread: float | None = None  # of the seeds or rounds, in `unit`; `note` or the page says which
    seconds: float | None = None  # wall-clock time the measurement took, in seconds
    machine: dict[str, Any] = field(default_factory=dict)  # empty: `record` describes this machine
    commit: str = ""  # empty: `record` asks git
    preset: str | None = None  # preset of the run, if it had one
    command: str = ""  # what to type to measure it again
    note: str = ""  # what was measured, in a few words: the row's text in a table of goals

    def __post_init__(self) -> None:
        """Refuses what a table could not show or a reader not trust."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"result name {self.name!r} is not of the form family.what.detail: the documents "
                "refer to results by such names. Use lower-case words joined by dots."
            )
        if self.better not in ("higher", "lower"):
            raise ValueError(
                f"result {self.name} has better={self.better!r}: a goal needs a direction. "
                'Use "higher" or "lower".'
            )
        for key in _NUMBERS:
            number = getattr(self, key)
            if number is None and key != "value":
                continue
            usable = isinstance(number, (int, float)) and not isinstance(number, bool)
            if not usable or not math.isfinite(number):
                raise ValueError(
                    f"result {self.name} has {key}={number!r}: only a finite number can be "
                    "compared with a goal. Find out why measuring failed, or pass a plain number."
                )
        object.__setattr__(self, "seeds", tuple(self.seeds))


def record(
    stem: str, results: Result | Iterable[Result], folder: Path = RESULTS_FOLDER
) -> list[Result]:
    """Merges results into ``<folder>/<stem>.json``; entries of other names stay as they are.

    Args:
        stem: the file's name without ``.json``: the family ("gpt"), or the subject of a benchmark.
        results: one result or several.
        folder: where the files lie; tests pass their own.

    Returns:
        The results as written: machine and commit are filled in where they were empty.

    Raises:
        ValueError: the file that is there cannot be read as results.
        OSError: the file cannot be written.
    """
    fresh = [results] if isinstance(results, Result) else list(results)
    path = folder / f"{stem}.json"
    entries = {result.name: result for result in _read(path)} if path.exists() else {}
    commit = "" if all(result.commit for result in fresh) else describe_commit()
    machine = {} if all(result.machine for result in fresh) else _describe_machine()
    written = [
        dataclasses.replace(
            result, commit=result.commit or commit, machine=result.machine or machine
        )
        for result in fresh
    ]
    entries.update({result.name: result for result in written})
    content = {name: _to_dict(result) for name, result in entries.items()}
    with atomic_write(path, "w") as file:
        file.write(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return written


def load_results(folder: Path = RESULTS_FOLDER) -> dict[str, Result]:
    """Reads every ``*.json`` in ``folder``.

    Returns:
        name -> result, sorted by name.

    Raises:
        ValueError: a file is damaged, or two files hold the same name.
    """
    found: dict[str, Result] = {}
    origin: dict[str, Path] = {}
    for path in sorted(folder.glob("*.json")):
        for result in _read(path):
            if result.name in found:
                raise ValueError(
                    f"result {result.name} stands in {origin[result.name].name} and {path.name}: "
                    "which one is true cannot be known. Delete one of the two entries."
                )
            found[result.name], origin[result.name] = result, path
    return dict(sorted(found.items()))


def status(result: Result) -> str:
    """Compares a result with its goal.

    Returns:
        "below goal", "meets goal", "meets aim"; "no goal" if it answers none.

    >>> status(Result("gpt.training.speedup", 1.8, "x", at_least=1.5, aim=2.2))
    'meets goal'
    >>> status(Result("gpt.menu.seconds", 0.6, "s", at_least=0.5, aim=0.2, better="lower"))
    'below goal'
    """
    if result.at_least is None and result.aim is None:
        return NO_GOAL
    sign = 1 if result.better == "higher" else -1
    if result.aim is not None and sign * result.value >= sign * result.aim:
        return AIM
    if result.at_least is not None and sign * result.value >= sign * result.at_least:
        return GOAL
    return BELOW


def describe_commit(root: Path = PROJECT_ROOT) -> str:
    """Names the state of the source code: a short git hash, "+changes" if files differ from it.

    Changed documents and results do not count: measuring changes them, they do not change what is
    measured. "unknown" where the project is no git repository of its own, or git is missing.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "--short=10", "HEAD")
    if not top or not commit or Path(top).resolve() != root.resolve():
        return "unknown"
    ignored = (":(exclude)benchmarks/results", ":(exclude)*.md")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *ignored)
    return f"{commit}+changes" if changes else commit


def format_number(value: float, unit: str = "") -> str:
    """Writes a number with as many digits as a reader can use, and its unit.

    >>> [format_number(v, u) for v, u in ((2.2051, "x"), (12345.6, "tokens/s"), (1.48213, ""))]
    ['2.21x', '12,346 tokens/s', '1.482']
    """
    size = abs(value)
    if isinstance(value, int) or size >= 100 or value == 0:
        text = f"{value:,.0f}"
    elif unit in ("x", "%") or size >= 10:
        text = f"{value:.1f}" if size >= 10 else f"{value:.2f}"
    else:
        decimals = 3 if size >= 0.1 else 1 - math.floor(math.log10(size))
        text = f"{value:.{decimals}f}"
    return text + ("x" if unit == "x" else f" {unit}" if unit else "")


def format_measured(result: Result) -> str:
    """Writes value and spread with equally many decimals, and the unit.

    >>> format_measured(Result("gpt.loss", 1.4821, "bits per byte", spread=0.0042))
    '1.482 ± 0.004 bits per byte'
    """
    text = format_number(result.value, result.unit)
    if result.spread is None:
        return text
    number = re.match(r"-?[\d,.]*\d", text)
    assert number is not None
    decimals = len(number[0].partition(".")[2])
    spread = f"{result.spread:,.{decimals}f}"
    if result.unit == "x":
        return f"{text} ± {spread}"
    return text.replace(number[0], f"{number[0]} ± {spread}", 1)


def format_goal(result: Result, goal: float | None) -> str:
    """Writes a goal with its direction, "≥ 1.50x" or "≤ 25 %"; "" for none."""
    if goal is None:
        return ""
    number = f"{goal:,g}" if abs(goal) < 1e6 else f"{goal:,.0f}"
    unit = "x" if result.unit == "x" else f" {result.unit}" if result.unit else ""
    return ("≥ " if result.better == "higher" else "≤ ") + number + unit


def _read(path: Path) -> list[Result]:
    """Reads one file of results."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [Result(name=name, **values) for name, values in content.items()]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} does not hold results ({error}): it is damaged or of another version. "
            "Restore it with git, or delete it and measure again."
        ) from error


def _to_dict(result: Result) -> dict[str, Any]:
    """Returns the fields that say something, without the name, which is the entry's key."""
    values = dataclasses.asdict(result)
    del values["name"]
    return {key: value for key, value in values.items() if value not in (None, "", (), {})}


def _describe_machine() -> dict[str, Any]:
    """Describes this machine; imports torch only now, so that reading results never does."""
    from tutorial_kit.device import describe_machine
    from tutorial_kit.forecast import calibrate

    return {**describe_machine(), "calibration_seconds": round(calibrate(), 5)}


def _git(root: Path, *arguments: str) -> str:
    """Returns what git prints, "" if it fails."""
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
