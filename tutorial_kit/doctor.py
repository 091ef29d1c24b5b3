"""The doctor's checks of the machine: Python, packages, processor, memory, disk, folders.

Each check yields `Finding`s; `validate_project.py` prints them. What concerns the project itself
is in `doctor_project`. Standard library only, and nothing is imported that might be missing: the
doctor is most needed where the installation went wrong.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tutorial_kit.processor import core_count

OK, WARN, FAIL = "ok", "warn", "fail"
OLDEST_PYTHON = (3, 10)
INSTALL = "pip install -r requirements.txt"
GIB = 1024**3


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's."""

    level: str  # `OK`, `WARN` or `FAIL`
    subject: str  # one or two words: what was looked at
    text: str  # what was found
    advice: str = ""  # what to do about it

    def __str__(self) -> str:
        """Returns the line, and the advice below it."""
        advice = f"\n{'':25}do: {self.advice}" if self.advice else ""
        return f"{f'[{self.level}]':<7}{self.subject:<18}{self.text}{advice}"


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Iterator[Finding]:
    """Checks Python's own version."""
    text = f"{'.'.join(map(str, version))} on {platform.system()} {platform.machine()}"
    if version >= OLDEST_PYTHON:
        yield Finding(OK, "python", text)
    else:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        advice = f"install Python {oldest} or newer and start again with it"
        yield Finding(FAIL, "python", f"{text}: too old, {oldest} is needed", advice)


def read_requirements(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Reads the packages of a requirements file.

    Args:
        path: lines such as ``torch>=2.4,<2.14``; comments, options and environment markers are
            left out.

    Returns:
        Package name to its bounds: ``{"torch": [(">=", "2.4"), ("<", "2.14")]}``.
    """
    requirements = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].split(";")[0].strip()
        match = re.match(r"([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*(.*)", line)
        if not match:
            continue
        bounds = re.findall(r"(==|~=|!=|<=|>=|<|>)\s*([\w.*+!-]+)", match[2])
        requirements[match[1]] = bounds
    return requirements


def check_packages(requirements: dict[str, list[tuple[str, str]]]) -> Iterator[Finding]:
    """Compares the installed versions with `read_requirements`; imports nothing."""
    missing = []
    for name, bounds in requirements.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = None
        if not version:  # None also comes from a package whose metadata is damaged
            missing.append(name)
            continue
        wanted = ",".join(op + bound for op, bound in bounds)
        if any(op in (">=", ">", "~=") and not satisfies(version, op, b) for op, b in bounds):
            text = f"{version} is too old: {wanted} is needed"
            yield Finding(FAIL, name, text, f"{INSTALL} --upgrade")
        elif not all(satisfies(version, op, bound) for op, bound in bounds):
            text = f"{version} lies outside {wanted}, what this project is tested with"
            yield Finding(WARN, name, text, f"if something fails: {INSTALL}")
        else:
            yield Finding(OK, name, version)
    if missing:
        yield Finding(FAIL, "packages", f"missing: {', '.join(missing)}", INSTALL)


def satisfies(version: str, operator: str, bound: str) -> bool:
    """Compares two versions by their release numbers; ``2.4.0rc1`` and ``2.4+cpu`` count as 2.4.

    >>> satisfies("2.13.0+cpu", ">=", "2.4"), satisfies("2.14.0rc1", "<", "2.14")
    (True, False)
    """
    have, prefix = _release(version), _release(bound)
    size = max(len(have), len(prefix))
    have, want = have + (0,) * (size - len(have)), prefix + (0,) * (size - len(prefix))
    if operator == "~=":
        return have >= want and have[: len(prefix) - 1] == prefix[:-1]
    if bound.endswith(".*"):
        return (have[: len(prefix)] == prefix) == (operator == "==")
    return {
        ">=": have >= want,
        "<=": have <= want,
        ">": have > want,
        "<": have < want,
        "!=": have != want,
        "==": have == want,
    }[operator]


def check_processor() -> Iterator[Finding]:
    """Counts the cores this process may use, and what limits the threads."""
    cores = usable_cores()
    total = os.cpu_count() or cores
    text = f"{cores:g} cores usable" + (f" of {total}" if cores < total else "")
    setting = os.environ.get("OMP_NUM_THREADS", "")
    if setting.isdigit() and int(setting) < int(cores):
        advice = "unset OMP_NUM_THREADS, unless that is what you want"
        yield Finding(WARN, "processor", f"{text}, OMP_NUM_THREADS={setting} uses fewer", advice)
    else:
        yield Finding(OK, "processor", text)


def usable_cores() -> float:
    """Returns the cores this process may use: its affinity, and a container's share."""
    cores = float(core_count())
    with suppress(OSError, ValueError):  # cgroup version 2: "200000 100000" is two cores
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, int(quota) / int(period))
    return cores


def check_memory(available: float | None = None) -> Iterator[Finding]:
    """Checks the memory that is free; a demo needs about 1 GiB, a standard training about 2."""
    available = available_memory() if available is None else available
    if not available:
        yield Finding(OK, "memory", "this system does not say; a demo needs about 1 GiB")
        return
    text = f"{available / GIB:.1f} GiB available"
    if available < 0.7 * GIB:
        yield Finding(FAIL, "memory", f"{text}, a demo needs about 1 GiB", "close other programs")
    elif available < 2 * GIB:
        advice = "close other programs before a training with --preset standard"
        yield Finding(WARN, "memory", text, advice)
    else:
        yield Finding(OK, "memory", text)


def available_memory() -> int:
    """Returns the bytes of memory a new program can get; 0 if the system does not say."""
    free = 0
    with suppress(OSError, ValueError, LookupError):
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        free = int(re.findall(r"MemAvailable:\s+(\d+) kB", text)[0]) * 1024
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        free = min(free, limit - int((group / "memory.current").read_text(encoding="ascii")))
    if not free:  # macOS tells the total only: half of it is assumed to be free
        with suppress(OSError, ValueError, AttributeError):
            free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return free


def check_folders(folders: dict[str, Path]) -> Iterator[Finding]:
    """Checks that files can be written and that the disk has room.

    Args:
        folders: the environment variable that moves a folder, and the folder; it need not exist.
    """
    for variable, folder in folders.items():
        subject = "cache folder" if "CACHE" in variable else "outputs folder"
        existing = folder
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        advice = f"set {variable} to a folder you can write to"
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
            free = shutil.disk_usage(existing).free
        except OSError as error:
            reason = error.strerror or str(error)
            yield Finding(FAIL, subject, f"{folder} cannot be written: {reason}", advice)
            continue
        text = f"{folder}, {free / GIB:.1f} GiB free"
        if free < 0.2 * GIB:
            advice = f"free some space, or set {variable} to a folder on another disk"
            yield Finding(FAIL, subject, f"{text}: too little", advice)
        elif free < 2 * GIB:
            advice = "enough for the demos; all data sets and trainings together need 2 GiB"
            yield Finding(WARN, subject, text, advice)
        else:
            yield Finding(OK, subject, text)


def without_private_names(text: str, root: Path) -> str:
    """Replaces the names of the project's folder, home, user and machine, for a public report."""
    names = {str(root): "<project>", str(Path(tempfile.gettempdir())): "<temporary>"}
    with suppress(RuntimeError):
        names[str(Path.home())] = "~"
    for path in sorted(names, key=len, reverse=True):  # the project may lie inside home
        text = text.replace(path, names[path])
    words = {platform.node(): "<machine>", platform.node().split(".")[0]: "<machine>"}
    with suppress(Exception):  # a user without a name: KeyError, OSError, ImportError by system
        words[getpass.getuser()] = "<user>"
    for word, stand_in in words.items():
        if len(word) > 1 and word not in ("root", "localhost"):  # these two say nothing
            text = re.sub(rf"(?<![\w<]){re.escape(word)}(?![\w>])", stand_in, text)
    return text


def _release(version: str) -> tuple[int, ...]:
    """Returns the release numbers a version begins with, without an epoch."""
    match = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, match[1].split("."))) if match else (0,)
