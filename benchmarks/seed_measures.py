"""From what each seed gave to a result: mean, spread, and the command that measures it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tutorial_kit.experiments import mean_and_spread
from tutorial_kit.results import Result, format_measured, record

Goal = tuple[float | None, float | None]
"""At least (or at most, where less is better) and aim; None means that nothing is asked."""

NO_GOAL: Goal = (None, None)


def over_seeds(
    name: str,
    values: Sequence[float],
    unit: str,
    goal: Goal = NO_GOAL,
    *,
    seeds: Sequence[int],
    note: str,
    preset: str,
    seconds: float,
    better: str = "higher",
) -> Result:
    """Returns the mean over the seeds; of a single value there is no spread.

    Args:
        name: of the result, such as "vit.quick_start.accuracy".
        values: one for each seed.
        unit: of the values.
        goal: what is asked of the mean.
        seeds: that were used.
        note: what was measured, in a few words.
        preset: of the trainings.
        seconds: what all of it took.
        better: "higher" or "lower".
    """
    mean, spread = mean_and_spread(values)
    return Result(
        name, mean, unit, *goal, better=better, seeds=tuple(seeds), preset=preset, note=note,
        spread=spread if len(values) > 1 else None, seconds=seconds,
        command=f"python -m benchmarks {name}",
    )  # fmt: skip


def print_and_record(
    file: str, results: Sequence[Result], machine: Mapping[str, Any]
) -> list[Result]:
    """Prints each result's line and writes all of them.

    Args:
        file: the name under ``benchmarks/results``, without ``.json``.
        results: to write.
        machine: what they were measured on, of ``timing.prepare``.
    """
    for row in results:
        print(f"{row.name}: {format_measured(row)}", flush=True)
    return record(file, [replace(row, machine=dict(machine)) for row in results])
