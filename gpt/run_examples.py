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

import argparse
import hashlib
import json
import re
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.config import config_to_dict
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.plotting import save_figure
from tutorial_kit.results import Result, record
from tutorial_kit.training import run_folder, write_json

SEEDS = (0, 1, 2)
COMMAND = "python gpt/run_examples.py --only {}"


def result_name(experiment: str, label: str) -> str:
    """Returns the name of a result, such as "gpt.recipe.no_qk_norm"."""
    return f"gpt.{experiment}." + re.sub(r"[^a-z0-9.]+", "_", label.lower())


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
class Study:
    """What all experiments of one call share."""

    data: TextData
    base: TrainConfig  # the variants differ from it
    seeds: Sequence[int]
    most: int | None = None  # variants of each experiment that are run; None means all


def figures_folder() -> Path:
    """Returns where the figures go."""
    return run_folder("gpt", "experiments") / "figures"


def variant_folder(config: TrainConfig, data: TextData) -> Path:
    """Returns the folder of one training; other settings or other text mean another folder."""
    content = json.dumps([config_to_dict(config), data.n_bytes], sort_keys=True)
    return run_folder("gpt", "experiments") / hashlib.sha256(content.encode()).hexdigest()[:16]


def run_variant(config: TrainConfig, data: TextData) -> dict[str, float]:
    """Trains one variant, or reads what an earlier training of the same settings gave.

    Returns:
        "bits" per byte on the validation split, "seconds" of training, "parameters".
    """
    folder = variant_folder(config, data)
    path = folder / "outcome.json"
    if path.is_file():
        earlier: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return earlier
    result = train(config, data, folder)
    outcome = {
        "bits": result.bits_per_byte,
        "seconds": result.seconds,
        "parameters": float(parameter_count(result.model.config)),
    }
    write_json(path, outcome)
    return outcome


def run_experiment(name: str, study: Study) -> list[Result]:
    """Trains all variants of an experiment; prints a table, saves the figure."""
    experiment = EXPERIMENTS[name]
    rows, results = [], []
    for label, settings in list(experiment.variants.items())[: study.most]:
        configs = [variant_config(study.base, settings, seed) for seed in study.seeds]
        outcomes = [run_variant(config, study.data) for config in configs]
        bits = [outcome["bits"] for outcome in outcomes]
        seconds = [outcome["seconds"] for outcome in outcomes]
        row = Row(
            label,
            statistics.mean(bits),
            standard_deviation(bits),
            statistics.mean(seconds),
            int(outcomes[0]["parameters"]),
        )
        rows.append(row)
        results.append(
            Result(
                result_name(name, label), row.bits, "bits per byte", better="lower",
                seeds=tuple(study.seeds), spread=row.spread, seconds=sum(seconds),
                command=COMMAND.format(name), note=f"{label} ({row.parameters:,} parameters)",
            )
        )  # fmt: skip
    print(f"\n{experiment.question}")
    shown = [(r.label, round(r.bits, 4), round(r.spread, 4), round(r.seconds, 1), r.parameters)
             for r in rows]  # fmt: skip
    print(format_table(["variant", "bits per byte", "spread", "seconds", "parameters"], shown))
    save_figure(bars_figure(experiment.question, rows), figures_folder() / f"{name}.png")
    return results


def run_sampling(study: Study) -> list[Result]:
    """Measures how varied and how repetitive the text of each sampling strategy is."""
    config = variant_config(study.base, {}, 0)
    run_variant(config, study.data)
    model, _ = load_model(variant_folder(config, study.data))
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
                Result(
                    result_name(f"sampling.{what}", label), statistics.mean(values), "%",
                    better="higher" if what == "distinct" else "lower",
                    seeds=tuple(study.seeds), spread=standard_deviation(values),
                    command=COMMAND.format("sampling"), note=f"{label}: {SHARES[what]}",
                )
            )  # fmt: skip
    print("\nHow varied, and how repetitive, is what each strategy writes?")
    shown = [(label, round(a, 1), round(b, 1)) for label, a, b in rows]
    print(format_table(["strategy", *SHARES.values()], shown))
    save_figure(sampling_figure(rows), figures_folder() / "sampling.png")
    return results


def run_pictures(study: Study) -> list[Result]:
    """Draws the quick start's pictures again, from its checkpoint."""
    preset = "smoke" if study.most else "quick"
    run = run_folder("gpt", f"quick_start_{preset}")
    if not run.is_dir():
        quick_start(["--preset", preset])
    model, tokenizer = load_model(run)
    for path in draw(model, tokenizer, run):
        if path.suffix == ".png":
            figures_folder().mkdir(parents=True, exist_ok=True)
            shutil.copy(path, figures_folder())
    return []


def standard_deviation(values: Sequence[float]) -> float:
    """Returns the sample standard deviation over the seeds; 0 for a single one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


RUNNERS: dict[str, Callable[[Study], list[Result]]] = {
    **{name: partial(run_experiment, name) for name in EXPERIMENTS},
    "sampling": run_sampling,
    "pictures": run_pictures,
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Run the experiments of GPT's chapter.")
    names = [*RUNNERS]
    parser.add_argument("--only", metavar="NAME", help=f"{', '.join(names)}, or a result's name")
    parser.add_argument("--preset", choices=["smoke", "standard"], default="standard",
                        help="smoke: a few steps of everything, nothing is recorded")  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="at least three")
    parser.add_argument("--publish", action="store_true",
                        help="also copy the figures to docs/figures/gpt")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Runs the experiments, prints their tables, saves figures and results."""
    args = build_parser().parse_args(argv)
    names = [*RUNNERS]
    if args.only:
        wanted = args.only.removeprefix("gpt.").split(".")[0]
        if wanted not in names:
            raise ValueError(
                f"--only {args.only}: there is no such experiment. Use one of {', '.join(names)}."
            )
        names = [wanted]
    base = SMOKE if args.preset == "smoke" else BASELINE
    data = load_text_data(base.dataset, base.tokenizer, base.bpe_tokens)
    study = Study(data, base, args.seeds)
    if args.preset == "smoke":
        study = Study(data, base, args.seeds[:1], most=2)
    results: list[Result] = []
    for name in names:
        results += RUNNERS[name](study)
        if args.preset != "smoke":
            record("gpt", results)
        if args.publish:
            folder = PROJECT_ROOT / "docs" / "figures" / "gpt"
            folder.mkdir(parents=True, exist_ok=True)
            for path in figures_folder().glob("*.png"):
                shutil.copy(path, folder)
    return results


if __name__ == "__main__":
    run_entry(main)
