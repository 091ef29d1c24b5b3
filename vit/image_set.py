"""Pictures and their classes in three splits, and the mean and deviation that normalize them.

Mean and deviation are those of the training split alone: what is known of the other pictures must
not reach the model.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vit.prediction import unit_range

SPLITS = ("train", "validation", "test")

_CHUNK = 4096  # pictures whose sums are computed at once, to save memory


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """N pictures and what is on them."""

    images: Tensor  # (N, C, H, W), uint8 from 0 to 255 or float from 0 to 1; H = W
    labels: Tensor  # (N,) long, places in the list of classes


@dataclass(frozen=True, eq=False)
class ImageData:
    """Pictures for training, for choosing, and for the one final test."""

    name: str
    classes: tuple[str, ...]  # the place of a class is its label
    train: ImageSplit
    validation: ImageSplit
    test: ImageSplit
    mean: Tensor  # (C,) of the training pictures, from 0 to 1
    std: Tensor  # (C,) of the same

    def __post_init__(self) -> None:
        """Refuses what no model can learn from.

        Raises:
            ValueError: fewer than two classes, an empty split, as many labels as pictures are not
                there, a label out of range, or pictures that are not square or of several sizes.
        """
        if len(self.classes) < 2:
            raise ValueError(
                f"{self.name} has {len(self.classes)} class ({', '.join(self.classes)}): there is "
                "nothing to tell apart. Give it pictures of at least two."
            )
        shape = self.train.images.shape[1:]
        for split in SPLITS:
            part: ImageSplit = getattr(self, split)
            _check_split(f"{self.name}, {split} split", part, len(self.classes))
            if part.images.shape[1:] != shape:
                raise ValueError(
                    f"{self.name}: pictures of the {split} split are "
                    f"{_in_words(part.images.shape[1:])}, those of training {_in_words(shape)}: "
                    "one model cannot read both. Bring them to one size."
                )

    @property
    def image_size(self) -> int:
        """Height and width of the pictures, in pixels."""
        return self.train.images.shape[-1]

    @property
    def channels(self) -> int:
        """C: 1 for gray, 3 for color."""
        return self.train.images.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all pictures, labels and splits; other data has another one."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for split in SPLITS:
            part: ImageSplit = getattr(self, split)
            for tensor in (part.images, part.labels):
                digest.update(repr((split, tensor.dtype, tuple(tensor.shape))).encode())
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation of each channel, both (C,), of pixels from 0 to 1.

    Args:
        images: (N, C, H, W), uint8 or float.

    >>> channel_statistics(torch.tensor([[[[0, 255], [255, 0]]]], dtype=torch.uint8))
    (tensor([0.5000]), tensor([0.5000]))
    """
    count = images.numel() / images.shape[1]  # pixels of a channel
    total = torch.zeros(images.shape[1], dtype=torch.float64)  # (C,)
    squares = torch.zeros_like(total)
    for part in images.split(_CHUNK):
        pixels = unit_range(part).double()
        total += pixels.sum(dim=(0, 2, 3))
        squares += pixels.square().sum(dim=(0, 2, 3))
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    std[std < 1e-4] = 1.0  # a channel that is the same everywhere: nothing to scale
    return mean.float(), std.float()


def _check_split(place: str, split: ImageSplit, n_classes: int) -> None:
    """Refuses a split whose pictures and labels do not belong together."""
    if len(split.labels) == 0 or len(split.labels) != len(split.images):
        raise ValueError(
            f"{place}: there are {len(split.images):,} pictures and {len(split.labels):,} labels. "
            "Give it one label for each picture, and one picture or more."
        )
    if split.images.ndim != 4 or split.images.shape[2] != split.images.shape[3]:
        raise ValueError(
            f"{place}: pictures are {_in_words(split.images.shape[1:])}, but the patches are cut "
            "from squares. Cut or pad them to a square."
        )
    wrong = split.labels[(split.labels < 0) | (split.labels >= n_classes)]
    if len(wrong):
        raise ValueError(
            f"{place}: label {int(wrong[0])} is out of range, for there are {n_classes} classes, "
            f"0 to {n_classes - 1}. Correct the labels."
        )


def _in_words(shape: torch.Size) -> str:
    return " x ".join(map(str, shape))
