"""Shows every result beside its goal, or measures some again.

``python -m benchmarks`` prints the table. ``python -m benchmarks NAME`` looks for the module that
measures NAME, one of ``benchmarks/*.py`` or ``<family>/run_examples.py``, and runs only that part.
The module says what it measures in a constant ``MEASURES`` (result name -> description). It is read
from the source where it is written out as plain strings; one that is computed costs an import.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.results import (
    NO_GOAL,
    Result,
    format_goal,
    format_measured,
    load_results,
    status,
)


def build_parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks",
        description="Print every result beside its goal; with names, measure those again.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", type=measurable, help="results to measure again"
    )
    return parser


def measurable(name: str) -> str:
    """Returns the name of a result if some module measures it.

    Raises:
        argparse.ArgumentTypeError: none does; the text names those that come close.
    """
    measures = find_measures()
    if name in measures:
        return name
    near = difflib.get_close_matches(name, measures, n=3, cutoff=0.4)
    hint = f"Close: {', '.join(near)}." if near else "python -m benchmarks lists all."
    raise argparse.ArgumentTypeError(f"no module measures {name!r}. {hint}")


@cache
def find_measures(root: Path = PROJECT_ROOT) -> dict[str, tuple[str, str]]:
    """Finds what can be measured.

    Args:
        root: the project's folder.

    Returns:
        Result name -> (module to import, description).

    Raises:
        ValueError: two modules measure the same name.
    """
    measures: dict[str, tuple[str, str]] = {}
    for path in sorted([*root.glob("benchmarks/*.py"), *root.glob("*/run_examples.py")]):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        for name, description in _read_measures(path, module).items():
            if name in measures:
                raise ValueError(
                    f"{name} is measured by {measures[name][0]} and by {module}: which of them "
                    "is meant cannot be known. Rename one."
                )
            measures[name] = (module, description)
    return measures


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table, or measures the named results again.

    Raises:
        ValueError: a module recorded nothing under the name it was asked for.
    """
    names = build_parser().parse_args(argv).names
    measures = find_measures()
    if not names:
        print(overview(measures))
        return
    for name in names:
        module, description = measures[name]
        print(f"{name}: {description}", flush=True)
        importlib.import_module(module).main(["--only", name])
    results = load_results()
    missing = [name for name in names if name not in results]
    if missing:
        raise ValueError(
            f"{measures[missing[0]][0]} ended without recording {missing[0]!r}: its MEASURES "
            "promises it. Record it there, or take the name out."
        )
    print(_table([_cells(results[name]) for name in names]))


def overview(measures: dict[str, tuple[str, str]]) -> str:
    """Returns the table of all results, then what has no number or no command yet."""
    results = load_results()
    lines = [_table([_cells(result) for result in results.values()])] if results else []
    lines += [f"not measured yet: {name}" for name in sorted(set(measures) - set(results))]
    lines += [f"measured by no module: {name}" for name in sorted(set(results) - set(measures))]
    answered = [verdict for result in results.values() if (verdict := status(result)) != NO_GOAL]
    counts = ", ".join(f"{answered.count(verdict)} {verdict}" for verdict in sorted(set(answered)))
    return "\n".join([*lines, f"{len(results)} results" + (f": {counts}" if counts else "")])


def _cells(result: Result) -> list[str]:
    """Returns one row of the table."""
    goals = [format_goal(result, goal) for goal in (result.at_least, result.aim)]
    return [result.name, format_measured(result), *goals, status(result), result.commit]


def _table(rows: list[list[str]]) -> str:
    return format_table(["result", "measured", "goal", "aim", "verdict", "commit"], rows)


def _read_measures(path: Path, module: str) -> dict[str, str]:
    """Reads the constant MEASURES of a module; {} if there is none."""
    for node in ast.parse(path.read_text(encoding="utf-8"), filename=str(path)).body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(target, ast.Name) and target.id == "MEASURES" for target in targets):
            try:
                found = ast.literal_eval(node.value)  # type: ignore[attr-defined]
            except ValueError:  # computed
                return _import_measures(module)
            return dict(found)
    return {}


def _import_measures(module: str) -> dict[str, str]:
    """Imports a module for its MEASURES; says so and goes on if it needs what is not installed."""
    try:
        return dict(importlib.import_module(module).MEASURES)
    except ImportError as error:
        print(f"warning: {module} cannot be imported ({error}): left out", file=sys.stderr)
        return {}


if __name__ == "__main__":
    run_entry(main)
