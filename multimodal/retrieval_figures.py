"""Figures of what the two encoders do: which combinations are named, what finds what."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from multimodal.contrastive_model import DualEncoder
from multimodal.multimodal_data import Pictures
from multimodal.scenes import COLORS, COMBINATIONS, SHAPES, Combination, combinations_of
from multimodal.zero_shot import Found, class_labels, classify
from tutorial_kit.plotting import HEAT_MAP, INK, PALETTE, drawable, headline, label, new_figure
from vit.attention_pictures import show_picture

RIGHT, WRONG = PALETTE[2], PALETTE[1]


def pictures_for_texts_figure(found: Found, rows: int = 4, columns: int = 6) -> Figure:
    """Draws which pictures a caption finds: a row for each caption, the nearest picture first."""
    figure, axes = new_figure(columns, rows, width=1.3 * columns, height=1.45 * rows + 0.7)
    for row in range(rows):
        order = found.cosines[:, row].argsort(descending=True)[:columns].tolist()
        for place, picture in enumerate(order):
            axis = axes[row * columns + place]
            show_picture(axis, found.pictures.images[picture] / 255)
            _frame(axis, picture == row)
            cosine = f"{found.cosines[picture, row]:.2f}"
            axis.text(0.97, 0.03, cosine, fontsize=7, color="white", ha="right", va="bottom",
                      transform=axis.transAxes)  # fmt: skip
        axes[row * columns].set_title(
            drawable(f'"{found.texts[row]}"'), fontsize=8, loc="left", color=INK
        )
    headline(
        figure,
        f"Text to picture: {found.hits()[1]:.0%} of {len(found.texts)} captions find their own "
        "picture first (green: the right one; in the corner: cosine)",
    )
    return figure


def texts_for_pictures_figure(found: Found, rows: int = 4, most: int = 3) -> Figure:
    """Draws which captions a picture finds: the nearest first, with their cosines."""
    figure, axes = new_figure(1, rows, width=5.6, height=1.1 * rows + 0.7)
    for row, axis in enumerate(axes):
        order = found.cosines[row].argsort(descending=True)[:most].tolist()
        axis.imshow(found.pictures.images[row].permute(1, 2, 0).numpy(), extent=(0, 1, 0, 1))
        axis.set_xlim(0, 5.4)
        axis.set_ylim(0, 1)
        axis.set_axis_off()
        for place, text in enumerate(order):
            line = drawable(f"{found.cosines[row, text]:.2f}  {found.texts[text]}")
            color = RIGHT if text == row else INK
            axis.text(1.2, 0.8 - 0.3 * place, line, fontsize=8, va="center", color=color)
    headline(
        figure,
        f"Picture to text: {found.hits()[0]:.0%} of {len(found.texts)} pictures find their own "
        "caption first (green: the right one; before it: cosine)",
    )
    return figure


def combination_accuracies(
    model: DualEncoder, splits: Sequence[Pictures]
) -> dict[Combination, float]:
    """Returns the share of rightly named pictures of each combination that occurs."""
    right: dict[Combination, list[bool]] = {}
    for pictures in splits:
        truth, said = class_labels(pictures).tolist(), classify(model, pictures).tolist()
        for true, answer in zip(truth, said, strict=True):
            right.setdefault(COMBINATIONS[true], []).append(true == answer)
    return {combination: sum(hits) / len(hits) for combination, hits in right.items()}


def combinations_figure(shares: dict[Combination, float]) -> Figure:
    """Draws the accuracy of each combination; framed are those that were never trained on.

    Args:
        shares: from ``combination_accuracies``; a combination without a share stays empty.
    """
    table = torch.full((len(COLORS), len(SHAPES)), torch.nan)
    for (color, shape), share in shares.items():
        table[COLORS.index(color), SHAPES.index(shape)] = share
    figure, axis = new_figure(width=5.2, height=4.7)
    axis.imshow(table.numpy(), cmap=HEAT_MAP, vmin=0, vmax=1.4)
    axis.grid(visible=False)
    unseen = [pair for pair in combinations_of("unseen_test") if pair in shares]
    for (color, shape), share in shares.items():
        y, x = COLORS.index(color), SHAPES.index(shape)
        axis.text(x, y, f"{share:.0%}", ha="center", va="center", fontsize=8, color=INK)
        if (color, shape) in unseen:
            frame = Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, lw=2, ec=WRONG)
            axis.add_patch(frame)
    axis.set_xticks(range(len(SHAPES)), SHAPES)
    axis.set_yticks(range(len(COLORS)), COLORS)
    seen = [share for pair, share in shares.items() if pair not in unseen]
    means = [sum(part) / max(len(part), 1) for part in (seen, [shares[pair] for pair in unseen])]
    headline(
        figure,
        f"Named in words out of {len(COMBINATIONS)}: {means[0]:.0%} of the trained combinations, "
        f"{means[1]:.0%} of those never seen (framed)",
    )
    label(axis, "", "shape", "color")
    return figure


def _frame(axis: Axes, right: bool) -> None:
    """Marks the right picture."""
    for spine in axis.spines.values():
        spine.set_visible(right)
        spine.set_color(RIGHT)
        spine.set_linewidth(2.5)
