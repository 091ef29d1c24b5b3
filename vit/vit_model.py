"""A Vision Transformer, assembled: stem, positions, L encoder layers, a head.

    z0 = [class token; E x_1; ...; E x_N] + positions      (Dosovitskiy et al. 2021, eq. 1)
    z' = z + attention(norm(z));  z = z' + feed_forward(norm(z'))      (eq. 2 and 3, L times)
    y = head(norm(z_L of the class token))                  (eq. 4)

With ``pooling="mean"`` there is no class token, and y = head(mean of norm(z_L) over the patches)
(appendix D.3).
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from tutorial_kit.dropout import Dropout
from vit.patch_embedding import ConvStem, PatchEmbedding, build_stem, to_patches
from vit.position_encodings import PositionEncoding, RotaryPositions2D, build_positions
from vit.vit_components import EncoderLayer
from vit.vit_config import SIZES, ViTConfig, parameter_count

__all__ = ["SIZES", "ViT", "ViTConfig", "check_images", "parameter_count"]


class ViT(nn.Module):
    """An image classifier: images in, a score for each class out."""

    def __init__(self, config: ViTConfig) -> None:
        """Builds and initializes the model."""
        super().__init__()
        self.config = config
        self.stem: PatchEmbedding | ConvStem = build_stem(config)
        self.class_token = (
            nn.Parameter(torch.zeros(config.d_model)) if config.pooling == "cls" else None
        )  # (D,)
        self.positions: PositionEncoding = build_positions(config)
        self.dropout = Dropout(config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.head = nn.Linear(config.d_model, config.n_classes)  # D -> classes
        initialize(self)

    def forward(
        self, images: Tensor, return_intermediates: bool = False
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Classifies a minibatch of images.

        Args:
            images: (B, C, H, W), normalized numbers.
            return_intermediates: also return every step by name.

        Returns:
            The logits, (B, classes). With ``return_intermediates`` also a dictionary in the order
            of the computation: "patches" (B, N, C P P), without a convolutional stem; "embedding"
            (B, T, D); for layer i "attention_i" (B, H, T, T), the weights, and "layer_i"
            (B, T, D), the stream after it; "hidden" (B, T, D); "features" (B, D); "logits".

        Raises:
            ValueError: the images are of another size or number of channels.
        """
        if not return_intermediates:
            return cast(Tensor, self.head(self.features(images)))
        named: dict[str, Tensor] = {}
        features = self.features(images, named)
        named["logits"] = self.head(features)
        return named["logits"], named

    def features(self, images: Tensor, named: dict[str, Tensor] | None = None) -> Tensor:
        """Returns what the head reads, (B, D): the class token's vector, or the mean of all.

        Args:
            images: (B, C, H, W).
            named: a dictionary that is given every step by name.
        """
        x = self.embed(images, named)  # (B, T, D)
        rotary = self.positions if isinstance(self.positions, RotaryPositions2D) else None
        for i, layer in enumerate(self.encoder):
            # Behind the last layer the class token alone is read: the others need not be computed.
            last = i == self.config.n_layers - 1 and self.class_token is not None
            x, weights = layer(x, rotary, named is not None, last and named is None)
            if named is not None:
                named |= {f"attention_{i}": weights, f"layer_{i}": x}
        hidden = self.norm(x)  # (B, T, D), or (B, 1, D): the class token alone
        features = hidden.mean(1) if self.class_token is None else hidden[:, 0]  # (B, D)
        if named is not None:
            named |= {"hidden": hidden, "features": features}
        return cast(Tensor, features)

    def embed(self, images: Tensor, named: dict[str, Tensor] | None = None) -> Tensor:
        """Returns the tokens that enter the encoder, (B, T, D); arguments as ``features``'s."""
        check_images(images, self.config.channels, self.config.image_size)
        x = self.stem(images)  # (B, N, D)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)  # (B, N + 1, D)
        x = self.dropout(self.positions(x))  # (B, T, D)
        if named is not None:
            if isinstance(self.stem, PatchEmbedding):
                named["patches"] = to_patches(images, self.config.patch_size)
            named["embedding"] = x
        return cast(Tensor, x)

    def resized(self, image_size: int) -> ViT:
        """Returns a copy for images of another size: same patches, more or fewer of them.

        Args:
            image_size: pixels a side, a multiple of the patch size.

        Raises:
            ValueError: it is no multiple of the patch size.
        """
        config = replace(self.config, image_size=image_size)
        model = copy.deepcopy(self)
        model.config = config
        model.positions = self.positions.resized(self.config.grid, config.grid)
        return model


def check_images(images: Tensor, channels: int, image_size: int) -> None:
    """Refuses images that the model was not made for.

    Raises:
        ValueError: the shape is not (B, channels, image_size, image_size).
    """
    if images.ndim != 4:
        raise ValueError(
            f"images of the shape {tuple(images.shape)} are no minibatch (B, C, H, W). Use "
            "image[None] for a single one."
        )
    if images.shape[1] != channels:
        raise ValueError(
            f"the images have {images.shape[1]} channels and the model reads {channels} (1 is "
            "gray, 3 is color). Convert the images, or train a model for them."
        )
    if images.shape[2:] != (image_size, image_size):
        raise ValueError(
            f"images of {images.shape[2]} x {images.shape[3]} pixels do not fit a model for "
            f"{image_size} x {image_size}. Resize the images, or the ViT with "
            "model.resized(image_size)."
        )


@torch.no_grad()
def initialize(model: ViT) -> None:
    """Draws every weight as the paper's code does.

    | tensor | drawn from |
    |---|---|
    | patch embedding, last map of a stem | N(0, 1 / inputs) |
    | convolutions of a stem (not the paper's) | N(0, 2 / inputs), for ReLU (He et al. 2015) |
    | matrices of attention and feed-forward | uniform, variance 2 / (inputs + outputs) |
    | learned positions | N(0, 0.02^2) (position_encodings.py) |
    | head, class token, biases | 0 |
    | norm gains | 1 |

    Queries, keys and values are drawn as three matrices of (D, D). A head of zeros begins with the
    same score for every class: the loss starts at the logarithm of their number.
    """
    for part in model.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    for layer in model.encoder:
        for matrix in cast(EncoderLayer, layer).attention.qkv.weight.chunk(3):
            nn.init.xavier_uniform_(matrix)
    nn.init.normal_(model.stem.linear.weight, std=1 / math.sqrt(model.stem.linear.in_features))
    nn.init.zeros_(model.head.weight)
