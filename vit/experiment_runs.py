"""The trainings behind an experiment: where they are kept and what they give.

A training is kept by its settings and its pictures, so variants and experiments that need the same
one share it.
"""

from __future__ import annotations

from functools import lru_cache

from tutorial_kit.experiments import kept_outcome, variant_folder
from vit.image_data import ImageData, few, load_image_data
from vit.train_config import TrainConfig
from vit.vit_trainer import train

FAMILY = "vit"


@lru_cache(maxsize=2)
def all_pictures(dataset: str) -> ImageData:
    """Returns the pictures that the variants share; their splits never depend on a seed."""
    return load_image_data(dataset)


def run_variant(config: TrainConfig, share: float) -> dict[str, float]:
    """Trains one variant, unless that has been done before.

    Args:
        config: its settings.
        share: of the training pictures it learns from, above 0 to 1; the same ones for a seed.

    Returns:
        "accuracy" in % of the test pictures, "speed" in training pictures a second, "seconds" of
        training, and "parameters".
    """
    data = all_pictures(config.dataset)
    count = len(data.train.labels)
    if share < 1:
        count = max(round(share * count), len(data.classes))
    sizes = [count, len(data.train.labels), len(data.validation.labels), len(data.test.labels)]
    folder = variant_folder(FAMILY, config, sizes)

    def train_it() -> dict[str, float]:
        pictures = data if share == 1 else few(data, count, config.seed)
        result = train(config, pictures, folder)
        return {
            "accuracy": 100 * result.test_accuracy,
            "speed": config.max_steps * config.batch_size / result.seconds,
            "seconds": result.seconds,
            "parameters": float(sum(p.numel() for p in result.model.parameters())),
        }

    return kept_outcome(folder, train_it)
