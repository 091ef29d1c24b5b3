"""The chapter's experiments: what each choice is worth, three seeds each, figures and results.

``python transformer/run_examples.py`` runs all of them; ``--only heads`` runs one; a finished
training is kept under ``outputs/transformer/experiments`` and not repeated. Every training is small
(at most half a minute on two cores) and differs from its base in the named settings alone.
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
from functools import partial

from transformer.attention_visualization import draw_all, look_at, training_curve_figure
from transformer.decoding import translate
from transformer.experiment_figures import BeamRow, Row, bars_figure, beam_figure, places_figure
from transformer.experiment_runs import TranslationStudy, run_variant
from transformer.experiments import (
    BASELINE,
    BEAM_MEASURED,
    BEAM_SETTINGS,
    BEAMS,
    EXPERIMENTS,
    LENGTHS,
    LENGTHS_MEASURED,
    MEASURED,
    TOY,
    accuracy_by_place,
    experiment_data,
    variant_config,
)
from transformer.quick_start import main as quick_start
from transformer.saved_model import EXAMPLES, load_model
from transformer.scoring import score
from transformer.toy_tasks import LONGEST
from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import experiments_parser
from tutorial_kit.experiments import (
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

FAMILY = "transformer"
result_name = partial(name_of_result, FAMILY)
figures_folder = partial(experiment_figures, FAMILY)

MEASURES = (
    {
        result_name(f"{name}.{what}", label): f"{experiment.question} {label}: {meaning}"
        for name, experiment in EXPERIMENTS.items()
        for label in experiment.variants
        for what, (_, _, meaning) in MEASURED.items()
    }
    | {
        result_name(f"beam.{what}", label): f"{label}: {what.replace('_', ' ')}"
        for label in BEAMS
        for what in BEAM_MEASURED
    }
    | {
        result_name(f"lengths.{what}", label): f"{label} positions: {meaning}"
        for label in LENGTHS
        for what, meaning in LENGTHS_MEASURED.items()
    }
)


def run_experiment(name: str, study: TranslationStudy) -> list[Result]:
    """Trains all variants of an experiment; prints a table, saves the figure."""
    experiment = EXPERIMENTS[name]
    rows, results = [], []
    for label, settings in list(experiment.variants.items())[: study.most]:
        configs = [variant_config(experiment.base, settings, seed, study.smoke)
                   for seed in study.seeds]  # fmt: skip
        outcomes = [run_variant(config, study.sentences)[1] for config in configs]
        exact, loss, seconds = (
            [outcome[key] for outcome in outcomes] for key in ("exact_match", "loss", "seconds")
        )
        parameters = int(outcomes[0]["parameters"])
        rows.append(
            Row(label, *mean_and_spread(exact), *mean_and_spread(loss), statistics.mean(seconds),
                parameters)
        )  # fmt: skip
        for what, values in (("exact_match", exact), ("loss", loss)):
            unit, better, meaning = MEASURED[what]
            results.append(
                seed_result(
                    FAMILY, f"{name}.{what}", label, values, unit, study=study, better=better,
                    seconds=sum(seconds), note=f"{label} ({parameters:,} parameters): {meaning}",
                )
            )  # fmt: skip
    shown = [
        (r.label, round(r.exact, 1), round(r.exact_spread, 1), round(r.loss, 4),
         round(r.loss_spread, 4), round(r.seconds, 1), r.parameters)
        for r in rows
    ]  # fmt: skip
    headers = ["variant", "exact %", "spread", "nats/token", "spread", "seconds", "parameters"]
    print_table(experiment.question, headers, shown)
    save_figure(bars_figure(experiment.question, rows), figures_folder() / f"{name}.png")
    return results


def run_beam(study: TranslationStudy) -> list[Result]:
    """Tries widths of the beam and length penalties on models that were stopped early."""
    configs = [variant_config(BASELINE, BEAM_SETTINGS, seed, study.smoke) for seed in study.seeds]
    models = [load_model(run_variant(config, study.sentences)[0]) for config in configs]
    pairs = experiment_data(configs[0]).pairs["test"][: study.sentences]
    sources, references = [source for source, _ in pairs], [target for _, target in pairs]
    rows, results = [], []
    for label, (beams, length_penalty) in list(BEAMS.items())[: study.most]:
        scores = [
            score(
                translate(saved.model, saved.tokenizer, sources, beams=beams,
                          length_penalty=length_penalty),
                references, saved.target_language,
            )
            for saved in models
        ]  # fmt: skip
        values = {"bleu": [s.bleu for s in scores],
                  "exact_match": [100 * s.exact_match for s in scores]}  # fmt: skip
        rows.append(
            BeamRow(label, beams, length_penalty, *mean_and_spread(values["bleu"]),
                    statistics.mean(values["exact_match"]),
                    statistics.mean(s.brevity for s in scores))
        )  # fmt: skip
        for what, unit in BEAM_MEASURED.items():
            results.append(
                seed_result(
                    FAMILY, f"beam.{what}", label, values[what], unit, study=study,
                    note=f"{label}; {scores[0].signature}" if what == "bleu" else label,
                )
            )  # fmt: skip
    shown = [(r.label, round(r.bleu, 2), round(r.bleu_spread, 2), round(r.exact, 1),
              round(r.brevity, 3)) for r in rows]  # fmt: skip
    headers = ["search", "BLEU", "spread", "exact %", "brevity penalty"]
    print_table("How wide a beam, and which length penalty?", headers, shown)
    save_figure(beam_figure(rows), figures_folder() / "beam.png")
    return results


def run_lengths(study: TranslationStudy) -> list[Result]:
    """Measures how each kind of position copies words longer than any in training."""
    curves: dict[str, list[list[float]]] = {}
    results, shown = [], []
    for label, settings in list(LENGTHS.items())[: study.most]:
        shares: dict[str, list[float]] = {"seen": [], "unseen": []}
        curves[label] = []
        for seed in study.seeds:
            config = variant_config(TOY, settings, seed, study.smoke)
            model = load_model(run_variant(config, study.sentences)[0]).model
            data = experiment_data(config)
            curve = accuracy_by_place(model, data, "longer")
            curves[label].append(curve)
            shares["seen"].append(statistics.mean(accuracy_by_place(model, data, "test")))
            shares["unseen"].append(statistics.mean(curve[LONGEST:]))
        for what, values in shares.items():
            results.append(
                seed_result(
                    FAMILY, f"lengths.{what}", label, values, "%", study=study,
                    note=f"{label} positions: {LENGTHS_MEASURED[what]}",
                )
            )  # fmt: skip
        shown.append((label, *(round(statistics.mean(shares[what]), 1) for what in shares)))
    question = f"What happens behind the {LONGEST} letters of the longest word in training?"
    print_table(question, ["positions", "seen %", "unseen %"], shown)
    save_figure(places_figure(curves, LONGEST), figures_folder() / "lengths.png")
    return results


def run_pictures(study: TranslationStudy) -> list[Result]:
    """Draws the pictures of the quick start's model, from its checkpoint."""
    preset = "smoke" if study.smoke else "quick"
    run = run_folder("transformer", f"quick_start_{preset}")
    if not (run / "checkpoints" / "best.pt").is_file():
        quick_start(["--preset", preset])
    saved = load_model(run)
    inside = look_at(saved.model, saved.tokenizer, EXAMPLES[saved.source_language])
    draw_all(saved.model, saved.tokenizer, inside, figures_folder())
    curve = training_curve_figure(run / "metrics.jsonl")
    save_figure(curve, figures_folder() / "training_curve.png")
    return []


RUNNERS: dict[str, Callable[[TranslationStudy], list[Result]]] = {
    **{name: partial(run_experiment, name) for name in EXPERIMENTS},
    "beam": run_beam,
    "lengths": run_lengths,
    "pictures": run_pictures,
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    description = "Run the experiments of the Transformer's chapter."
    return experiments_parser(FAMILY, description, RUNNERS)


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Runs the experiments, prints their tables, saves figures and results."""
    args = build_parser().parse_args(argv)
    names = chosen_experiments(FAMILY, args.only, RUNNERS)
    study = TranslationStudy(seeds_of(args), smoke=args.preset == "smoke")
    return run_experiments(FAMILY, RUNNERS, names, study, publish=args.publish)


if __name__ == "__main__":
    run_entry(main)
