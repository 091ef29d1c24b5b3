"""What two encoders in one space can do without further training: name pictures, find them.

Naming (Radford et al. 2021, section 3.1): each class is described in words; the class whose text
lies nearest is the answer. Several wordings of a class are averaged (section 3.1.4). Finding: rank
all texts for a picture, or all pictures for a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal.captions import phrase
from multimodal.contrastive_model import DualEncoder, as_numbers
from multimodal.digit_captions import digit_prompts
from multimodal.multimodal_data import Pictures, encode_captions
from multimodal.scenes import COMBINATIONS, MOST, SIZES, Combination, Group, Scene

TOGETHER = 500  # pictures encoded at once


def combination_prompts(combination: Combination) -> list[str]:
    """Returns wordings for a color and a shape: with and without a size, one thing to three.

    >>> combination_prompts(("red", "ring"))[:3]
    ['one red ring', 'one small red ring', 'one large red ring']
    """
    color, shape = combination
    prompts = []
    for count in range(1, MOST + 1):
        groups = [Group(shape, color, size, "left", count) for size in SIZES]
        prompts.append(phrase(groups[0], {"size", "place"}))
        prompts += [phrase(group, {"place"}) for group in groups]
    return prompts


@torch.no_grad()
def encode_images(model: DualEncoder, images: Tensor) -> Tensor:
    """(N, C, H, W), levels -> (N, E), vectors of length 1."""
    device = next(model.parameters()).device
    parts = [model.vision(as_numbers(part.to(device))) for part in images.split(TOGETHER)]
    return F.normalize(torch.cat(parts), dim=-1)


@torch.no_grad()
def encode_texts(model: DualEncoder, texts: Sequence[str]) -> Tensor:
    """N texts -> (N, E), vectors of length 1."""
    device = next(model.parameters()).device
    tokens, lengths = encode_captions(texts)
    return F.normalize(model.text(tokens.to(device), lengths.to(device)), dim=-1)


def class_vectors(model: DualEncoder, prompts: Sequence[Sequence[str]]) -> Tensor:
    """Returns one vector for each class, (classes, E): the mean of its wordings, of length 1."""
    means = torch.stack([encode_texts(model, wordings).mean(dim=0) for wordings in prompts])
    return F.normalize(means, dim=-1)


def prompts_for(pictures: Pictures) -> list[list[str]]:
    """Returns the wordings of every class that a picture of this kind may belong to."""
    if isinstance(pictures.subjects[0], Scene):
        return [combination_prompts(combination) for combination in COMBINATIONS]
    return [digit_prompts(digit) for digit in range(10)]


def class_names(pictures: Pictures) -> list[str]:
    """Returns the names of the classes, in the order of ``prompts_for``."""
    if isinstance(pictures.subjects[0], Scene):
        return [" ".join(combination) for combination in COMBINATIONS]
    return [digit_prompts(digit)[-1] for digit in range(10)]


def class_labels(pictures: Pictures) -> Tensor:
    """Returns the class of each picture, (N,); of a scene that of its first group."""
    numbers = {combination: i for i, combination in enumerate(COMBINATIONS)}
    return torch.tensor(
        [
            numbers[subject.groups[0].combination] if isinstance(subject, Scene) else subject
            for subject in pictures.subjects
        ]
    )


def classify(model: DualEncoder, pictures: Pictures) -> Tensor:
    """Returns the class that each picture is nearest to, (N,), out of all classes."""
    classes = class_vectors(model, prompts_for(pictures))  # (classes, E)
    return (encode_images(model, pictures.images) @ classes.mT).argmax(dim=1).cpu()


def accuracy(model: DualEncoder, pictures: Pictures) -> float:
    """Returns the share of pictures that are named rightly, 0 to 1."""
    model.eval()
    return (classify(model, pictures) == class_labels(pictures)).float().mean().item()


def distinct(pictures: Pictures) -> Pictures:
    """Keeps the first picture of every full caption, so that each has one right partner."""
    first: dict[str, int] = {}
    for row, text in enumerate(pictures.captions()):
        first.setdefault(text, row)
    return pictures.rows(list(first.values()))


@dataclass(frozen=True)
class Found:
    """A search among pictures that all differ in their captions."""

    pictures: Pictures  # N
    texts: list[str]  # N, the full captions
    cosines: Tensor  # (N, N), row: picture, column: text

    def hits(self) -> tuple[float, float]:
        """Returns the shares of pictures and of texts that find their partner first (recall@1)."""
        own = torch.arange(len(self.texts), device=self.cosines.device)
        to_text, to_picture = (
            (self.cosines.argmax(dim=dim) == own).float().mean().item() for dim in (1, 0)
        )
        return to_text, to_picture


def search(model: DualEncoder, pictures: Pictures) -> Found:
    """Compares pictures with their captions; repeated captions are left out."""
    model.eval()
    shown = distinct(pictures)
    texts = shown.captions()
    return Found(shown, texts, encode_images(model, shown.images) @ encode_texts(model, texts).mT)
