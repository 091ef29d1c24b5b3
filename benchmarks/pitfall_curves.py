"""Curves of trainings with and without a bug, kept in a file; the signs that tell bugs apart.

Only the log is judged: the training loss and the validation loss, as the buggy program itself
computes them. What the model is worth in use is a number of its own, which the log does not have.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tutorial_kit.training import write_json

SIGNS = {
    "flat": "Nothing is learned",
    "too good": "Too good to be true",
    "apart": "Training and validation part",
    "worse": "Everything is worse",
    "validation": "Only validation is worse",
    "normal": "The curves look normal",
}
"""Sign -> what it is called; `sign_of` asks for them in this order."""


@dataclass(frozen=True)
class Curves:
    """One training as its log tells it, and what its model was worth in use."""

    steps: tuple[int, ...]  # of the evaluations
    train: tuple[float, ...]  # mean training loss since the last evaluation, nats
    validation: tuple[float, ...]  # loss on the validation split, nats
    used: float  # of the final model, in the stage's own unit

    def __post_init__(self) -> None:
        """Brings lists, as JSON has them, into one form."""
        for name in ("steps", "train", "validation"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


Runs = dict[str, list[Curves]]
"""Name of a stage or an exhibit -> its curves, one for each seed."""


@dataclass(frozen=True)
class Ending:
    """The numbers of a training that are compared, each the mean over the seeds."""

    start: float  # training loss up to the first evaluation, nats
    train: float  # training loss at the end, nats
    learning: float  # training loss, mean over the whole run, nats
    validation: float  # validation loss at the end, nats
    used: float  # in the stage's own unit


def ending(runs: Sequence[Curves]) -> Ending:
    """Returns the means over the seeds."""
    return Ending(
        statistics.mean(run.train[0] for run in runs),
        statistics.mean(run.train[-1] for run in runs),
        statistics.mean(statistics.mean(run.train) for run in runs),
        statistics.mean(run.validation[-1] for run in runs),
        statistics.mean(run.used for run in runs),
    )


def sign_of(right: Ending, wrong: Ending) -> str:
    """Reads the log of a program beside the log of the correct one.

    Args:
        right: of the correct program.
        wrong: of the other.

    Returns:
        One of `SIGNS`.
    """
    if wrong.train > 0.95 * right.start:
        return "flat"
    if is_lower(wrong.validation, right.validation):
        return "too good"
    if wrong.learning < 0.8 * right.learning:
        return "apart"
    if is_lower(right.train, wrong.train):
        return "worse"
    return "validation" if is_lower(right.validation, wrong.validation) else "normal"


def is_lower(one: float, other: float) -> bool:
    """Tells whether a loss is lower than another by more than 5 % and more than 0.05 nats."""
    return one < 0.95 * other and other - one > 0.05


def load_curves(folder: Path) -> tuple[Runs, Runs]:
    """Reads what `save_curves` wrote; twice nothing if there is no file.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / "curves.json"
    if not path.is_file():
        return {}, {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stages, exhibits = (
            {name: [Curves(**run) for run in runs] for name, runs in content[part].items()}
            for part in ("stages", "exhibits")
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} does not hold curves ({error}): it is damaged. Delete it and run "
            "python -m benchmarks.pitfalls."
        ) from None
    return stages, exhibits


def save_curves(folder: Path, stages: Runs, exhibits: Runs) -> None:
    """Adds curves to those that the file has."""
    old_stages, old_exhibits = load_curves(folder)
    parts: dict[str, Any] = {"stages": old_stages | stages, "exhibits": old_exhibits | exhibits}
    write_json(
        folder / "curves.json",
        {
            part: {name: [asdict(run) for run in curves] for name, curves in runs.items()}
            for part, runs in parts.items()
        },
    )
