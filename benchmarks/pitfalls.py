"""A museum of the field's real bugs: trains with each and without, and shows what one sees.

``python -m benchmarks.pitfalls`` trains everything, prints the table, draws the figures of
docs/pitfalls.md and records the results. ``--guess`` asks which bug a curve belongs to, ``--prove``
runs the test that catches each bug, with the bug and without.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.pitfall_curves import SIGNS, Runs, ending, load_curves, save_curves
from benchmarks.pitfall_exhibits import EXHIBITS
from benchmarks.pitfall_figures import exhibit_figure, found_signs, museum_figure
from benchmarks.pitfall_guess import quiz
from benchmarks.pitfall_patch import planted
from benchmarks.pitfall_proof import prove
from benchmarks.pitfall_stages import STAGES, train_stage
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import OneLineParser, format_table, progress, run_entry
from tutorial_kit.experiments import mean_and_spread
from tutorial_kit.plotting import save_figure
from tutorial_kit.results import Result, record
from tutorial_kit.training import run_folder

SEEDS = {"standard": (0, 1), "smoke": (0,)}
SMOKE_STEPS = 12
LOSSES = {"train": "training loss at the end", "validation": "validation loss at the end"}
MEASURES = {
    f"pitfalls.{name}.{what}": f"{label}: {text}"
    for name, label, stage in [
        *((name, f"{stage.label}, correct", stage) for name, stage in STAGES.items()),
        *((name, item.title, STAGES[item.stage]) for name, item in EXHIBITS.items()),
    ]
    for what, text in {**LOSSES, "used": stage.used}.items()
}


def museum_folder(preset: str) -> Path:
    """Returns where curves and figures lie: in the documents, or among the outputs of a test."""
    standard = PROJECT_ROOT / "docs" / "figures" / "pitfalls"
    return standard if preset == "standard" else run_folder("benchmarks", "pitfalls")


def train_all(exhibits: Sequence[str], stages: Sequence[str], preset: str) -> tuple[Runs, Runs]:
    """Trains without and with bugs.

    Args:
        exhibits: names of the bugs.
        stages: names of the trainings that are done without a bug.
        preset: "standard" or "smoke".

    Returns:
        Stage -> curves of the correct program, and exhibit -> curves with the bug, one a seed.
    """
    steps, seeds = SMOKE_STEPS if preset == "smoke" else None, SEEDS[preset]
    runs: tuple[Runs, Runs] = {}, {}
    torch.set_num_threads(1)  # so small that a second thread only gets in the way
    with progress((len(exhibits) + len(stages)) * len(seeds), "training", "run") as bar:
        for name in (*stages, *exhibits):
            item = EXHIBITS.get(name)
            stage = STAGES[item.stage if item else name]
            with planted(item.patch if item else None):
                for seed in seeds:
                    curves = train_stage(stage, seed, steps)
                    runs[item is not None].setdefault(name, []).append(curves)
                    bar.update()
    return runs


def results_of(runs: Runs, preset: str, seconds: float) -> list[Result]:
    """Returns three results for each stage or exhibit: both losses, and the number in use."""
    results = []
    for name, curves in runs.items():
        item = EXHIBITS.get(name)
        stage = STAGES[item.stage if item else name]
        values = {
            "train": [run.train[-1] for run in curves],
            "validation": [run.validation[-1] for run in curves],
            "used": [run.used for run in curves],
        }
        for what, found in values.items():
            mean, spread = mean_and_spread(found)
            used = what == "used"
            results.append(
                Result(
                    f"pitfalls.{name}.{what}", mean, stage.unit if used else "nats",
                    better=stage.better if used else "lower", seeds=SEEDS[preset][: len(found)],
                    spread=spread if len(found) > 1 else None, seconds=round(seconds, 1),
                    preset=preset, command="python -m benchmarks.pitfalls",
                    note=MEASURES[f"pitfalls.{name}.{what}"],
                )
            )  # fmt: skip
    return results


def print_table(stages: Runs, exhibits: Runs) -> int:
    """Prints a line for each exhibit; returns how many have the sign that they are known for."""
    rows, seen = [], 0
    signs = found_signs(stages, exhibits)
    for name, curves in exhibits.items():
        item = EXHIBITS[name]
        stage = STAGES[item.stage]
        pair = [ending(stages[item.stage]), ending(curves)]
        cells = [
            " / ".join(f"{getattr(end, what):.3f}" for end in pair)
            for what in ("train", "validation", "used")
        ]
        expected = signs[name] == item.sign
        seen += expected
        sign = SIGNS[signs[name]] + ("" if expected else f" (expected: {SIGNS[item.sign].lower()})")
        rows.append([name, *cells, f"{stage.used}, {stage.unit}", sign])
    columns = ["bug", "training", "validation", "in use", "(what)", "the log looks like"]
    print(format_table(columns, rows))
    print("each pair: without the bug / with it")
    print(f"{seen} of {len(rows)} bugs have the sign they are known for")
    return seen


def draw(folder: Path, stages: Runs, exhibits: Runs) -> None:
    """Writes a figure of all exhibits and one of each."""
    for name, curves in exhibits.items():
        figure = exhibit_figure(name, stages[EXHIBITS[name].stage], curves)
        save_figure(figure, folder / f"{name}.png")
    save_figure(museum_figure(stages, exhibits), folder / "museum.png")
    print(f"{len(exhibits) + 1} figures in {folder}")


def names_in(only: str | None) -> tuple[list[str], list[str]]:
    """Returns the exhibits to show and the stages they need.

    Args:
        only: an exhibit, a stage, or a result of one; None means everything.

    Raises:
        ValueError: there is nothing of this name.
    """
    if only is None:
        return list(EXHIBITS), list(STAGES)
    name = only.removeprefix("pitfalls.").partition(".")[0]
    if name in STAGES:
        return [], [name]
    if name not in EXHIBITS:
        raise ValueError(f"--only {only!r}: no such bug. Use one of {', '.join(EXHIBITS)}.")
    return [name], [EXHIBITS[name].stage]


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.pitfalls",
        description="Train with a bug and without, for every bug of docs/pitfalls.md.",
    )
    parser.add_argument("--preset", choices=list(SEEDS), default="standard",
                        help="smoke: a few steps, nothing is recorded")  # fmt: skip
    parser.add_argument("--only", metavar="NAME", help="one bug, or one result of it")
    parser.add_argument("--seed", type=int, help="order of the questions of --guess")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--figure", action="store_true",
                      help="draw again what was trained before")  # fmt: skip
    what.add_argument("--guess", action="store_true", help="guess the bug from its curve")
    what.add_argument("--prove", action="store_true",
                      help="run the test that catches each bug, with and without it")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result] | int:
    """Trains, prints, draws and records; or asks, or proves, or only draws.

    Returns:
        The results; with --prove the exit code, 1 if a bug is not caught.

    Raises:
        ValueError: --only names nothing, or --figure finds nothing to draw.
    """
    args = build_parser().parse_args(argv)
    names, needed = names_in(args.only)
    folder = museum_folder(args.preset)
    if args.prove:
        return int(prove({name: EXHIBITS[name] for name in names}) > 0)
    if args.guess:
        stages, exhibits = _curves_for(names, needed, args.preset, folder)
        quiz(names, lambda name: (stages[EXHIBITS[name].stage], exhibits[name]), args.seed)
        return []
    if not args.figure:
        start = time.perf_counter()
        stages, exhibits = train_all(names, needed, args.preset)
        seconds = time.perf_counter() - start
        print_table(stages, exhibits)
        save_curves(folder, stages, exhibits)
    stored_stages, stored = load_curves(folder)
    if not stored:
        raise ValueError(f"{folder} has no curves to draw. Run it without --figure first.")
    draw(folder, stored_stages, stored)
    if args.figure or args.preset == "smoke":
        return []
    return record("pitfalls", results_of(stages | exhibits, args.preset, seconds))


def _curves_for(
    names: Sequence[str], needed: Sequence[str], preset: str, folder: Path
) -> tuple[Runs, Runs]:
    """Returns the curves that were trained before; trains what is missing."""
    stages, exhibits = load_curves(folder)
    missing = [name for name in names if name not in exhibits]
    lacking = [name for name in needed if name not in stages]
    if missing or lacking:
        print(f"{len(missing) + len(lacking)} curves are not there yet: training them")
        new_stages, new_exhibits = train_all(missing, lacking, preset)
        save_curves(folder, new_stages, new_exhibits)
        stages, exhibits = stages | new_stages, exhibits | new_exhibits
    return stages, exhibits


if __name__ == "__main__":
    run_entry(main)
