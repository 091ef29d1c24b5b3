"""The chapter's experiments: what each choice is worth, three seeds each, figures and results.

``python bert/run_examples.py`` runs all of them; ``--only mask_rate`` runs one; a finished training
is kept under ``outputs/bert/experiments`` and not repeated, and experiments that need the same
pre-training share it. Each training takes at most about a minute on two cores.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from matplotlib.figure import Figure

from bert.attention_insides import look_inside
from bert.attention_visualization import SECOND, TEXT, draw_all, held_out_pairs
from bert.bert_finetuning import fine_tune
from bert.embedding_visualization import draw_map, spread_out
from bert.experiment_figures import Row, curve_figure, dots_figure
from bert.experiment_runs import labeled_paragraphs, run_tfidf, run_variant
from bert.experiments import (
    EXPERIMENTS,
    MEASURED,
    RIVALS,
    Experiment,
    Variant,
    place_of,
    variant_configs,
)
from bert.finetuning_config import PRESETS as FINETUNINGS
from bert.quick_start import main as quick_start
from bert.saved_model import load_run
from bert.smoke_model import SENTENCES, untrained_model
from bert.training_figures import training_curve_figure
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

FAMILY = "bert"
MAP_SENTENCES = 800  # held-out sentences on the map
result_name = partial(name_of_result, FAMILY)
figures_folder = partial(experiment_figures, FAMILY)


def measured_of(variant: Variant | None) -> list[str]:
    """Returns what is measured of a variant; None stands for a rival that is no BERT.

    A fine-tuning alone does not change the gain of the pre-training under it.
    """
    pretrains = variant is not None and variant.pretraining is not None
    return list(MEASURED) if variant and pretrains and not variant.finetuning else ["accuracy"]


def rows_of(name: str) -> dict[str, Variant | None]:
    """Returns all rows of an experiment's table: its rivals, then its variants."""
    return {**dict.fromkeys(RIVALS.get(name, ())), **EXPERIMENTS[name].variants}


MEASURES = {
    result_name(f"{name}.{what}", label): f"{experiment.question} {label}: {MEASURED[what][2]}"
    for name, experiment in EXPERIMENTS.items()
    for label, variant in rows_of(name).items()
    for what in measured_of(variant)
}


def outcomes_of(variant: Variant | None, study: Study) -> list[dict[str, float]]:
    """Returns what a row gives, one dictionary for each seed."""
    outcomes = []
    for seed in study.seeds:
        before, after = variant_configs(variant or Variant(None), seed, study.smoke)
        if variant is None:
            outcomes.append(run_tfidf(after, study.smoke))
        else:
            scratch = variant.pretraining is None
            outcomes.append(run_variant(before, after, scratch, study.smoke))
    return outcomes


def run_experiment(name: str, study: Study) -> list[Result]:
    """Trains all variants of an experiment; prints a table, saves the figure."""
    experiment = EXPERIMENTS[name]
    rows, results = [], []
    skipped = list(experiment.variants)[study.most :] if study.most else []
    for label, variant in rows_of(name).items():
        if label in skipped:
            continue
        outcomes = outcomes_of(variant, study)
        row = _row(label, outcomes)
        rows.append(row)
        for what in measured_of(variant):
            unit, better, meaning = MEASURED[what]
            size = f" ({row.parameters:,} parameters)" if name == "size" else ""
            results.append(
                seed_result(
                    FAMILY, f"{name}.{what}", label, [o[what] for o in outcomes], unit,
                    study=study, better=better, seconds=row.seconds * len(study.seeds) or None,
                    note=f"{label}{size}: {meaning}",
                )
            )  # fmt: skip
    headers = ["variant", "accuracy %", "spread", "MLM gain", "spread", "seconds", "parameters"]
    print_table(experiment.question, headers, [_shown(row) for row in rows])
    save_figure(_figure(experiment, rows), figures_folder() / f"{name}.png")
    return results


def _row(label: str, outcomes: Sequence[dict[str, float]]) -> Row:
    gains = [outcome["mlm_gain"] for outcome in outcomes if "mlm_gain" in outcome]
    gain, gain_spread = mean_and_spread(gains) if gains else (None, 0.0)
    return Row(
        label,
        *mean_and_spread([outcome["accuracy"] for outcome in outcomes]),
        gain,
        gain_spread,
        statistics.mean(outcome.get("seconds", 0.0) for outcome in outcomes),
        int(outcomes[0].get("parameters", 0)),
        place_of(label),
    )


def _shown(row: Row) -> tuple[object, ...]:
    """Returns a line of the printed table."""
    gain = ("-", "-") if row.gain is None else (round(row.gain, 4), round(row.gain_spread, 4))
    accuracy = (round(row.accuracy, 1), round(row.accuracy_spread, 1))
    return (row.label, *accuracy, *gain, round(row.seconds, 1), row.parameters or "-")


def _figure(experiment: Experiment, rows: Sequence[Row]) -> Figure:
    if experiment.axis:
        return curve_figure(experiment.question, rows, experiment.axis)
    return dots_figure(experiment.question, rows)


def run_pictures(study: Study) -> list[Result]:
    """Draws the pictures of a pre-trained model, and of its sentences before and after tuning.

    The model is that of the preset "standard" if it has been trained, else the quick start's.
    """
    seed, preset = study.seeds[0], "standard"
    if study.smoke:
        model, wordpiece = untrained_model()
        pairs = [wordpiece.pair(wordpiece.encode(text))[0] for text in SENTENCES]
    else:
        run = run_folder(FAMILY, preset)
        if not (run / "checkpoints" / "best.pt").is_file():
            run, preset = run_folder(FAMILY, "quick_start_quick"), "quick"
        if not (run / "checkpoints" / "best.pt").is_file():
            quick_start([])
        model, wordpiece, config = load_run(run)
        pairs = held_out_pairs(wordpiece, config.model.max_len)
        curve = training_curve_figure(run / "metrics.jsonl")
        save_figure(curve, figures_folder() / "training_curve.png")
    inside = look_inside(model, wordpiece, TEXT, SECOND)
    draw_all(model, wordpiece, inside, pairs, figures_folder())
    task = labeled_paragraphs(study.smoke)
    smoke_settings = variant_configs(Variant(), seed, smoke=True)[1]
    after = smoke_settings if study.smoke else replace(FINETUNINGS[preset], seed=seed)
    tuned = fine_tune(model.bert, wordpiece, task, after).model
    path = figures_folder() / "sentence_map.png"
    examples = spread_out(task.test, MAP_SENTENCES)
    draw_map((model, wordpiece), (tuned, wordpiece), examples, path, task.name, "tsne")
    return []


RUNNERS: dict[str, Callable[[Study], list[Result]]] = {
    **{name: partial(run_experiment, name) for name in EXPERIMENTS},
    "pictures": run_pictures,
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return experiments_parser(FAMILY, "Run the experiments of BERT's chapter.", RUNNERS)


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Runs the experiments, prints their tables, saves figures and results."""
    args = build_parser().parse_args(argv)
    names = chosen_experiments(FAMILY, args.only, RUNNERS)
    study = Study(seeds_of(args), smoke=args.preset == "smoke")
    return run_experiments(FAMILY, RUNNERS, names, study, publish=args.publish)


if __name__ == "__main__":
    run_entry(main)
