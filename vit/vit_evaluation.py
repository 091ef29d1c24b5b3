"""How an image model is measured: loss and share of right answers on pictures not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit.image_data import ImageSplit
from vit.prediction import evaluating, normalize
from vit.saved_model import DataFacts
from vit.weight_average import WeightAverage

EVALUATION_BATCH = 250  # pictures computed at once
SAMPLE_PICTURES = 8  # pictures whose answers each evaluation prints


@dataclass(frozen=True)
class Scores:
    """Means over a split."""

    loss: float  # nats per picture, without label smoothing
    accuracy: float  # share of right answers, 0 to 1


def evaluate(model: nn.Module, split: ImageSplit, facts: DataFacts) -> tuple[Scores, Tensor]:
    """Scores a split; dropout is off, nothing is augmented, no random number is drawn.

    Args:
        model: stays in its mode, training or evaluation.
        split: the pictures.
        facts: mean and deviation of the training pictures.

    Returns:
        The scores, and the answers, (N,) classes.
    """
    device = next(model.parameters()).device
    loss, answers = 0.0, []
    with evaluating(model):
        for images, labels in zip(
            split.images.split(EVALUATION_BATCH), split.labels.split(EVALUATION_BATCH), strict=True
        ):
            logits = model(normalize(images, facts.mean, facts.std).to(device))  # (B, classes)
            loss += F.cross_entropy(logits, labels.to(device), reduction="sum").item()
            answers.append(logits.argmax(dim=-1).cpu())
    chosen = torch.cat(answers)
    accuracy = (chosen == split.labels).float().mean().item()
    return Scores(loss / len(split.labels), accuracy), chosen


@contextmanager
def averaged(model: nn.Module, average: WeightAverage | None) -> Iterator[None]:
    """Puts the averaged weights into the model; afterwards it has its own again, bit for bit."""
    if average is None:
        yield
        return
    own = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.load_state_dict(average.merged(model))
    try:
        yield
    finally:
        model.load_state_dict(own)


def answers_in_words(labels: Tensor, answers: Tensor, classes: tuple[str, ...]) -> str:
    """Returns the answers to the first pictures; a wrong one says what it is not.

    >>> answers_in_words(torch.tensor([0, 1]), torch.tensor([0, 0]), ("cat", "dog"))
    'cat, [cat, not dog]'
    """
    pairs = zip(labels[:SAMPLE_PICTURES].tolist(), answers[:SAMPLE_PICTURES].tolist(), strict=True)
    return ", ".join(
        classes[answer] if answer == truth else f"[{classes[answer]}, not {classes[truth]}]"
        for truth, answer in pairs
    )
