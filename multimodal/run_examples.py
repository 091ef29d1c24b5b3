"""The chapter's experiments: what each choice is worth, three seeds each, figures and results.

``python multimodal/run_examples.py`` runs all of them; ``--only gray`` runs one; a finished
training is kept under ``outputs/multimodal/experiments`` and not repeated.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from multimodal.experiment_figures import Row, dots_figure
from multimodal.experiments import EXPERIMENTS, MEASURED, variant_config
from multimodal.multimodal_config import MultimodalConfig
from multimodal.multimodal_trainer import train
from multimodal.quick_start import main as quick_start
from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import experiments_parser
from tutorial_kit.experiments import (
    Study,
    chosen_experiments,
    experiment_figures,
    kept_outcome,
    mean_and_spread,
    print_table,
    result_name,
    run_experiments,
    seed_result,
    seeds_of,
    variant_folder,
)
from tutorial_kit.plotting import save_figure
from tutorial_kit.results import Result

FAMILY = "multimodal"
DATA_VERSION = 1  # of what is drawn and said: another number means that all is trained anew
MEASURES = {
    result_name(FAMILY, f"{name}.{what}", label): f"{experiment.question} {label}: {MEASURED[what]}"
    for name, experiment in EXPERIMENTS.items()
    for label in experiment.variants
    for what in experiment.measured
}


def run_variant(config: MultimodalConfig, smoke: bool = False) -> tuple[Path, Mapping[str, float]]:
    """Trains one variant, unless that has been done before.

    Args:
        config: its settings; the encoder "baseline" is trained first if it is missing.
        smoke: whether the baseline is to be that of a smoke test.

    Returns:
        The run's folder, and its scores on the test pictures, 0 to 1.
    """
    folder = variant_folder(FAMILY, config, DATA_VERSION)

    def train_it() -> dict[str, float]:
        ready = config
        if config.encoder == "baseline":
            encoder, _ = run_variant(variant_config("contrastive", {}, config.seed, smoke), smoke)
            ready = replace(config, encoder=str(encoder))
        return train(ready, folder).scores

    return folder, kept_outcome(folder, train_it)


def run_experiment(name: str, study: Study) -> list[Result]:
    """Trains all variants of an experiment; prints a table, saves the figure."""
    experiment = EXPERIMENTS[name]
    rows: list[Row] = []
    lines, results = [], []
    for label, settings in list(experiment.variants.items())[: study.most]:
        configs = [
            variant_config(experiment.task, settings, seed, study.smoke) for seed in study.seeds
        ]
        outcomes = [run_variant(config, study.smoke)[1] for config in configs]
        line: list[object] = [label]
        for what in experiment.measured:
            values = [100 * outcome[what] for outcome in outcomes]
            mean, spread = mean_and_spread(values)
            line += [round(mean, 1), round(spread, 1)]
            if what == experiment.measured[0]:
                rows.append(Row(label, mean, spread))
            results.append(seed_result(FAMILY, f"{name}.{what}", label, values, "%", study=study,
                                       note=f"{label}: {MEASURED[what]}"))  # fmt: skip
        lines.append(line)
    headers = ["variant"]
    for what in experiment.measured:
        headers += [f"{what} %", "spread"]
    print_table(experiment.question, headers, lines)
    figure = dots_figure(experiment.question, MEASURED[experiment.measured[0]], rows)
    save_figure(figure, experiment_figures(FAMILY) / f"{name}.png")
    return results


def run_pictures(study: Study) -> list[Result]:
    """Tells the quick start's story and puts its pictures beside those of the experiments."""
    folder = experiment_figures(FAMILY)
    folder.mkdir(parents=True, exist_ok=True)
    told = quick_start(["--preset", "smoke" if study.smoke else "quick"])
    for path in told.files:
        if path.endswith(".png"):
            shutil.copy(path, folder)
    return []


RUNNERS: dict[str, Callable[[Study], list[Result]]] = {
    **{name: partial(run_experiment, name) for name in EXPERIMENTS},
    "pictures": run_pictures,
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return experiments_parser(FAMILY, "Run the experiments of the multimodal chapter.", RUNNERS)


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Runs the experiments, prints their tables, saves figures and results."""
    args = build_parser().parse_args(argv)
    names = chosen_experiments(FAMILY, args.only, RUNNERS)
    study = Study(seeds_of(args), smoke=args.preset == "smoke")
    return run_experiments(FAMILY, RUNNERS, names, study, publish=args.publish)


if __name__ == "__main__":
    run_entry(main)
