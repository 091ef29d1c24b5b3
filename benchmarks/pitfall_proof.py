"""Proves that a named test catches a bug: it passes without the bug and fails with it.

pytest is started in this process, because a bug that is planted in it lives nowhere else.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.pitfall_exhibits import Exhibit
from benchmarks.pitfall_patch import Patch, planted
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import format_table


@dataclass
class _Watcher:
    """A plugin that remembers how the tests ended."""

    passed: int = 0
    failures: list[str] = field(default_factory=list)  # the last line of each error

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Counts the test itself, not what is set up around it."""
        if report.when == "call" and report.passed:
            self.passed += 1
        elif report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message if crash else str(report.longrepr)
            self.failures.append(message.splitlines()[0])


def run_test(test: str, patch: Patch | None) -> tuple[int, list[str]]:
    """Runs a test, with a bug or without.

    Args:
        test: file and function.
        patch: the bug; None means none.

    Returns:
        How many cases of it passed, and the first line of each failure, of which the first ends
        the run.

    Raises:
        ValueError: pytest is not installed, or there is no such test.
    """
    try:
        import pytest
    except ImportError:
        raise ValueError(
            "--prove runs tests, and pytest is not installed. Use pip install -r "
            "requirements-dev.txt."
        ) from None
    watcher, printed = _Watcher(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), planted(patch):
        arguments = ["-x", "-q", "-p", "no:cacheprovider", f"--rootdir={PROJECT_ROOT}"]
        pytest.main([*arguments, str(PROJECT_ROOT / test)], plugins=[watcher])
    if not watcher.passed and not watcher.failures:
        said = printed.getvalue().strip().splitlines()[-1:]
        raise ValueError(f"{test} did not run: {' '.join(said)}. Name a test that exists.")
    return watcher.passed, watcher.failures


def prove(exhibits: Mapping[str, Exhibit]) -> int:
    """Prints for each bug what its test says without it and with it.

    Returns:
        How many bugs were not caught.
    """
    rows, missed = [], 0
    for name, exhibit in exhibits.items():
        _, before = run_test(exhibit.test, None)
        _, failures = run_test(exhibit.test, exhibit.patch)
        caught = bool(failures) and not before
        missed += not caught
        verdict = "caught" if caught else "fails without it" if before else "NOT CAUGHT"
        rows.append([name, verdict, exhibit.test, "".join(failures[:1])[:60]])
        print(f"{name}: {verdict}", flush=True)
    print(format_table(["bug", "verdict", "test", "what it says"], rows))
    print(f"{len(rows) - missed} of {len(rows)} bugs are caught by the test that is named")
    return missed
