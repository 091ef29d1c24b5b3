"""Measures what int8 weights and a teacher are worth: the goals of the optimization chapter.

Three teachers of the preset "quick" and their students, one pair for each seed; everything is
scored on the test split, on which nothing was chosen. A stopped training goes on at its last
checkpoint, a finished one is not repeated. The speed is that of the shape of GPT-2 with 124 million
parameters and random weights, on which it does not depend.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from benchmarks.seed_measures import NO_GOAL, Goal, over_seeds, print_and_record
from benchmarks.timing import prepare
from gpt.gpt_config import parameter_count
from gpt.gpt_model import GPT
from gpt.packed_weights import pack_weights
from optimization.decoding_speeds import measure_speeds, writer
from optimization.experiments import SIZES
from optimization.optimization_config import PRESETS
from optimization.quality_experiments import Subject, student_of
from optimization.quantized_model import dynamic_model, quantize_model, stored_bytes
from optimization.speed_experiments import random_model
from optimization.techniques import dynamic_bytes, perplexity, rise, written_rise
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.experiments import mean_and_spread
from tutorial_kit.results import Result

PRESET = "quick"
SEEDS = (0, 1, 2)
QUALITY: dict[str, tuple[str, str, str, Goal]] = {  # name -> what, unit, better, goal
    "int8_rise": (
        "int8 weights: rise of the perplexity, one token a call, as in writing", "%", "lower",
        (1.0, 0.2),
    ),
    "int8_rise_batch": (
        "int8 weights: rise of the perplexity, 8,192 tokens a call", "%", "lower", (1.0, 0.2),
    ),
    "int8_size": ("int8 weights: size of the file beside float32", "x", "lower", (0.3, 0.27)),
    "dynamic_rise": ("torch's dynamic quantization: rise, one token a call", "%", "lower", NO_GOAL),
    "dynamic_size": ("torch's dynamic quantization: size", "x", "lower", NO_GOAL),
    "teacher_loss": ("the teacher", "nats", "lower", NO_GOAL),
    "alone_loss": ("student alone", "nats", "lower", NO_GOAL),
    "taught_loss": ("student with a teacher", "nats", "lower", NO_GOAL),
    "taught_int8_loss": ("student with a teacher, int8 weights", "nats", "lower", NO_GOAL),
    "gain": ("what the teacher brings to the student", "nats", "higher", NO_GOAL),
    "student_size": ("parameters of the student beside the teacher's", "x", "lower", NO_GOAL),
}  # fmt: skip
BEYOND = "gain_beyond_spread"
SPEED: dict[str, tuple[str, str, str, Goal]] = {  # name -> what, way, beside which, goal
    "124m_int8": ("int8 beside packed float32", "int8", "packed", (1.5, 2.5)),
    "124m_int8_vs_plain": ("int8 beside plain float32", "int8", "plain", (1.5, 2.5)),
    "124m_dynamic_vs_plain": (
        "torch's dynamic quantization beside plain float32", "dynamic", "plain", NO_GOAL,
    ),
}  # fmt: skip
MEASURES = (
    {f"optimization.quick.{name}": f"test split: {what}" for name, (what, *_) in QUALITY.items()}
    | {f"optimization.quick.{BEYOND}": "test split: the gain in units of the larger spread"}
    | {
        f"optimization.decoding.{name}": f"tokens/s, 124M shape, batch 1, {what}"
        for name, (what, *_) in SPEED.items()
    }
)
NEW, ROUNDS = 64, 5
WRITTEN = 20_000  # tokens of the test split that are read one by one, which is slow


def measure_seed(preset: str, seed: int) -> dict[str, float]:
    """Returns every quality of one seed's teacher and students."""
    subject = Subject(preset, seed)
    teacher, test = subject.teacher(), subject.data.tokens["test"]
    config = replace(PRESETS[preset], seed=seed, teacher_seed=seed)
    taught, alone = (
        student_of(replace(config, soft_weight=weight))[0] for weight in (config.soft_weight, 0.0)
    )
    base = perplexity(teacher, test)
    losses = {
        "teacher_loss": math.log(base),
        "alone_loss": math.log(perplexity(alone, test)),
        "taught_loss": math.log(perplexity(taught, test)),
        "taught_int8_loss": math.log(perplexity(quantize_model(taught), test)),
    }
    full, int8 = stored_bytes(teacher, "float32"), quantize_model(teacher)
    written = test[:WRITTEN]
    return losses | {
        "int8_rise": written_rise(int8, teacher, written),
        "int8_rise_batch": rise(int8, base, test),
        "int8_size": stored_bytes(teacher, "int8") / full,
        "dynamic_rise": written_rise(dynamic_model(teacher), teacher, written),
        "dynamic_size": dynamic_bytes(teacher) / full,
        "gain": losses["alone_loss"] - losses["taught_loss"],
        "student_size": parameter_count(taught.config) / parameter_count(teacher.config),
    }


def measure_quality(preset: str = PRESET, seeds: Sequence[int] = SEEDS) -> list[Result]:
    """Trains what is not there yet and returns the mean of every quality over the seeds."""
    started = time.perf_counter()
    measured = [measure_seed(preset, seed) for seed in seeds]
    values = {name: [one[name] for one in measured] for name in QUALITY}
    alone, taught = (mean_and_spread(values[name]) for name in ("alone_loss", "taught_loss"))
    beyond = (alone[0] - taught[0]) / max(alone[1], taught[1], 1e-9)
    goals: dict[str, tuple[str, str, str, Goal]] = {
        **QUALITY, BEYOND: ("gain over the larger spread", "spreads", "higher", (1.0, 3.0)),
    }  # fmt: skip
    values[BEYOND] = [beyond]
    return [
        over_seeds(
            f"optimization.quick.{name}", values[name], unit, goal, seeds=seeds, better=better,
            preset=preset, note=MEASURES[f"optimization.quick.{name}"],
            seconds=time.perf_counter() - started,
        )
        for name, (_, unit, better, goal) in goals.items()
    ]  # fmt: skip


def measure_decoding(size: str = "12x768", new: int = NEW, rounds: int = ROUNDS) -> list[Result]:
    """Times int8 and float32 in turns."""
    started, model = time.perf_counter(), random_model(SIZES[size])
    makers: dict[str, Callable[[GPT], GPT]] = {
        "plain": lambda model: model,
        "packed": pack_weights,
        "int8": quantize_model,
        "dynamic": dynamic_model,
    }
    prompt = torch.randint(model.config.vocab_size, (1, 16)).tolist()
    ways = {name: writer(make(model), prompt, new) for name, make in makers.items()}
    results = []
    for name, (_, way, beside, goal) in SPEED.items():
        pair = {side: ways[side] for side in (beside, way)}
        speed = measure_speeds(pair, beside, rounds)[way]
        full = f"optimization.decoding.{name}"
        results.append(
            Result(
                full, speed.ratio, "x", *goal, spread=speed.spread, note=MEASURES[full],
                seconds=time.perf_counter() - started, command=f"python -m benchmarks {full}",
            )
        )  # fmt: skip
    return results


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.optimization_quality",
        description="Measure int8 weights and distillation.",
    )
    parser.add_argument("--only", choices=list(MEASURES), help="those of its kind are measured too")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures qualities, speeds, or both; records each kind as soon as it is done."""
    only = build_parser().parse_args(argv).only or ""
    machine = prepare()
    results: list[Result] = []
    if not only.startswith("optimization.quick"):
        results += print_and_record("optimization_quality", measure_decoding(), machine)
    if not only.startswith("optimization.decoding"):
        results += print_and_record("optimization_quality", measure_quality(), machine)
    return results


if __name__ == "__main__":
    run_entry(main)
