"""The rival: a small residual CNN of as many parameters as the ViT, built with the same care.

He et al.'s (2016a, section 3.3) in the order of their second paper (2016b, figure 4e): norm and
ReLU stand before each convolution. As in the CNNs that the ViT paper compares with
(Dosovitskiy et al. 2021, section 4.1), the norms are over groups of channels, so one image's scores
do not depend on the others in its minibatch.

    stem -> for each stage: blocks, each x + convolve(convolve(x)) -> mean over all places -> head

Each stage halves the image and doubles the channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutorial_kit.config_checks import check_counts
from vit.patch_embedding import group_count
from vit.vit_model import check_images

LARGE_IMAGE = 16  # pixels a side from which the stem halves the image


@dataclass(frozen=True)
class CNNConfig:
    """The shape of the CNN."""

    image_size: int = 28  # pixels a side
    channels: int = 1  # of the images: 1 gray, 3 color
    n_classes: int = 10  # what the head tells apart
    width: int = 32  # channels of the first stage, W; the others have 2 W, 4 W ..
    n_stages: int = 3  # sizes of image that the blocks work on
    n_blocks: int = 1  # residual blocks in each stage

    def __post_init__(self) -> None:
        """Checks what the layers assume."""
        check_counts(self, "image_size", "channels", "n_classes", "width", "n_stages", "n_blocks")


class NormedConv(nn.Module):
    """convolve(relu(norm(x))), 3 x 3."""

    def __init__(self, below: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(group_count(below), below)
        self.conv = nn.Conv2d(below, width, 3, stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, below, H, W) -> (B, width, H / stride, W / stride), sizes rounded up."""
        return cast(Tensor, self.conv(F.relu(self.norm(x))))


class ResidualBlock(nn.Module):
    """shortcut(x) + convolve(convolve(x)); the shortcut is x itself where the shapes agree."""

    def __init__(self, below: int, width: int, stride: int) -> None:
        super().__init__()
        same = below == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(below, width, 1, stride, bias=False)
        self.first = NormedConv(below, width, stride)
        self.second = NormedConv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, below, H, W) -> (B, width, H / stride, W / stride), sizes rounded up."""
        return cast(Tensor, self.shortcut(x) + self.second(self.first(x)))


class ResidualCNN(nn.Module):
    """An image classifier of convolutions: images in, a score for each class out."""

    def __init__(self, config: CNNConfig) -> None:
        """Builds and initializes the model."""
        super().__init__()
        self.config = config
        stride = 2 if config.image_size >= LARGE_IMAGE else 1
        self.stem = nn.Conv2d(config.channels, config.width, 3, stride, padding=1, bias=False)
        blocks, below = [], config.width
        for stage in range(config.n_stages):
            width = config.width * 2**stage
            for block in range(config.n_blocks):
                blocks.append(ResidualBlock(below, width, 2 if stage and not block else 1))
                below = width
        self.blocks = nn.Sequential(*blocks)  # (B, W, H, W) -> (B, below, h, w)
        self.norm = nn.GroupNorm(group_count(below), below)
        self.head = nn.Linear(below, config.n_classes)  # channels of the last stage -> classes
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits of normalized images: (B, C, H, W) -> (B, classes).

        Raises:
            ValueError: the images are of another size or number of channels.
        """
        return cast(Tensor, self.head(self.features(images)))

    def features(self, images: Tensor) -> Tensor:
        """Returns what the head reads, (B, channels of the last stage)."""
        check_images(images, self.config.channels, self.config.image_size)
        maps = self.blocks(self.stem(images))  # (B, channels, h, w)
        return F.relu(self.norm(maps)).mean((2, 3))


@torch.no_grad()
def initialize(model: ResidualCNN) -> None:
    """Draws convolutions for ReLU (He et al. 2015, eq. 10); the head begins at zero, as the ViT's.

    The last convolution of each block begins at zero too: each block is its shortcut at first
    (Goyal et al. 2017, section 5.1, who set the norm's gain to zero).
    """
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    for block in model.blocks:
        nn.init.zeros_(cast(ResidualBlock, block).second.conv.weight)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)


def cnn_parameter_count(config: CNNConfig) -> int:
    """Returns the number of parameters by a closed formula.

    A block from b to w channels has 9 b w + 9 w^2 in its convolutions, 2 b + 2 w in its norms, and
    b w in its shortcut if that changes the shape.

    >>> cnn_parameter_count(CNNConfig())
    307690
    """
    c, below = config, config.width
    count = 9 * c.channels * c.width
    for stage in range(c.n_stages):
        width = c.width * 2**stage
        for block in range(c.n_blocks):
            changes = below != width or (stage > 0 and block == 0)
            count += 9 * (below + width) * width + 2 * (below + width) + changes * below * width
            below = width
    return count + 2 * below + (below + 1) * c.n_classes


def cnn_of_size(
    parameters: int, image_size: int, channels: int, n_classes: int, step: int = 8
) -> CNNConfig:
    """Returns the CNN whose number of parameters is nearest to a ViT's.

    Args:
        parameters: to come near to.
        image_size: pixels a side.
        channels: of the images.
        n_classes: of the head.
        step: widths are multiples of it: so many groups has a norm, and processors like it.

    >>> config = cnn_of_size(805_130, 28, 1, 10)
    >>> config.width, cnn_parameter_count(config)
    (48, 690394)
    """
    start = CNNConfig(image_size, channels, n_classes, width=step)
    while cnn_parameter_count(start) < parameters:
        start = replace(start, width=start.width + step)
    candidates = [start, replace(start, width=max(step, start.width - step))]
    return min(candidates, key=lambda config: abs(cnn_parameter_count(config) - parameters))
