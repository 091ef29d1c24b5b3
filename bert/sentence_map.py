"""Sentences as points: from D numbers to two, and how well the classes are apart in all D.

A map shows but does not prove: two dimensions distort, and t-SNE draws clusters even from noise. So
the finding is counted in the space of all D dimensions: for how many sentences is the nearest
other one (by the cosine) of the same class?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from matplotlib.figure import Figure
from torch import Tensor

from tutorial_kit.plotting import PALETTE, headline, label, new_figure

Method = Literal["pca", "tsne"]
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # shapes, for those who see few colors
MIN_SENTENCES = 4


@dataclass(frozen=True)
class SentenceMap:
    """Points of sentences, and what the axes are."""

    points: Tensor  # (N, 2)
    x: str  # name of the horizontal axis
    y: str  # name of the vertical axis


def map_points(vectors: Tensor, method: Method = "pca", seed: int = 0) -> SentenceMap:
    """Puts vectors on a plane.

    Args:
        vectors: (N, D), N at least 4.
        method: "pca", the two directions in which the vectors differ most: a projection, distances
            can be read. "tsne" (van der Maaten & Hinton 2008) keeps neighbors together; distances
            between clusters and their sizes mean nothing.
        seed: of t-SNE.

    Raises:
        ValueError: too few vectors, or an unknown method.
    """
    if method not in get_args(Method):
        raise ValueError(
            f"method={method!r} is unknown. Use one of: {', '.join(get_args(Method))}."
        )
    if len(vectors) < MIN_SENTENCES:
        raise ValueError(
            f"a map of {len(vectors)} sentences shows nothing. Give at least {MIN_SENTENCES}."
        )
    if method == "tsne":
        from sklearn.manifold import TSNE  # takes a second to import

        perplexity = min(30.0, (len(vectors) - 1) / 3)
        tsne = TSNE(2, init="pca", perplexity=perplexity, random_state=seed)
        points = torch.from_numpy(tsne.fit_transform(vectors.double().numpy()))
        return SentenceMap(points, "t-SNE, no unit", "")
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full")
    points = torch.from_numpy(pca.fit_transform(vectors.double().numpy()))
    first, second = pca.explained_variance_ratio_
    return SentenceMap(points, f"first component ({first:.0%} of variance)",
                       f"second component ({second:.0%})")  # fmt: skip


def neighbor_agreement(vectors: Tensor, labels: Sequence[str]) -> float:
    """Returns for which share of the vectors the nearest other one has the same label.

    Args:
        vectors: (N, D), of length 1.
        labels: N names.

    >>> points = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> neighbor_agreement(points, ["a", "a", "b"])
    0.6666666666666666
    """
    cosines = (vectors @ vectors.T).fill_diagonal_(-torch.inf)  # (N, N)
    nearest = cosines.argmax(dim=1).tolist()
    return sum(labels[i] == labels[j] for i, j in enumerate(nearest)) / len(labels)


def embedding_map_figure(
    before: Tensor,
    after: Tensor,
    labels: Sequence[str],
    kind: str = "label",
    method: Method = "pca",
    seed: int = 0,
) -> Figure:
    """Draws the sentences before and after fine-tuning, colored by their labels.

    Args:
        before: (N, D) vectors of length 1, of the pre-trained model.
        after: (N, D) of the fine-tuned one.
        labels: N names.
        kind: what the labels are, such as "library".
        method: as in `map_points`.
        seed: of t-SNE.
    """
    figure, axes = new_figure(2, width=10.0, height=5.0)
    agreements = [neighbor_agreement(vectors, labels) for vectors in (before, after)]
    names = sorted(set(labels))
    for axis, vectors, when, agreement in zip(
        axes, (before, after), ("before", "after"), agreements, strict=True
    ):
        mapped = map_points(vectors, method, seed)
        for place, name in enumerate(names):
            own = [i for i, one in enumerate(labels) if one == name]
            x, y = mapped.points[own].T.numpy()
            axis.scatter(x, y, s=13, marker=MARKERS[place % len(MARKERS)], alpha=0.75,
                         color=PALETTE[place % len(PALETTE)], linewidth=0, label=name)  # fmt: skip
        finding = f"{when} fine-tuning: {agreement:.0%} have a neighbor of their {kind}"
        label(axis, finding, mapped.x, mapped.y)
        axis.set_xticks([])
        axis.set_yticks([])
    handles, shown = axis.get_legend_handles_labels()
    figure.legend(handles, shown, loc="outside lower center", ncols=min(8, len(names)),
                  frameon=False, fontsize=8)  # fmt: skip
    headline(figure, _finding(agreements[0], agreements[1], labels, kind))
    return figure


def _finding(before: float, after: float, labels: Sequence[str], kind: str) -> str:
    """Says whether fine-tuning brought sentences of one label together."""
    shares = [labels.count(name) / len(labels) for name in set(labels)]
    chance = sum(share * share for share in shares)
    change = 100 * (after - before)
    verdict = f"does not sort sentences by {kind}"
    if change >= 1:
        verdict = f"sorts sentences by {kind}"
    return (
        f"Fine-tuning {verdict}: the nearest of {len(labels):,} is of the same {kind} for "
        f"{before:.0%} before and {after:.0%} after (by chance: {chance:.0%})"
    )
