"""The chapter's experiments: what each choice is worth, three seeds each, figures and results.

``python gpt/run_examples.py`` runs all of them; ``--only recipe`` runs one; a finished training is
kept under ``outputs/gpt/experiments`` and not repeated. Every training is small (at most half a
minute on two cores) and differs from the baseline in the named settings alone.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gpt.experiment_figures import Row, bars_figure, sampling_figure
from gpt.experiments import (
    BASELINE,
    EXPERIMENTS,
    SHARES,
    SMOKE,
    STRATEGIES,
    distinct_share,
    repeated_share,
    variant_config,
)
from gpt.generation import generate, load_model
from gpt.gpt_config import parameter_count
from gpt.quick_start import draw
from gpt.quick_start import main as quick_start
from gpt.text_data import TextData, load_text_data
from gpt.train_config import TrainConfig
from gpt.train_gpt import train
from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import experiments_parser
from tutorial_kit.experiments import (
    Study,
    chosen_experiments,
    experiment_figures,
    kept_outcome,
    mean_and_spread,
    print_table,
    run_experiments,
    seed_result,
    seeds_of,
    variant_folder,
)
from tutorial_kit.experiments import result_name as name_of_result
from tutorial_kit.plotting import save_figure
from tutorial_kit.results import Result
from tutorial_kit.training import run_folder

FAMILY = "gpt"
result_name = partial(name_of_result, FAMILY)
figures_folder = partial(experiment_figures, FAMILY)

MEASURES = {
    result_name(name, label): f"{experiment.question} {label}"
    for name, experiment in EXPERIMENTS.items()
    for label in experiment.variants
} | {
    result_name(f"sampling.{what}", label): f"{label}: {meaning}"
    for label in STRATEGIES
    for what, meaning in SHARES.items()
}


@dataclass(frozen=True)
class GPTStudy(Study):
    """What all experiments of one call share."""

    base: TrainConfig = BASELINE  # the variants differ from it
    data: TextData = field(kw_only=True)


def folder_of(config: TrainConfig, data: TextData) -> Path:
    """Returns the folder of one training; other settings or other text mean another folder."""
    return variant_folder(FAMILY, config, data.n_bytes)


def run_variant(config: TrainConfig, data: TextData) -> dict[str, float]:
    """Trains one variant, or reads what an earlier training of the same settings gave.

    Returns:
        "bits" per byte on the validation split, "seconds" of training, "parameters".
    """
    folder = folder_of(config, data)

    def train_it() -> dict[str, float]:
        result = train(config, data, folder)
        return {
            "bits": result.bits_per_byte,
            "seconds": result.seconds,
            "parameters": float(parameter_count(result.model.config)),
        }

    return kept_outcome(folder, train_it)


def run_experiment(name: str, study: GPTStudy) -> list[Result]:
    """Trains all variants of an experiment; prints a table, saves the figure."""
    experiment = EXPERIMENTS[name]
    rows, results = [], []
    for label, settings in list(experiment.variants.items())[: study.most]:
        configs = [variant_config(study.base, settings, seed) for seed in study.seeds]
        outcomes = [run_variant(config, study.data) for config in configs]
        bits = [outcome["bits"] for outcome in outcomes]
        seconds = [outcome["seconds"] for outcome in outcomes]
        parameters = int(outcomes[0]["parameters"])
        rows.append(Row(label, *mean_and_spread(bits), statistics.mean(seconds), parameters))
        results.append(
            seed_result(
                FAMILY, name, label, bits, "bits per byte", study=study, better="lower",
                seconds=sum(seconds), note=f"{label} ({parameters:,} parameters)",
            )
        )  # fmt: skip
    shown = [(r.label, round(r.bits, 4), round(r.spread, 4), round(r.seconds, 1), r.parameters)
             for r in rows]  # fmt: skip
    headers = ["variant", "bits per byte", "spread", "seconds", "parameters"]
    print_table(experiment.question, headers, shown)
    save_figure(bars_figure(experiment.question, rows), figures_folder() / f"{name}.png")
    return results


def run_sampling(study: GPTStudy) -> list[Result]:
    """Measures how varied and how repetitive the text of each sampling strategy is."""
    config = variant_config(study.base, {}, 0)
    run_variant(config, study.data)
    model, _ = load_model(folder_of(config, study.data))
    starts = range(0, 1600, 100)
    prompts = [study.data.tokens["validation"][at : at + 16].tolist() for at in starts]
    rows, results = [], []
    for label, sampling in list(STRATEGIES.items())[: study.most]:
        texts = [generate(model, prompts, 96, sampling, seed=seed) for seed in study.seeds]
        shares = {
            "distinct": [distinct_share(batch) for batch in texts],
            "repeated": [repeated_share(batch) for batch in texts],
        }
        means = {what: statistics.mean(values) for what, values in shares.items()}
        rows.append((label, means["distinct"], means["repeated"]))
        for what, values in shares.items():
            results.append(
                seed_result(
                    FAMILY, f"sampling.{what}", label, values, "%", study=study,
                    better="higher" if what == "distinct" else "lower",
                    note=f"{label}: {SHARES[what]}",
                )
            )  # fmt: skip
    shown = [(label, round(a, 1), round(b, 1)) for label, a, b in rows]
    question = "How varied, and how repetitive, is what each strategy writes?"
    print_table(question, ["strategy", *SHARES.values()], shown)
    save_figure(sampling_figure(rows), figures_folder() / "sampling.png")
    return results


def run_pictures(study: GPTStudy) -> list[Result]:
    """Draws the quick start's pictures again, from its checkpoint."""
    preset = "smoke" if study.smoke else "quick"
    run = run_folder("gpt", f"quick_start_{preset}")
    if not run.is_dir():
        quick_start(["--preset", preset])
    model, tokenizer = load_model(run)
    for path in draw(model, tokenizer, run):
        if path.suffix == ".png":
            figures_folder().mkdir(parents=True, exist_ok=True)
            shutil.copy(path, figures_folder())
    return []


RUNNERS: dict[str, Callable[[GPTStudy], list[Result]]] = {
    **{name: partial(run_experiment, name) for name in EXPERIMENTS},
    "sampling": run_sampling,
    "pictures": run_pictures,
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return experiments_parser(FAMILY, "Run the experiments of GPT's chapter.", RUNNERS)


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Runs the experiments, prints their tables, saves figures and results."""
    args = build_parser().parse_args(argv)
    names = chosen_experiments(FAMILY, args.only, RUNNERS)
    smoke = args.preset == "smoke"
    base = SMOKE if smoke else BASELINE
    data = load_text_data(base.dataset, base.tokenizer, base.bpe_tokens)
    study = GPTStudy(seeds_of(args), smoke, base, data=data)
    return run_experiments(FAMILY, RUNNERS, names, study, publish=args.publish)


if __name__ == "__main__":
    run_entry(main)
