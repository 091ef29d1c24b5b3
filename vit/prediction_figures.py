"""Figures of a classifier's answers: which classes it confuses, and its worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from tutorial_kit.plotting import (
    HEAT_MAP,
    INK,
    SHADES,
    drawable,
    headline,
    label,
    new_figure,
    share_bar,
)
from vit.attention_pictures import show_picture

MAX_NUMBERED = 20  # classes that still have room for a number in each cell
COLUMNS = 6


def confusion_matrix(truth: Tensor, predicted: Tensor, n_classes: int) -> Tensor:
    """Counts the answers for each class.

    Args:
        truth: (N,) class of each picture.
        predicted: (N,) what the model says.
        n_classes: how many there are.

    Returns:
        (n_classes, n_classes); row i, column j counts pictures of class i taken for class j.

    >>> confusion_matrix(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    places = truth.long() * n_classes + predicted.long()
    return torch.bincount(places, minlength=n_classes**2).view(n_classes, n_classes)


def confusion_figure(truth: Tensor, predicted: Tensor, classes: Sequence[str]) -> Figure:
    """Draws the confusion matrix; each row is scaled to its own pictures.

    Args:
        truth: (N,) class of each picture.
        predicted: (N,) what the model says.
        classes: their names.
    """
    counts = confusion_matrix(truth, predicted, len(classes))
    shares = counts / counts.sum(dim=1, keepdim=True).clamp_min(1)  # (classes, classes)
    numbered = len(classes) <= MAX_NUMBERED
    size = min(9.0, max(4.6, 1.6 + 0.44 * len(classes)))  # inches
    figure, axis = new_figure(width=size + 0.7, height=size)
    image = axis.imshow(shares.numpy(), cmap=HEAT_MAP, norm=SHADES)
    if numbered:
        for row, column in torch.nonzero(counts).tolist():
            color = "white" if SHADES(float(shares[row, column])) > 0.6 else INK
            axis.text(column, row, f"{int(counts[row, column]):,}", ha="center", va="center",
                      fontsize=7, color=color)  # fmt: skip
        names = [drawable(short_name(name)) for name in classes]
        axis.set_xticks(range(len(names)), names, rotation=90)
        axis.set_yticks(range(len(names)), names)
    axis.tick_params(length=0, labelsize=7.5)
    axis.grid(visible=False)
    share_bar(figure, image, axis, "share of the class's pictures")
    label(axis, confusion_finding(counts, classes), "what the model says", "what it is")
    return figure


def confusion_finding(counts: Tensor, classes: Sequence[str]) -> str:
    """Says how many answers are right, and which class is most often taken for which."""
    total, right = int(counts.sum()), int(counts.diagonal().sum())
    sentence = f"{right:,} of {total:,} are right ({right / max(1, total):.1%})"
    wrong = counts - torch.diag(counts.diagonal())
    if not wrong.any():
        return sentence
    truth, answer = divmod(int(wrong.argmax()), len(classes))
    return (
        f"{sentence}; the most frequent mistake: {classes[truth]} taken for {classes[answer]}, "
        f"{int(wrong[truth, answer]):,} of {int(counts[truth].sum()):,}"
    )


def mistakes_figure(
    images: Tensor, truth: Tensor, probabilities: Tensor, classes: Sequence[str], count: int = 18
) -> Figure:
    """Draws the pictures that the model is most wrong about: surest of a class that is not true.

    Args:
        images: (N, C, H, W) from 0 to 1.
        truth: (N,) class of each.
        probabilities: (N, classes).
        classes: their names.
        count: pictures, at most; if fewer are wrong, the unsurest right ones follow.
    """
    order = worst_first(truth, probabilities)[:count]
    rows = max(1, -(-len(order) // COLUMNS))
    figure, _ = new_figure(COLUMNS, rows, width=9.6, height=1.85 * rows + 0.6)
    for place, axis in enumerate(figure.axes):
        if place >= len(order):
            axis.set_axis_off()
            continue
        index = int(order[place])
        answer, true = int(probabilities[index].argmax()), int(truth[index])
        said = f"{short_name(classes[answer])} ({float(probabilities[index, answer]):.0%})"
        if answer == true:
            show_picture(axis, images[index], f"{said}, right")
        else:
            is_so = f"is {short_name(classes[true])} ({float(probabilities[index, true]):.0%})"
            show_picture(axis, images[index], f"{said}\n{is_so}")
    wrong = int((probabilities.argmax(dim=-1) != truth).sum())
    shown = f"the {len(order)} worst"
    if wrong < len(order):
        shown = f"these, then the {len(order) - wrong} unsurest of the right ones"
    headline(
        figure,
        f"{wrong:,} of {len(truth):,} pictures get a wrong answer "
        f"({wrong / max(1, len(truth)):.1%}); shown: {shown}",
    )
    return figure


def worst_first(truth: Tensor, probabilities: Tensor) -> Tensor:
    """Orders pictures, (N,) places: first by how much surer the best other class is than the true.

    Args:
        truth: (N,).
        probabilities: (N, classes).
    """
    own = probabilities.gather(1, truth.view(-1, 1).long())  # (N, 1)
    others = probabilities.scatter(1, truth.view(-1, 1).long(), -1.0).amax(dim=1)  # (N,)
    return (others - own[:, 0]).argsort(descending=True, stable=True)


def short_name(name: str) -> str:
    """Returns a class name cut to the room that a caption has.

    >>> short_name("German shepherd")
    'German shep…'
    """
    return name if len(name) <= 12 else name[:11] + "…"
