"""A trained image model as its run's checkpoint holds it: weights, settings, facts of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutorial_kit.checkpoints import load_checkpoint
from tutorial_kit.config import config_from_dict
from tutorial_kit.saved_runs import find_run, load_weights
from vit.cnn_baseline import CNNConfig, ResidualCNN, cnn_of_size
from vit.image_data import ImageData
from vit.train_config import TrainConfig
from vit.vit_config import ViTConfig
from vit.vit_model import ViT, parameter_count


@dataclass(frozen=True)
class DataFacts:
    """What a model must know of the pictures it was trained on to read others."""

    classes: tuple[str, ...]  # names, in the order of the labels
    mean: Tensor  # (C,) of the training pictures, from 0 to 1
    std: Tensor  # (C,) of the same
    image_size: int  # height and width, pixels
    channels: int  # 1 gray, 3 colors

    @classmethod
    def of(cls, data: ImageData) -> DataFacts:
        """Returns the facts of a data set."""
        return cls(data.classes, data.mean, data.std, data.image_size, data.channels)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types and tensors, for a checkpoint."""
        return {
            "classes": list(self.classes), "mean": self.mean, "std": self.std,
            "image_size": self.image_size, "channels": self.channels,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataFacts:
        """Goes back from ``to_dict``."""
        return cls(**{**values, "classes": tuple(values["classes"])})


def fit_to_data(config: TrainConfig, facts: DataFacts) -> TrainConfig:
    """Returns the settings with image size, channels and number of classes of the data.

    Raises:
        ValueError: the image size is no multiple of the patch size.
    """
    model = replace(
        config.model, image_size=facts.image_size, channels=facts.channels,
        n_classes=len(facts.classes),
    )  # fmt: skip
    return replace(config, model=model)


def cnn_config(config: TrainConfig) -> CNNConfig:
    """Returns the CNN of these settings: of the width asked for, or as large as their ViT."""
    model: ViTConfig = config.model
    sizes = (model.image_size, model.channels, model.n_classes)
    if config.cnn_width:
        return CNNConfig(*sizes, width=config.cnn_width)
    return cnn_of_size(parameter_count(model), *sizes)


def build_model(config: TrainConfig) -> ViT | ResidualCNN:
    """Returns a fresh model from torch's random generator, its convolutions "channels last".

    On a CPU convolutions of such tensors take half the time; what is computed is the same.
    """
    model = ViT(config.model) if config.architecture == "vit" else ResidualCNN(cnn_config(config))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_run(folder: Path | str) -> tuple[ViT | ResidualCNN, TrainConfig, DataFacts]:
    """Loads what ``vit_trainer`` has saved.

    Args:
        folder: a run's folder or its name under outputs/vit/, whose best checkpoint is then taken,
            or a checkpoint file.

    Returns:
        The model in evaluation mode on the CPU, with the averaged weights if there are any; the
        settings of its training; the facts of its data.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it cannot be read, or its parts do not fit together.
    """
    path = find_run("vit", folder)
    best = path / "checkpoints" / "best.pt"
    path = best if best.is_file() else path
    checkpoint = load_checkpoint(path, family="vit")
    state = checkpoint["state"]
    facts = DataFacts.from_dict(state["facts"])
    config = config_from_dict(TrainConfig, checkpoint["config"])
    if len(facts.classes) != config.model.n_classes:
        raise ValueError(
            f"{path} holds the names of {len(facts.classes)} classes and weights for "
            f"{config.model.n_classes}: they belong to different runs. Train again."
        )
    model = build_model(config)
    load_weights(model, {**state["model"], **(state["average"] or {})}, path)
    return model.eval(), config, facts
