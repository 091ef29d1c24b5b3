"""What a trained image model says about pictures: probabilities of the classes, and features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Predictions:
    """The answers for N pictures, on the CPU."""

    probabilities: Tensor  # (N, classes), each row sums to 1
    features: Tensor  # (N, D), what the head reads

    @property
    def classes(self) -> Tensor:
        """(N,) the most probable class of each picture."""
        return self.probabilities.argmax(dim=-1)


def predict(
    model: nn.Module, images: Tensor, mean: Tensor, std: Tensor, batch: int = 256
) -> Predictions:
    """Computes probabilities and features of pictures, in minibatches.

    Args:
        model: a ViT or a ResidualCNN; its mode (training or not) is left as it was.
        images: (N, C, H, W), uint8 or float from 0 to 1.
        mean: (C,) of the training pictures, from 0 to 1.
        std: (C,) of the same.
        batch: pictures computed at once.
    """
    weight = next(model.parameters())  # pictures go to its device and precision
    probabilities, features = [], []
    with evaluating(model):
        for part in images.split(batch):
            read = model.features(normalize(part, mean, std).to(weight))  # type: ignore[operator]
            logits = model.head(read)  # type: ignore[operator]  # (B, classes)
            probabilities.append(logits.float().softmax(dim=-1).cpu())
            features.append(read.float().cpu())  # (B, D)
    return Predictions(torch.cat(probabilities), torch.cat(features))


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Returns (x - mean) / std of each channel.

    Args:
        images: (B, C, H, W), uint8 from 0 to 255 or float from 0 to 1.
        mean: (C,), from 0 to 1.
        std: (C,).
    """
    return (unit_range(images) - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


def unit_range(images: Tensor) -> Tensor:
    """Returns pictures as float32 from 0 to 1; uint8 is divided by 255."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switches dropout and gradients off; afterwards the model's mode is what it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)
