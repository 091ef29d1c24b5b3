"""The chapter's experiments: what each choice is worth, three seeds each, figures and results.

``python cbow/run_examples.py`` runs all of them on the documentation and on WikiText-2, which is
fetched once; ``--only window`` runs one; a finished training is kept under
``outputs/cbow/experiments`` and not repeated, and experiments that need the same one share it.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import shutil
from collections.abc import Callable, Sequence
from functools import partial

from cbow.embedding_visualization import main as draw_all
from cbow.experiment_figures import Row, cost_figure, dots_figure, shares_figure
from cbow.experiment_runs import FAMILY, run_variant
from cbow.experiments import (
    EXPERIMENTS,
    MEASURED,
    SMOKE_TEXT,
    TEXTS,
    Variant,
    variant_config,
)
from cbow.quick_start import main as quick_start
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

FIGURES = {"dots": dots_figure, "cost": cost_figure, "shares": shares_figure}
HEADERS = ["variant", "purity %", "±", "WordSim %", "±", "SimLex %", "±", "words/s", "seconds"]
PICTURED_RUN = "quick_start_quick"
result_name = partial(name_of_result, FAMILY)
figures_folder = partial(experiment_figures, FAMILY)

MEASURES = {
    result_name(f"{name}.{what}", label): f"{experiment.question} {label}: {meaning}"
    for name, experiment in EXPERIMENTS.items()
    for label, variant in experiment.variants.items()
    for what, (_, meaning) in MEASURED.items()
    if what != "speed" or experiment.picture == "cost"  # elsewhere it is no question
}


def run_experiment(name: str, study: Study) -> list[Result]:
    """Trains all variants of an experiment; prints a table, saves the figure."""
    experiment = EXPERIMENTS[name]
    rows, results = [], []
    for label, variant in list(experiment.variants.items())[: study.most]:
        outcomes = [
            run_both(variant, seed, experiment.smallest_share, study.smoke) for seed in study.seeds
        ]
        sums = {what: mean_and_spread([one[what] for one in outcomes]) for what in outcomes[0]}
        means = {what: mean for what, (mean, _) in sums.items()}
        spreads = {what: spread for what, (_, spread) in sums.items()}
        rows.append(Row(label, means, spreads, variant.line, variant.share))
        for what, (unit, meaning) in MEASURED.items():
            if result_name(f"{name}.{what}", label) in MEASURES:
                results.append(
                    seed_result(
                        FAMILY, f"{name}.{what}", label, [one[what] for one in outcomes], unit,
                        study=study, seconds=means["seconds"] * len(study.seeds),
                        note=f"{label}: {meaning}",
                    )
                )  # fmt: skip
    print_table(experiment.question, HEADERS, [_shown(row) for row in rows])
    figure = FIGURES[experiment.picture](experiment.question, rows)
    save_figure(figure, figures_folder() / f"{name}.png")
    return results


def run_both(variant: Variant, seed: int, smallest: float, smoke: bool) -> dict[str, float]:
    """Trains a variant on both texts.

    Returns:
        The scores of both, the speed on the first, and the seconds of both together.
    """
    texts = (SMOKE_TEXT,) if smoke else TEXTS
    outcomes = [
        run_variant(variant_config(variant, text, seed, smoke), variant.method, variant.share,
                    smallest)
        for text in texts
    ]  # fmt: skip
    nothing = dict.fromkeys(MEASURED, 0.0)  # of a smoke test, which has one text
    together = nothing | {what: value for one in reversed(outcomes) for what, value in one.items()}
    return together | {"seconds": sum(one["seconds"] for one in outcomes)}


def _shown(row: Row) -> tuple[object, ...]:
    """Returns a line of the printed table."""
    scores = [
        round(numbers[what], 1)
        for what in ("purity", "wordsim", "simlex")
        for numbers in (row.means, row.spreads)
    ]
    return (row.label, *scores, round(row.means["speed"]), round(row.means["seconds"], 1))


def run_pictures(study: Study) -> list[Result]:
    """Draws the pictures of the quick start's vectors beside those of the experiments."""
    arguments = ["--preset", "smoke"]
    if not study.smoke:
        if not (run_folder(FAMILY, PICTURED_RUN) / "metrics.jsonl").is_file():
            quick_start([])
        arguments = ["--run", PICTURED_RUN]
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
    return experiments_parser(FAMILY, "Run the experiments of the chapter on CBOW.", RUNNERS)


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Runs the experiments, prints their tables, saves figures and results."""
    args = build_parser().parse_args(argv)
    names = chosen_experiments(FAMILY, args.only, RUNNERS)
    study = Study(seeds_of(args), smoke=args.preset == "smoke")
    return run_experiments(FAMILY, RUNNERS, names, study, publish=args.publish)


if __name__ == "__main__":
    run_entry(main)
