"""Figures of where a ViT looks; the numbers come from attention_maps.py.

An overlay shows a map over its picture, each patch as one even square: dark blue is what is hardly
looked at, bright yellow what is looked at most. Every overlay is scaled to its own greatest value.
Layers and heads count from 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from torch import Tensor

from tutorial_kit.plotting import FAINT, INK, PALETTE, drawable, headline, label, new_figure
from vit.attention_maps import even_distance, patches_for_half

OVERLAY = "cividis"  # made for color-blind readers; from dark blue to bright yellow
OPACITY = 0.62  # of a map over its picture
MAX_LAYERS = 6  # columns of layers that still have room; of more, even steps are shown
MAX_HEADS = 12  # the same for heads, and for layers as rows


def show_picture(axis: Axes, image: Tensor, title: str = "") -> None:
    """Draws a picture, (C, H, W) from 0 to 1, one channel as gray, pixels as they are."""
    pixels = image.permute(1, 2, 0).clamp(0, 1).numpy()  # (H, W, C)
    axis.imshow(pixels if pixels.shape[-1] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=1)
    _bare(axis, title)


def show_overlay(axis: Axes, image: Tensor, attention: Tensor, title: str = "") -> None:
    """Draws a map, (G, G), over a picture, (C, H, W) from 0 to 1.

    The picture is made gray and pale, so that color and brightness are the map's.
    """
    height, width = image.shape[-2:]
    gray = image.mean(dim=0).clamp(0, 1).numpy()  # (H, W)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(gray, cmap="gray", vmin=-0.6, vmax=1.6)
    axis.imshow(attention.numpy(), cmap=OVERLAY, alpha=OPACITY, extent=extent, vmin=0,
                vmax=max(float(attention.max()), 1e-12))  # fmt: skip
    _bare(axis, title)


def attention_rows_figure(
    images: Tensor, class_maps: Tensor, rolled: Tensor, captions: Sequence[str]
) -> Figure:
    """Draws one row a picture: itself, what each layer's class token reads, and the rollout.

    Args:
        images: (B, C, H, W) from 0 to 1.
        class_maps: (L, B, G, G), the mean over heads of `class_attention`.
        rolled: (B, G, G), `class_attention` of `rollout`.
        captions: B texts, such as what the model says.
    """
    n_layers, n_pictures = class_maps.shape[:2]
    layers = spread_evenly(n_layers, MAX_LAYERS)
    columns = len(layers) + 2
    figure, _ = new_figure(
        columns, n_pictures, width=1.55 * columns + 0.6, height=1.5 * n_pictures + 0.8
    )
    axes = iter(figure.axes)
    for row, caption in enumerate(captions):
        show_picture(next(axes), images[row], caption)
        for layer in layers:
            title = f"layer {layer + 1}" if row == 0 else ""
            show_overlay(next(axes), images[row], class_maps[layer, row], title)
        show_overlay(next(axes), images[row], rolled[row], "rollout" if row == 0 else "")
    _overlay_bar(figure)
    headline(figure, _narrowing(class_maps, rolled))
    return figure


def _narrowing(class_maps: Tensor, rolled: Tensor) -> str:
    """Says on how many patches half of the attention rests, first layer, last layer, rollout."""
    n_patches = rolled.shape[-1] ** 2
    halves = patches_for_half(class_maps).float().mean(dim=1)  # (L,)
    over_all = float(patches_for_half(rolled).float().mean())
    first, last = float(halves[0]), float(halves[-1])
    between = "" if len(halves) == 1 else f", {last:.1f} in layer {len(halves)}"
    return (
        f"Half of what is read comes from {first:.1f} of {n_patches} patches in layer 1{between}, "
        f"{over_all:.1f} over all layers (rollout); an even spread would need {-(-n_patches // 2)}"
    )


def heads_over_image_figure(image: Tensor, maps: Tensor, caption: str = "") -> Figure:
    """Draws every head of every layer over one picture: one row a layer.

    Args:
        image: (C, H, W) from 0 to 1.
        maps: (L, H, G, G), `class_attention` of this picture.
        caption: above the picture at the left, such as what the model says.
    """
    layers = spread_evenly(len(maps), MAX_HEADS)
    heads = spread_evenly(maps.shape[1], MAX_HEADS)
    size = 1.45 if len(heads) <= MAX_LAYERS else 1.0  # inches
    figure, _ = new_figure(
        len(heads) + 1,
        len(layers),
        width=size * (len(heads) + 1.4),
        height=0.93 * size * len(layers) + 0.9,
    )
    grid = np.array(figure.axes).reshape(len(layers), -1)
    show_picture(grid[0, 0], image, caption)
    for axis in grid[1:, 0]:
        axis.set_axis_off()
    for axes, layer in zip(grid[:, 1:], layers, strict=True):
        for axis, head in zip(axes, heads, strict=True):
            show_overlay(axis, image, maps[layer, head], f"head {head + 1}" if layer == 0 else "")
        axes[0].set_ylabel(f"layer {layer + 1}", fontsize=8, color=INK)
    _overlay_bar(figure)
    headline(figure, _most_narrow_head(maps))
    return figure


def _overlay_bar(figure: Figure) -> None:
    """Puts the legend of the overlays at the right of a figure."""
    bar = figure.colorbar(
        ScalarMappable(cmap=OVERLAY), ax=list(figure.axes), ticks=[0, 1], aspect=22, fraction=0.03,
        shrink=min(1.0, 2.4 / figure.get_figheight()),
    )  # fmt: skip
    bar.ax.set_yticklabels(["none", "most"])
    bar.set_label("attention, each map by its own scale", fontsize=7, color=INK)
    bar.ax.tick_params(labelsize=7, length=0)


def _most_narrow_head(maps: Tensor) -> str:
    """Names the head that reads fewest patches and the one that reads most."""
    halves = patches_for_half(maps)  # (L, H)
    n_heads, n_patches = maps.shape[1], maps.shape[-1] ** 2
    narrow, wide = divmod(int(halves.argmin()), n_heads), divmod(int(halves.argmax()), n_heads)
    return (
        f"Head {narrow[1] + 1} of layer {narrow[0] + 1} takes half of its attention from "
        f"{halves[narrow]} of {n_patches} patches, head {wide[1] + 1} of layer {wide[0] + 1} from "
        f"{halves[wide]}"
    )


def distance_figure(distances: Tensor, grid: int, patch: int, n_pictures: int) -> Figure:
    """Draws how far each head looks, over the layers (Dosovitskiy et al. 2021, figure 7 right).

    Args:
        distances: (L, H) pixels, from `attention_distance`.
        grid: G, patches along a side.
        patch: P, pixels along a patch's side.
        n_pictures: how many the mean is over, for the axis.
    """
    n_layers, n_heads = distances.shape
    even = even_distance(grid, patch)
    figure, axis = new_figure(width=6.8, height=3.9)
    layers = torch.arange(1, n_layers + 1)
    axis.plot(layers.repeat_interleave(n_heads), distances.flatten(), "o", color=PALETTE[0],
              markersize=5, alpha=0.65, markeredgewidth=0, label="one head")  # fmt: skip
    means = distances.mean(dim=1)  # (L,)
    axis.plot(layers, means, color=PALETTE[1], label="mean of the layer")
    axis.axhline(even, color=FAINT, linestyle="--", linewidth=1,
                 label=f"a head that looks everywhere alike ({even:.1f})")  # fmt: skip
    axis.set_xticks(layers.tolist())
    axis.set_ylim(0, 1.12 * max(even, float(distances.max())))
    finding = (
        f"On average patches look {float(means[0]):.1f} pixels far in layer 1 (heads: "
        f"{float(distances[0].min()):.1f} to {float(distances[0].max()):.1f})"
    )
    if n_layers > 1:
        finding += (
            f" and {float(means[-1]):.1f} in layer {n_layers} ({float(distances[-1].min()):.1f} to "
            f"{float(distances[-1].max()):.1f})"
        )
    unit = f"attention distance (pixels of {grid * patch})\nmean over {n_pictures:,} pictures"
    label(axis, finding, "layer", unit)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def spread_evenly(count: int, most: int) -> list[int]:
    """Returns at most ``most`` of the numbers below ``count``, the first and the last among them.

    >>> spread_evenly(12, 4)
    [0, 4, 7, 11]
    """
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def _bare(axis: Axes, title: str) -> None:
    axis.set_title(drawable(title), fontsize=8, color=INK)
    axis.grid(visible=False)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
