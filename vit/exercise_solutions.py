"""Solutions of the exercises on the vision transformer: one way to write each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def token_count(height: int, width: int, patch: int, class_token: bool) -> int:
    """Rows of patches times columns, and the class token."""
    return (height // patch) * (width // patch) + int(class_token)


def add_class_token(patches: Tensor, class_token: Tensor, positions: Tensor) -> Tensor:
    """(B, N, D), (D,), (1 + N, D) -> (B, 1 + N, D): put in front, then add all positions."""
    front = class_token.expand(len(patches), 1, -1)  # (B, 1, D)
    return torch.cat([front, patches], dim=1) + positions


def cut_patches(images: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) -> (B, N, C P P): name the six dimensions, then bring them in order."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch, width // patch
    split = images.reshape(batch, channels, rows, patch, columns, patch)
    ordered = split.permute(0, 2, 4, 1, 3, 5)  # (B, rows, columns, C, P, P)
    return ordered.reshape(batch, rows * columns, channels * patch * patch)


def mixed_targets(first: Tensor, second: Tensor, share: Tensor, n_classes: int) -> Tensor:
    """(B,) each -> (B, C): a sum, so that two pictures of one class make a whole."""
    share = share.unsqueeze(1)  # (B, 1)
    return share * F.one_hot(first, n_classes) + (1 - share) * F.one_hot(second, n_classes)


def resize_positions(table: Tensor, new: int) -> Tensor:
    """(1 + G G, D) -> (1 + new new, D): the patches' vectors are an image of D channels."""
    grid = round((len(table) - 1) ** 0.5)
    image = table[1:].T.reshape(1, -1, grid, grid)  # (1, D, G, G)
    image = F.interpolate(image, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], image[0].flatten(1).T])


def attention_distance(weights: Tensor, grid: int, patch: int) -> Tensor:
    """(N, N) -> scalar: distances weighted by attention, a row at a time."""
    number = torch.arange(grid * grid)
    places = patch * torch.stack([number // grid, number % grid], dim=1).float()  # (N, 2)
    between = (places[:, None] - places[None]).square().sum(-1).sqrt()  # (N, N)
    return (weights * between).sum(-1).mean()


def rollout(weights: Tensor) -> Tensor:
    """(L, H, T, T) -> (T, T): a later layer reads what the earlier ones made, so it goes left."""
    steps = (weights.mean(1) + torch.eye(weights.shape[-1])) / 2  # (L, T, T)
    total = steps[0]
    for step in steps[1:]:
        total = step @ total
    return total
