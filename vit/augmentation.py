"""Augmentation: pictures changed at random in ways that leave their class as it is.

Every function works on a whole minibatch (B, C, H, W) at once, draws from the generator it is
given, and fills with 0, which is black before the normalization. So it belongs before it. Which
changes leave a class as it is depends on the pictures: a mirrored shirt is a shirt, a mirrored 2 is
nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Mixed = tuple[Tensor, Tensor, Tensor]
"""Two classes of each picture, (B,) each, and the share of the first in it, (B,) from 0 to 1."""


@dataclass(frozen=True)
class Augmentation:
    """Which changes are made; without any, pictures pass as they are."""

    shift: int = 0  # moved by up to so many whole pixels up, down, left and right
    flip: bool = False  # half of the pictures mirrored, left for right
    rotate: float = 0.0  # turned by up to so many degrees, either way
    zoom: float = 0.0  # made larger or smaller by up to this share, below 1
    crop: float = 1.0  # the least share of the area that is cut out and enlarged; 1: nothing is
    cutout: int = 0  # side of a black square, pixels; 0: none
    mixup: float = 0.0  # alpha of the Beta distribution of the shares; 0: no mixing

    def __post_init__(self) -> None:
        """Refuses changes that cannot be made.

        Raises:
            ValueError: a number is out of its range.
        """
        for name in ("shift", "rotate", "cutout", "mixup"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} is below 0. Use 0 or more.")
        if not 0 <= self.zoom < 1:
            raise ValueError(
                f"zoom={self.zoom} is no share below 1: the pictures would vanish. Use 0 to 0.5."
            )
        if not 0 < self.crop <= 1:
            raise ValueError(
                f"crop={self.crop} is no share of the area. Use more than 0, and 1 for no crop."
            )

    def __call__(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Mixed]:
        """Changes a minibatch; the one that is given stays as it is.

        Args:
            images: (B, C, H, W), float from 0 to 1, not normalized.
            labels: (B,).
            generator: on the CPU; the only source of chance.

        Returns:
            Pictures of the same shape; what is on them.
        """
        if self.shift:
            images = shift(images, self.shift, generator)
        if self.flip:
            images = flip(images, generator)
        if self.rotate or self.zoom:
            images = rotate_and_zoom(images, self.rotate, self.zoom, generator)
        if self.crop < 1:
            images = random_crop(images, self.crop, generator)
        if self.cutout:
            images = cutout(images, self.cutout, generator)
        if self.mixup:
            return mixup(images, labels, self.mixup, generator)
        return images, (labels, labels, torch.ones(len(labels), device=labels.device))


def shift(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Moves each picture by whole pixels; what leaves it is lost, what enters is black.

    Args:
        images: (B, C, H, W).
        most: pixels, in both directions and both ways.
        generator: on the CPU.
    """
    size, _, height, width = images.shape
    padded = F.pad(images, (most, most, most, most))  # (B, C, H + 2 most, W + 2 most)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # all places at once, no copy
    down, right = torch.randint(2 * most + 1, (2, size), generator=generator).to(images.device)
    return windows[torch.arange(size, device=images.device), :, down, right]  # (B, C, H, W)


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors each picture with probability one half, left for right."""
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(chosen.to(images.device), images.flip(-1), images)


def rotate_and_zoom(
    images: Tensor, degrees: float, share: float, generator: torch.Generator
) -> Tensor:
    """Turns each picture around its middle and changes its size, in one interpolation.

    Args:
        images: (B, C, H, W) float.
        degrees: the largest turn, either way.
        share: the largest change of size: with 0.1 a picture gets 0.9 to 1.1 times as large.
        generator: on the CPU.
    """
    turned, grown = 2 * torch.rand(2, len(images), generator=generator) - 1  # (B,) each, -1 to 1
    angle, scale = turned * math.radians(degrees), 1 + grown * share
    cosine, sine = angle.cos() / scale, angle.sin() / scale  # from the result back to the picture
    zero = torch.zeros_like(angle)
    return _warped(images, torch.stack([cosine, -sine, zero, sine, cosine, zero], dim=1))


def random_crop(images: Tensor, least: float, generator: torch.Generator) -> Tensor:
    """Cuts a random square out of each picture and enlarges it to the whole (Szegedy et al. 2015).

    Args:
        images: (B, C, H, W) float.
        least: the smallest share of the area; the largest is 1.
        generator: on the CPU.
    """
    area, right, down = torch.rand(3, len(images), generator=generator)
    side = (least + (1 - least) * area).sqrt()  # (B,) of the square; the picture's is 1
    zero = torch.zeros_like(side)
    x, y = (2 * place - 1 for place in (right, down))  # the square's middle, if it were a point
    return _warped(
        images, torch.stack([side, zero, (1 - side) * x, zero, side, (1 - side) * y], dim=1)
    )


def cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Covers a square of each picture with black (DeVries and Taylor 2017).

    Its middle is anywhere in the picture, so that a part of it may lie outside, as in the paper.

    Args:
        images: (B, C, H, W).
        side: pixels.
        generator: on the CPU.
    """
    size, _, height, width = images.shape
    row, column = torch.rand(2, size, 1, generator=generator)  # (B, 1) each
    inside = []
    for middle, length in ((row, height), (column, width)):
        first = (middle * length).floor() - side // 2  # (B, 1)
        places = torch.arange(length)  # (length,)
        inside.append((places >= first) & (places < first + side))  # (B, length)
    covered = inside[0].unsqueeze(2) & inside[1].unsqueeze(1)  # (B, H, W)
    return images.masked_fill(covered.unsqueeze(1).to(images.device), 0)


def mixup(
    images: Tensor, labels: Tensor, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Mixed]:
    """Lays two pictures over each other: x = share * x_a + (1 - share) * x_b.

    share ~ Beta(alpha, alpha), one for each picture (Zhang et al. 2018, eq. 1; their code draws one
    for the minibatch). The other picture is the one before it: the order is random anyway.

    Args:
        images: (B, C, H, W) float.
        labels: (B,).
        alpha: small: nearly always one picture alone; 1: every share is as likely.
        generator: on the CPU.

    Returns:
        The mixtures; the labels a, the labels b, and the share of a.
    """
    # torch has no Beta distribution that takes a generator, numpy has.
    seed = int(torch.randint(2**62, (), generator=generator))
    drawn = np.random.default_rng(seed).beta(alpha, alpha, len(images))
    share = torch.from_numpy(drawn).to(images)  # (B,)
    mixtures = torch.lerp(images.roll(1, 0), images, share.view(-1, 1, 1, 1))
    return mixtures, (labels, labels.roll(1, 0), share)


def _warped(images: Tensor, matrices: Tensor) -> Tensor:
    """Reads each picture at the places that a matrix gives, between the pixels; black outside.

    Args:
        images: (B, C, H, W) float.
        matrices: (B, 6), rows of (2, 3): place in the result -> place in the picture, both from -1
            to 1.
    """
    grid = F.affine_grid(
        matrices.view(-1, 2, 3).to(images), list(images.shape), align_corners=False
    )
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
