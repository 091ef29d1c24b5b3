"""Where a ViT looks: attention weights turned into maps over the picture, and their reach.

L layers, B pictures, H heads, T tokens, N = G * G patches. T = N + 1 with a class token, which
comes first, else T = N.

- `class_attention`: what the class token of each layer and head reads.
- `rollout`: Abnar & Zuidema 2020, section 3: weights of all layers multiplied, with the residual
  connections counted as attention of a token to itself. Dosovitskiy et al. 2021, appendix D.7, use
  it with the mean over heads, as here.
- `attention_distance`: Dosovitskiy et al. 2021, figure 7 right and appendix D.7: how far from
  itself a patch looks, the counterpart of a CNN's receptive field.

A map tells where information is taken from, not that it decides the answer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vit.prediction import evaluating
from vit.vit_model import ViT


def attention_weights(model: nn.Module, images: Tensor) -> Tensor:
    """Returns the weights of every layer and head.

    Args:
        model: a ViT; its mode (training or not) is left as it was.
        images: (B, C, H, W), normalized, on any device.

    Returns:
        (L, B, H, T, T) on the CPU; row t tells how token t divides its attention.

    Raises:
        ValueError: the model has no attention.
    """
    vit = vit_of(model)
    with evaluating(vit):
        _, named = vit(images.to(next(vit.parameters())), return_intermediates=True)
        layers = range(vit.config.n_layers)
        return torch.stack([named[f"attention_{layer}"].float().cpu() for layer in layers])


def vit_of(model: nn.Module) -> ViT:
    """Returns the model if it is a ViT.

    Raises:
        ValueError: it is another one, which has no attention.
    """
    if not isinstance(model, ViT):
        raise ValueError(
            f"{type(model).__name__} has no attention: there is no map of where it looks. Name a "
            "run with --architecture vit."
        )
    return model


def class_attention(weights: Tensor, grid: int) -> Tensor:
    """Returns what the class token reads from each patch; without one, what the patches read.

    Without a class token the mean over all patches is what the head sees, so the map is the mean
    over all tokens that look.

    Args:
        weights: (..., T, T).
        grid: G, patches along a side.

    Returns:
        (..., G, G). A class token's own share is left out, so a map may sum to less than 1.

    Raises:
        ValueError: T is neither G * G nor G * G + 1.

    >>> class_attention(torch.full((5, 5), 0.2), 2).tolist()
    [[0.20000000298023224, 0.20000000298023224], [0.20000000298023224, 0.20000000298023224]]
    """
    extra = _extra_tokens(weights, grid)
    row = weights[..., 0, :] if extra else weights.mean(dim=-2)  # (..., T)
    return row[..., extra:].unflatten(-1, (grid, grid))  # (..., G, G)


def rollout(weights: Tensor) -> Tensor:
    """Returns how much of each input token is in each output token, if attention were all.

    A_l' = (mean over heads of A_l + I) / 2, and the result is A_L' ... A_2' A_1' (Abnar & Zuidema
    2020, section 3). Values and feed-forward networks are left out.

    Args:
        weights: (L, ..., H, T, T).

    Returns:
        (..., T, T); each row sums to 1.
    """
    residual = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    steps = (weights.mean(dim=-3) + residual) / 2  # (L, ..., T, T)
    total = steps[0]
    for step in steps[1:]:
        total = step @ total  # (..., T, T)
    return total


def attention_distance(weights: Tensor, grid: int, patch: int) -> Tensor:
    """Returns how many pixels lie on average between a patch and where it looks.

    The distance between two patches is that of their centers. The class token has no place: it is
    left out, and what the patches give to each other is scaled to sum to 1.

    Args:
        weights: (L, B, H, T, T).
        grid: G, patches along a side.
        patch: P, pixels along a patch's side.

    Returns:
        (L, H) pixels, the mean over pictures and patches.
    """
    extra = _extra_tokens(weights, grid)
    between = weights[..., extra:, extra:]  # (L, B, H, N, N)
    between = between / between.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    distances = patch_distances(grid, patch).to(weights)  # (N, N)
    return (between * distances).sum(dim=-1).mean(dim=(1, 3))


def patch_distances(grid: int, patch: int) -> Tensor:
    """Returns the pixels between the centers of every two patches, (N, N).

    >>> patch_distances(2, 4)[0].tolist()
    [0.0, 4.0, 4.0, 5.656854152679443]
    """
    places = torch.cartesian_prod(torch.arange(grid), torch.arange(grid)).float() * patch  # (N, 2)
    return (places.unsqueeze(0) - places.unsqueeze(1)).square().sum(dim=-1).sqrt()


def even_distance(grid: int, patch: int) -> float:
    """Returns the attention distance, in pixels, of a head that looks everywhere alike."""
    return float(patch_distances(grid, patch).mean())


def patches_for_half(maps: Tensor) -> Tensor:
    """Counts the fewest patches that hold half of what a map gives to all of them.

    Args:
        maps: (..., G, G).

    Returns:
        (...) of whole numbers; G * G / 2 for an even map, 1 if one patch has half.

    >>> patches_for_half(torch.tensor([[0.6, 0.1], [0.1, 0.2]])).item()
    1
    """
    shares = maps.flatten(-2)  # (..., N)
    most = shares.sort(dim=-1, descending=True).values.cumsum(dim=-1)
    half = most[..., -1:] * (0.5 - 1e-6)  # a sum of equal shares may round to just below a half
    return (most < half).sum(dim=-1) + 1


def _extra_tokens(weights: Tensor, grid: int) -> int:
    """Returns 1 if the tokens are a class token and G * G patches, 0 if they are the patches."""
    tokens = weights.shape[-1]
    if tokens - grid * grid not in (0, 1):
        raise ValueError(
            f"attention between {tokens} tokens does not belong to {grid} x {grid} patches: these "
            f"make {grid * grid} tokens, or one more with a class token. Give the model's own grid."
        )
    return tokens - grid * grid
