"""One training of an experiment: where it is kept and what it gives.

A variant whose settings and data are those of an earlier training is not trained again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformer.experiments import SMOKE_SENTENCES, TEST_SENTENCES, experiment_data
from transformer.train_config import TrainConfig
from transformer.train_transformer import score_split, train
from transformer.transformer_config import parameter_count
from tutorial_kit.experiments import Study, kept_outcome, variant_folder


@dataclass(frozen=True)
class TranslationStudy(Study):
    """What all experiments of one call share."""

    @property
    def sentences(self) -> int:
        """How many sentences of the test split are translated."""
        return SMOKE_SENTENCES if self.smoke else TEST_SENTENCES


def run_variant(config: TrainConfig, sentences: int) -> tuple[Path, dict[str, float]]:
    """Trains one variant, or reads what an earlier training of the same settings gave.

    Args:
        config: of the training.
        sentences: how many of the test split are translated.

    Returns:
        Its folder, and "exact_match" in %, "loss", "seconds" of training, "parameters".
    """
    data = experiment_data(config)
    sizes = [data.tokenizer.vocab_size, *(len(pairs) for pairs in data.pairs.values())]
    folder = variant_folder("transformer", config, sizes)

    def train_it() -> dict[str, float]:
        result = train(config, data, folder)
        scores, _ = score_split(result.model, data, "test", limit=sentences)
        return {
            "exact_match": 100 * scores.exact_match,
            "loss": result.validation_loss,
            "seconds": result.seconds,
            "parameters": float(parameter_count(result.model.config)),
        }

    return folder, kept_outcome(folder, train_it)
