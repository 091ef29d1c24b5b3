"""Pictures of word vectors: they show what they are given, and their titles count it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.text import Annotation, Text

from cbow import embedding_visualization as pictures
from cbow.embedding_figures import analogy_figure, map_figure, similarity_figure
from cbow.embedding_maps import (
    chance_agreement,
    inside_and_across,
    map_points,
    neighbor_agreement,
    parallelism,
    principal_components,
)
from cbow.embeddings import Embeddings, random_embeddings, toy_embeddings
from cbow.label_placement import Box, place_labels
from cbow.training_figures import neighbors_figure, training_figure
from cbow.word_groups import GROUPS, RELATIONS, known_groups, known_relations
from tutorial_kit.console import run_entry
from tutorial_kit.plotting import new_figure


def titles(figure: Any) -> list[str]:
    """Every text of a figure, line breaks folded."""
    texts = [text.get_text() for text in figure.findobj(Text)]
    return [" ".join(text.split()) for text in texts if text.strip()]


def clusters(spread: float, groups: int = 3, each: int = 8) -> tuple[Embeddings, dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(groups, 10, generator=generator).repeat_interleave(each, 0)
    vectors = centers + spread * torch.randn(groups * each, 10, generator=generator)
    words = [f"{'abc'[number // each]}{number % each}" for number in range(groups * each)]
    named = {"abc"[g]: words[g * each : (g + 1) * each] for g in range(groups)}
    return Embeddings(words, vectors), named


# Words to draw


def test_the_groups_are_those_that_the_text_knows_best() -> None:
    numbers, months = GROUPS["numbers"].split(), GROUPS["months"].split()
    words = ["the", *numbers, *(f"rare{i}" for i in range(500)), *months, "storm", "wind", "rain"]
    index = {word: row for row, word in enumerate(words)}
    found = known_groups(index, words=3)
    assert list(found) == ["numbers", "months"]  # three words of the weather are too few
    assert found["numbers"] == numbers[:3]
    assert list(known_groups(index, most=1)) == ["numbers"]


def test_every_group_and_relation_is_well_formed() -> None:
    for name, text in GROUPS.items():
        words = text.split()
        assert len(words) == len(set(words)) >= 8, name
    for name, text in RELATIONS.items():
        words = text.split()
        assert len(words) % 2 == 0 and len(words) == len(set(words)), name


def test_relations_have_their_most_frequent_known_pairs() -> None:
    words = ["book", "books", "city", "cities", "ship", "ships", "game", "games", "song", "man"]
    index = {word: row for row, word in enumerate(words)}
    assert known_relations(index, pairs=3) == {
        "singular to plural": [("book", "books"), ("city", "cities"), ("ship", "ships")]
    }
    assert known_relations({"book": 0, "books": 1}) == {}


# What the titles count


def test_projection_keeps_what_lies_in_a_plane() -> None:
    plane = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    turned = plane @ torch.linalg.qr(torch.randn(2, 7, dtype=torch.float32).T).Q.T
    points = principal_components(turned)
    assert torch.cdist(points, points).allclose(torch.cdist(plane, plane), atol=1e-4)
    assert points.var(dim=0)[0] >= points.var(dim=0)[1]
    from sklearn.decomposition import PCA

    reference = PCA(2).fit_transform(turned.numpy())
    assert np.allclose(np.abs(reference), points.abs().numpy(), atol=1e-4)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_map_keeps_clusters_apart(method: Any) -> None:
    embeddings, groups = clusters(0.05)
    points = map_points(embeddings.vectors, method).double()
    labels = torch.arange(3).repeat_interleave(8)
    centers = torch.stack([points[labels == label].mean(0) for label in range(3)])
    assert torch.cdist(points, centers).argmin(1).equal(labels)
    assert map_points(embeddings.vectors, method).double().equal(points)


def test_too_few_words_or_a_foreign_method_are_refused() -> None:
    with pytest.raises(ValueError, match="a map of 3 words shows nothing. Give at least 4"):
        map_points(torch.rand(3, 5))
    with pytest.raises(ValueError, match="method='umap' is unknown. Use one of: pca, tsne"):
        map_points(torch.rand(9, 5), "umap")  # type: ignore[arg-type]


def test_chance_is_what_random_neighbors_reach() -> None:
    labels = torch.tensor([0] * 30 + [1] * 10)
    assert chance_agreement(labels) == pytest.approx((30 * 29 + 10 * 9) / (40 * 39))
    found = [
        neighbor_agreement(random_embeddings([str(i) for i in range(40)], 50, seed).vectors, labels)
        for seed in range(40)
    ]
    assert np.mean(found) == pytest.approx(chance_agreement(labels), abs=0.05)


def test_cosines_inside_and_across_by_hand() -> None:
    cosines = torch.tensor([[1.0, 0.8, 0.1], [0.8, 1.0, 0.3], [0.1, 0.3, 1.0]])
    inside, across = inside_and_across(cosines, torch.tensor([0, 0, 1]))
    assert (inside, across) == pytest.approx((0.8, 0.2))


def test_arrows_of_the_same_step_are_parallel() -> None:
    starts = torch.randn(200, 50, generator=torch.Generator().manual_seed(1))
    step = torch.ones(50)
    assert parallelism(starts, starts + step) == pytest.approx(1.0, abs=1e-5)
    others = torch.randn(200, 50, generator=torch.Generator().manual_seed(2))
    assert abs(parallelism(starts, others)) < 0.01
    assert parallelism(starts[:2], torch.stack([starts[0] + step, starts[1] - step])) == (
        pytest.approx(-1.0, abs=1e-5)
    )


# Names on a map


def test_no_name_covers_another_name_or_a_point() -> None:
    points = np.random.default_rng(0).random((60, 2))
    figure, axes = new_figure()
    axes.scatter(*points.T, s=15)
    names = [f"word number {number}" for number in range(60)]
    placed = place_labels(axes, points, names, ["black"] * 60)
    assert 0 < len(placed) < 60 and placed[0] == 0  # the first always finds a place
    texts = [text for text in axes.texts if text.get_text()]
    assert [text.get_text() for text in texts] == [names[number] for number in placed]
    boxes = [Box(*text.get_window_extent().extents) for text in texts]
    assert not any(a.meets(b) for i, a in enumerate(boxes) for b in boxes[:i])
    for x, y in axes.transData.transform(points):
        assert not any(box.meets(Box(x - 1, y - 1, x + 1, y + 1)) for box in boxes)


def test_a_point_without_a_name_keeps_names_off() -> None:
    figure, axes = new_figure()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    ring = np.array([[0.5 + x, 0.5 + y] for x in (-0.04, 0, 0.04) for y in (-0.06, 0, 0.06)])
    free = place_labels(axes, np.array([[0.5, 0.5]]), ["name"], ["black"])
    assert free == [0]
    everywhere = np.concatenate([[[0.5, 0.5]], ring, ring * 1.02, ring * 0.98])
    kept_off = place_labels(axes, everywhere, ["name"] + [""] * 27, ["black"] * 28)
    assert kept_off == []


# The figures


def test_the_map_shows_every_group_and_says_how_pure_it_is() -> None:
    embeddings, groups = clusters(0.05)
    figure = map_figure(embeddings, groups)
    shown = titles(figure)
    assert ("For 100% of these 24 words the nearest other one is of the same group "
            "(by chance: 30%)") in shown  # fmt: skip
    assert {"a", "b", "c", "a0", "b0", "c0"} <= set(shown)
    points = map_points(embeddings.vectors).numpy()
    for number, drawn in enumerate(figure.axes[0].collections):
        assert np.allclose(drawn.get_offsets(), points[8 * number : 8 * number + 8])
    mixed, groups = clusters(5.0)
    share = neighbor_agreement(mixed.vectors, torch.arange(3).repeat_interleave(8))
    assert share < 0.8
    assert any(text.startswith(f"For {share:.0%} of these 24 words") and "same library" in text
               for text in titles(map_figure(mixed, groups, "tsne", kind="library")))  # fmt: skip


def test_arrows_go_from_the_first_word_to_the_second() -> None:
    embeddings = toy_embeddings()
    pairs = [("king", "queen"), ("man", "woman"), ("prince", "princess"), ("boy", "girl")]
    mixed = [("king", "apple"), ("apple", "man"), ("girl", "pear")]
    figure = analogy_figure(embeddings, {"male to female": pairs, "mixed": mixed})
    axis = figure.axes[0]
    words = [first for first, _ in pairs] + [second for _, second in pairs]
    rows = torch.stack([embeddings.vector(word) for word in words])
    points = principal_components(rows).numpy()
    arrows = [text for text in axis.texts if isinstance(text, Annotation) and text.arrow_patch
              and not text.get_text() and text.arrowprops["arrowstyle"] == "->"]  # fmt: skip
    assert [tuple(arrow.xy) for arrow in arrows] == [tuple(point) for point in points[4:]]
    assert [tuple(arrow.xyann) for arrow in arrows] == [tuple(point) for point in points[:4]]
    cosine = parallelism(rows[:4], rows[4:])
    assert cosine > 0.8
    shown = titles(figure)
    assert any(f'"male to female" are the most parallel: on average two have a cosine of '
               f"{cosine:.2f}" in text for text in shown)  # fmt: skip
    assert set(words) <= set(shown)


def test_the_matrix_holds_the_cosines_in_the_order_of_the_groups() -> None:
    embeddings, groups = clusters(0.5)
    figure = similarity_figure(embeddings, groups)
    axis = figure.axes[0]
    assert np.allclose(axis.images[0].get_array(), embeddings.vectors @ embeddings.vectors.T)
    assert [tick.get_text() for tick in axis.get_yticklabels()] == list(embeddings.words)
    cosines = embeddings.vectors @ embeddings.vectors.T
    inside, across = inside_and_across(cosines, torch.arange(3).repeat_interleave(8))
    assert (f"Words of the same group have a mean cosine of {inside:.2f}, words of different "
            f"groups {across:.2f}") in titles(figure)  # fmt: skip


def test_neighbors_are_followed_through_a_training() -> None:
    steps = [["x", "y", "z"], ["a", "y", "z"], ["b", "a", "y"], ["a", "b", "c"]]
    figure = neighbors_figure("king", [0.0, 1.0, 2.0, 3.0], steps)
    assert ('Of the 3 words nearest to "king" at the end, 2 are there after 2.0 of 3.0 million '
            "words read") in titles(figure)  # fmt: skip
    axis = figure.axes[0]
    assert len(axis.texts) == 12
    lines = [(line.get_xdata(), line.get_ydata()) for line in axis.lines]
    assert ([1, 2], [0, 1]) in [(list(x), list(y)) for x, y in lines]  # "a" falls by one rank
    assert len(lines) == 3


def test_the_curve_says_whether_the_loss_falls() -> None:
    rows = [{"words": i * 1e6, "validation_loss": 3.0 - i, "lr": 0.05 / (i + 1)} for i in range(3)]
    figure = training_figure(rows)
    assert ("Loss on held-out words falls: 3.000 after 0.0 million words, 1.000 after 2.0 "
            "million") in titles(figure)  # fmt: skip
    assert list(figure.axes[0].lines[0].get_ydata()) == [3.0, 2.0, 1.0]
    assert any("does not fall" in text for text in titles(training_figure(rows[::-1])))


# The command


def test_words_that_are_asked_for_are_drawn_with_their_neighbors() -> None:
    embeddings, _ = clusters(0.05)
    groups = pictures.word_groups(embeddings, ["a0", "c3"])
    assert set(groups) == {"a0", "c3"} and groups["a0"][0] == "a0"
    assert {f"a{number}" for number in range(8)} <= set(groups["a0"])
    drawn = [word for group in groups.values() for word in group]
    assert len(drawn) == len(set(drawn))
    with pytest.raises(ValueError, match="'nosuchword'"):
        pictures.word_groups(embeddings, ["nosuchword"])


def test_vectors_without_any_known_group_are_drawn_too() -> None:
    embeddings, _ = clusters(0.05)
    drawn = pictures.draw_words(embeddings)
    assert set(drawn) == {"map", "projection", "similarity"}


def test_a_word2vec_file_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(tmp_path))
    toy = toy_embeddings()
    lines = [f"{len(toy)} 4"]
    lines += [f"{w} {' '.join(map(str, toy.vector(w).tolist()))}" for w in toy.words]
    path = tmp_path / "toy.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = pictures.main(["--vectors", str(path), "king", "apple"])
    assert {file.name for file in files} >= {"map.png", "projection.png", "similarity.png"}
    assert all(file.stat().st_size > 1000 for file in files)


@pytest.mark.slow
def test_the_command_draws_every_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(tmp_path))
    files = pictures.main(["--preset", "smoke"])
    names = {path.stem for path in files}
    assert {"map", "projection", "similarity", "training", "neighbors"} <= names
    folder = tmp_path / "cbow" / "pictures_smoke" / "figures"
    assert all(path.parent == folder and path.stat().st_size for path in files)


def test_what_is_missing_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(tmp_path))
    for argv, message in (
        ([], "neither --run nor --vectors was given"),
        (["--run", "nowhere"], "nowhere"),
        (["--vectors", str(tmp_path / "no.bin")], "no.bin"),
    ):
        with pytest.raises(SystemExit) as left:
            run_entry(lambda argv=argv: pictures.main(argv))  # type: ignore[misc]
        error = capsys.readouterr().err
        assert left.value.code == 2 and message in error and error.count("\n") == 1
