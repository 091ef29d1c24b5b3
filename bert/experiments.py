"""What the chapter's experiments vary; ``run_examples.py`` runs them.

Each variant is a pre-training that differs from ``BASELINE`` and a fine-tuning that differs from
``FINETUNING`` in the named settings alone: same text, same number of steps, same labels for the
same seed. The sizes are small, so that a pre-training takes half a minute on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bert.bert_config import BertConfig
from bert.finetuning_config import FinetuneConfig
from bert.pretraining_config import RECIPES, PretrainConfig, apply_recipe
from tutorial_kit.config import override

STEPS, BATCH, WIDTH = 1500, 32, 128  # updates of a pre-training, sequences in each; D
BASELINE = replace(
    apply_recipe(PretrainConfig(), "mlm"),
    model=BertConfig(max_len=32, d_model=WIDTH, n_heads=4, n_layers=2, d_ff=4 * WIDTH, dropout=0.0,
                     norm="pre", initial_std=0.12, first_positions="sine"),
    wordpiece_tokens=2000, mask_rate=0.5, lr=3e-3, batch_size=BATCH, max_steps=STEPS,
    eval_every=STEPS, eval_sequences=0, checkpoint_every=STEPS,
)  # fmt: skip
FINETUNING = FinetuneConfig(labels=200, updates=240, max_len=32, lr=2e-3)  # it knows little yet
SMOKE_PRETRAINING = {
    "dataset": "documentation-small", "wordpiece_tokens": 600, "batch_size": 4, "max_steps": 2,
    "eval_every": 2, "eval_sequences": 8, "checkpoint_every": 2, "d_model": 32, "n_heads": 2,
    "d_ff": 64, "max_len": 32,
}  # for tests: no result  # fmt: skip
SMOKE_FINETUNING = {"labels": 16, "epochs": 1, "batch_size": 8, "max_len": 24}
TFIDF = "TF-IDF"


@dataclass(frozen=True)
class Variant:
    """One row of an experiment: what differs from the baseline, before and after."""

    pretraining: Mapping[str, Any] | None = field(default_factory=dict)  # None: from scratch
    finetuning: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """Pre-trainings and fine-tunings that differ from the baseline in the named settings."""

    question: str  # what it asks
    variants: dict[str, Variant]  # label -> settings that differ
    axis: str = ""  # name of a quantity that the labels are numbers of; "" draws bars


def _pretrained(**settings: Any) -> Variant:
    return Variant(settings)


def _finetuned(**settings: Any) -> Variant:
    return Variant({}, settings)


def _steps(count: int, **settings: Any) -> Variant:
    return _pretrained(max_steps=count, eval_every=count, checkpoint_every=count, **settings)


def _std(width: int) -> float:
    """Returns initial weights that keep a product of this width as large as the baseline's."""
    return round(BASELINE.model.initial_std * (WIDTH / width) ** 0.5, 3)


EXPERIMENTS = {
    "recipe": Experiment(
        "The paper's recipe or the later one, for half a minute?",
        {
            "later": _pretrained(),
            "later, Muon": _pretrained(optimizer="muon"),
            "later, post-norm": _pretrained(norm="post"),
            "paper's": _pretrained(**RECIPES["mlm+nsp"]),
        },
    ),
    "objective": Experiment(
        "Does next-sentence prediction help?",
        {"MLM": _pretrained(), "MLM + NSP": _pretrained(objective="mlm+nsp")},
    ),
    "mask_rate": Experiment(
        "How many words should be hidden?",
        {f"{rate} %": _pretrained(mask_rate=rate / 100) for rate in (10, 15, 25, 40, 50)},
        axis="masking rate (%)",
    ),
    "whole_word": Experiment(
        "Hide pieces or whole words?",
        {"pieces": _pretrained(), "whole words": _pretrained(whole_word=True)},
    ),
    "replacement": Experiment(
        "What stands where a word was?",
        {"80/10/10": _pretrained(), "always [MASK]": _pretrained(replacement="mask")},
    ),
    "batch": Experiment(
        "Many small steps or few large ones, at the same number of tokens?",
        {f"{BATCH * n} sequences": _steps(STEPS // n, batch_size=BATCH * n) for n in (1, 2, 4)},
        axis="sequences in a minibatch",
    ),
    "size": Experiment(
        "How large a model, at the same number of steps?",
        {
            f"{layers} x {width}": _pretrained(
                n_layers=layers, d_model=width, d_ff=4 * width, initial_std=_std(width)
            )
            for layers, width in ((2, 64), (2, 128), (4, 128))
        },
    ),
    "length": Experiment(
        "How long a pre-training?",
        {
            "from scratch": Variant(None),
            **{f"{count} steps": _steps(count) for count in (STEPS // 5, STEPS // 2, STEPS)},
        },
        axis="steps of pre-training",
    ),
    "pooling": Experiment(
        "What should the classifier read?",
        {
            "mean, MLM": _finetuned(pooling="mean"),
            "CLS, MLM": _finetuned(pooling="cls"),
            "mean, MLM + NSP": Variant({"objective": "mlm+nsp"}, {"pooling": "mean"}),
            "CLS, MLM + NSP": Variant({"objective": "mlm+nsp"}, {"pooling": "cls"}),
        },
    ),
    "freezing": Experiment(
        "How much may stay frozen?",
        {
            "nothing": _finetuned(),
            "embeddings, 1 layer": _finetuned(freeze=1),
            "all but the head": _finetuned(freeze=-1),
        },
    ),
}
MEASURED = {  # of each variant: what -> (unit, which direction is better, in words)
    "accuracy": ("%", "higher", "accuracy, 200 labels"),
    "mlm_gain": ("nats", "higher", "MLM gain"),
}
RIVALS = {"length": (TFIDF,)}
"""Experiment -> rows that are no BERT at all."""


def variant_configs(
    variant: Variant, seed: int, smoke: bool = False
) -> tuple[PretrainConfig, FinetuneConfig]:
    """Returns the settings of a variant; cut to two steps for a smoke test.

    Args:
        variant: what differs from the baseline.
        seed: of both trainings.
        smoke: whether it is a test that everything runs.
    """
    before = override(replace(BASELINE, seed=seed), variant.pretraining or {})
    after = override(replace(FINETUNING, seed=seed), variant.finetuning)
    if not smoke:
        return before, after
    return override(before, SMOKE_PRETRAINING), override(after, SMOKE_FINETUNING)


def place_of(label: str) -> float | None:
    """Returns the number that a label begins with, if it does.

    >>> place_of("20 %"), place_of("from scratch")
    (20.0, None)
    """
    first = label.split()[0]
    return float(first) if first.isdigit() else None
