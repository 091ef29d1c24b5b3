"""Keeps the markdown true: fills in what is generated, and finds what is wrong.

    python tools/docs_sync.py            # rewrites the files in place, then says what is left to do
    python tools/docs_sync.py --check    # changes nothing; exit code 1 if anything differs

What is filled in: quoted functions, measured numbers, tables of goals (docs_fill.py) and the output
of blocks that are run (docs_run.py). What is checked besides: every shown command against its
script's own parser (docs_commands.py), links, anchors, figures, the parts of a chapter and numbers
typed by hand (docs_checks.py). Each of these modules explains its markers and rules. Standard
library only.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

import argparse
import fnmatch
import os
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tools.docs_checks import (
    check_blocks,
    check_chapter,
    check_figures,
    check_links,
    check_typed_numbers,
)
from tools.docs_commands import check_commands, find_commands
from tools.docs_fill import fill_markers
from tools.docs_page import Edit, Page, Problem, apply_edits
from tools.docs_run import run_page
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.files import atomic_write
from tutorial_kit.results import load_results

CHAPTERS_IN_DOCS = ("docs/multimodal.md", "docs/optimization.md", "docs/advanced_topics.md")


class Report(NamedTuple):
    """What a run found."""

    problems: list[Problem]  # sorted by page and line
    warnings: list[str]
    changed: list[str]  # names of the pages that were rewritten
    pages: int  # how many were looked at


def build_parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    parser = OneLineParser(description="Fill in and check the markdown of the project.")
    parser.add_argument("pages", nargs="*", help="only these files, from the root; default: all")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; 1 if anything differs"
    )
    parser.add_argument("--no-run", action="store_true", help="do not execute python run blocks")
    parser.add_argument("--root", type=Path, default=PROJECT_ROOT, help="the project's folder")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Fills and checks the pages.

    Returns:
        The exit code: 1 if there is a problem, 0 otherwise.
    """
    args = build_parser().parse_args(argv)
    start = time.perf_counter()
    report = synchronize(args.root.resolve(), args.pages, write=not args.check, run=not args.no_run)
    for name in report.changed:
        print(f"rewritten: {name}")
    for warning in report.warnings:
        print(f"warning: {warning}")
    for problem in report.problems:
        print(problem)
    seconds = time.perf_counter() - start
    print(f"{report.pages} pages, {len(report.problems)} problems, {seconds:.1f} s")
    return 1 if report.problems else 0


def synchronize(root: Path, names: Sequence[str] = (), *, write: bool, run: bool = True) -> Report:
    """Fills and checks pages.

    Args:
        root: the project's folder.
        names: the pages to look at, from the root; empty for all.
        write: whether to rewrite what differs, or to report it as a problem.
        run: whether to execute the blocks that are to be run.

    Raises:
        ValueError: a named page does not exist, or the results cannot be read.
    """
    files = project_files(root)
    pages = {
        name: Page(name, (root / name).read_text(encoding="utf-8"))
        for name in files
        if name.endswith(".md")
    }
    chosen = [_known(name, pages) for name in names] or list(pages)
    results = load_results(root / "benchmarks" / "results")
    problems: list[Problem] = []
    changed: list[str] = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        commands = find_commands([pages[name] for name in chosen], {} if names else results)
        checked = pool.submit(check_commands, commands, root)
        runs: dict[str, Future[tuple[list[Edit], list[Problem]]]] = {}
        if run:
            runs = {name: pool.submit(run_page, pages[name], root) for name in chosen}
        for name in chosen:
            edits, found = fill_markers(pages[name], root, results)
            if name in runs:
                more_edits, more = runs[name].result()
                edits, found = edits + more_edits, found + more
            problems += found
            text = apply_edits(pages[name].text, edits)
            if write and text != pages[name].text:
                with atomic_write(root / name, "w") as file:
                    file.write(text)
                changed.append(name)
                pages[name] = Page(name, text)
            elif not write:
                problems += _stale(pages[name], edits)
        problems += checked.result()
    warnings: list[str] = []
    for name in chosen:
        found, length = _check(pages[name], pages, files)
        problems, warnings = problems + found, warnings + length
    return Report(sorted(set(problems)), warnings, changed, len(chosen))


def _stale(page: Page, edits: list[Edit]) -> list[Problem]:
    """Returns a problem for each stretch that is not what it should be."""
    advice = "Run python tools/docs_sync.py, then read what changed."
    return [
        page.problem(edit.start, f"{edit.complaint}. {advice}")
        for edit in edits
        if page.text[edit.start : edit.end] != edit.new
    ]


def _check(
    page: Page, pages: dict[str, Page], files: dict[str, str | None]
) -> tuple[list[Problem], list[str]]:
    """Runs the checks that only need to read; returns problems and warnings."""
    problems = [
        *check_blocks(page),
        *check_links(page, pages, files),
        *check_figures(page, files),
        *check_typed_numbers(page),
    ]
    if not _is_chapter(page.name):
        return problems, []
    more, warnings = check_chapter(page)
    return problems + more, warnings


def _is_chapter(name: str) -> bool:
    """Says whether a page has the parts of a chapter: beside a family's code, or in ``docs/``."""
    folder, _, file = name.partition("/")
    return name in CHAPTERS_IN_DOCS or (folder != "docs" and fnmatch.fnmatch(file, "README_*.md"))


def _known(name: str, pages: dict[str, Page]) -> str:
    """Returns the page's name with forward slashes, without ``./``."""
    tidy = str(PurePosixPath(name.replace(os.sep, "/")))
    if tidy not in pages:
        raise ValueError(f"there is no page {name!r} in the project. Give its path from the root.")
    return tidy


def project_files(root: Path) -> dict[str, str | None]:
    """Lists what belongs to the project, in the order of the names.

    In a git repository: every file that git knows or would add. Elsewhere: everything but hidden
    folders and ``outputs``.

    Returns:
        Path from the root -> text of a Python file, None for any other file.
    """
    command = ["git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
        names = listed.decode("utf-8").split("\0") if (root / ".git").exists() else []
    except (OSError, subprocess.SubprocessError):
        names = []
    if not names:
        paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        names = [
            path.as_posix()
            for path in paths
            if path.parts[0] != "outputs" and not any(p.startswith(".") for p in path.parts[:-1])
        ]
    there = sorted(name for name in names if (root / name).is_file())
    return {
        name: (root / name).read_text(encoding="utf-8") if name.endswith(".py") else None
        for name in there
    }


if __name__ == "__main__":
    run_entry(main)
