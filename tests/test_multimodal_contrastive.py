"""The contrastive half: the loss is CLIP's, padding does not count, naming and finding work."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from multimodal.contrastive_components import (
    LARGEST_SCALE,
    Temperature,
    at_the_end,
    contrastive_loss,
    similarities,
)
from multimodal.contrastive_model import DualEncoder, as_numbers, blank, patch_features
from multimodal.multimodal_data import encode_captions, scene_pictures
from multimodal.retrieval_figures import (
    combination_accuracies,
    combinations_figure,
    pictures_for_texts_figure,
    texts_for_pictures_figure,
)
from multimodal.scenes import COMBINATIONS
from multimodal.verify_multimodal import VISION, dual_encoder
from multimodal.zero_shot import (
    accuracy,
    class_labels,
    classify,
    combination_prompts,
    distinct,
    encode_texts,
    prompts_for,
    search,
)


def test_the_loss_and_its_gradients_are_those_of_transformers() -> None:
    clip = pytest.importorskip("transformers.models.clip.modeling_clip")
    torch.manual_seed(0)
    u, v = (torch.randn(9, 12, requires_grad=True) for _ in range(2))
    temperature = Temperature()
    ours = contrastive_loss(similarities(u, v, temperature()))
    scale = temperature.log_scale.exp()
    texts, images = (x / x.norm(dim=-1, keepdim=True) for x in (v, u))
    loss = getattr(clip, "clip_loss", None) or clip.image_text_contrastive_loss
    theirs = loss(texts @ images.t() * scale)
    assert torch.allclose(ours, theirs, atol=1e-6)
    wanted = [u, v, temperature.log_scale]
    for a, b in zip(
        torch.autograd.grad(ours, wanted, retain_graph=True),
        torch.autograd.grad(theirs, wanted),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_temperature_is_cut_off_and_can_stay() -> None:
    assert Temperature()().item() == pytest.approx(1 / 0.07)
    learned = Temperature()
    with torch.no_grad():
        learned.log_scale.fill_(10.0)
    assert learned().item() == LARGEST_SCALE
    assert not Temperature(0.5, learned=False).log_scale.requires_grad
    for start in (0.001, 0.0):
        with pytest.raises(ValueError, match=r"start_temperature=0.*Use 0.01 to 1"):
            Temperature(start)


def test_scores_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores of the shape \(2, 3\) do not pair"):
        contrastive_loss(torch.zeros(2, 3))


def test_equal_captions_leave_a_floor() -> None:
    """K equal captions: the best that a model can do is ln k."""
    perfect = 1000 * torch.block_diag(*[torch.ones(3, 3)] * 2)
    assert contrastive_loss(perfect).item() == pytest.approx(math.log(3), abs=1e-5)


def test_the_last_token_speaks_for_the_text() -> None:
    hidden = torch.arange(24.0).view(2, 3, 4)
    assert torch.equal(at_the_end(hidden, torch.tensor([3, 1]))[:, 0], torch.tensor([8.0, 12.0]))


def test_padding_and_neighbors_change_no_text_vector() -> None:
    model = dual_encoder()
    texts = ["one red ring", "two small cyan bars at the top"]
    together = encode_texts(model, texts)
    alone = torch.cat([encode_texts(model, [text]) for text in texts])
    assert torch.allclose(together, alone, atol=1e-12)


def test_a_new_model_gives_each_picture_another_vector() -> None:
    """A ViT's head starts at zero; ours must not."""
    torch.manual_seed(0)
    config = dual_encoder().text.gpt.config
    model = DualEncoder(VISION, config)
    u = F.normalize(model.vision(torch.randn(4, 3, 16, 16)), dim=-1)
    assert (u @ u.T - torch.eye(4)).abs().max() < 0.9999 and u.norm(dim=-1).min() > 0.99
    tokens, lengths = encode_captions(["one red ring"] * 4)
    loss = contrastive_loss(model(torch.randn(4, 3, 16, 16), tokens, lengths))
    loss.backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unused


def test_patch_features_are_the_stream_below_the_last_layer() -> None:
    vision = dual_encoder().vision
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    named: dict[str, torch.Tensor] = {}
    vision.features(images, named)
    assert torch.allclose(patch_features(vision, images), named["layer_0"])


class _Oracle(torch.nn.Module):
    """Knows what a scene shows by its number: a picture's first pixel."""

    def __init__(self, vectors: torch.Tensor, texts: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.vectors, self.texts = vectors, texts

    def vision(self, images: torch.Tensor) -> torch.Tensor:
        number = ((images[:, 0, 0, 0] * 0.25 + 0.5) * 255).round().long()
        return self.vectors[number]


def test_naming_and_finding_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = distinct(scene_pictures("test", 30, 5))
    count = len(pictures.subjects)
    images = pictures.images.clone()
    images[:, 0, 0, 0] = torch.arange(count).byte()
    numbered = type(pictures)(images, pictures.subjects)
    labels = class_labels(numbered)
    classes = F.one_hot(labels, len(COMBINATIONS)).float()
    model = _Oracle(classes, {})
    monkeypatch.setattr("multimodal.zero_shot.class_vectors", lambda *_: torch.eye(36))
    assert accuracy(model, numbered) == 1.0  # type: ignore[arg-type]
    model.vectors = classes.roll(1, dims=1)
    assert accuracy(model, numbered) == 0.0  # type: ignore[arg-type]
    # Each picture and its caption share one axis, except the first two, which are swapped.
    own = torch.eye(count)
    monkeypatch.setattr("multimodal.zero_shot.encode_texts", lambda *_: own)
    model.vectors = own[[1, 0, *range(2, count)]]
    found = search(model, numbered).hits()  # type: ignore[arg-type]
    assert found == pytest.approx(((count - 2) / count,) * 2)


def test_classes_are_all_combinations() -> None:
    pictures = scene_pictures("unseen_test", 10, 0)
    assert len(prompts_for(pictures)) == len(COMBINATIONS) == 36
    assert len(combination_prompts(("red", "ring"))) == 9
    assert all(
        "place" not in text and " on " not in text for text in combination_prompts(("red", "bar"))
    )


def test_pictures_are_drawn_with_findings() -> None:
    model = DualEncoder(_vision_for_scenes(), dual_encoder().text.gpt.config).eval()
    pictures = scene_pictures("unseen_test", 24, 0)
    shares = combination_accuracies(model, [pictures])
    said, truth = classify(model, pictures), class_labels(pictures)
    assert sum(shares.values()) / len(shares) <= 1 and len(shares) == len(set(truth.tolist()))
    assert len(said) == 24
    title = combinations_figure(shares).get_suptitle()
    assert "never seen (framed)" in " ".join(title.split())
    found = search(model, pictures)
    assert found.cosines.shape == (len(found.texts),) * 2
    for figure in (pictures_for_texts_figure(found), texts_for_pictures_figure(found)):
        assert "%" in figure.get_suptitle()


def _vision_for_scenes():  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(VISION, image_size=32)


def test_levels_become_numbers_and_blank_shows_nothing() -> None:
    levels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2)
    assert as_numbers(levels).flatten().tolist() == [-2.0, 2.0]
    empty = blank(levels)
    assert empty.unique().numel() == 1 and as_numbers(empty).abs().max() < 0.02
