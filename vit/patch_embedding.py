"""From an image to a sequence of vectors: patches and one linear map, or a convolutional stem.

An image of C channels is cut into N = (side / P)^2 squares of P x P pixels, each is flattened into
C P^2 numbers, and one matrix E maps these to D (Dosovitskiy et al. 2021, section 3.1, eq. 1). The
same map is a convolution whose stride is its kernel's size; both forms are here and share weights.

The stem of small convolutions (Xiao et al. 2021) reaches the same grid in steps.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from vit.vit_config import ViTConfig, check_grid, stem_steps


def to_patches(images: Tensor, patch: int) -> Tensor:
    """Cuts images into patches, row by row.

    Args:
        images: (B, C, H, W).
        patch: pixels a side of a patch, P.

    Returns:
        (B, N, C P P), N = (H / P) (W / P). Inside a patch the order is channel, row, column: the
        order in which a convolution's kernel (C, P, P) is flattened.

    Raises:
        ValueError: P does not divide H and W.

    >>> import torch
    >>> to_patches(torch.arange(16.0).view(1, 1, 4, 4), 2)[0, 1]
    tensor([2., 3., 6., 7.])
    """
    for side in images.shape[2:]:
        check_grid(side, patch)
    rows, columns = images.shape[2] // patch, images.shape[3] // patch
    split = images.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))
    # (B, C, rows, P, columns, P) -> (B, rows, columns, C, P, P) -> (B, N, C P P)
    return split.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def to_images(patches: Tensor, patch: int, channels: int, grid: int | None = None) -> Tensor:
    """Puts patches together again: the inverse of ``to_patches``.

    Args:
        patches: (B, N, C P P).
        patch: P.
        channels: C.
        grid: rows of patches; None means that the image is square.

    Returns:
        (B, C, H, W).

    Raises:
        ValueError: the patches do not fill a grid, or are of another size.
    """
    count, size = patches.shape[1:]
    rows = grid or round(count**0.5)
    if count % rows or (grid is None and rows * rows != count):
        raise ValueError(
            f"{count} patches do not fill {rows} rows. Give the number of rows as grid, one that "
            f"divides {count}."
        )
    if size != channels * patch * patch:
        raise ValueError(
            f"a patch of {size} numbers is not {channels} channels of {patch} x {patch} pixels. "
            "Use the patch size and channels with which the image was cut."
        )
    split = patches.unflatten(2, (channels, patch, patch)).unflatten(1, (rows, count // rows))
    # (B, rows, columns, C, P, P) -> (B, C, rows, P, columns, P) -> (B, C, H, W)
    return split.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


class PatchEmbedding(nn.Module):
    """E x + b for every patch x: a reshape and one matrix product (eq. 1)."""

    def __init__(self, channels: int, patch_size: int, d_model: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.linear = nn.Linear(channels * patch_size**2, d_model)  # C P P -> D

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, D)."""
        return cast(Tensor, self.linear(to_patches(images, self.patch_size)))


class ConvPatchEmbedding(nn.Module):
    """The same map as a convolution with a stride of P: how most published code writes it."""

    def __init__(self, channels: int, patch_size: int, d_model: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, d_model, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, D)."""
        maps = self.conv(images)  # (B, D, H / P, W / P)
        return cast(Tensor, maps.flatten(2).transpose(1, 2))  # (B, N, D)


class ConvNorm(nn.Module):
    """relu(norm(convolve(x))), 3 x 3: a step of the stem.

    The norm is over groups of channels (Wu & He 2018) and not over the batch, so the result for an
    image does not depend on its neighbors, and training and inference compute the same.
    """

    def __init__(self, below: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(below, width, 3, stride, padding=1, bias=False)
        self.norm = nn.GroupNorm(group_count(width), width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, below, H, W) -> (B, width, H / stride, W / stride), sizes rounded up."""
        return F.relu(self.norm(self.conv(x)))


class ConvStem(nn.Module):
    """Small convolutions that halve the image down to the grid of patches, then a map to D.

    Their windows overlap, and their outputs pass a ReLU: the two things that a patch embedding
    lacks. Xiao et al. (2021) give their stem the batch norm of its time.
    """

    def __init__(self, channels: int, patch_size: int, d_model: int) -> None:
        super().__init__()
        steps, below = [], channels
        for width, stride in stem_steps(patch_size, d_model):
            steps.append(ConvNorm(below, width, stride))
            below = width
        self.steps = nn.Sequential(*steps)  # (B, C, H, W) -> (B, D, H / P, W / P)
        self.linear = nn.Linear(d_model, d_model)  # D -> D, a convolution of 1 x 1

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, D)."""
        maps = self.steps(images)  # (B, D, H / P, W / P)
        return cast(Tensor, self.linear(maps.flatten(2).transpose(1, 2)))  # (B, N, D)


def group_count(width: int) -> int:
    """Returns how many groups a norm over channels has: 8, or fewer if 8 does not divide them.

    >>> group_count(64), group_count(12)
    (8, 4)
    """
    return next(count for count in (8, 4, 2, 1) if width % count == 0)


def build_stem(config: ViTConfig) -> PatchEmbedding | ConvStem:
    """Returns the stem that the config names."""
    kind = ConvStem if config.stem == "conv" else PatchEmbedding
    return kind(config.channels, config.patch_size, config.d_model)
