"""Figures of what a ViT has learned about space: its positions and its patch filters.

Both follow Dosovitskiy et al. 2021, figure 7 left and middle. They need only the weights.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import normalize

from tutorial_kit.plotting import INK, headline, label, new_figure
from vit.attention_maps import patch_distances
from vit.patch_embedding import PatchEmbedding

DIVERGING = "PuOr"  # for numbers around 0; color-blind readers can tell its ends apart
MAX_FILTERS = 28  # as in the paper's figure
COLUMNS = 7


def position_similarity_figure(positions: Tensor, grid: int) -> Figure:
    """Draws, at the place of each patch, how similar its position vector is to all others.

    Args:
        positions: (N, D), N = G * G, without the class token.
        grid: G, patches along a side.

    Raises:
        ValueError: N is not G * G.
    """
    cosines = position_similarity(positions, grid)
    tiles = torch.full((grid, grid, grid + 1, grid + 1), torch.nan)  # one empty line between
    tiles[:, :, :grid, :grid] = cosines.view(grid, grid, grid, grid)
    mosaic = tiles.permute(0, 2, 1, 3).reshape(grid * (grid + 1), -1)[:-1, :-1]
    figure, axis = new_figure(width=6.0, height=5.6)
    image = axis.imshow(mosaic.numpy(), cmap=DIVERGING, vmin=-1, vmax=1)
    centers = [place * (grid + 1) + (grid - 1) / 2 for place in range(grid)]
    axis.set_xticks(centers, [str(place + 1) for place in range(grid)])
    axis.set_yticks(centers, [str(place + 1) for place in range(grid)])
    axis.tick_params(length=0, labelsize=7)
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(image, ax=axis, shrink=0.7, aspect=22)
    bar.set_label("cosine similarity to all positions", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)
    label(axis, _neighborhood(cosines, grid), "column of the patch", "row of the patch")
    return figure


def position_similarity(positions: Tensor, grid: int) -> Tensor:
    """Returns the cosine of every two position vectors, (N, N), after taking their mean away.

    What all positions have in common says nothing about where a patch is, and would hide the rest.

    Raises:
        ValueError: the vectors are not one per patch.
    """
    if positions.ndim != 2 or len(positions) != grid * grid:
        raise ValueError(
            f"position vectors of shape {tuple(positions.shape)} do not belong to {grid} x {grid} "
            "patches: one per patch is needed. Leave the class token's out."
        )
    centered = positions.detach().float().cpu()
    centered = normalize(centered - centered.mean(dim=0), dim=1)  # (N, D)
    return centered @ centered.T


def _neighborhood(cosines: Tensor, grid: int) -> str:
    """Says how similar neighbors, patches of one row or column, and all others are."""
    rows, columns = torch.arange(grid * grid) // grid, torch.arange(grid * grid) % grid
    line = (rows[:, None] == rows) | (columns[:, None] == columns)  # (N, N)
    distance = patch_distances(grid, 1)
    means = [
        float(cosines[where].mean()) if bool(where.any()) else 0.0
        for where in (distance == 1, line & (distance > 1), ~line)
    ]
    return (
        f"Positions side by side have a mean cosine of {means[0]:.2f}, others of the same row or "
        f"column {means[1]:.2f}, all others {means[2]:.2f}"
    )


def patch_filters_figure(weight: Tensor, count: int = MAX_FILTERS) -> Figure:
    """Draws the principal components of the filters that turn pixels into embeddings.

    Each of the D numbers of an embedding has a filter of its own; their principal components are
    the few patterns that all of them are mixed from.

    Args:
        weight: (D, C, P, P), the patch projection, or the first convolution of a stem.
        count: components, at most.
    """
    components, shares = filter_components(weight)
    shown = min(count, len(components))
    columns = min(COLUMNS, max(4, shown))
    rows = -(-shown // columns)
    figure, _ = new_figure(columns, rows, width=1.08 * columns, height=1.2 * rows + 0.9)
    for place, axis in enumerate(figure.axes):
        axis.set_axis_off()
        if place >= shown:
            continue
        component = components[place]  # (C, P, P)
        greatest = float(component.abs().max())
        if len(component) == 3:
            axis.imshow((component / greatest / 2 + 0.5).permute(1, 2, 0).numpy())
        else:
            axis.imshow(component.mean(dim=0).numpy(), cmap=DIVERGING, vmin=-greatest,
                        vmax=greatest)  # fmt: skip
        axis.set_title(f"{place + 1}: {shares[place]:.1%}", fontsize=7.5, color=INK)
    most = int((shares.cumsum(dim=0) < 0.9).sum()) + 1
    size = weight.shape[-1]
    headline(
        figure,
        f"{most} of {len(components)} patterns make up 90% of the {weight.shape[0]} filters of "
        f"{size} x {size} pixels; shown: {'all' if shown == len(components) else 'the strongest'}, "
        "with their share of the squared weights",
    )
    return figure


def filter_weight(model: nn.Module) -> Tensor:
    """Returns the filters that read a ViT's pixels, (D, C, P, P).

    Of a convolutional stem these are the first convolution's, with its channels in place of D.
    """
    first = next(one for one in model.modules() if isinstance(one, (PatchEmbedding, nn.Conv2d)))
    if isinstance(first, nn.Conv2d):
        return first.weight
    patch = first.patch_size
    return first.linear.weight.unflatten(1, (-1, patch, patch))  # (D, C P P) -> (D, C, P, P)


def filter_components(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the directions that filters vary in, and how much of them each makes up.

    The filters' mean is not taken away: a filter and its opposite are the same pattern.

    Args:
        weight: (D, C, P, P).

    Returns:
        (K, C, P, P) of length 1 each, the strongest first, their greatest entry positive; and (K,)
        shares that sum to 1. K is the smaller of D and C * P * P.
    """
    flat = weight.detach().double().cpu().flatten(1)  # (D, C P P)
    _, strengths, directions = torch.linalg.svd(flat, full_matrices=False)
    greatest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))  # (K, 1)
    directions = directions * greatest.sign()  # a component's sign is free
    shares = strengths.square() / strengths.square().sum()
    return directions.view(-1, *weight.shape[1:]).float(), shares
