"""Two encoders into one space: a Vision Transformer for pictures, a GPT for texts.

After training a picture lies near what describes it (Radford et al. 2021, section 2.4). The
encoders are those of the chapters on ViT and GPT: the ViT's head, which named classes, now makes
the shared vector; the GPT reads a caption to its end and predicts nothing.

Differences from the paper: a mean over the patches instead of attention pooling or a class token,
and no layer norm between pooling and projection on the picture's side.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from multimodal.contrastive_components import Temperature, at_the_end, similarities
from vit.vit_config import ViTConfig
from vit.vit_model import ViT


class TextEncoder(nn.Module):
    """A GPT without predictions: blocks, norm, the last token's vector, a projection.

    The causal mask has a use here, too: no token sees the padding behind it.
    """

    def __init__(self, config: GPTConfig, d_shared: int) -> None:
        super().__init__()
        self.gpt = GPT(config)
        self.projection = nn.Linear(config.d_model, d_shared, bias=False)  # D -> E
        nn.init.normal_(self.projection.weight, std=1 / math.sqrt(config.d_model))

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Encodes texts.

        Args:
            tokens: (B, T), each text ends with its <eos>, then padding.
            lengths: (B,), tokens of each text.

        Returns:
            (B, E), of any length.
        """
        hidden = self.gpt.hidden(tokens)  # (B, T, D)
        last = self.gpt.final_norm(at_the_end(hidden, lengths))  # (B, D)
        return cast(Tensor, self.projection(last))  # (B, E)


class DualEncoder(nn.Module):
    """Pictures and texts, each by its own encoder, into E numbers."""

    def __init__(
        self, vision: ViTConfig, text: GPTConfig, *, temperature: Temperature | None = None
    ) -> None:
        """Builds the model.

        Args:
            vision: its ``n_classes`` is E, the width of the shared space.
            text: a design of GPT's.
            temperature: learned from 0.07 on, if it is not given.
        """
        super().__init__()
        self.vision = ViT(vision)
        # A ViT's head starts at zero: each picture would get the zero vector, without a direction.
        nn.init.normal_(self.vision.head.weight, std=1 / math.sqrt(vision.d_model))
        self.text = TextEncoder(text, vision.n_classes)
        self.temperature = temperature or Temperature()

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Compares every picture with every text.

        Args:
            images: (B, C, H, W), normalized.
            tokens: (N, T).
            lengths: (N,).

        Returns:
            (B, N), scaled cosines.
        """
        u = cast(Tensor, self.vision(images))  # (B, E)
        v = self.text(tokens, lengths)  # (N, E)
        return similarities(u, v, self.temperature())  # (B, N)


def patch_features(vision: ViT, images: Tensor) -> Tensor:
    """Returns what the encoder knows of each patch: the stream below its last layer.

    The last layer prepares the mean over all patches, in which it does not matter any more which
    patch holds what (Liu et al. 2023, section 4.1, take the features from before it, too).

    Args:
        vision: the encoder.
        images: (B, C, H, W), normalized.

    Returns:
        (B, N, D), the patches row by row; a class token is left out.
    """
    x = vision.embed(images)  # (B, T, D)
    for layer in list(vision.encoder)[:-1]:
        x, _ = layer(x)
    return x if vision.class_token is None else x[:, 1:]


def as_numbers(images: Tensor) -> Tensor:
    """Turns levels 0 to 255 into numbers around 0, (B, C, H, W); 0 is a medium gray."""
    return (images.float() / 255 - 0.5) / 0.25


def blank(images: Tensor) -> Tensor:
    """Returns pictures of the same size that show nothing: levels of a medium gray."""
    return torch.full_like(images, 128)
