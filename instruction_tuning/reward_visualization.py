"""Pictures of tuned models: before and after, task by task, pass@k, reward against judge and KL.

    python instruction_tuning/reward_visualization.py
    python instruction_tuning/reward_visualization.py --runs quick_sft my_run --reference quick_sft

Without ``--runs`` it takes the runs that the quick start has left. The figures are in
``reward_figures.py``; they go to outputs/instruction_tuning/pictures/figures.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from instruction_tuning.evaluate import untrained_model
from instruction_tuning.recipes import FAMILY, POLICIES
from instruction_tuning.reward_figures import (
    Point,
    Row,
    over_optimization_figure,
    pass_at_k_figure,
    stages_figure,
    table_figure,
    tasks_figure,
)
from instruction_tuning.rewards import PROGRAMS
from instruction_tuning.saved_model import load_policy
from instruction_tuning.scores import Scores, evaluate, sample_numbers, sample_often
from instruction_tuning.stage_measures import training_curve
from instruction_tuning.word_world import draw_requests
from instruction_tuning.world_tokenizer import build_tokenizer
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.plotting import save_figure
from tutorial_kit.saved_runs import find_run
from tutorial_kit.texts import Texts
from tutorial_kit.training import read_metrics, run_folder

QUICK = ("quick", "quick_sft", "quick_dpo", "quick_ppo", "quick_grpo")
ABLE = 0.05  # share of requests that a model must answer to be compared task by task
REQUESTS, SAMPLES = 400, 16  # held-out requests; replies to each of half of them, for pass@k


def label_of(run: str, texts: Texts) -> str:
    """Returns how a run is called in the pictures: those of the quick start by their stage.

    >>> label_of("quick_grpo", Texts(Path(__file__).parent)), label_of("mine", Texts(
    ...     Path(__file__).parent))
    ('GRPO', 'mine')
    """
    if run == QUICK[0]:
        return texts.get("stage.base")
    stage = run.removeprefix("quick_")
    return texts.get(f"stage.{stage}") if run in QUICK and stage in POLICIES else run


def curve_of(run: str) -> list[Point]:
    """Returns reward, judge and KL of a PPO or GRPO run over its training; [] of any other run."""
    folder = find_run(FAMILY, run)
    log, config = folder / "metrics.jsonl", folder / "config.json"
    if not log.is_file() or "validation_reward" not in (read_metrics(log) or [{}])[-1]:
        return []
    reward = json.loads(config.read_text(encoding="utf-8")).get("reward")
    return training_curve(folder, rewarded=reward not in PROGRAMS)


def draw(
    scores: Mapping[str, Scores],
    passed: Mapping[str, Mapping[int, float]],
    curves: Mapping[str, Sequence[Point]],
    figures: Path,
) -> list[Path]:
    """Saves all pictures.

    Args:
        scores: policy -> its scores; "before" is the first one that can answer at all.
        passed: policy -> k -> pass@k.
        curves: training -> its points; none is possible.
        figures: the folder.
    """
    rows = [Row(name, s.exact, s.exact_sampled, s.kl) for name, s in scores.items()]
    tuned = {name: s for name, s in scores.items() if s.exact_sampled > ABLE} or dict(scores)
    drawn = {
        "stages": stages_figure(rows),
        "table": table_figure({name: s.tasks for name, s in scores.items()}, "greedy"),
        "table_sampled": table_figure(
            {name: s.tasks_sampled for name, s in scores.items()}, "at temperature 1"
        ),
        "tasks": tasks_figure({name: s.tasks for name, s in tuned.items()}, "Greedy"),
        "sharpening": pass_at_k_figure({name: passed[name] for name in tuned}),
    }
    if curves:
        drawn["over_optimization"] = over_optimization_figure(curves)
    return [save_figure(figure, figures / f"{name}.png") for name, figure in drawn.items()]


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Draw what tuning has made of a model.")
    add = parser.add_argument
    add(
        "--runs",
        nargs="+",
        default=list(QUICK),
        metavar="RUN",
        help="models in the order of the pictures; a base model's name such as quick is one, too",
    )
    add("--reference", metavar="RUN", default="quick_sft", help="KL is measured to this model")
    add("--preset", choices=["quick", "smoke"], default="quick", help="smoke: untrained models")
    add("--seed", type=int, default=0, help="of the sampled replies")
    return parser  # fmt: skip


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Draws every picture; returns the files."""
    args = build_parser().parse_args(argv)
    smoke, texts = args.preset == "smoke", Texts(Path(__file__).parent)
    tokenizer = build_tokenizer()
    if smoke:
        models = {f"untrained {seed}": untrained_model(tokenizer, seed) for seed in (1, 2)}
        reference = untrained_model(tokenizer, 1)
    else:
        reference = load_policy(args.reference)[0]
        models = {run: load_policy(run)[0] for run in args.runs}
    requests = draw_requests(12 if smoke else REQUESTS, "test", 0)
    samples = 2 if smoke else SAMPLES
    scores, passed, curves = {}, {}, {}
    for run, model in models.items():
        name = label_of(run, texts)
        scores[name] = evaluate(model, tokenizer, requests, args.seed, reference=reference)
        drawn = sample_often(model, tokenizer, requests[: len(requests) // 2], samples, args.seed)
        passed[name] = {int(key.removeprefix("pass.")): value
                        for key, value in sample_numbers(drawn).items()}  # fmt: skip
        if points := curve_of(run):
            curves[name] = points
    files = draw(scores, passed, curves, run_folder(FAMILY, "pictures") / "figures")
    print("\n".join(map(str, files)))
    return files


if __name__ == "__main__":
    run_entry(main)
