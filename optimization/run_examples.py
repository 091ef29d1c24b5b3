"""The chapter's experiments: what each technique costs and brings, figures and results.

``python optimization/run_examples.py`` runs all of them; ``--only bits`` runs one. Trainings and
qualities are kept under ``outputs/optimization/experiments`` and not repeated; speeds are measured
anew each time.
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

from optimization.experiments import (
    BATCHES,
    BITS,
    DRAFT_TOKENS,
    LENGTHS,
    PRUNING,
    SIZES,
    STUDENTS,
    WAYS,
)
from optimization.optimization_config import FAMILY
from optimization.quality_experiments import run_bits, run_distillation, run_pruning
from optimization.quick_start import main as quick_start
from optimization.speed_experiments import (
    COMPILED,
    run_batch,
    run_cache,
    run_compile,
    run_draft,
    run_sizes,
)
from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import experiments_parser
from tutorial_kit.experiments import (
    Study,
    chosen_experiments,
    experiment_figures,
    run_experiments,
    seeds_of,
)
from tutorial_kit.experiments import result_name as name_of_result
from tutorial_kit.results import Result
from tutorial_kit.training import run_folder


def run_pictures(study: Study) -> list[Result]:
    """Puts the quick start's picture beside those of the experiments."""
    preset = "smoke" if study.smoke else "quick"
    picture = run_folder(FAMILY, f"quick_start_{preset}") / "figures" / "techniques.png"
    if not picture.is_file():
        quick_start(["--preset", preset])
    experiment_figures(FAMILY).mkdir(parents=True, exist_ok=True)
    shutil.copy(picture, experiment_figures(FAMILY))
    return []


RUNNERS: dict[str, Callable[[Study], list[Result]]] = {
    "bits": run_bits,
    "pruning": run_pruning,
    "distillation": run_distillation,
    "draft": run_draft,
    "cache": run_cache,
    "sizes": run_sizes,
    "batch": run_batch,
    "compile": run_compile,
    "pictures": run_pictures,
}
result_name = partial(name_of_result, FAMILY)

MEASURES = (
    {result_name("bits", label): f"{label}: rise of the perplexity" for label in BITS}
    | {result_name("pruning", label): f"{label}: rise of the perplexity" for label in PRUNING}
    | {result_name("distillation", label): f"student, {label}" for label in STUDENTS}
    | {
        result_name(f"draft.{what}", f"{name} {count}"): f"{name} proposes {count}: {what}"
        for name in ("student alone", "taught student")
        for count in DRAFT_TOKENS
        for what in ("accepted", "speed")
    }
    | {result_name("cache", str(length)): f"cache, {length} tokens" for length in LENGTHS}
    | {result_name("sizes", f"{size} {way}"): f"{size}: {way}" for size in SIZES for way in WAYS}
    | {
        result_name("batch", f"{size} {kind} {batch}"): f"{size} {kind}: batch of {batch}"
        for size in list(SIZES)[:2]
        for kind in ("float32", "int8")
        for batch in BATCHES[1:]
    }
    | {result_name("compile", label): f"torch.compile, {label}" for label in COMPILED}
)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return experiments_parser(FAMILY, "Run the experiments of the optimization chapter.", RUNNERS)


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Runs the experiments, prints their tables, saves figures and results."""
    args = build_parser().parse_args(argv)
    names = chosen_experiments(FAMILY, args.only, RUNNERS)
    study = Study(seeds_of(args), smoke=args.preset == "smoke")
    return run_experiments(FAMILY, RUNNERS, names, study, publish=args.publish)


if __name__ == "__main__":
    run_entry(main)
