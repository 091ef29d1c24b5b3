"""What the chapter's experiments vary; ``run_examples.py`` runs them.

Each variant differs from ``BASELINE`` in the named settings alone and is trained twice, on the
documentation and on WikiText-2, because the two are judged by different things: the documentation
knows from which library a sentence is (purity), WikiText-2 has the words of everyday life that
people rated (WordSim-353, SimLex-999). A training takes some seconds on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cbow.cbow_config import TrainConfig
from tutorial_kit.config import override

BASELINE = TrainConfig(evals_per_epoch=1)
TEXTS = ("documentation", "wikitext2")
SMOKE_TEXT = "documentation-small"


@dataclass(frozen=True)
class Variant:
    """One row of an experiment."""

    settings: Mapping[str, Any] = field(default_factory=dict)  # what differs from the baseline
    method: Literal["train", "count", "random"] = "train"  # count: PPMI and SVD, no training
    share: float = 1.0  # of the training text, its first words
    line: str = ""  # variants of the same line differ in their share of the text alone


@dataclass(frozen=True)
class Experiment:
    """Trainings that differ from the baseline in the named settings."""

    question: str  # what it asks
    variants: dict[str, Variant]  # label -> what differs
    picture: Literal["dots", "cost", "shares"] = "dots"  # quality alone, against speed, or text

    @property
    def smallest_share(self) -> float:
        """The least text of a variant: only words that occur there can be compared."""
        return min(variant.share for variant in self.variants.values())


def _vary(**settings: Any) -> Variant:
    return Variant(settings)


RIVALS = {
    "CBOW": Variant(),
    "skip-gram": Variant({"architecture": "skipgram", "lr": 0.025}),  # word2vec.c's rate for it
    "PPMI + SVD": Variant(method="count"),
}

EXPERIMENTS = {
    "window": Experiment(
        "How large a window?", {f"{size} words": _vary(window=size) for size in (1, 2, 5, 10)}
    ),
    "dimension": Experiment(
        "How many dimensions?",
        {f"{size} numbers": _vary(d_model=size) for size in (25, 50, 100, 200)},
        "cost",
    ),
    "negatives": Experiment(
        "How many negatives?",
        {
            f"{count}": _vary(negatives=count, shared_draws=BASELINE.shared_draws * count // 5)
            for count in (1, 2, 5, 10, 20)
        },
    ),
    "subsampling": Experiment(
        "How much subsampling?",
        {
            "none": _vary(sample=0.0),
            "above 0.01": _vary(sample=1e-2),
            "above 0.001": _vary(sample=1e-3),
            "above 0.0001": _vary(sample=1e-4),
        },
        "cost",
    ),
    "noise": Experiment(
        "Which noise?",
        {f"count^{power:g}": _vary(noise_power=power) for power in (0.0, 0.5, 0.75, 1.0)},
    ),
    "rate": Experiment(
        "Which learning rate?",
        {f"{rate:.3f}": _vary(lr=rate) for rate in (0.05, 0.075, 0.1, 0.125)},
    ),
    "gradient": Experiment(
        "Which gradient of the mean?",
        {
            "word2vec's": _vary(),
            "exact": _vary(gradient="exact"),
            "exact, rate x 2": _vary(gradient="exact", lr=2 * BASELINE.lr),
        },
    ),
    "combine": Experiment(
        "Mean or sum?",
        {
            "mean": _vary(),
            "sum, rate / 5": _vary(combine="sum", lr=BASELINE.lr / 5),
            "sum, rate / 2": _vary(combine="sum", lr=BASELINE.lr / 2),
        },
    ),
    "shared": Experiment(
        "Shared negatives or separate ones?",
        {
            "separate": _vary(shared_by=1),
            "8 share 8": _vary(shared_by=8, shared_draws=8),
            "32 share 32": _vary(shared_by=32),
            "64 share 32": _vary(),
            "64 share 16": _vary(shared_draws=16),
            "256 share 32": _vary(shared_by=256),
        },
        "cost",
    ),
    "order": Experiment(
        "In which order do sentences come?",
        {
            "shuffled": _vary(),
            "as in the text": _vary(shuffle=False),
            "the same, steps of 1,024": _vary(shuffle=False, words_per_step=1024),
        },
    ),
    "step": Experiment(
        "How large a step?",
        {f"{size:,} words": _vary(words_per_step=size) for size in (1024, 2048, 4096, 8192)},
        "cost",
    ),
    "models": Experiment(
        "CBOW, skip-gram or counting?", {**RIVALS, "random": Variant(method="random")}
    ),
    "text": Experiment(
        "How much text?",
        {
            f"{percent} %, {name}": replace(rival, share=percent / 100, line=name)
            for percent in (10, 30, 100)
            for name, rival in RIVALS.items()
        },
        "shares",
    ),
}
MEASURED = {  # of each variant: what -> (unit, in words); more is better
    "purity": ("%", "neighbors of the same library (documentation)"),
    "wordsim": ("%", "WordSim-353, rank correlation (WikiText-2)"),
    "simlex": ("%", "SimLex-999, rank correlation (WikiText-2)"),
    "speed": ("words/s", "words of text a second (documentation)"),
}


def variant_config(variant: Variant, dataset: str, seed: int, smoke: bool = False) -> TrainConfig:
    """Returns the settings of a variant; cut to one epoch on little text for a smoke test.

    The number of words that the share makes is not in it: it depends on the text.

    Args:
        variant: what differs from the baseline.
        dataset: the text.
        seed: of initial vectors, subsampling, windows and noise.
        smoke: whether it is a test that everything runs.
    """
    config = override(replace(BASELINE, dataset=dataset, seed=seed), variant.settings)
    if not smoke:
        return config
    sizes = {"dataset": SMOKE_TEXT, "epochs": 1, "d_model": max(config.model.d_model // 10, 2)}
    return override(config, sizes)
