"""The chapter's experiments: what each choice is worth, three seeds each, figures and results.

``python gpt/run_examples.py`` runs all of them; ``--only recipe`` runs one; a finished training is
kept under ``outputs/gpt/experiments`` and not repeated. Every training is small (at most half a minute on
two cores) and differs from the baseline in the named settings alone: same text, same steps.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the repository root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from gpt.generation import Sampling, generate, load_model
from gpt.gpt_model import parameter_count
from gpt.text_data import TextData, load_text_data
from gpt.train_config import PRESETS, TrainConfig, apply_recipe
from gpt.train_gpt import train
from tutorial_kit.config import config_to_dict, override
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.plotting import PALETTE, new_figure, save_figure
from tutorial_kit.results import Result, record
from tutorial_kit.training import run_folder, write_json

SEEDS = (0, 1, 2)
COMMAND = "python gpt/run_examples.py --only {}"

BASELINE = replace(
    override(PRESETS["quick"], {"max_len": 64}),
    bpe_tokens=1024, batch_size=16, max_steps=300, eval_every=300, checkpoint_every=300,
)  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """Trainings that differ from ``BASELINE`` in the named settings."""

    question: str  # what it asks
    variants: dict[str, dict[str, Any]]  # label -> settings that differ


def _shape(d_model: int, n_layers: int, n_heads: int) -> dict[str, int]:
    return {
        "d_model": d_model, "n_layers": n_layers, "n_heads": n_heads, "n_kv_heads": n_heads,
        "d_ff": 4 * d_model,
    }  # fmt: skip


EXPERIMENTS = {
    "recipe": Experiment(
        "What is each part of the modern recipe worth? Each row takes one away.",
        {
            "modern": {},
            "LayerNorm": {"norm": "layernorm"},
            "learned positions": {"positions": "learned"},
            "GELU": {"activation": "gelu"},
            "SwiGLU": {"activation": "swiglu", "d_ff": 344},
            "no QK-norm": {"qk_norm": False},
            "2 key/value heads": {"n_kv_heads": 2},
            "tied embedding": {"tie_weights": True, "embedding_lr": 0.005},
            "no zero init": {"zero_init": False},
            "no logit cap": {"logit_cap": 0.0},
            "AdamW": {"optimizer": "adamw", "lr": 3e-3},
            "cosine schedule": {"schedule": "cosine"},
            "gpt2": {"recipe": "gpt2"},
        },
    ),
    "heads": Experiment(
        "How many heads at equal width?",
        {str(n): {"n_heads": n, "n_kv_heads": n} for n in (1, 2, 4, 8, 16)},
    ),
    "shape": Experiment(
        "Deep or wide, at about the same number of parameters in the blocks?",
        {"1 x 256": _shape(256, 1, 8), "2 x 176": _shape(176, 2, 4), "4 x 128": _shape(128, 4, 4),
         "8 x 88": _shape(88, 8, 4), "16 x 64": _shape(64, 16, 2)},
    ),
    "context": Experiment(
        "How much does a longer context help, at the same number of tokens a step?",
        {str(n): {"max_len": n, "batch_size": 1024 // n} for n in (8, 16, 32, 64, 128, 256)},
    ),
}  # fmt: skip
MEASURES = {
    f"gpt.{name}.{label}": f"{experiment.question} {label}"
    for name, experiment in EXPERIMENTS.items()
    for label in experiment.variants
}
STRATEGIES = {
    "greedy": Sampling(temperature=0.0),
    "temperature 0.5": Sampling(temperature=0.5),
    "temperature 0.8": Sampling(temperature=0.8),
    "temperature 1": Sampling(),
    "top-k 10": Sampling(top_k=10),
    "top-k 50": Sampling(top_k=50),
    "top-p 0.9": Sampling(top_p=0.9),
    "min-p 0.1": Sampling(min_p=0.1),
    "penalty 1.3": Sampling(repetition_penalty=1.3),
}


def variant_config(settings: dict[str, Any], seed: int) -> TrainConfig:
    """Returns the baseline changed by an experiment's settings."""
    config = replace(BASELINE, seed=seed)
    if "recipe" in settings:
        config = apply_recipe(config, settings["recipe"])
    return override(config, settings)


def run_variant(config: TrainConfig, data: TextData) -> dict[str, float]:
    """Trains one variant, or reads what an earlier training of the same settings gave.

    Returns:
        "bits" per byte on the validation split, "seconds" of training, "parameters".
    """
    settings = config_to_dict(config)
    key = hashlib.sha256(json.dumps([settings, data.n_bytes], sort_keys=True).encode()).hexdigest()
    folder = run_folder("gpt", "experiments") / key[:16]
    path = folder / "outcome.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    result = train(config, data, folder)
    outcome = {
        "bits": result.bits_per_byte,
        "seconds": result.seconds,
        "parameters": float(parameter_count(result.model.config)),
    }
    write_json(path, outcome)
    return outcome


def run_experiment(name: str, data: TextData, seeds: Sequence[int]) -> list[Result]:
    """Trains all variants of an experiment; prints a table, saves the figure, returns the results."""
    experiment = EXPERIMENTS[name]
    rows, results = [], []
    for label, settings in experiment.variants.items():
        outcomes = [run_variant(variant_config(settings, seed), data) for seed in seeds]
        bits = [outcome["bits"] for outcome in outcomes]
        spread = statistics.stdev(bits) if len(bits) > 1 else 0.0
        seconds = statistics.mean(outcome["seconds"] for outcome in outcomes)
        parameters = int(outcomes[0]["parameters"])
        rows.append((label, round(statistics.mean(bits), 4), round(spread, 4), round(seconds, 1), parameters))
        results.append(
            Result(
                f"gpt.{name}.{label}", statistics.mean(bits), "bits per byte", better="lower",
                seeds=tuple(seeds), spread=spread, seconds=sum(o["seconds"] for o in outcomes),
                command=COMMAND.format(name), note=label,
            )
        )  # fmt: skip
    print(f"\n{experiment.question}")
    print(format_table(["variant", "bits per byte", "spread", "seconds", "parameters"], rows))
    figure = bars_figure(experiment.question, [(row[0], row[1], row[2]) for row in rows])
    save_figure(figure, run_folder("gpt", "experiments") / "figures" / f"{name}.png")
    return results


def bars_figure(question: str, rows: Sequence[tuple[str, float, float]]) -> Figure:
    """Draws one bar a variant; the title states which one is best.

    Args:
        question: what the experiment asks.
        rows: (label, mean bits per byte, standard deviation over the seeds).
    """
    best = min(rows, key=lambda row: row[1])
    figure, axes = new_figure(width=7.0, height=1.2 + 0.35 * len(rows))
    labels, means, spreads = zip(*rows, strict=True)
    colors = [PALETTE[2] if row is best else PALETTE[0] for row in rows]
    axes.barh(labels, means, xerr=spreads, color=colors, height=0.7)
    axes.invert_yaxis()
    low, high = min(means), max(means)
    axes.set_xlim(max(0.0, low - 0.5 * (high - low) - 0.01), high + 0.1 * (high - low) + 0.01)
    axes.set_xlabel("bits per byte of held-out text (lower is better; the axis does not start at 0)")
    axes.set_title(f"{question}\nBest: {best[0]}, {best[1]:.3f} ± {best[2]:.3f}", loc="left")
    return figure


def run_sampling(data: TextData, seeds: Sequence[int]) -> list[Result]:
    """Measures, for each way of choosing the next token, how varied and how repetitive its text is."""
    config = variant_config({}, 0)
    run_variant(config, data)
    model, _ = load_model(_folder_of(config, data))
    held_out = data.tokens["validation"]
    prompts = [held_out[start : start + 16].tolist() for start in range(0, 16_000, 1000)]
    rows, results = [], []
    for label, sampling in STRATEGIES.items():
        distinct, repeated = [], []
        for seed in seeds:
            texts = generate(model, prompts, 96, sampling, seed=seed)
            distinct.append(distinct_share(texts, 2))
            repeated.append(100 - distinct_share(texts, 4, within=True))
        rows.append((label, round(statistics.mean(distinct), 1), round(statistics.mean(repeated), 1)))
        for what, values, better in (("distinct", distinct, "higher"), ("repeated", repeated, "lower")):
            results.append(
                Result(
                    f"gpt.sampling.{what}.{label}", statistics.mean(values), "%", better=better,
                    seeds=tuple(seeds), spread=statistics.stdev(values) if len(values) > 1 else 0.0,
                    command=COMMAND.format("sampling"), note=label,
                )
            )  # fmt: skip
    print("\nHow varied, and how repetitive, is what each strategy writes?")
    print(format_table(["strategy", "distinct 2-grams %", "repeated 4-grams %"], rows))
    save_figure(sampling_figure(rows), run_folder("gpt", "experiments") / "figures" / "sampling.png")
    return results
