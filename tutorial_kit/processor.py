"""How many cores there are for us, and how many of them are at work. Standard library only."""

from __future__ import annotations

import os
import time
from pathlib import Path


def core_count() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy_cores(seconds: float = 0.05, counters: Path = Path("/proc/stat")) -> float:
    """Measures how many cores are at work; 0.0 where the kernel does not tell.

    Args:
        seconds: how long to look, without doing anything: what is seen is the others' work.
        counters: the kernel's file; its first line says how long all cores worked, and rested.
    """

    def read() -> list[int]:
        first, *_ = counters.read_text(encoding="ascii").splitlines()
        return [int(word) for word in first.split()[1:]]

    try:
        before = read()
        time.sleep(seconds)
        passed = [after - earlier for earlier, after in zip(before, read(), strict=True)]
        total, rested = sum(passed[:8]), passed[3] + passed[4]  # idle, and waiting for a disk
    except (OSError, ValueError, IndexError):  # no such file, or another system's
        return 0.0
    return core_count() * (1 - rested / total) if total > 0 else 0.0
