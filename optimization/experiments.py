"""What the chapter's experiments vary; ``run_examples.py`` runs them.

Quality is measured on the validation split, with a teacher, a student and a short training for each
of three seeds; the test split is left for ``benchmarks/optimization_quality.py``. Speed does not
depend on what a model has learned: where only speed is measured, weights are random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpt.gpt_config import GPTConfig
from optimization.rounding import Sharing

BITS: dict[str, tuple[int, Sharing]] = {  # label -> bits, what shares a scale
    f"{bits} bits, {sharing}": (bits, sharing)
    for sharing in ("tensor", "row", "group")
    for bits in (8, 6, 5, 4, 3)
}
SHARING_NAMES = {"tensor": "each matrix", "row": "each row", "group": "each 32 weights"}


@dataclass(frozen=True)
class Pruning:
    """One point of the pruning curves."""

    kind: str  # "weights": the smallest become zero; "neurons": the weakest are removed
    share: float  # left out
    steps: int  # of training afterwards


RETRAIN_STEPS = 30
SHARES = {"weights": (0.0, 0.5, 0.7, 0.9), "neurons": (0.25, 0.5)}
PRUNING = {
    f"{share:.0%} of {kind}, {steps} steps".replace("%", " %"): Pruning(kind, share, steps)
    for kind, shares in SHARES.items()
    for share in shares
    for steps in (0, RETRAIN_STEPS)
    if share or steps
}

ALONE = "alone"
STUDENTS: dict[str, dict[str, Any]] = {  # label -> settings that differ from the preset
    ALONE: {"soft_weight": 0.0},
    "alone, twice the steps": {"soft_weight": 0.0, "max_steps": 2},  # times the preset's
    "T 1, half the loss": {"soft_weight": 0.5, "temperature": 1.0},
    "T 2, half the loss": {"soft_weight": 0.5, "temperature": 2.0},
    "T 4, half the loss": {"soft_weight": 0.5, "temperature": 4.0},
    "T 2, all of the loss": {"soft_weight": 1.0, "temperature": 2.0},
}
TAUGHT = "T 2, half the loss"  # the preset's own settings

SIZES = {  # label -> shape; the last is GPT-2's smallest
    "4x128": GPTConfig(1024, 128, d_model=128, n_heads=4, n_kv_heads=4, n_layers=4, d_ff=512),
    "6x384": GPTConfig(4096, 128, d_model=384, n_heads=6, n_kv_heads=6, n_layers=6, d_ff=1536),
    "12x768": GPTConfig(50257, 128, d_model=768, n_heads=12, n_kv_heads=12, n_layers=12, d_ff=3072),
}
WAYS = ("no cache", "packed", "int8", "int8, torch dynamic", "LoRA unmerged", "LoRA merged")
BATCHES = (1, 2, 4, 8, 16, 32)
DRAFT_TOKENS = (1, 2, 4, 8)
LENGTHS = (16, 32, 64, 128)  # tokens in the window while the cache is compared with none
