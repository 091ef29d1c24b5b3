"""How long a demo will take on this machine.

Three sources, each better than the one before it:

1. a reference time, measured once and kept in ``benchmarks/results/<family>.json``;
2. a calibration of about 50 ms, which says how much slower or faster this machine is;
3. earlier runs on this machine: of the same demo if there are any, else of the other demos, which
   tell how far the calibration is off (several cores, a GPU).

What other programs hold at the start is seen in the kernel's counters: with one core busy most
demos take about twice as long, because each thread waits for the one that has to share its core.

The calibration is one large integer power, computed in C: it depends on the processor and hardly
on the Python version (3.10 to 3.13 agree within 3 %). Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutorial_kit.files import atomic_write
from tutorial_kit.processor import busy_cores, core_count

REFERENCE_CALIBRATION = 0.0078  # seconds `calibrate` takes where the reference times were measured
FALLBACK_SECONDS = {"smoke": 5.0}  # by preset, for a family without a reference time
DEFAULT_FALLBACK = 60.0  # what DESIGN asks of a demo: about a minute
BY_THE_CLOCK = ("bert",)  # demos that train for a fixed time, however fast the machine is
SLOWDOWN = 0.7  # how much longer a demo takes while others hold a core: most 1, cbow's 0.3
REMEMBERED_RUNS = 5  # per demo; older ones say less about the machine as it is now


@dataclass(frozen=True)
class Forecast:
    """A predicted duration and what it rests on."""

    seconds: float
    basis: str  # "earlier runs", "calibration" or "guess"


def calibrate(rounds: int = 6) -> float:
    """Measures this machine's speed with about 50 ms of arithmetic.

    Args:
        rounds: how often the same work is timed; the fastest counts, because other programs can
            only slow a round down.

    Returns:
        Seconds one round takes.
    """
    modulus = (1 << 1279) - 1  # a Mersenne prime: the result must be the inverse of 3
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        inverse = pow(3, modulus - 2, modulus)
        seconds.append(time.perf_counter() - start)
    assert inverse * 3 % modulus == 1
    return min(seconds)


class Forecaster:
    """Predicts durations from a memory file; a missing or damaged file counts as empty."""

    def __init__(
        self,
        memory: Path | None,
        results: Path,
        measure: Callable[[], float] = calibrate,
        load: Callable[[], float] = busy_cores,
    ) -> None:
        """Reads what is remembered; measures nothing yet.

        Args:
            memory: the JSON file with this machine's calibration and runs; None keeps nothing.
            results: the folder with ``<family>.json`` reference times.
            measure: returns the calibration in seconds; called once, when a forecast needs it.
            load: returns how many cores other programs hold; called by the first forecast.
        """
        self.memory, self.results, self.measure, self.load = memory, results, measure, load
        self._held: float | None = None  # cores that other programs hold
        self.machine = _machine_key()
        self.records = _read_json(memory) if memory else {}

    def forecast(self, family: str, preset: str = "quick") -> Forecast:
        """Predicts how long ``family``'s demo takes with ``preset``."""
        runs = self._runs().get(f"{family}/{preset}", [])
        slowdown = self._slowdown(family)
        if runs:
            seconds = slowdown * _median([run["seconds"] for run in runs])
            return Forecast(seconds, "earlier runs")
        expected, measured = self._expected(family, preset)
        seconds = slowdown * expected * (1 if family in BY_THE_CLOCK else self._correction())
        return Forecast(seconds, "calibration" if measured else "guess")

    def remember(self, family: str, preset: str, seconds: float) -> None:
        """Keeps the duration of a finished run for the next forecasts.

        If the cache folder cannot be written, nothing is learned.
        """
        expected, measured = self._expected(family, preset)
        seconds /= self._slowdown(family)  # as it would have been without other programs
        run = {"seconds": max(0.01, round(seconds, 2))}
        if measured and family not in BY_THE_CLOCK:  # others say nothing about the calibration
            run["ratio"] = round(seconds / expected, 4)
        runs, key = self._runs(), f"{family}/{preset}"
        runs[key] = [*runs.get(key, []), run][-REMEMBERED_RUNS:]
        self._machine_record()["runs"] = runs
        self._save()

    def _expected(self, family: str, preset: str) -> tuple[float, bool]:
        """Returns the reference time scaled to this machine, and whether it was ever measured."""
        name = f"{family}.quick_start.seconds"
        name = name if preset == "quick" else f"{name}.{preset}"
        entry = _read_json(self.results / f"{family}.json").get(name)
        entry = entry if isinstance(entry, dict) else {}
        machine = entry.get("machine")
        there: Any = machine.get("calibration_seconds") if isinstance(machine, dict) else None
        factor = self._calibration() / (there if _is_duration(there) else REFERENCE_CALIBRATION)
        if _is_duration(entry.get("value")):
            return float(entry["value"]) * (1 if family in BY_THE_CLOCK else factor), True
        return FALLBACK_SECONDS.get(preset, DEFAULT_FALLBACK) * factor, False

    def _calibration(self) -> float:
        """Returns this machine's calibration in seconds, measured at the first call ever."""
        record = self._machine_record()
        if not _is_duration(record.get("calibration_seconds")):
            record["calibration_seconds"] = self.measure()
            self._save()
        return float(record["calibration_seconds"])

    def _correction(self) -> float:
        """Returns the typical ratio of real to calibrated time over all remembered runs.

        The calibration itself counts as one more run: a single demo may not be typical.
        """
        ratios = [
            _median(known)
            for runs in self._runs().values()
            if (known := [run["ratio"] for run in runs if _is_duration(run.get("ratio"))])
        ]
        return _median([1.0, *ratios])

    def _slowdown(self, family: str) -> float:
        """Returns by how much other programs stretch a demo, judged once: our own come later."""
        if self._held is None:
            self._held = self.load()
        return 1.0 if family in BY_THE_CLOCK else 1 + SLOWDOWN * min(1.0, self._held)

    def _machine_record(self) -> dict[str, Any]:
        machines = self.records.setdefault("machines", {})
        if not isinstance(machines, dict):
            machines = self.records["machines"] = {}
        record = machines.setdefault(self.machine, {})
        if not isinstance(record, dict):
            record = machines[self.machine] = {}
        return record

    def _runs(self) -> dict[str, list[dict[str, float]]]:
        """Returns the remembered runs that make sense, by "family/preset"."""
        runs = self._machine_record().get("runs")
        if not isinstance(runs, dict):
            return {}
        return {
            key: [
                run for run in known if isinstance(run, dict) and _is_duration(run.get("seconds"))
            ]
            for key, known in runs.items()
            if isinstance(known, list)
        }

    def _save(self) -> None:
        if self.memory is None:
            return
        try:
            with atomic_write(self.memory, "w") as file:
                json.dump(self.records, file, indent=1, sort_keys=True)
        except OSError:
            self.memory = None  # a read-only cache folder: go on without remembering


def spoken(seconds: float) -> str:
    """Says a duration the way a person would.

    >>> [spoken(value) for value in (0.4, 7.2, 61, 200, 9000)]
    ['1 s', '7 s', '60 s', '3 min', '2.5 h']
    """
    if seconds < 95:
        step = 1 if seconds < 20 else 5
        return f"{max(1, step * round(seconds / step))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _machine_key() -> str:
    """Names this machine without telling who it belongs to: homes may be shared by several."""
    identity = f"{platform.node()} {platform.machine()} {core_count()}"
    return hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:12]


def _median(values: list[float]) -> float:
    """Returns the middle value; the module statistics would cost the menu 9 ms to import."""
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_duration(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e7
