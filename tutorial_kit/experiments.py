"""What every ``run_examples.py`` does around its experiments: keep, sum up, print, record, publish.

A finished training is kept under ``outputs/<family>/experiments`` and not repeated, so that an
interrupted script goes on where it stopped, and a baseline that several experiments share is
trained once. What is varied, trained and measured stands in the family.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import statistics
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.config import config_to_dict
from tutorial_kit.console import format_table
from tutorial_kit.results import Result, record
from tutorial_kit.training import run_folder, write_json


@dataclass(frozen=True)
class Study:
    """What all experiments of one call share; a family may add fields."""

    seeds: Sequence[int]
    smoke: bool = False  # one seed, a few steps, two variants, nothing is recorded

    @property
    def most(self) -> int | None:
        """Variants of each experiment that are run; None means all."""
        return 2 if self.smoke else None


AnyStudy = TypeVar("AnyStudy", bound=Study)


def seeds_of(args: Namespace) -> Sequence[int]:
    """Returns the seeds that a command line asks for; a smoke test takes the first alone."""
    seeds: Sequence[int] = args.seeds
    return seeds[:1] if args.preset == "smoke" else seeds


def chosen_experiments(family: str, only: str | None, names: Iterable[str]) -> list[str]:
    """Returns the experiments to run.

    Args:
        family: the package, such as "gpt".
        only: an experiment's name or the name of one of its results; None means all.
        names: of all experiments.

    Raises:
        ValueError: there is no such experiment.

    >>> chosen_experiments("gpt", "gpt.heads.8", ["recipe", "heads"])
    ['heads']
    """
    names = list(names)
    if only is None:
        return names
    wanted = only.removeprefix(f"{family}.").split(".")[0]
    if wanted not in names:
        raise ValueError(
            f"--only {only}: there is no such experiment. Use one of {', '.join(names)}."
        )
    return [wanted]


def run_experiments(
    family: str,
    runners: Mapping[str, Callable[[AnyStudy], list[Result]]],
    names: Iterable[str],
    study: AnyStudy,
    *,
    publish: bool = False,
) -> list[Result]:
    """Runs experiments one by one; each is recorded, and published if asked for, when it is done.

    Args:
        family: the package, such as "gpt".
        runners: name -> function that trains, prints a table, saves a figure, returns results.
        names: of those to run.
        study: handed to each; of a smoke test nothing is recorded.
        publish: also copy the figures that a page shows to ``docs/figures/<family>``.
    """
    results: list[Result] = []
    for name in names:
        found = runners[name](study)
        results += found
        if found and not study.smoke:
            record(family, found)
        if publish:
            publish_figures(family)
    return results


def publish_figures(family: str) -> None:
    """Copies those of a family's figures that a page shows to where the pages look for them."""
    paths = [*PROJECT_ROOT.glob("*.md"), *PROJECT_ROOT.glob("*/*.md")]
    pages = [path.read_text(encoding="utf-8") for path in paths]
    folder = PROJECT_ROOT / "docs" / "figures" / family
    folder.mkdir(parents=True, exist_ok=True)
    for path in experiment_figures(family).glob("*.png"):
        if any(f"figures/{family}/{path.name})" in page for page in pages):
            shutil.copy(path, folder)


def experiment_figures(family: str) -> Path:
    """Returns where the figures of a family's experiments go."""
    return run_folder(family, "experiments") / "figures"


def variant_folder(family: str, config: Any, data_facts: Any) -> Path:
    """Returns the folder of one training; other settings or other data mean another folder.

    Args:
        family: the package, such as "gpt".
        config: the training's settings, a dataclass.
        data_facts: plain types that change when the data change, such as their sizes.
    """
    content = json.dumps([config_to_dict(config), data_facts], sort_keys=True)
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    return run_folder(family, "experiments") / name


def kept_outcome(folder: Path, train: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Returns what a finished training of this folder gave; trains if there is none.

    Args:
        folder: from ``variant_folder``.
        train: trains into the folder and returns the numbers to keep.
    """
    path = folder / "outcome.json"
    if path.is_file():
        earlier: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return earlier
    outcome = train()
    write_json(path, outcome)
    return outcome


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Returns the mean and the sample standard deviation over the seeds; 0 for a single one."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def result_name(family: str, experiment: str, label: str) -> str:
    """Returns the name of a result.

    >>> result_name("gpt", "recipe", "no QK-norm"), result_name("gpt", "sampling.distinct", "top 5")
    ('gpt.recipe.no_qk_norm', 'gpt.sampling.distinct.top_5')
    """
    return f"{family}.{experiment}." + re.sub(r"[^a-z0-9.]+", "_", label.lower())


def seed_result(
    family: str,
    experiment: str,
    label: str,
    values: Sequence[float],
    unit: str,
    *,
    study: Study,
    note: str,
    better: str = "higher",
    seconds: float | None = None,
) -> Result:
    """Returns a variant's result over the seeds: mean, spread, and the command that repeats it.

    Args:
        family: the package, such as "gpt".
        experiment: its name, or "name.what" where several things are measured.
        label: the variant's.
        values: one for each seed.
        unit: of the values.
        study: whose seeds were used.
        note: what was measured, in a few words.
        better: "higher" or "lower".
        seconds: what all seeds took together, if it was measured.
    """
    value, spread = mean_and_spread(values)
    command = f"python {family}/run_examples.py --only {experiment.partition('.')[0]}"
    return Result(
        result_name(family, experiment, label), value, unit, better=better,
        seeds=tuple(study.seeds), spread=spread, seconds=seconds, command=command, note=note,
    )  # fmt: skip


def print_table(question: str, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints an experiment's question and its table at once, also into a pipe."""
    print(f"\n{question}")
    print(format_table(headers, rows), flush=True)
