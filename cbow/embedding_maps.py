"""From vectors to what a picture shows and its title counts: points on a plane, cosines, arrows.

A plane shows but does not prove: two of a hundred dimensions are left, and t-SNE draws clusters
even from noise. So every finding is counted in the space of all D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from matplotlib.colors import to_hex, to_rgb
from torch import Tensor

from tutorial_kit.plotting import INK, PALETTE

Method = Literal["pca", "tsne"]
LEAST_WORDS = 4
AXES = {
    "pca": ("first principal component", "second principal component"),
    "tsne": ("t-SNE, no unit", ""),
}
COLORS = (*PALETTE[:6], "#6B4C9A", INK)  # none is pale
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # shapes, for those who see few colors
EXACT_WORDS = 400  # so few are placed by the exact t-SNE, which is as fast and needs no threads
DARKER = 0.7  # letters are thinner than points: to be read, their colors need to be darker


def darker(color: str) -> str:
    """Returns the color of letters that belong to points of this color."""
    red, green, blue = to_rgb(color)
    return to_hex((DARKER * red, DARKER * green, DARKER * blue))


def map_points(vectors: Tensor, method: Method = "pca", seed: int = 0) -> Tensor:
    """Puts vectors on a plane.

    Args:
        vectors: (N, D), N at least 4.
        method: "pca", the two directions in which the vectors differ most: a projection, so
            directions and distances can be read. "tsne" (van der Maaten & Hinton 2008) keeps
            neighbors together; distances between clusters and their sizes mean nothing.
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
    if len(vectors) < LEAST_WORDS:
        raise ValueError(
            f"a map of {len(vectors)} words shows nothing. Give at least {LEAST_WORDS}."
        )
    array = vectors.detach().double().cpu()
    if method == "tsne":
        from sklearn.manifold import TSNE  # takes a second to import

        perplexity = min(30.0, (len(vectors) - 1) / 3)
        exact = "exact" if len(vectors) <= EXACT_WORDS else "barnes_hut"
        tsne = TSNE(2, init="pca", perplexity=perplexity, random_state=seed, metric="cosine",
                    method=exact)  # fmt: skip
        return torch.from_numpy(tsne.fit_transform(array.numpy()))
    return principal_components(array)


def principal_components(vectors: Tensor, count: int = 2) -> Tensor:
    """Projects vectors (N, D) on the directions in which they differ most; returns (N, count).

    The directions are the right singular vectors of the centered rows; the sign of each is chosen
    such that its largest coordinate is positive, so that the same vectors give the same picture.
    """
    centered = vectors - vectors.mean(dim=0)  # (N, D)
    directions = torch.linalg.svd(centered, full_matrices=False).Vh[:count]  # (count, D)
    points = centered @ directions.T  # (N, count)
    farthest = points.gather(0, points.abs().argmax(dim=0, keepdim=True))  # (1, count)
    return points * farthest.sign()


def neighbor_agreement(vectors: Tensor, labels: Tensor) -> float:
    """Returns for which share of the words the nearest other one has the same label.

    Args:
        vectors: (N, D) of length 1.
        labels: (N,).

    >>> points = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> round(neighbor_agreement(points, torch.tensor([0, 0, 1])), 3)
    0.667
    """
    cosines = (vectors @ vectors.T).fill_diagonal_(-torch.inf)  # (N, N)
    return float((labels[cosines.argmax(dim=1)] == labels).float().mean())


def chance_agreement(labels: Tensor) -> float:
    """Returns what `neighbor_agreement` would be if another word were taken at random."""
    counts = labels.bincount()[labels].float()  # (N,) words of each word's own label
    return float(((counts - 1) / max(len(labels) - 1, 1)).mean())


def inside_and_across(cosines: Tensor, labels: Tensor) -> tuple[float, float]:
    """Returns the mean cosine between two words of the same label, and of different ones.

    Args:
        cosines: (N, N).
        labels: (N,).
    """
    same = labels[:, None] == labels
    others = ~torch.eye(len(labels), dtype=torch.bool)
    return float(cosines[same & others].mean()), float(cosines[~same].mean())


def parallelism(starts: Tensor, ends: Tensor) -> float:
    """Returns the mean cosine between the steps of two different pairs: 1 if all are parallel.

    Args:
        starts: (N, D), the first word of each pair; N at least 2.
        ends: (N, D), the second.

    >>> square = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    >>> parallelism(square, square + torch.tensor([2.0, 0.0]))
    1.0
    """
    steps = torch.nn.functional.normalize(ends - starts, dim=1)  # (N, D)
    cosines = steps @ steps.T  # (N, N)
    count = len(steps)
    return float((cosines.sum() - cosines.trace()) / (count * (count - 1)))


def kept_counts(steps: Sequence[Sequence[str]]) -> list[int]:
    """Returns how many of the last list's words each list holds already.

    >>> kept_counts([["a", "x"], ["a", "b"], ["b", "a"]])
    [1, 2, 2]
    """
    final = set(steps[-1])
    return [len(final & set(words)) for words in steps]
