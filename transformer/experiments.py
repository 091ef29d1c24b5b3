"""What the chapter's experiments vary; ``run_examples.py`` runs them.

Each variant differs from its base in the named settings alone: same pairs, same number of steps,
same order of the data for the same seed. The bases are ``BASELINE``, English to Chinese sentences
of the grammar, stopped early enough for differences to show, and ``TOY``, words to copy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from transformer.batching import IGNORE, batches_of
from transformer.toy_tasks import TASKS, toy_data
from transformer.train_config import PRESETS, TrainConfig
from transformer.transformer_config import TransformerConfig
from transformer.transformer_model import Transformer
from transformer.translation_data import TranslationData, load_translation_data
from tutorial_kit.config import override

BASELINE = replace(
    PRESETS["quick"], max_steps=480, budget_minutes=0.0, eval_every=480, checkpoint_every=480,
    bleu_sentences=0,
)  # fmt: skip
TOY = TrainConfig(
    TransformerConfig(
        max_len=64, d_model=64, n_heads=4, n_layers=2, n_decoder_layers=2, d_ff=128, dropout=0.0,
        norm="pre",
    ),
    dataset="copy", tokens_per_batch=1024, max_steps=600, warmup=0.1, lr=5e-3, label_smoothing=0.0,
    average_decay=0.95, eval_every=600, checkpoint_every=600, bleu_sentences=0,
)  # fmt: skip
SMOKE = {"max_steps": 2, "eval_every": 2, "checkpoint_every": 2, "tokens_per_batch": 256,
         "bpe_tokens": 600}  # for tests: no result  # fmt: skip
TEST_SENTENCES, SMOKE_SENTENCES = 500, 4


@dataclass(frozen=True)
class Experiment:
    """Trainings that differ from ``base`` in the named settings."""

    question: str  # what it asks
    variants: dict[str, dict[str, Any]]  # label -> settings that differ
    base: TrainConfig = BASELINE


_DEEP = {"n_layers": 4, "n_decoder_layers": 4, "tokens_per_batch": 1024}  # norms matter in depth

EXPERIMENTS = {
    "tasks": Experiment(
        "Which tasks need positions?",
        {
            f"{task}{label}": {"dataset": task, "positions": positions}
            for task in TASKS
            for label, positions in (("", "sinusoidal"), (", no positions", "none"))
        },
        TOY,
    ),
    "positions": Experiment(
        "What do positions give a translation?",
        {"sinusoidal": {}, "learned": {"positions": "learned"}, "none": {"positions": "none"}},
    ),
    "scale": Experiment(
        "What is 1/sqrt(K) worth, with heads of 32 numbers and with one of 128?",
        {
            "K 32, scaled": {},
            "K 32, not scaled": {"scale_scores": False},
            "K 128, scaled": {"n_heads": 1},
            "K 128, not scaled": {"n_heads": 1, "scale_scores": False},
        },
    ),
    "heads": Experiment(
        "How many heads at equal width?", {str(n): {"n_heads": n} for n in (1, 2, 4, 8, 16)}
    ),
    "norm": Experiment(
        "Which norm needs the warm-up, in 4 + 4 layers?",
        {
            "pre-norm, warm-up": {**_DEEP, "norm": "pre", "warmup": 0.2},
            "pre-norm, none": {**_DEEP, "norm": "pre", "warmup": 0.0},
            "post-norm, warm-up": {**_DEEP, "norm": "post", "warmup": 0.2},
            "post-norm, none": {**_DEEP, "norm": "post", "warmup": 0.0},
        },
    ),
    "smoothing": Experiment(
        "How much label smoothing?",
        {f"{e:g}": {"label_smoothing": e} for e in (0.0, 0.05, 0.1, 0.2)},
    ),
    "depth": Experiment(
        "Where do layers help, in the encoder or in the decoder?",
        {
            f"{encoder} + {decoder}": {"n_layers": encoder, "n_decoder_layers": decoder}
            for encoder, decoder in ((1, 1), (3, 1), (2, 2), (1, 3), (3, 3))
        },
    ),
}
MEASURED = {  # of each variant: what -> (unit, which direction is better, in words)
    "exact_match": ("%", "higher", "greedy translations equal to the reference"),
    "loss": ("nats per token", "lower", "validation loss, not smoothed"),
}

BEAM_SETTINGS: dict[str, Any] = {"max_steps": 240, "eval_every": 240, "checkpoint_every": 240}
"""Of the model that beam search is tried on: unsure enough for a search to matter."""
BEAMS = {  # label -> (beams, length penalty)
    "greedy": (1, 1.0),
    **{
        f"beam {beams}, alpha {alpha:g}": (beams, alpha)
        for alpha in (1.0, 0.6, 0.0)
        for beams in (2, 4, 8)
    },
}
BEAM_MEASURED = {"bleu": "BLEU", "exact_match": "%"}  # what -> unit

LENGTHS = {  # label -> settings that differ from TOY
    "sinusoidal": {},
    "learned": {"positions": "learned"},
    "none": {"positions": "none"},
}
LENGTHS_MEASURED = {
    "seen": "letters copied right, in new words as long as in training",
    "unseen": "letters copied right behind the longest place in training",
}


def variant_config(
    base: TrainConfig, settings: dict[str, Any], seed: int, smoke: bool = False
) -> TrainConfig:
    """Returns the base changed by an experiment's settings; cut to two steps for a smoke test."""
    config = override(replace(base, seed=seed), settings)
    if not smoke:
        return config
    small = "grammar-small" if config.dataset == "grammar" else config.dataset
    return override(config, {**SMOKE, "dataset": small})


def experiment_data(config: TrainConfig) -> TranslationData:
    """Returns the pairs that a variant trains on: a toy task's or a data set's."""
    if config.dataset in TASKS:
        return toy_data(config.dataset)
    return load_translation_data(config.dataset, config.bpe_tokens, config.model.max_len)


@torch.no_grad()
def accuracy_by_place(model: Transformer, data: TranslationData, split: str) -> list[float]:
    """Returns how often the right token is the most probable one, in percent, place by place.

    Each token is chosen given the source and the reference's tokens before it. ``<eos>`` is left
    out: it would tell the length, not the place.

    Args:
        model: any.
        data: its ``split`` is read.
        split: one of ``data.ids``.
    """
    longest = max(len(target) for _, target in data.ids[split])
    right, count = torch.zeros(longest + 1), torch.zeros(longest + 1)
    was_training = model.training
    model.eval()
    for batch in batches_of(data, split, 4096):
        memory = model.encode(batch.source, batch.source_mask)  # (B, S, D)
        logits = model.project(model.decode(batch.target_in, memory, batch.source_mask))
        asked = (batch.labels != IGNORE) & (
            batch.labels != data.tokenizer.special_tokens["<eos>"]
        )  # (B, T)
        hits = (logits.argmax(-1) == batch.labels) & asked  # (B, T)
        right[: asked.shape[1]] += hits.sum(0)
        count[: asked.shape[1]] += asked.sum(0)
    model.train(was_training)
    shares = 100 * right / count.clamp_min(1)
    return [float(share) for share in shares[:longest]]
