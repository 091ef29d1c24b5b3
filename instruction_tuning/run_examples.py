"""The chapter's experiments: what each choice is worth, three seeds each, figures and results.

``python instruction_tuning/run_examples.py`` runs all of them; ``--only hacking`` runs one. A
finished stage is kept under ``outputs/instruction_tuning/experiments`` and not repeated, and
variants that need the same stage share it.
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
from statistics import fmean

from instruction_tuning.experiment_figures import Bar, Panel, panels_figure
from instruction_tuning.experiments import (
    EXPERIMENTS,
    MEASURED,
    SHARPENED,
    Experiment,
    Measure,
    variant_recipe,
)
from instruction_tuning.quick_start import main as quick_start
from instruction_tuning.recipes import FAMILY, Changes, make_recipe, named_place
from instruction_tuning.reward_figures import (
    Point,
    over_optimization_figure,
    pass_at_k_figure,
)
from instruction_tuning.reward_visualization import main as draw_all
from instruction_tuning.rewards import PROGRAMS
from instruction_tuning.scores import sample_numbers, sample_often
from instruction_tuning.stage_measures import best_of_curve, training_curve
from instruction_tuning.stages import Numbers, Stages
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
)
from tutorial_kit.experiments import result_name as name_of_result
from tutorial_kit.plotting import save_figure
from tutorial_kit.results import Result

result_name = partial(name_of_result, FAMILY)
figures_folder = partial(experiment_figures, FAMILY)
PASSED = {1: "a reply at temperature 1 is exact", 16: "one of 16 replies is exact"}

MEASURES = {
    result_name(f"{name}.{what}", label): f"{experiment.question} {label}: {MEASURED[what].meaning}"
    for name, experiment in EXPERIMENTS.items()
    for label in experiment.variants
    for what in experiment.measured
} | {
    result_name(f"sharpening.pass_{k}", label): f"{label}: {meaning}"
    for label in SHARPENED
    for k, meaning in PASSED.items()
}


def stages_of(changes: Changes, seed: int, study: Study) -> Stages:
    """Returns the stages of a variant; on the CPU, where a seed always gives the same."""
    return Stages(variant_recipe(changes, seed, study.smoke), device="cpu")


def run_experiment(name: str, study: Study) -> list[Result]:
    """Trains all variants of an experiment; prints a table, saves the figure."""
    experiment = EXPERIMENTS[name]
    found: dict[str, list[Numbers]] = {
        label: [stages_of(changes, seed, study).outcome(experiment.stage) for seed in study.seeds]
        for label, changes in list(experiment.variants.items())[: study.most]
    }
    results: list[Result] = []
    panels: list[tuple[Measure, list[Bar]]] = []
    for what in experiment.measured:
        measure, bars = MEASURED[what], []
        for label, outcomes in found.items():
            values = [measure.factor * numbers[measure.name] for numbers in outcomes]
            bars.append(Bar(label, *mean_and_spread(values)))
            results.append(
                seed_result(
                    FAMILY, f"{name}.{what}", label, values, measure.unit, study=study,
                    better=measure.better, seconds=sum(o["wall_seconds"] for o in outcomes),
                    note=f"{label}: {measure.meaning}",
                )
            )  # fmt: skip
        panels.append((measure, bars))
    _print(experiment, found, panels)
    shown = [Panel(m.axis, bars, m.better if m.wanted else "") for m, bars in panels[:2]]
    save_figure(panels_figure(experiment.question, shown), figures_folder() / f"{name}.png")
    return results


def _print(
    experiment: Experiment,
    found: dict[str, list[Numbers]],
    panels: Sequence[tuple[Measure, list[Bar]]],
) -> None:
    """Prints a line a variant: mean and spread of every measure, seconds of a training."""
    headers = ["variant"]
    for measure, _ in panels:
        headers += [f"{measure.name.rpartition('/')[2]} {measure.unit}".strip(), "±"]
    rows = []
    for place, (label, outcomes) in enumerate(found.items()):
        numbers = [n for _, bars in panels for n in (bars[place].value, bars[place].spread)]
        seconds = fmean(o["wall_seconds"] for o in outcomes)
        rows.append((label, *(round(number, 2) for number in numbers), round(seconds, 1)))
    print_table(experiment.question, [*headers, "seconds"], rows)


def run_hacking(study: Study) -> list[Result]:
    """Runs the experiment "hacking" and draws reward and judge over KL, means over the seeds."""
    results = run_experiment("hacking", study)
    curves = {}
    for label, changes in list(EXPERIMENTS["hacking"].variants.items())[: study.most]:
        every = [_curve(stages_of(changes, seed, study)) for seed in study.seeds]
        curves[label] = [
            Point(*map(fmean, zip(*points, strict=True))) for points in zip(*every, strict=True)
        ]
    weak = next(iter(EXPERIMENTS["hacking"].variants.values()))
    chosen = [best_of_curve(stages_of(weak, s, study).outcome("reward")) for s in study.seeds]
    curves["best-of-n, weak reward model"] = [
        Point(*map(fmean, zip(*points, strict=True))) for points in zip(*chosen, strict=True)
    ]
    save_figure(over_optimization_figure(curves), figures_folder() / "over_optimization.png")
    return results


def _curve(stages: Stages) -> list[Point]:
    """Returns the points of a PPO training."""
    return training_curve(stages.folder("ppo"), stages.recipe.ppo.reward not in PROGRAMS)


def run_sharpening(study: Study) -> list[Result]:
    """Compares pass@k of the tuned policies: does tuning teach, or does it only choose?"""
    found: dict[str, list[Numbers]] = {
        label: [_passed(stages_of({}, seed, study), stage) for seed in study.seeds]
        for label, stage in list(SHARPENED.items())[: study.most]
    }
    sizes = sorted(int(name.removeprefix("pass.")) for name in next(iter(found.values()))[0])
    curves = {
        label: {k: fmean(numbers[f"pass.{k}"] for numbers in outcomes) for k in sizes}
        for label, outcomes in found.items()
    }
    question = "Does tuning teach something new, or choose better among what was there?"
    rows = [(label, *(round(100 * curve[k], 1) for k in sizes)) for label, curve in curves.items()]
    print_table(question, ["policy", *(f"pass@{k} %" for k in sizes)], rows)
    save_figure(pass_at_k_figure(curves), figures_folder() / "sharpening.png")
    return [
        seed_result(
            FAMILY, f"sharpening.pass_{k}", label, [100 * o[f"pass.{k}"] for o in outcomes], "%",
            study=study, note=f"{label}: {PASSED[k]}",
        )
        for label, outcomes in found.items()
        for k in PASSED
        if k in sizes
    ]  # fmt: skip


def _passed(stages: Stages, stage: str) -> Numbers:
    """Returns "pass.k" of a policy, sampled once and then kept beside it."""
    policy, requests = stages.policy(stage), stages.test_requests
    samples, seed = stages.recipe.samples, stages.recipe.sft.seed

    def sample_it() -> Numbers:
        asked = requests[: len(requests) // 2]
        return sample_numbers(sample_often(policy, stages.tokenizer, asked, samples, seed))

    return kept_outcome(stages.folder(stage) / "sharpening", sample_it)


def run_pictures(study: Study) -> list[Result]:
    """Draws the pictures of the quick start's models beside those of the experiments."""
    if not study.smoke and Stages(make_recipe("quick"), named_place("quick")).kept("grpo") is None:
        quick_start([])
    figures_folder().mkdir(parents=True, exist_ok=True)
    for path in draw_all(["--preset", "smoke" if study.smoke else "quick"]):
        if path.name != "over_optimization.png":  # that of "hacking" tells more
            shutil.copy(path, figures_folder())
    return []


RUNNERS: dict[str, Callable[[Study], list[Result]]] = {
    **{name: partial(run_experiment, name) for name in EXPERIMENTS},
    "hacking": run_hacking,
    "sharpening": run_sharpening,
    "pictures": run_pictures,
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return experiments_parser(FAMILY, "Run the experiments of the chapter on tuning.", RUNNERS)


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Runs the experiments, prints their tables, saves figures and results."""
    args = build_parser().parse_args(argv)
    names = chosen_experiments(FAMILY, args.only, RUNNERS)
    study = Study(seeds_of(args), smoke=args.preset == "smoke")
    return run_experiments(FAMILY, RUNNERS, names, study, publish=args.publish)


if __name__ == "__main__":
    run_entry(main)
