"""One training of an experiment: where it is kept, what it gives, how seeds are summed up.

A variant whose settings and data are those of an earlier training is not trained again, so that an
interrupted ``run_examples.py`` goes on where it stopped, and a baseline that several experiments
share is trained once.
"""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformer.experiments import SMOKE_SENTENCES, TEST_SENTENCES, experiment_data
from transformer.train_config import TrainConfig
from transformer.train_transformer import score_split, train
from transformer.transformer_config import parameter_count
from transformer.translation_data import TranslationData
from tutorial_kit.config import config_to_dict
from tutorial_kit.training import run_folder, write_json


@dataclass(frozen=True)
class Study:
    """What all experiments of one call share."""

    seeds: Sequence[int]
    smoke: bool = False  # two steps, two variants, nothing is recorded

    @property
    def most(self) -> int | None:
        """Variants of each experiment that are run; None means all."""
        return 2 if self.smoke else None

    @property
    def sentences(self) -> int:
        """How many sentences of the test split are translated."""
        return SMOKE_SENTENCES if self.smoke else TEST_SENTENCES


def result_name(experiment: str, label: str) -> str:
    """Returns the name of a result, such as "transformer.heads.loss.8"."""
    return f"transformer.{experiment}." + re.sub(r"[^a-z0-9.]+", "_", label.lower())


def variant_folder(config: TrainConfig, data: TranslationData) -> Path:
    """Returns the folder of one training; other settings or other pairs mean another folder."""
    sizes = [data.tokenizer.vocab_size, *(len(pairs) for pairs in data.pairs.values())]
    content = json.dumps([config_to_dict(config), sizes], sort_keys=True)
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    return run_folder("transformer", "experiments") / name


def run_variant(config: TrainConfig, sentences: int) -> tuple[Path, dict[str, float]]:
    """Trains one variant, or reads what an earlier training of the same settings gave.

    Args:
        config: of the training.
        sentences: how many of the test split are translated.

    Returns:
        Its folder, and "exact_match" in %, "loss", "seconds" of training, "parameters".
    """
    data = experiment_data(config)
    folder = variant_folder(config, data)
    path = folder / "outcome.json"
    if path.is_file():
        earlier: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return folder, earlier
    result = train(config, data, folder)
    scores, _ = score_split(result.model, data, "test", limit=sentences)
    outcome = {
        "exact_match": 100 * scores.exact_match,
        "loss": result.validation_loss,
        "seconds": result.seconds,
        "parameters": float(parameter_count(result.model.config)),
    }
    write_json(path, outcome)
    return folder, outcome


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Returns the mean and the sample standard deviation over the seeds; 0 for a single one."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
