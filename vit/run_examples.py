"""The chapter's experiments: what each choice is worth, three seeds each, figures and results.

``python vit/run_examples.py`` runs all of them on Fashion-MNIST, which is fetched once; ``--only
patch`` runs one; a finished training is kept under ``outputs/vit/experiments`` and not repeated,
and experiments that need the same training share it.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import experiments_parser
from tutorial_kit.experiments import (
    Study,
    chosen_experiments,
    experiment_figures,
    mean_and_spread,
    print_table,
    run_experiments,
    seed_result,
    seeds_of,
)
from tutorial_kit.experiments import result_name as name_of_result
from tutorial_kit.plotting import save_figure
from tutorial_kit.results import Result
from tutorial_kit.training import run_folder
from vit.attention_visualization import main as draw_all
from vit.experiment_figures import Row, cost_figure, dots_figure, shares_figure
from vit.experiment_runs import FAMILY, run_variant
from vit.experiments import EXPERIMENTS, MEASURED, Variant, variant_config
from vit.quick_start import main as quick_start

FIGURES = {"dots": dots_figure, "cost": cost_figure, "shares": shares_figure}
HEADERS = ["variant", "accuracy %", "spread", "pictures/s", "seconds", "parameters"]
result_name = partial(name_of_result, FAMILY)
figures_folder = partial(experiment_figures, FAMILY)

MEASURES = {
    result_name(f"{name}.{what}", label): f"{experiment.question} {label}: {MEASURED[what][1]}"
    for name, experiment in EXPERIMENTS.items()
    for label in experiment.variants
    for what in experiment.measured
}


def run_experiment(name: str, study: Study) -> list[Result]:
    """Trains all variants of an experiment; prints a table, saves the figure."""
    experiment = EXPERIMENTS[name]
    rows, results = [], []
    for label, variant in list(experiment.variants.items())[: study.most]:
        outcomes = [
            run_variant(variant_config(variant, seed, study.smoke), variant.share)
            for seed in study.seeds
        ]
        row = _row(label, variant, outcomes)
        rows.append(row)
        for what in experiment.measured:
            unit, meaning = MEASURED[what]
            results.append(
                seed_result(
                    FAMILY, f"{name}.{what}", label, [o[what] for o in outcomes], unit,
                    study=study, seconds=row.seconds * len(study.seeds),
                    note=f"{label} ({row.parameters:,} parameters): {meaning}",
                )
            )  # fmt: skip
    print_table(experiment.question, HEADERS, [_shown(row) for row in rows])
    save_figure(
        FIGURES[experiment.picture](experiment.question, rows), figures_folder() / f"{name}.png"
    )
    return results


def _row(label: str, variant: Variant, outcomes: Sequence[Mapping[str, float]]) -> Row:
    accuracy, spread = mean_and_spread([outcome["accuracy"] for outcome in outcomes])
    speed, seconds = (statistics.mean(o[what] for o in outcomes) for what in ("speed", "seconds"))
    parameters = int(outcomes[0]["parameters"])
    return Row(label, accuracy, spread, speed, seconds, parameters, variant.line, variant.share)


def _shown(row: Row) -> tuple[object, ...]:
    """Returns a line of the printed table."""
    return (row.label, round(row.accuracy, 2), round(row.spread, 2), round(row.speed),
            round(row.seconds, 1), row.parameters)  # fmt: skip


def run_pictures(study: Study) -> list[Result]:
    """Draws the pictures of a trained ViT beside those of the experiments.

    It is that of the preset "plain" if it has been trained, else the quick start's: only plain
    patches have filters to look at, and only a class token looks from one place.
    """
    arguments = ["--preset", "smoke"]
    if not study.smoke:
        run = run_folder(FAMILY, "plain")
        if not (run / "checkpoints" / "best.pt").is_file():
            run = run_folder(FAMILY, "quick_start_quick")
        if not (run / "checkpoints" / "best.pt").is_file():
            quick_start([])
        arguments = ["--run", str(run)]
    figures_folder().mkdir(parents=True, exist_ok=True)
    for path in draw_all(arguments):
        shutil.copy(path, figures_folder())
    return []


RUNNERS: dict[str, Callable[[Study], list[Result]]] = {
    **{name: partial(run_experiment, name) for name in EXPERIMENTS},
    "pictures": run_pictures,
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return experiments_parser(FAMILY, "Run the experiments of the ViT's chapter.", RUNNERS)


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Runs the experiments, prints their tables, saves figures and results."""
    args = build_parser().parse_args(argv)
    names = chosen_experiments(FAMILY, args.only, RUNNERS)
    study = Study(seeds_of(args), smoke=args.preset == "smoke")
    return run_experiments(FAMILY, RUNNERS, names, study, publish=args.publish)


if __name__ == "__main__":
    run_entry(main)
