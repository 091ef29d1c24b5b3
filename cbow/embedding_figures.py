"""The pictures of word vectors, one function each; every title states what was counted.

All take unit vectors, so that a dot product is a cosine. ``embedding_visualization.py`` chooses the
words and calls them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure

from cbow.embedding_maps import (
    AXES,
    COLORS,
    MARKERS,
    Method,
    chance_agreement,
    darker,
    inside_and_across,
    map_points,
    neighbor_agreement,
    parallelism,
    principal_components,
)
from cbow.embeddings import Embeddings
from cbow.label_placement import place_labels
from tutorial_kit.plotting import INK, drawable, headline, label, new_figure

POINTS_OF_ARROW = 24  # that keep names off it


def map_figure(
    embeddings: Embeddings,
    groups: Mapping[str, Sequence[str]],
    method: Method = "pca",
    *,
    kind: str = "group",
    seed: int = 0,
) -> Figure:
    """Draws words on a plane, each group in its color and shape.

    Args:
        embeddings: their vectors.
        groups: name -> its words; names find their place in the order of the words, one word of
            each group after the other.
        method: as in `map_points`.
        kind: what a group is, for the title.
        seed: of t-SNE.

    Raises:
        ValueError: fewer than 4 words, one is unknown, or an unknown method.
    """
    placed = [(word, number) for number, words in enumerate(groups.values()) for word in words]
    rows = torch.stack([embeddings.vector(word) for word, _ in placed]) if placed else torch.zeros(
        0, embeddings.vectors.shape[1]
    )  # fmt: skip
    labels = torch.tensor([number for _, number in placed])
    points = map_points(rows, method, seed).numpy()  # (N, 2)
    figure, axes = new_figure(width=8.4, height=6.6)
    for number, name in enumerate(groups):
        x, y = points[labels.numpy() == number].T
        look = number % len(COLORS)
        axes.scatter(x, y, s=15, color=COLORS[look], marker=MARKERS[look], linewidth=0,
                     label=drawable(name))  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.07)
    figure.legend(loc="outside lower center", ncols=min(len(groups), 8), frameon=False, fontsize=8)
    label(axes, "", *AXES[method])
    share, chance = neighbor_agreement(rows, labels), chance_agreement(labels)
    headline(figure, f"For {share:.0%} of these {len(placed)} words the nearest other one is of "
             f"the same {kind} (by chance: {chance:.0%})")  # fmt: skip
    order = _in_turn([len(words) for words in groups.values()])
    place_labels(axes, points[order], [placed[row][0] for row in order],
                 [darker(COLORS[placed[row][1] % len(COLORS)]) for row in order])  # fmt: skip
    return figure


def _in_turn(sizes: Sequence[int]) -> list[int]:
    """Returns the rows of groups of these sizes: the first of each, then the second of each.

    >>> _in_turn([2, 1, 3])
    [0, 2, 3, 1, 4, 5]
    """
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    rounds = range(max(sizes))
    return [start + turn for turn in rounds
            for start, size in zip(starts, sizes, strict=True) if turn < size]  # fmt: skip


def analogy_figure(
    embeddings: Embeddings, relations: Mapping[str, Sequence[tuple[str, str]]]
) -> Figure:
    """Draws pairs of words that stand in the same relation as arrows, a panel each.

    Each panel is the projection on the two directions in which its words differ most (Mikolov et
    al. 2013b, figure 2, has countries and capitals). The title has the mean cosine between two
    arrows in all D dimensions: on a plane even random arrows are sometimes parallel.

    Args:
        embeddings: their vectors.
        relations: name -> its pairs, at least two.

    Raises:
        ValueError: a word is unknown.
    """
    figure, axes = new_figure(len(relations), width=4.4 * len(relations) + 0.2, height=4.6)
    panels = axes if isinstance(axes, list) else [axes]
    found = {}
    for number, (axis, (name, pairs)) in enumerate(zip(panels, relations.items(), strict=True)):
        starts = torch.stack([embeddings.vector(first) for first, _ in pairs])  # (P, D)
        ends = torch.stack([embeddings.vector(second) for _, second in pairs])
        found[name] = parallelism(starts, ends)
        points = principal_components(torch.cat([starts, ends])).numpy()  # (2 P, 2)
        color = COLORS[number % len(COLORS)]
        axis.scatter(*points.T, s=9, color=color)
        for start, end in zip(points[: len(pairs)], points[len(pairs) :], strict=True):
            axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": color,
                          "linewidth": 1.0, "shrinkA": 2, "shrinkB": 2})  # fmt: skip
        axis.set_xticks([])
        axis.set_yticks([])
        axis.margins(0.16)
        axis.set_aspect("equal", "datalim")  # an angle on paper is an angle of the projection
        label(axis, f"{name}: cosine of two arrows {found[name]:.2f}", AXES["pca"][0],
              AXES["pca"][1] if number == 0 else "")  # fmt: skip
    headline(figure, _most_parallel(found))
    for axis, pairs in zip(panels, relations.values(), strict=True):
        ends = torch.as_tensor(axis.collections[0].get_offsets().data)  # (2 P, 2)
        along = torch.linspace(0.1, 0.9, POINTS_OF_ARROW, dtype=ends.dtype)[:, None, None]
        arrows = torch.lerp(ends[: len(pairs)], ends[len(pairs) :], along).flatten(0, 1)
        names = [first for first, _ in pairs] + [second for _, second in pairs]
        names += [""] * len(arrows)  # no name may lie on an arrow
        place_labels(axis, torch.cat([ends, arrows]).numpy(), names, [INK] * len(names))
    return figure


def _most_parallel(found: Mapping[str, float]) -> str:
    best = max(found, key=found.__getitem__)
    return (
        f'The arrows "{best}" are the most parallel: on average two have a cosine of '
        f"{found[best]:.2f} in all dimensions, where random ones have 0"
    )


def similarity_figure(embeddings: Embeddings, groups: Mapping[str, Sequence[str]]) -> Figure:
    """Draws the cosines between all words of some groups as a matrix.

    Args:
        embeddings: their vectors.
        groups: name -> its words.

    Raises:
        ValueError: a word is unknown.
    """
    words = [word for group in groups.values() for word in group]
    sizes = [len(group) for group in groups.values()]
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))  # (N,)
    rows = torch.stack([embeddings.vector(word) for word in words])
    cosines = rows @ rows.T  # (N, N)
    side = 1.6 + 0.155 * len(words)
    figure, axes = new_figure(width=side + 0.9, height=side - 0.1)
    image = axes.imshow(cosines.numpy(), cmap="PuOr_r", vmin=-1, vmax=1)
    axes.grid(False)
    axes.set_xticks(range(len(words)), map(drawable, words), rotation=90, fontsize=7)
    axes.set_yticks(range(len(words)), map(drawable, words), fontsize=7)
    for end in torch.tensor(sizes).cumsum(0)[:-1].tolist():
        axes.axhline(end - 0.5, color=INK, linewidth=0.6)
        axes.axvline(end - 0.5, color=INK, linewidth=0.6)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=24)
    bar.set_label("cosine", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)
    inside, across = inside_and_across(cosines, labels)
    headline(figure, f"Words of the same group have a mean cosine of {inside:.2f}, words of "
             f"different groups {across:.2f}")  # fmt: skip
    return figure
