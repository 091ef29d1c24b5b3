"""Settings: the teachers, their students, and how a student is trained.

A teacher is a GPT that ``gpt``'s own trainer trains; every technique of this chapter starts from
one. A student is a GPT with about a quarter of its parameters. All read the documentation corpus.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt.train_config import PRESETS as GPT_PRESETS
from gpt.train_config import TrainConfig
from tutorial_kit.config import config_parser, override
from tutorial_kit.config_checks import check_shares
from tutorial_kit.entry_parsers import add_run

FAMILY = "optimization"


@dataclass(frozen=True)
class StudentConfig(TrainConfig):
    """What the training of a student depends on: gpt's settings, and its teacher."""

    teacher: str = "quick"  # smoke, quick or standard; or a run of gpt: its folder or name
    teacher_seed: int = 0  # of a teacher that is trained here
    soft_weight: float = 0.5  # share of the loss that is about the teacher; 0: the student alone
    temperature: float = 2.0  # divides the logits of both before they are compared

    def __post_init__(self) -> None:
        """Checks what the loss assumes."""
        super().__post_init__()
        check_shares(self, "soft_weight")
        if self.temperature <= 0:
            raise ValueError(
                f"temperature={self.temperature} cannot divide logits: a softmax needs more than "
                "0. Use 1 for the teacher's own probabilities, 2 to 4 for softer ones."
            )


def _shape(d_model: int, n_layers: int, n_heads: int) -> dict[str, int]:
    return {
        "d_model": d_model, "n_layers": n_layers, "n_heads": n_heads, "n_kv_heads": n_heads,
        "d_ff": 4 * d_model,
    }  # fmt: skip


def _training(steps: int, **settings: Any) -> dict[str, Any]:
    return {"max_steps": steps, "eval_every": steps, "checkpoint_every": steps, **settings}


_QUICK = {"max_len": 128, "batch_size": 32, "bpe_tokens": 1024}

TEACHERS: dict[str, TrainConfig] = {
    # Seconds on any machine; a test that everything runs, no result.
    "smoke": GPT_PRESETS["smoke"],
    # The teacher of quick_start.py, of the experiments and of the documented qualities: 1 million
    # parameters.
    "quick": override(GPT_PRESETS["quick"], _QUICK | _shape(128, 4, 4) | _training(220)),
    # 5 million parameters, some minutes.
    "standard": override(GPT_PRESETS["standard"], _shape(256, 4, 4) | _training(900)),
}


def _student(teacher: str, shape: Mapping[str, Any], **training: Any) -> StudentConfig:
    base = StudentConfig(**vars(TEACHERS[teacher]), teacher=teacher)
    return override(base, {**shape, **training})


PRESETS: dict[str, StudentConfig] = {
    # Seconds on any machine; a test that everything runs, no result.
    "smoke": _student("smoke", _shape(16, 1, 2)),
    # The students of quick_start.py: a quarter of the teacher's parameters.
    "quick": _student("quick", _shape(64, 3, 2), **_training(180)),
    # A fifth of the larger teacher's parameters.
    "standard": _student("standard", _shape(96, 3, 3), **_training(900)),
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of ``train_student.py``."""
    parser = config_parser(
        StudentConfig, PRESETS, "standard", "Train a small GPT, with a teacher or alone."
    )
    add_run(parser, FAMILY)
    return parser
