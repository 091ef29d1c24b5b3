"""Minibatches of pictures: which come next, moved and mixed how, from the seed and a number alone.

Minibatch k of a seed is a function of (pictures, seed, k). It depends on no model and on no global
random generator, so that a ViT and a CNN of one seed see the same pictures in the same order,
moved in the same way; and to resume a run, the number is all that has to be remembered.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tutorial_kit.device import mixed_seed
from vit.augmentation import Augmentation
from vit.image_data import ImageData
from vit.prediction import normalize, unit_range


@dataclass(frozen=True)
class ImageBatch:
    """Pictures and what is to be said of each: mostly one class, a mixture of two with mixup."""

    images: Tensor  # (B, C, H, W), normalized
    labels: Tensor  # (B,)
    others: Tensor  # (B,) the class of the picture that is mixed in
    share: Tensor  # (B,) of the first class in the mixture, 0 to 1

    def rows(self, rows: slice) -> ImageBatch:
        """Returns some of the pictures."""
        return ImageBatch(self.images[rows], self.labels[rows], self.others[rows], self.share[rows])

    def to(self, device: torch.device) -> ImageBatch:
        """Returns the minibatch on a device."""
        return ImageBatch(
            self.images.to(device), self.labels.to(device), self.others.to(device),
            self.share.to(device),
        )  # fmt: skip

    def loss(self, logits: Tensor, label_smoothing: float) -> Tensor:
        """Cross-entropy with label smoothing (Szegedy et al. 2016, section 7), a scalar in nats.

        With mixup it is share * loss of one class + (1 - share) * loss of the other, which is the
        cross-entropy with the mixed target (Zhang et al. 2018, section 2).

        Args:
            logits: (B, classes).
            label_smoothing: share of the target that all classes get alike.
        """
        losses = F.cross_entropy(
            logits, self.labels, reduction="none", label_smoothing=label_smoothing
        )  # (B,)
        if bool((self.share < 1).any()):
            other = F.cross_entropy(
                logits, self.others, reduction="none", label_smoothing=label_smoothing
            )
            losses = self.share * losses + (1 - self.share) * other
        return losses.mean()


class ImageSampler:
    """An endless row of minibatches; the training pictures are shuffled anew in each epoch."""

    def __init__(
        self, data: ImageData, augmentation: Augmentation, batch_size: int, seed: int
    ) -> None:
        """Starts at minibatch 0.

        Args:
            data: whose training split is drawn from; also mean and deviation.
            augmentation: what is done to a minibatch.
            batch_size: pictures in it, B; more than there are pictures is possible.
            seed: of order and augmentation.
        """
        self.data, self.augmentation = data, augmentation
        self.batch_size, self.seed = batch_size, seed
        self.number = 0  # of the next minibatch
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def next_batch(self) -> ImageBatch:
        """Returns the next minibatch, on the CPU."""
        rows = self._rows()
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, 2 * self.number + 1))
        self.number += 1
        split = self.data.train
        images, (labels, others, share) = self.augmentation(
            unit_range(split.images[rows]), split.labels[rows], generator
        )
        return ImageBatch(normalize(images, self.data.mean, self.data.std), labels, others, share)

    def _rows(self) -> Tensor:
        """Returns which pictures the next minibatch holds, (B,): the epochs follow each other."""
        size, rows = len(self.data.train.labels), []
        place, end = self.number * self.batch_size, (self.number + 1) * self.batch_size
        while place < end:
            epoch, first = divmod(place, size)
            rows.append(self._order_of(epoch)[first : first + end - place])
            place += len(rows[-1])
        return torch.cat(rows)

    def _order_of(self, epoch: int) -> Tensor:
        """Returns the order of the pictures in an epoch, (N,)."""
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, 2 * epoch))
            self._epoch = epoch
            self._order = torch.randperm(len(self.data.train.labels), generator=generator)
        return self._order
