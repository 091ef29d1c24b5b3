"""The doctor: checks this machine, the installation and the project, and says what to do.

Prints a line `[ok]`, `[warn]` or `[fail]` for everything it looks at; the exit code is 0 if nothing
failed. `--report` prints the same as a block for a bug report, without private names. Runs with
nothing but the standard library.
"""

import sys

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from this folder
    import pathlib

    sys.path[0] = str(pathlib.Path(__file__).resolve().parent)

if sys.version_info < (3, 10):  # noqa: UP036 - said here, before anything needs it
    sys.exit(
        "[fail] python            {}.{} is too old, 3.10 or newer is needed: install it and start "
        "again with it".format(*sys.version_info)
    )

import argparse
import platform
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tutorial_kit import PROJECT_ROOT, doctor, doctor_project
from tutorial_kit.console import OneLineParser, one_line, run_entry
from tutorial_kit.datasets import cache_folder
from tutorial_kit.demo import outputs_folder
from tutorial_kit.doctor import FAIL, INSTALL, OK, WARN, Finding
from tutorial_kit.texts import Texts

Check = tuple[str, Callable[[], Iterator[Finding]]]


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="validate_project.py",
        description="Check this machine, the installation and the project.",
        epilog="The exit code is 0 if nothing failed, else 1.",
    )
    parser.add_argument(
        "--report", action="store_true", help="print a block to paste into a bug report"
    )
    return parser


def quick_checks(root: Path) -> list[Check]:
    """Returns the checks that need the standard library only."""
    folders = {"LLM_TUTORIAL_CACHE": cache_folder(), "LLM_TUTORIAL_OUTPUTS": outputs_folder(root)}
    return [
        ("python", doctor.check_python),
        ("processor", doctor.check_processor),
        ("memory", doctor.check_memory),
        ("folders", partial(doctor.check_folders, folders)),
        ("project files", partial(doctor_project.check_structure, root)),
        ("packages", lambda: doctor.check_packages(_requirements(root))),
    ]


def deep_checks(root: Path) -> list[Check]:
    """Returns the checks that import the packages and the families."""
    checks: list[Check] = [
        ("libraries", lambda: doctor_project.check_libraries(root, list(_requirements(root)))),
        ("tutorial_kit", partial(doctor_project.check_kit, root)),
    ]
    for family in doctor_project.existing_families(root):
        checks.append((family, partial(doctor_project.check_family, root, family)))
    checks.append(("documents", partial(doctor_project.check_documents, root)))
    return checks


def examine(root: Path) -> Iterator[Finding]:
    """Yields every finding, the quick ones first; skips the deep checks if a package is missing."""
    packages_fine = True
    for name, check in quick_checks(root):
        for finding in _guarded(name, check):
            packages_fine &= not (name == "packages" and finding.level == FAIL)
            yield finding
    yield from _guarded("data sets", doctor_project.check_data_sets)
    if packages_fine:
        for name, check in deep_checks(root):
            yield from _guarded(name, check)
    else:
        skipped = ", ".join(name for name, _ in deep_checks(root))
        yield Finding(WARN, "not checked", f"{skipped}: packages are missing", INSTALL)


def main(argv: Sequence[str] | None = None, *, root: Path = PROJECT_ROOT) -> int:
    """Prints what is found.

    Args:
        argv: arguments; None means the command line.
        root: the project's folder.

    Returns:
        0 if nothing failed, else 1.
    """
    args = build_parser().parse_args(argv)
    texts = Texts(Path(__file__).resolve().parent / "tutorial_kit")
    counts = {OK: 0, WARN: 0, FAIL: 0}
    if args.report:
        print("```text")
        print(f"validate_project.py --report, {platform.platform()}")
    for finding in examine(root):
        counts[finding.level] += 1
        text = str(finding)
        print(doctor.without_private_names(text, root) if args.report else text, flush=True)
    if args.report:
        print("```")
    else:
        verdict = "doctor.failed" if counts[FAIL] else "doctor.fine"
        print("\n" + texts.get(verdict, ok=counts[OK], warn=counts[WARN], fail=counts[FAIL]))
    return 1 if counts[FAIL] else 0


def _requirements(root: Path) -> dict[str, list[tuple[str, str]]]:
    return doctor.read_requirements(root / "requirements.txt")


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yields a check's findings; a check that breaks is a finding too."""
    try:
        yield from check()
    except Exception as error:
        text = f"the check itself failed: {type(error).__name__}: {one_line(error)}"
        yield Finding(FAIL, name, text, "please report this line")


if __name__ == "__main__":
    run_entry(main)
