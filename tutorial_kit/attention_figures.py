"""The picture of all heads of one kind of attention; what they do is the family's to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from matplotlib.figure import Figure
from torch import Tensor

from tutorial_kit.plotting import (
    HEAT_MAP,
    INK,
    SHADES,
    headline,
    new_figure,
    share_bar,
    token_label,
)

MAX_LABELED = 20  # tokens that still have room for a label in a picture of many heads
MAX_WIDE = 6  # heads that still have room for a wide picture each


def heads_figure(
    weights: Tensor,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    aspect: Literal["auto", "equal"] = "auto",
) -> Figure:
    """Draws every head as a heat map: one row of pictures per layer. Both count from 1.

    Args:
        weights: (L, H, T, S).
        rows: the T tokens that look.
        columns: the S tokens they look at.
        title: the finding.
        aspect: "equal" draws square cells, "auto" fills the space.
    """
    n_layers, n_heads = weights.shape[:2]
    labeled = max(len(rows), len(columns)) <= MAX_LABELED and n_heads <= MAX_WIDE
    size = 1.9 if n_heads <= MAX_WIDE else 1.1  # inches a head
    margin = 0.8 if labeled else 0.4
    figure, _ = new_figure(
        n_heads,
        n_layers,
        width=n_heads * size + margin + 0.7,
        height=n_layers * size + margin + 0.5,
    )
    axes = list(figure.axes)
    for place, axis in enumerate(axes):
        layer, head = divmod(place, n_heads)
        image = axis.imshow(weights[layer, head].numpy(), cmap=HEAT_MAP, norm=SHADES, aspect=aspect)
        axis.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=8, color=INK)
        axis.grid(visible=False)
        axis.set_xticks([])
        axis.set_yticks([])
        if labeled and layer == n_layers - 1:
            axis.set_xticks(range(len(columns)), list(map(token_label, columns)), rotation=90)
        if labeled and head == 0:
            axis.set_yticks(range(len(rows)), list(map(token_label, rows)))
        axis.tick_params(length=0, labelsize=6.5)
    share_bar(figure, image, axes, "attention weight (rows look at columns)")
    headline(figure, title)
    return figure
