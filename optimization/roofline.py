"""A roofline for this machine: what limits each way of writing, and how near it comes to the limit.

    python optimization/roofline.py
    python optimization/roofline.py --n-layers 6 --d-model 384 --n-heads 6 --n-kv-heads 6

Bandwidth and arithmetic are measured, operations and bytes of a token are counted
(``roofline_counts``); then prompts are read and tokens written, in turns, and placed below the
roof. On the CPU, for there the chapter's numbers are.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from gpt.gpt_config import GPTConfig
from optimization.roofline_counts import weight_bytes
from optimization.roofline_figure import roofline_figure
from optimization.roofline_machine import Machine, measure_machine
from optimization.roofline_points import Point, Work, measure_points
from tutorial_kit.config import config_parser, read_config
from tutorial_kit.config_checks import check_counts
from tutorial_kit.console import format_table, run_entry
from tutorial_kit.plotting import save_figure
from tutorial_kit.texts import Texts
from tutorial_kit.training import run_folder

__all__ = ["PRESETS", "RooflineConfig", "build_parser", "main", "measure"]

GPT2_SHAPE = GPTConfig(50257, max_len=256, d_model=768, n_heads=12, n_kv_heads=12, n_layers=12,
                       d_ff=3072)  # fmt: skip
TINY_SHAPE = GPTConfig(512, max_len=64, d_model=64, n_heads=2, n_kv_heads=2, n_layers=3, d_ff=128)
MIB = 1 << 20


@dataclass(frozen=True)
class RooflineConfig:
    """What is measured."""

    model: GPTConfig = field(default_factory=lambda: GPT2_SHAPE)
    context: int = 128  # tokens of each prompt
    steps: int = 30  # tokens written behind it
    draft_tokens: int = 4  # proposals a round of speculative decoding
    rounds: int = 5  # turns of each program
    large_mib: int = 1024  # MiB of an array that no cache holds; three are made
    matrix: int = 2048  # rows and columns of the matrices multiplied to measure arithmetic
    threads: int = 0  # CPU threads; 0 leaves torch's own choice

    def __post_init__(self) -> None:
        """Checks that everything fits."""
        check_counts(self, "context", "steps", "draft_tokens", "rounds", "large_mib", "matrix")
        longest = self.context + self.steps + 1
        if longest > self.model.max_len:
            raise ValueError(
                f"context={self.context} and steps={self.steps} need {longest} places, the context "
                f"window has {self.model.max_len}: half of it would be dropped in between. Use a "
                f"larger max_len, or steps={max(1, self.model.max_len - self.context - 1)}."
            )

    @property
    def work(self) -> Work:
        """What is timed."""
        return Work(self.context, self.steps, self.draft_tokens, self.rounds)


PRESETS = {
    "smoke": RooflineConfig(TINY_SHAPE, 16, 8, rounds=1, large_mib=4, matrix=128),
    "quick": RooflineConfig(
        GPTConfig(4096, max_len=256, d_model=384, n_heads=6, n_kv_heads=6, n_layers=6, d_ff=1536),
        rounds=3, large_mib=512, matrix=1024,
    ),
    "standard": RooflineConfig(),
}  # fmt: skip


def measure(config: RooflineConfig) -> tuple[Machine, list[Point]]:
    """Measures the machine, then every way of writing."""
    sizes = {name: weight_bytes(config.model, name) for name in ("float32", "int8")}
    machine = measure_machine(config.large_mib * MIB, sizes, config.matrix, config.rounds)
    return machine, measure_points(config.model, machine, config.work)


def points_table(points: Sequence[Point]) -> str:
    """Returns a table, a row for each way."""
    rows = [
        (
            one.name, round(one.cost.operations / 1e6, 1), round(one.cost.bytes / 1e6, 2),
            round(one.cost.intensity, 2), round(one.possible, 1), round(one.rate, 1),
            round(one.share), one.limit,
        )
        for one in points
    ]  # fmt: skip
    headers = (
        "", "Mop/token", "MB/token", "op/byte", "roof tokens/s", "seen tokens/s", "% of it",
        "limit",
    )  # fmt: skip
    return format_table(headers, rows)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return config_parser(
        RooflineConfig, PRESETS, "standard", "Measure this machine's roofline and what is below it."
    )


def main(argv: Sequence[str] | None = None) -> list[Point]:
    """Measures, prints, draws."""
    args = build_parser().parse_args(argv)
    config = read_config(RooflineConfig, PRESETS, args)
    texts = Texts(Path(__file__).parent)
    if config.threads:
        torch.set_num_threads(config.threads)
    texts.say("roofline.begins", megabytes=weight_bytes(config.model) / 1e6)
    machine, points = measure(config)
    texts.say(
        "roofline.machine",
        memory=", ".join(f"{name} {rate / 1e9:.1f}" for name, rate in machine.memory.items()),
        cached=", ".join(
            f"{size / 1e6:.0f} MB {rate / 1e9:.1f}" for size, rate in machine.read.items()
        ),
        float32=machine.arithmetic["float32"] / 1e9,
        int8=machine.arithmetic["int8"] / 1e9,
        ridge=machine.roof().ridge,
    )
    texts.say("roofline.points", table=points_table(points))
    folder = run_folder("optimization", f"roofline_{args.preset}") / "figures"
    path = save_figure(roofline_figure(machine, points), folder / "roofline.png")
    texts.say("roofline.figure", path=path)
    return points


if __name__ == "__main__":
    run_entry(main)
