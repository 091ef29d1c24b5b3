"""The picture of a model's positions: its table, and how alike two positions are."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from transformer.transformer_model import Transformer
from tutorial_kit.plotting import PALETTE, label, new_figure

MAX_SHOWN = 64  # positions in the picture of the table


def positions_figure(model: Transformer) -> Figure:
    """Draws the table of positions, and how alike two positions are against their distance.

    With sinusoids PE(t) . PE(t + k) = sum_j cos(w_j k): the distance k decides, the place t does
    not. Learned positions need not be like this.
    """
    with torch.no_grad():
        table = model.positions(0, model.config.max_len).double().cpu()  # (N, D)
    figure, (left, right) = new_figure(2, width=10.5, height=4.0)
    shown = table[:MAX_SHOWN]
    bound = float(shown.abs().max()) or 1.0
    image = left.imshow(shown.numpy(), cmap="RdBu", vmin=-bound, vmax=bound, aspect="auto")
    left.grid(visible=False)
    label(left, _describe_table(table), "dimension", "position (tokens)")
    figure.colorbar(image, ax=left, label="value")
    _draw_distances(right, table)
    return figure


def distance_products(table: Tensor) -> Tensor:
    """Returns mean, least and greatest PE(t) . PE(t + k) over all t, for k = 0 .. N / 2.

    Args:
        table: (N, D).

    Returns:
        (3, N // 2 + 1).
    """
    products = table @ table.T  # (N, N)
    diagonals = [products.diagonal(k) for k in range(len(table) // 2 + 1)]
    return torch.stack([torch.stack([d.mean(), d.amin(), d.amax()]) for d in diagonals], dim=1)


def _describe_table(table: Tensor) -> str:
    """Says how fast the dimensions change along the positions."""
    if not table.any():
        return "No positions: every token gets the same zeros, so order cannot be seen"
    if len(table) < 2:
        return f"One position of {table.shape[1]} dimensions"
    change = (table[1:] - table[:-1]).abs().mean(dim=0)  # (D,), a token
    fast, slow = change[: len(change) // 2].mean(), change[len(change) // 2 :].mean()
    if fast > 10 * slow:
        return (
            f"From one token to the next the left half of the dimensions changes {fast / slow:.0f} "
            "times as much as the right half"
        )
    return f"All dimensions change alike, by {change.mean():.2f} from one token to the next"


def _draw_distances(axis: Axes, table: Tensor) -> None:
    mean, least, greatest = distance_products(table)
    distances = range(len(mean))
    axis.fill_between(distances, least, greatest, color=PALETTE[0], alpha=0.2, linewidth=0,
                      label="least to greatest")  # fmt: skip
    axis.plot(distances, mean, color=PALETTE[0], label="mean over all places")
    axis.legend(frameon=False, fontsize=8)
    spread = float((greatest - least).max())
    own = float(mean[0])
    if spread <= 1e-3 * max(own, 1e-9):
        finding = "The distance alone decides how alike two positions are"
        below = (mean < 0.75 * own).nonzero()
        if len(below):
            finding += f"; {int(below[0])} tokens apart they share less than three quarters"
    else:
        finding = f"At equal distance the products differ by up to {spread:.1f} from place to place"
    if not own:
        finding = "Without positions there is nothing to compare"
    label(axis, finding, "distance (tokens)", "dot product of two positions")
