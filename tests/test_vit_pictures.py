"""The ViT's pictures: numbers by hand, titles that hold, files that are written."""

import json
import re

import pytest
import torch
from matplotlib.text import Text

from tutorial_kit.console import run_entry
from tutorial_kit.plotting import save_figure
from vit import attention_visualization as pictures
from vit.attention_maps import (
    attention_distance,
    attention_weights,
    class_attention,
    even_distance,
    patch_distances,
    patches_for_half,
    rollout,
)
from vit.attention_pictures import (
    attention_rows_figure,
    distance_figure,
    heads_over_image_figure,
    spread_evenly,
)
from vit.embedding_map import embedding_map_figure, map_points, neighbor_agreement
from vit.head_page import token_names, write_page
from vit.model_figures import (
    filter_components,
    filter_weight,
    patch_filters_figure,
    position_similarity,
    position_similarity_figure,
)
from vit.open_model import untrained_model
from vit.prediction_figures import (
    confusion_figure,
    confusion_matrix,
    mistakes_figure,
    worst_first,
)
from vit.vit_config import ViTConfig
from vit.vit_model import ViT


def titles(figure):
    """Every text of a figure, line breaks folded."""
    texts = [text.get_text() for text in figure.findobj(Text)]
    return [" ".join(text.split()) for text in texts if text.strip()]


def random_weights(*shape, seed=0):
    """Attention weights: rows sum to 1."""
    return (2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).softmax(-1)


def small_vit(**changes):
    sizes = {
        "image_size": 12,
        "patch_size": 4,
        "d_model": 16,
        "n_heads": 2,
        "n_layers": 2,
        "d_ff": 16,
    }
    torch.manual_seed(0)
    return ViT(ViTConfig(**(sizes | changes)))


# Where it looks


def test_the_class_token_is_read_by_row_and_column():
    weights = torch.arange(25.0).view(5, 5)
    assert class_attention(weights, 2).tolist() == [[1, 2], [3, 4]]  # row 0 without itself
    without = torch.arange(16.0).view(4, 4)
    assert class_attention(without, 2).tolist() == [[6, 7], [8, 9]]  # the mean of the rows
    assert class_attention(random_weights(3, 2, 10, 10), 3).shape == (3, 2, 3, 3)
    with pytest.raises(ValueError, match="between 7 tokens does not belong to 2 x 2 patches"):
        class_attention(torch.rand(7, 7), 2)


def test_rollout_multiplies_the_layers_with_the_residual_by_hand():
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # both tokens read token 0
    second = torch.tensor([[0.0, 1.0], [0.0, 1.0]])  # both read token 1
    weights = torch.stack([first, second])[:, None]  # (L, H, T, T), one head
    # A' = (A + I) / 2: [[1, 0], [.5, .5]], then [[.5, .5], [0, 1]]; the second times the first
    assert rollout(weights).tolist() == [[0.75, 0.25], [0.5, 0.5]]
    nothing = torch.eye(5).expand(4, 3, 5, 5)
    assert rollout(nothing).equal(torch.eye(5))
    many = rollout(random_weights(6, 2, 4, 10, 10))
    assert many.shape == (2, 10, 10) and many.sum(-1).allclose(torch.ones(2, 10))


@pytest.mark.parametrize("extra", [0, 1])
def test_distances_of_heads_whose_place_is_known(extra):
    tokens = 9 + extra
    itself, even = torch.eye(tokens), torch.full((tokens, tokens), 1 / tokens)
    right = torch.eye(tokens)  # each patch reads the one at its right; the last of a row itself
    for patch in (0, 1, 3, 4, 6, 7):
        right[extra + patch] = torch.eye(tokens)[extra + patch + 1]
    weights = torch.stack([itself, even, right]).expand(2, 3, tokens, tokens)[None]  # (1, 2, 3, ..)
    found = attention_distance(weights, 3, 4)
    assert found.shape == (1, 3)
    assert found[0].tolist() == pytest.approx([0, even_distance(3, 4), 4 * 6 / 9], abs=1e-5)
    assert patch_distances(3, 4)[0, 8] == pytest.approx(4 * 8**0.5)


def test_attention_to_the_class_token_has_no_distance():
    weights = torch.zeros(1, 1, 1, 5, 5)
    weights[..., 0] = 0.9  # nearly all goes to the class token,
    weights[..., 2] = 0.1  # and the rest to the second patch
    assert attention_distance(weights, 2, 2).item() == pytest.approx((2 + 0 + 8**0.5 + 2) / 4)


def test_the_patches_that_hold_half():
    maps = torch.tensor([[[0.6, 0.1], [0.1, 0.2]], [[0.3, 0.2], [0.3, 0.2]], [[1.0, 1.0], [1, 1]]])
    assert patches_for_half(maps).tolist() == [1, 2, 2]
    assert patches_for_half(torch.full((7, 7), 1 / 49)).item() == 25


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("stem", ["patches", "conv"])
def test_weights_come_from_the_model_and_leave_its_mode(pooling, stem):
    model = small_vit(pooling=pooling, stem=stem, dropout=0.3).train()
    images = torch.randn(3, 1, 12, 12)
    weights = attention_weights(model, images)
    tokens = 10 if pooling == "cls" else 9
    assert weights.shape == (2, 3, 2, tokens, tokens) and model.training
    assert weights.sum(-1).allclose(torch.ones(2, 3, 2, tokens))
    assert attention_weights(model, images).equal(weights)  # no dropout
    assert attention_weights(model, images[1:2])[:, 0].allclose(weights[:, 1], atol=1e-6)
    with pytest.raises(ValueError, match="Linear has no attention: there is no map"):
        attention_weights(torch.nn.Linear(1, 1), images)


def test_an_overlay_shows_the_map_and_the_title_counts_it():
    images = torch.rand(2, 1, 8, 8)
    maps = random_weights(9, 2, 16).view(9, 2, 4, 4)
    rolled = torch.full((2, 4, 4), 1 / 16)
    figure = attention_rows_figure(images, maps, rolled, ["a $5", "b"])
    axes = figure.axes[: 2 * 8]
    assert (axes[0].images[0].get_array() == images[0, 0].numpy()).all()
    layers = spread_evenly(9, 6)
    for place, layer in enumerate(layers):
        assert (axes[8 + 1 + place].images[1].get_array() == maps[layer, 1].numpy()).all()
    halves = patches_for_half(maps).float().mean(1)
    assert (
        f"Half of what is read comes from {halves[0]:.1f} of 16 patches in layer 1, "
        f"{halves[8]:.1f} in layer 9, 8.0 over all layers (rollout); an even spread would need 8"
    ) in titles(figure)
    assert {"rollout", "layer 1", "layer 9", "a \\$5"} <= set(titles(figure))


def test_every_head_is_drawn_over_a_color_picture():
    maps = torch.rand(2, 3, 4, 4) + 0.5
    maps[1, 2], maps[0, 1] = 0, 1 / 16
    maps[1, 2, 0, 0] = 1
    figure = heads_over_image_figure(torch.rand(3, 8, 8), maps, "cat 90%")
    for layer in range(2):
        for head in range(3):
            axis = figure.axes[layer * 4 + 1 + head]
            assert (axis.images[1].get_array() == maps[layer, head].numpy()).all()
    assert (
        "Head 3 of layer 2 takes half of its attention from 1 of 16 patches, "
        "head 2 of layer 1 from 8"
    ) in titles(figure)


def test_the_distances_are_drawn_and_named():
    distances = torch.tensor([[1.0, 3.0], [4.0, 5.0], [6.0, 8.0]])
    figure = distance_figure(distances, 7, 4, 128)
    axis = figure.axes[0]
    assert axis.lines[0].get_ydata().tolist() == distances.flatten().tolist()
    assert axis.lines[1].get_ydata().tolist() == [2.0, 4.5, 7.0]
    assert (
        "On average patches look 2.0 pixels far in layer 1 (heads: 1.0 to 3.0) and 7.0 in layer 3 "
        "(6.0 to 8.0)"
    ) in titles(figure)
    assert f"a head that looks everywhere alike ({even_distance(7, 4):.1f})" in titles(figure)


# What it has learned


def test_what_all_positions_share_is_taken_away():
    rows = torch.eye(3).repeat_interleave(3, 0)  # a vector for the row,
    columns = torch.eye(3).repeat(3, 1)  # one for the column
    cosines = position_similarity(torch.cat([rows, columns], 1) + 50.0, 3)
    expected = torch.full((9, 9), -0.5)
    place = torch.arange(9)
    line = (place[:, None] // 3 == place // 3) | (place[:, None] % 3 == place % 3)
    expected[line], expected[place, place] = 0.25, 1.0
    assert cosines.allclose(expected, atol=1e-4)
    figure = position_similarity_figure(torch.cat([rows, columns], 1), 3)
    assert (
        "Positions side by side have a mean cosine of 0.25, others of the same row or column 0.25, "
        "all others -0.50"
    ) in titles(figure)
    mosaic = figure.axes[0].images[0].get_array()
    assert mosaic.shape == (11, 11)
    assert mosaic[4:7, 8:11].flatten().tolist() == pytest.approx(cosines[5].tolist(), abs=1e-4)
    with pytest.raises(ValueError, match=r"shape \(10, 4\) do not belong to 3 x 3 patches"):
        position_similarity(torch.rand(10, 4), 3)


def test_filters_of_two_patterns_have_two_components():
    stripe, cross = torch.zeros(1, 3, 3), torch.zeros(1, 3, 3)
    stripe[0, 1] = 1.0
    cross[0, 0, 0] = cross[0, 2, 2] = -1.0
    mix = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    weight = torch.einsum("dk,kcij->dcij", mix, torch.stack([stripe, cross]))
    components, shares = filter_components(weight)
    assert components.shape == (9, 1, 3, 3) and shares.sum().item() == pytest.approx(1)
    assert shares[:2].sum().item() == pytest.approx(1)
    flat = components[:2].flatten(1)
    assert (flat @ flat.T).allclose(torch.eye(2), atol=1e-5)
    assert (weight.flatten(1) @ flat.T @ flat).allclose(weight.flatten(1), atol=1e-5)
    assert all(one.flatten()[one.abs().argmax()] > 0 for one in components)
    assert any("2 of 9 patterns make up 90% of the 20 filters of 3 x 3 pixels" in text
               for text in titles(patch_filters_figure(weight)))  # fmt: skip


def test_the_filters_of_both_stems():
    model = small_vit(channels=3)
    weight = filter_weight(model)
    assert weight.shape == (16, 3, 4, 4)
    patch = torch.zeros(1, 3, 12, 12)
    patch[0, :, :4, :4] = torch.randn(3, 4, 4)
    embedded = next(one for one in model.modules() if hasattr(one, "patch_size"))(patch)[0, 0]
    bias = next(one for one in model.modules() if hasattr(one, "patch_size")).linear.bias
    assert ((weight * patch[0, :, :4, :4]).sum((1, 2, 3)) + bias).allclose(embedded, atol=1e-5)
    assert filter_weight(small_vit(stem="conv")).ndim == 4


# What it says


def test_confusions_by_hand():
    truth, said = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([0, 2, 2, 1, 2, 0])
    assert confusion_matrix(truth, said, 3).tolist() == [[1, 0, 2], [0, 1, 0], [1, 0, 1]]
    figure = confusion_figure(truth, said, ("cat", "dog", "cow"))
    assert (
        "3 of 6 are right (50.0%); the most frequent mistake: cat taken for cow, 2 of 3"
    ) in titles(figure)
    assert figure.axes[0].images[0].get_array()[0].tolist() == pytest.approx([1 / 3, 0, 2 / 3])
    assert "6 of 6 are right (100.0%)" in titles(confusion_figure(truth, truth, ("a", "b", "c")))
    many = torch.arange(100)
    confusion_figure(many, many, [f"class {i}" for i in range(100)])  # no numbers, no names


def test_the_worst_mistake_comes_first():
    truth = torch.tensor([0, 1, 1, 0])
    shares = torch.tensor([[0.4, 0.6], [0.9, 0.1], [0.3, 0.7], [0.8, 0.2]])
    assert worst_first(truth, shares).tolist() == [1, 0, 2, 3]
    figure = mistakes_figure(torch.rand(4, 1, 8, 8), truth, shares, ("cat", "dog"), count=3)
    shown = [" ".join(axis.get_title().split()) for axis in figure.axes[:3]]
    assert shown == ["cat (90%) is dog (10%)", "dog (60%) is cat (40%)", "dog (70%), right"]
    assert (
        "2 of 4 pictures get a wrong answer (50.0%); shown: these, then the 1 unsurest of the "
        "right ones"
    ) in titles(figure)
    figure = mistakes_figure(torch.rand(4, 1, 8, 8), truth, shares, ("cat", "dog"), count=1)
    assert any("shown: the 1 worst" in text for text in titles(figure))


def clusters(spread, n_labels=3, each=12):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n_labels).repeat(each)
    centers = torch.randn(n_labels, 6, generator=generator)
    return centers[labels] + spread * torch.randn(n_labels * each, 6, generator=generator), labels


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_map_keeps_clusters_apart(method):
    vectors, labels = clusters(0.05)
    points = map_points(vectors, method).double()
    centers = torch.stack([points[labels == label].mean(0) for label in range(3)])
    assert torch.cdist(points, centers).argmin(1).equal(labels)
    assert map_points(vectors, method).double().equal(points)
    with pytest.raises(ValueError, match="a map of 3 pictures shows nothing"):
        map_points(vectors[:3])
    with pytest.raises(ValueError, match="method='umap' is unknown"):
        map_points(vectors, "umap")


def test_the_map_counts_neighbors_of_the_same_class():
    (apart, labels), (mixed, _) = clusters(0.05), clusters(5.0)
    share = neighbor_agreement(mixed, labels)
    assert neighbor_agreement(apart, labels) == 1.0 and share < 0.8
    figure = embedding_map_figure({"ViT": apart, "CNN": mixed}, labels, ("a", "b", "c"))
    assert (
        f"Of 36 pictures the nearest other one is of the same class for 100.0% in the ViT and "
        f"{share:.1%} in the CNN (by chance: 33%)"
    ) in titles(figure)
    assert [len(axis.collections) for axis in figure.axes] == [3, 3]


# The page and the command


def test_tokens_are_named_by_row_and_column():
    names = token_names(11, class_token=False)
    assert len(names) == 121 and names[0] == "  1, 1" and names[10] == "  1,11\n"
    assert len({len(name.rstrip("\n")) for name in names}) == 1


def test_the_page_holds_heads_and_answers(tmp_path):
    opened = untrained_model()
    path = write_page(opened, torch.rand(2, 1, 8, 8), ["<a>.png", "b.png"], tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    data = json.loads(re.search(r"<script[^>]*json[^>]*>(.*?)</script>", text, re.DOTALL)[1])
    first, second = data["maps"]
    assert first["name"] == "<a>.png" and "<a>" not in text
    assert len(first["rows"]) == 17 and first["rows"][0] == "class\n"
    assert len(first["predictions"][0]) == 3 and first["predictions"][1:] == [[]] * 16
    assert (second["layers"], second["heads"], second["causal"]) == (2, 4, False)


@pytest.mark.parametrize("positions", ["learned", "learned-2d", "sine-2d", "rotary-2d", "none"])
def test_positions_are_drawn_where_a_patch_has_a_vector(positions):
    drawn = pictures.draw_weights(small_vit(positions=positions))
    wanted = {"filters"} | (set() if positions in ("rotary-2d", "none") else {"positions"})
    assert set(drawn) == wanted


ATTENTION = {"attention.png", "heads.png", "distance.png", "attention.html"}
ALWAYS = {"structure.png", "filters.png", "positions.png"}
SAID = {"confusion.png", "mistakes.png", "map.png"}


@pytest.mark.slow
def test_the_command_draws_every_picture(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(tmp_path))
    files = pictures.main(["--preset", "smoke"])
    assert {path.name for path in files} == ATTENTION | ALWAYS | SAID
    folder = tmp_path / "vit" / "pictures_smoke" / "figures"
    assert all(path.parent == folder and path.stat().st_size for path in files)


def test_a_run_that_is_missing_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(tmp_path))
    for argv, message in (
        ([], "neither --run nor --pretrained was given: there is no model to look into"),
        (["--run", "nowhere"], "does not exist"),
        (["--pretrained", str(tmp_path)], "does not exist"),
        (["--preset", "smoke", "no.png"], "no.png"),
    ):
        with pytest.raises(SystemExit) as left:
            run_entry(lambda argv=argv: pictures.main(argv))
        error = capsys.readouterr().err
        assert left.value.code == 2 and message in error and error.count("\n") == 1


def test_a_figure_is_written(tmp_path):
    figure = confusion_figure(torch.tensor([0, 1]), torch.tensor([0, 1]), ("a", "b"))
    assert save_figure(figure, tmp_path / "x.png").stat().st_size
