"""The experiments that measure quality: bits, pruning, distillation. Three seeds each.

Every number is kept under ``outputs/optimization/experiments`` once it is measured.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

from torch import Tensor

from gpt.generation import load_model
from gpt.gpt_model import GPT
from gpt.text_data import TextData
from optimization.experiments import (
    ALONE,
    BITS,
    PRUNING,
    RETRAIN_STEPS,
    SHARES,
    SHARING_NAMES,
    STUDENTS,
    Pruning,
)
from optimization.optimization_config import FAMILY, PRESETS, TEACHERS, StudentConfig
from optimization.optimization_figures import (
    Point,
    bits_figure,
    pruning_figure,
    students_figure,
)
from optimization.pruning import prune, remove_neurons, retrain
from optimization.rounding import Sharing, bits_per_weight, round_model
from optimization.teacher import find_teacher, load_data
from optimization.techniques import perplexity, rise
from optimization.train_student import train_student
from tutorial_kit.experiments import (
    Study,
    experiment_figures,
    kept_outcome,
    mean_and_spread,
    print_table,
    seed_result,
    variant_folder,
)
from tutorial_kit.plotting import save_figure
from tutorial_kit.results import Result

SCORED = 60_000  # tokens of the validation split on which changed teachers are compared
SMOKE_TOKENS = 2000  # of the validation split that a smoke test reads


def preset_of(study: Study) -> StudentConfig:
    """Returns the settings that all variants start from."""
    return PRESETS["smoke" if study.smoke else "quick"]


@cache
def data_of(preset: str) -> TextData:
    """Returns the text of a preset; a smoke test scores the beginning of it alone."""
    data = load_data(PRESETS[preset])
    if preset == "smoke":
        shorter = {"validation": data.tokens["validation"][:SMOKE_TOKENS]}
        data = replace(data, tokens=data.tokens | shorter)
    return data


@dataclass(frozen=True)
class Subject:
    """The teacher of one seed."""

    name: str  # of its preset
    seed: int

    @property
    def data(self) -> TextData:
        """The text it has learned from."""
        return data_of(self.name)

    @property
    def scored(self) -> Tensor:
        """The held-out tokens that it is scored on after each change, (N,)."""
        return self.data.tokens["validation"][:SCORED]

    def teacher(self) -> GPT:
        """Returns it, trained now or earlier."""
        return _teacher(self.name, self.seed)


@cache
def _teacher(name: str, seed: int) -> GPT:
    return find_teacher(name, data_of(name), seed, "cpu")


def kept(subject: Subject, what: object, measure: Callable[[], float]) -> float:
    """Returns a number that is measured once: ``what`` says which, in plain types."""
    config = replace(PRESETS[subject.name], seed=subject.seed, teacher_seed=subject.seed)
    folder = variant_folder(FAMILY, config, [subject.data.n_bytes, len(subject.scored), what])
    return kept_outcome(folder, lambda: {"value": measure()})["value"]


def base_perplexity(subject: Subject) -> float:
    """Returns the teacher's own perplexity."""
    return kept(subject, "teacher", lambda: perplexity(subject.teacher(), subject.scored))


def rise_of(subject: Subject, what: object, change: Callable[[], GPT]) -> float:
    """Returns by how many percent a changed teacher's perplexity is above the teacher's."""
    base = base_perplexity(subject)
    return kept(subject, what, lambda: rise(change(), base, subject.scored))


def subjects(study: Study) -> list[Subject]:
    """Returns the teachers of all seeds."""
    return [Subject(preset_of(study).teacher, seed) for seed in study.seeds]


def rounded_teacher(subject: Subject, bits: int, sharing: Sharing) -> GPT:
    """Returns a teacher with rounded weights."""
    return round_model(subject.teacher(), bits, sharing)


def run_bits(study: Study) -> list[Result]:
    """Rounds teachers to fewer and fewer bits."""
    results, rows = [], []
    curves: dict[str, list[Point]] = {}
    for label, (bits, sharing) in list(BITS.items())[: study.most]:
        rises = [
            rise_of(s, ["bits", bits, sharing], partial(rounded_teacher, s, bits, sharing))
            for s in subjects(study)
        ]
        mean, spread = mean_and_spread(rises)
        cost = bits_per_weight(bits, sharing, TEACHERS[preset_of(study).teacher].model.d_model)
        curves.setdefault(SHARING_NAMES[sharing], []).append(Point(cost, mean, spread))
        rows.append((label, round(cost, 2), round(mean, 3), round(spread, 3)))
        results.append(
            seed_result(FAMILY, "bits", label, rises, "%", study=study, better="lower",
                        note=f"{bits} bits, one scale for {SHARING_NAMES[sharing]}")
        )  # fmt: skip
    print_table("How few bits does a weight need, and what may share a scale?",
                ["weights", "bits a weight", "perplexity +%", "spread"], rows)  # fmt: skip
    save_figure(bits_figure(curves), experiment_figures(FAMILY) / "bits.png")
    return results


def pruned_teacher(subject: Subject, plan: Pruning) -> GPT:
    """Returns a teacher after one pruning, with as much training afterwards as the plan says."""
    teacher, masks = subject.teacher(), None
    if plan.kind == "neurons":
        model = remove_neurons(teacher, plan.share)
    elif plan.share:
        model, masks = prune(teacher, plan.share)
    else:
        model = copy.deepcopy(teacher)  # the control: only the training afterwards
    if plan.steps:
        batch = PRESETS[subject.name].batch_size
        retrain(model, subject.data, plan.steps, masks=masks, batch_size=batch,
                seed=subject.seed + 100)  # fmt: skip
    return model


def run_pruning(study: Study) -> list[Result]:
    """Leaves out weights and neurons, with and without a short training afterwards."""
    results, rows = [], []
    curves: dict[str, list[Point]] = {kind: [Point(0.0, 0.0)] for kind in SHARES}
    chosen = dict(list(PRUNING.items())[: study.most]) if study.smoke else PRUNING
    for label, plan in chosen.items():
        plan = replace(plan, steps=min(plan.steps, 1)) if study.smoke else plan
        what = ["pruning", plan.kind, plan.share, plan.steps]
        rises = [rise_of(s, what, partial(pruned_teacher, s, plan)) for s in subjects(study)]
        mean, spread = mean_and_spread(rises)
        name = f"{plan.kind}, {RETRAIN_STEPS} steps after" if plan.steps else plan.kind
        curves.setdefault(name, []).append(Point(100 * plan.share, mean, spread))
        rows.append((label, round(mean, 2), round(spread, 2)))
        results.append(
            seed_result(FAMILY, "pruning", label, rises, "%", study=study, better="lower",
                        note=f"{label} of training after")
        )  # fmt: skip
    print_table("What does leaving out cost, and what does a short training bring back?",
                ["left out", "perplexity +%", "spread"], rows)  # fmt: skip
    order = sorted(curves, key=lambda name: ("weights" not in name, "after" in name))
    figure = pruning_figure({name: curves[name] for name in order})
    save_figure(figure, experiment_figures(FAMILY) / "pruning.png")
    return results


def student_config(study: Study, label: str, seed: int) -> StudentConfig:
    """Returns the settings of one variant of the distillation."""
    base = replace(preset_of(study), seed=seed, teacher_seed=seed)
    settings = dict(STUDENTS[label])
    steps = base.max_steps * settings.pop("max_steps", 1)
    return replace(base, **settings, max_steps=steps, eval_every=steps, checkpoint_every=steps)


def student_of(config: StudentConfig) -> tuple[GPT, dict[str, float]]:
    """Returns a student, trained now or earlier, and its "loss" in nats and "seconds".

    A training that was stopped goes on at its last checkpoint.
    """
    subject = Subject(config.teacher, config.teacher_seed)
    folder = variant_folder(FAMILY, config, subject.data.n_bytes)

    def train_it() -> dict[str, float]:
        begun = (folder / "checkpoints" / "last.pt").is_file()
        teacher = subject.teacher() if config.soft_weight else None
        result = train_student(config, subject.data, teacher, folder, resume=begun, device="cpu")
        return {"loss": result.validation_loss, "seconds": result.seconds}

    outcome = kept_outcome(folder, train_it)
    return load_model(folder)[0], outcome


def run_distillation(study: Study) -> list[Result]:
    """Trains students with different shares and temperatures, and alone."""
    results, rows = [], []
    points: dict[str, Point] = {}
    for label in list(STUDENTS)[: study.most]:
        outcomes = [student_of(student_config(study, label, seed))[1] for seed in study.seeds]
        losses = [outcome["loss"] for outcome in outcomes]
        seconds = [outcome["seconds"] for outcome in outcomes]
        points[label] = Point(0.0, *mean_and_spread(losses))
        rows.append((label, round(points[label].y, 4), round(points[label].spread, 4),
                     round(mean_and_spread(seconds)[0], 1)))  # fmt: skip
        results.append(
            seed_result(FAMILY, "distillation", label, losses, "nats", study=study, better="lower",
                        seconds=sum(seconds), note=f"student, {label}")
        )  # fmt: skip
    print_table("What does a teacher bring, and how should the student listen?",
                ["student", "held-out loss", "spread", "seconds"], rows)  # fmt: skip
    figure = students_figure(points, ALONE)
    save_figure(figure, experiment_figures(FAMILY) / "distillation.png")
    return results
