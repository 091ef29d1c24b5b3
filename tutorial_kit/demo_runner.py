"""Finds the families that exist and runs their demos, whatever these do.

A demo is `<family>/quick_start.py` with `main(argv) -> DemoResult`. It runs in this process, and
whatever it does (raise, leave with an exit code, be interrupted) becomes an `Outcome`: the next
demo runs all the same. Families are imported only when chosen. Standard library only.
"""

from __future__ import annotations

import gc
import importlib
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from tutorial_kit.console import one_line
from tutorial_kit.demo import DemoResult, KeptDemo, Outcome, keep_demo, outputs_folder
from tutorial_kit.files import atomic_write
from tutorial_kit.texts import Texts
from tutorial_kit.training import InterruptGuard

FAMILIES = (
    "cbow",
    "transformer",
    "bert",
    "vit",
    "gpt",
    "instruction_tuning",
    "multimodal",
    "optimization",
    "advanced_topics",
)
"""Every family of the course, in the order of the lessons."""


@dataclass(frozen=True)
class Family:
    """A family as the menu shows it."""

    name: str  # package name
    title: str  # a few words
    what_you_see: str  # one sentence


def find_families(root: Path) -> list[Family]:
    """Returns the families whose demo exists under ``root``, in the order of the lessons."""
    families = []
    for name in FAMILIES:
        if not (root / name / "quick_start.py").is_file():
            continue
        title, what_you_see = name, ""
        with suppress(Exception):  # damaged texts: a menu with a bare name is still a menu
            texts = _texts(root / name)
            title, what_you_see = texts.get("menu.title"), texts.get("menu.what_you_see")
        families.append(Family(name, title, what_you_see))
    return families


def parse_choice(line: str, names: Sequence[str]) -> list[str]:
    """Turns what was typed at the menu into family names, in the order typed.

    Args:
        line: numbers (from 1) and names separated by commas or spaces; ``0`` or ``all`` for all.
        names: the families on the menu.

    Returns:
        The names, each once.

    Raises:
        ValueError: a part is neither; the text says what is possible.

    >>> parse_choice("2, cbow", ["cbow", "gpt"])
    ['gpt', 'cbow']
    """
    chosen: dict[str, None] = {}
    for part in line.replace(",", " ").split():
        word = part.lower().replace("-", "_")
        if word in ("0", "all"):
            chosen.update(dict.fromkeys(names))
        elif word in names:
            chosen[word] = None
        elif word.isascii() and word.isdigit() and 1 <= int(word) <= len(names):
            chosen[names[int(word) - 1]] = None
        else:
            numbers = f"1 to {len(names)}" if len(names) > 1 else "1"
            raise ValueError(
                f"{part!r} is not on the menu. Possible: {numbers}, {', '.join(names)}, "
                "0 or all for everything."
            )
    if not chosen:
        raise ValueError(f"no family was named. Possible: {', '.join(names)}, all.")
    return list(chosen)


def run_demo(family: str, argv: Sequence[str], root: Path) -> Outcome:
    """Runs one demo; whatever the demo does, Ctrl-C included, becomes an outcome.

    What finishes is also kept in ``outputs/<family>/demo.json``, where that can be written.

    Args:
        family: package name.
        argv: arguments for the demo's ``main``.
        root: the folder that holds the package.
    """
    start = time.perf_counter()
    folder = Path.cwd()
    printed = _Recorder(sys.stdout)
    try:
        with _usual_interrupts(), redirect_stdout(cast(IO[str], printed)):
            result = _import_main(family, root)(list(argv))
        if not isinstance(result, DemoResult):
            raise TypeError(f"{family}.quick_start.main returned {result!r}, not a DemoResult")
        preset = argv[argv.index("--preset") + 1] if "--preset" in argv else "quick"
        finished = time.strftime("%Y-%m-%d %H:%M")
        kept = KeptDemo(result, preset, finished, "".join(printed.parts))
        with suppress(OSError):
            keep_demo(kept, root)
        return Outcome(family, "finished", time.perf_counter() - start, result, kept=kept)
    except KeyboardInterrupt:
        return Outcome(family, "interrupted", time.perf_counter() - start)
    except (Exception, SystemExit) as error:
        seconds = time.perf_counter() - start
        log = _write_log(family, argv, root)
        return Outcome(family, "failed", seconds, message=_in_one_line(error), log=log)
    finally:
        with suppress(OSError):
            os.chdir(folder)
        gc.collect()  # a model caught in a reference cycle would slow the next demo


class _Recorder:
    """Standard output that remembers what passes through it."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.parts: list[str] = []

    def write(self, text: str) -> int:
        self.parts.append(text)
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _texts(folder: Path) -> Texts:
    """Reads a family's texts; in English if they are not translated yet."""
    try:
        return Texts(folder)
    except ValueError:
        return Texts(folder, "en")


def _import_main(family: str, root: Path) -> Callable[[list[str]], object]:
    """Imports ``<family>.quick_start`` from ``root`` and nowhere else."""
    if sys.path[0] != str(root):
        sys.path.insert(0, str(root))
    # A torch that was interrupted half-way cannot be imported again, so Ctrl-C waits for the end.
    with InterruptGuard() as guard:
        module = importlib.import_module(f"{family}.quick_start")
    if guard.requested:
        raise KeyboardInterrupt
    source = Path(module.__file__ or "").resolve()
    if not source.is_relative_to(root.resolve()):
        raise ImportError(
            f"another package called {family!r} was imported before ({source}): start the runner "
            "in a Python process of its own."
        )
    return module.main


@contextmanager
def _usual_interrupts() -> Iterator[None]:
    """Gives Ctrl-C its usual meaning again after a demo that changed it and did not clean up."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            with suppress(ValueError, TypeError):  # not the main thread, or set from outside Python
                signal.signal(signal.SIGINT, before)


def _in_one_line(error: BaseException) -> str:
    """Says in one line what went wrong, and what to do where that is known."""
    if isinstance(error, SystemExit):
        return f"it left with exit code {error.code}; see above"
    text = one_line(error)[:300].rstrip(".")
    if isinstance(error, ModuleNotFoundError):
        ours = (error.name or "").split(".")[0] in (*FAMILIES, "tutorial_kit")
        remedy = "python validate_project.py" if ours else "pip install -r requirements.txt"
        return f"{text}. Run: {remedy}"
    if isinstance(error, MemoryError):
        return "memory ran out. Close other programs, or try --preset smoke"
    # The texts of these two are written for the reader; other types need their name as well.
    explained = isinstance(error, (ValueError, OSError))
    return text if explained else f"{type(error).__name__}: {text}"


def _write_log(family: str, argv: Sequence[str], root: Path) -> Path | None:
    """Writes the traceback being handled to ``outputs/logs`` and returns the file's path."""
    path = outputs_folder(root) / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{family}.log"
    head = f"demo: {family} {' '.join(argv)}\nPython {platform.python_version()}\n\n"
    try:
        with atomic_write(path) as file:  # an error's text may hold what UTF-8 cannot
            file.write((head + traceback.format_exc()).encode("utf-8", "backslashreplace"))
    except OSError:
        return None
    return path
