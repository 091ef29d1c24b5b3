"""Pictures as points: a model's features, D numbers each, on a plane, colored by class.

A map shows but does not prove: two dimensions distort, and t-SNE draws clusters even from noise. So
the finding is counted in the space of all D dimensions: for how many pictures is the nearest other
one (by the cosine) of the same class?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import normalize

from tutorial_kit.plotting import INK, PALETTE, headline, label, new_figure

Method = Literal["pca", "tsne"]
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # shapes, for those who see few colors
MIN_PICTURES = 4


def embedding_map_figure(
    features: Mapping[str, Tensor],
    labels: Tensor,
    classes: Sequence[str],
    method: Method = "pca",
    seed: int = 0,
) -> Figure:
    """Draws one panel a model, of the same pictures.

    Args:
        features: name of the model -> (N, D).
        labels: (N,) class of each picture.
        classes: their names.
        method: as in `map_points`.
        seed: of t-SNE.

    Raises:
        ValueError: fewer than 4 pictures, or an unknown method.
    """
    figure, _ = new_figure(len(features), width=5.2 * len(features) + 0.4, height=5.2)
    agreements = {name: neighbor_agreement(one, labels) for name, one in features.items()}
    for axis, (name, vectors) in zip(figure.axes, features.items(), strict=True):
        points = map_points(vectors, method, seed)
        for place, shown in enumerate(classes):
            x, y = points[labels == place].T.numpy()
            marker = MARKERS[(place + place // len(PALETTE)) % len(MARKERS)]
            axis.scatter(x, y, s=13, marker=marker, alpha=0.75, linewidth=0.2, edgecolor=INK,
                         color=PALETTE[place % len(PALETTE)], label=shown)  # fmt: skip
        label(axis, name, *AXES[method])
        axis.set_xticks([])
        axis.set_yticks([])
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(5 * len(features), 10),
                  frameon=False, fontsize=8)  # fmt: skip
    headline(figure, _finding(agreements, labels))
    return figure


AXES = {
    "pca": ("first principal component", "second principal component"),
    "tsne": ("t-SNE, no unit", ""),
}


def map_points(vectors: Tensor, method: Method = "pca", seed: int = 0) -> Tensor:
    """Puts vectors on a plane.

    Args:
        vectors: (N, D), N at least 4.
        method: "pca", the two directions in which the vectors differ most: a projection, distances
            can be read. "tsne" (van der Maaten & Hinton 2008) keeps neighbors together; distances
            between clusters and their sizes mean nothing.
        seed: of t-SNE.

    Returns:
        (N, 2).

    Raises:
        ValueError: too few vectors, or an unknown method.
    """
    if method not in get_args(Method):
        raise ValueError(
            f"method={method!r} is unknown. Use one of: {', '.join(get_args(Method))}."
        )
    if len(vectors) < MIN_PICTURES:
        raise ValueError(
            f"a map of {len(vectors)} pictures shows nothing. Give at least {MIN_PICTURES}."
        )
    array = vectors.detach().double().cpu().numpy()
    if method == "tsne":
        from sklearn.manifold import TSNE  # takes a second to import

        perplexity = min(30.0, (len(vectors) - 1) / 3)
        tsne = TSNE(2, init="pca", perplexity=perplexity, random_state=seed)
        return torch.from_numpy(tsne.fit_transform(array))
    from sklearn.decomposition import PCA

    return torch.from_numpy(PCA(2, svd_solver="full").fit_transform(array))


def neighbor_agreement(vectors: Tensor, labels: Tensor) -> float:
    """Returns for which share of the pictures the nearest other one has the same class.

    Args:
        vectors: (N, D).
        labels: (N,).

    >>> points = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> neighbor_agreement(points, torch.tensor([0, 0, 1]))
    0.6666666865348816
    """
    unit = normalize(vectors.detach().float().cpu(), dim=1)
    cosines = (unit @ unit.T).fill_diagonal_(-torch.inf)  # (N, N)
    return float((labels[cosines.argmax(dim=1)] == labels).float().mean())


def _finding(agreements: Mapping[str, float], labels: Tensor) -> str:
    """Says how often neighbors are of one class, and what chance gives."""
    shares = labels.bincount() / len(labels)
    parts = [f"{share:.1%} in the {name}" for name, share in agreements.items()]
    return (
        f"Of {len(labels):,} pictures the nearest other one is of the same class for "
        f"{' and '.join(parts)} (by chance: {float(shares.square().sum()):.0%})"
    )
