"""What the chapter's experiments vary; ``run_examples.py`` runs them.

Each variant differs from ``BASELINE`` in the named settings alone: same text, same number of steps,
same order of the data for the same seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpt.sampling import Sampling
from gpt.train_config import PRESETS, TrainConfig, apply_recipe
from tutorial_kit.config import override

BASELINE = replace(
    override(PRESETS["quick"], {"max_len": 64, "n_layers": 4, "n_kv_heads": 4}),
    bpe_tokens=1024, batch_size=16, max_steps=120, eval_every=120, checkpoint_every=120,
)  # fmt: skip


SMOKE = replace(PRESETS["smoke"], max_steps=2, eval_every=2)  # for tests: no result


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
            "AdamW": {"optimizer": "adamw", "lr": 3e-3},
            "cosine schedule": {"schedule": "cosine"},
            "gpt2": {"recipe": "gpt2"},
        },
    ),
    "heads": Experiment(
        "How many heads at equal width?",
        {str(n): {"n_heads": n, "n_kv_heads": n} for n in (1, 2, 4, 8)},
    ),
    "shape": Experiment(
        "Deep or wide, at about the same number of parameters in the blocks?",
        {"1 x 256": _shape(256, 1, 8), "2 x 176": _shape(176, 2, 4), "4 x 128": _shape(128, 4, 4),
         "8 x 88": _shape(88, 8, 4)},
    ),
    "context": Experiment(
        "How much does a longer context help, at the same number of tokens a step?",
        {str(n): {"max_len": n, "batch_size": 1024 // n} for n in (16, 32, 64, 128, 256)},
    ),
}  # fmt: skip
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


SHARES = {"distinct": "distinct token pairs, %", "repeated": "repeated 4-grams, %"}


def variant_config(base: TrainConfig, settings: dict[str, Any], seed: int) -> TrainConfig:
    """Returns the baseline changed by an experiment's settings."""
    config = replace(base, seed=seed)
    if "recipe" in settings:
        config = apply_recipe(config, settings["recipe"])
    return override(config, settings)


def distinct_share(texts: Sequence[Sequence[int]]) -> float:
    """Returns how many of all token pairs are different ones, in percent (Li et al. 2016)."""
    pairs = [pair for text in texts for pair in zip(text, text[1:], strict=False)]
    return 100 * len(set(pairs)) / max(1, len(pairs))


def repeated_share(texts: Sequence[Sequence[int]]) -> float:
    """Returns how many 4-grams have already occurred in the same text, in percent."""
    repeated = total = 0
    for text in texts:
        grams = [tuple(text[i : i + 4]) for i in range(len(text) - 3)]
        total += len(grams)
        repeated += len(grams) - len(set(grams))
    return 100 * repeated / max(1, total)
