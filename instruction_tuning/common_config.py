"""What the settings of all five trainings have in common.

Every trainer starts from a model (``base``), walks over data (``dataset``) in minibatches and moves
the weights with one of two optimizers, whole or through LoRA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tutorial_kit.config_checks import (
    check_counts,
    check_learning_rates,
    check_not_negative,
    check_shares,
)

VALIDATION = 240  # requests of the validation split, answered in each evaluation


@dataclass(frozen=True)
class TuningConfig:
    """What every stage depends on; a stage's own defaults stand in its class."""

    base: str = "quick"  # what is tuned: a base model (smoke, quick, standard), or a run
    dataset: str = "world"  # world, instructions, preferences, or a JSON file of yours
    requests: int = 4000  # requests of the world that the training draws
    batch_size: int = 64  # rows in a minibatch
    accumulation: int = 1  # parts a minibatch is computed in, to save memory
    max_steps: int = 300  # updates of the weights
    epochs: float = 0.0  # passes over the data, instead of max_steps; 0 means max_steps counts
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: matrices by Muon, the rest by AdamW
    lr: float = 1e-3  # peak learning rate of AdamW
    muon_lr: float = 0.01  # peak learning rate of Muon
    beta2: float = 0.99  # AdamW's memory of squared gradients
    weight_decay: float = 0.0  # AdamW's decay of matrices
    schedule: Literal["cosine", "linear", "constant"] = "linear"  # how the learning rate falls
    warmup: float = 0.05  # share of the run spent on warming up
    floor: float = 0.0  # learning rate at the end, as a share of its peak
    clip: float = 1.0  # largest norm of the gradient; 0 means no clipping
    lora_rank: int = 0  # rank of the LoRA matrices; 0 trains all weights
    lora_alpha: float = 16.0  # LoRA's update is scaled by alpha / rank
    lora_layers: str = "qkv,output,expand,contract,head"  # which get LoRA; the base's head must
    max_new: int = 24  # most tokens of a reply that the model writes
    eval_every: int = 100  # steps between evaluations
    checkpoint_every: int = 100  # steps between checkpoints
    seed: int = 0  # what is drawn: data, their order, replies
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on CUDA only
    threads: int = 0  # CPU threads; 0 leaves torch's own choice

    def __post_init__(self) -> None:
        """Checks what the loops assume."""
        check_counts(
            self, "requests", "batch_size", "accumulation", "max_steps", "max_new", "eval_every",
            "checkpoint_every",
        )  # fmt: skip
        check_not_negative(self, "epochs", "weight_decay", "clip", "lora_rank", "threads")
        check_learning_rates(self, "lr", "muon_lr", "lora_alpha")
        check_shares(self, "warmup", "floor", "beta2")
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size={self.batch_size} cannot be computed in accumulation="
                f"{self.accumulation} equal parts. Use a divisor of the batch size."
            )

    def steps_for(self, rows: int) -> int:
        """Returns the number of updates: ``max_steps``, or what ``epochs`` passes over rows take.

        >>> TuningConfig(max_steps=300).steps_for(1000)
        300
        >>> TuningConfig(epochs=2, batch_size=64).steps_for(1000)
        31
        """
        if not self.epochs:
            return self.max_steps
        return max(1, round(self.epochs * rows / self.batch_size))


SMOKE: dict[str, Any] = {
    "base": "smoke", "requests": 32, "batch_size": 8, "max_steps": 4, "eval_every": 2,
    "checkpoint_every": 2, "max_new": 8,
}  # fmt: skip
"""Seconds on any machine; a test that everything runs, no result."""
