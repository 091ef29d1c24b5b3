"""The language model that sees: masks, equality with GPT, answers, and where it looks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gpt import gpt_components
from multimodal.answering import answer, exact_match, questions_about
from multimodal.captions import ASKED, REQUEST, Question
from multimodal.multimodal_config import PRESETS
from multimodal.multimodal_data import EOS, encode_questions, scene_pictures
from multimodal.picture_attention import (
    asked_group,
    attention_figure,
    attention_maps,
    half_of,
    share_on_asked,
)
from multimodal.saved_model import build_model
from multimodal.scenes import Scene
from multimodal.verify_multimodal import LANGUAGE, VISION, seeing_model, small_batch
from multimodal.vision_language_model import VisionLanguageModel, answer_loss, prefix_mask


@pytest.fixture
def model() -> VisionLanguageModel:
    torch.manual_seed(0)
    built = build_model(PRESETS["smoke-bridge"])
    assert isinstance(built, VisionLanguageModel)
    return built.eval()


def test_the_mask_lets_all_see_the_picture_and_none_the_future() -> None:
    mask = prefix_mask(3, 4)
    assert mask.shape == (1, 1, 7, 7)
    allowed = mask[0, 0]
    assert allowed[:, :3].all() and not allowed[:3, 3:].any()
    assert torch.equal(allowed[3:, 3:], torch.ones(4, 4, dtype=torch.bool).tril())


def test_a_prefix_of_one_token_is_gpt_itself() -> None:
    model, (_, tokens) = seeing_model(), small_batch()
    model.projector, model.n_prefix = nn.Identity(), 1  # type: ignore[assignment]
    ours = model(model.gpt.token_embedding(tokens[:, :1]), tokens[:, 1:])
    assert torch.allclose(ours, model.gpt(tokens)[:, 1:], atol=1e-12)


def test_the_fused_attention_obeys_the_mask_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a square mask of two dimensions as causal: the prefix would see only its past."""
    model, (images, tokens) = seeing_model(), small_batch()
    features = model.features(images)
    written_out = model(features, tokens)
    monkeypatch.setattr(gpt_components, "written_out_is_faster", lambda q: False)
    assert torch.allclose(model(features, tokens), written_out, atol=1e-10)


def test_patches_can_see_each_other_and_no_text() -> None:
    model, (images, tokens) = seeing_model(), small_batch()
    named = model.intermediates(model.features(images), tokens)
    weights = named["attention.0"]
    assert (weights[:, :, : model.n_prefix, model.n_prefix :] == 0).all()
    assert (weights[:, :, 0, 1 : model.n_prefix] > 0).all()
    assert torch.allclose(named["logits"], model(model.features(images), tokens))


def test_questions_that_share_a_picture_do_not_see_each_other() -> None:
    model, (images, tokens) = seeing_model(), small_batch()
    features, others = model.features(images), tokens.flip(0, 1)
    together = model(features, torch.cat([tokens, others, tokens], dim=1), parts=3)
    alone = [model(features, part) for part in (tokens, others, tokens)]
    assert torch.allclose(together, torch.cat(alone, dim=1), atol=1e-12)
    assert not torch.allclose(alone[0], alone[1])


def test_the_loss_is_over_the_answer_alone() -> None:
    tokens, targets = encode_questions([Question("color", "what color is each ring?", "red")])
    logits = torch.randn(1, tokens.shape[1], LANGUAGE.vocab_size)
    loss = answer_loss(logits, targets)
    changed = logits.clone()
    changed[:, : int((targets[0] == -100).sum()) - 1] += torch.randn(LANGUAGE.vocab_size)
    assert torch.equal(answer_loss(changed, targets), loss)
    last = (targets[0] != -100).nonzero()[:, 0]
    by_hand = -logits[0, last].log_softmax(-1).gather(1, targets[0, last][:, None]).mean()
    assert torch.allclose(loss, by_hand)


def test_answers_do_not_depend_on_their_neighbors(model: VisionLanguageModel) -> None:
    pictures = scene_pictures("test", 6, 0, "both")
    texts = ["what color is each ring?", REQUEST, "is there a red bar?"] * 2
    together = answer(model, pictures.images, texts)
    for row, text in enumerate(texts):
        assert answer(model, pictures.images[row : row + 1], [text]) == [together[row]]


def test_an_answer_ends_at_eos(model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from multimodal.captions import build_tokenizer

    red = build_tokenizer().encode(" red")[0]
    script = iter([red, EOS])

    def say(self: object, x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.full((len(x),), next(script))).float()

    monkeypatch.setattr(type(model.gpt), "project", say)
    images = scene_pictures("test", 2, 0, "both").images
    assert answer(model, images, ["what color is each ring?"] * 2) == ["red", "red"]


def test_exact_match_counts_each_kind(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = scene_pictures("test", 8, 0, "both")
    truths = [one.answer for asked in questions_about(pictures) for one in asked]
    said = iter([truths[8 * k : 8 * k + 8 if k else 4] + ([] if k else ["no"] * 4)
                 for k in range(len(ASKED))])  # fmt: skip
    monkeypatch.setattr("multimodal.answering.answer", lambda *_: next(said))
    scores = exact_match(model, pictures)
    assert list(scores.by_kind) == list(ASKED)
    assert scores.by_kind["color"] == 0.5 and scores.by_kind["exists"] == 1.0
    assert scores.overall == pytest.approx((0.5 + 5) / 6)


def test_blanked_pictures_cannot_be_told_apart(model: VisionLanguageModel) -> None:
    seen: list[Tensor] = []

    def keep(images: Tensor) -> Tensor:
        seen.append(images)
        return VisionLanguageModel.features(model, images)

    model.features = keep  # type: ignore[method-assign]
    exact_match(model, scene_pictures("test", 4, 0, "both"), blanked=True)
    assert all((images == images[:1]).all() for images in seen)


def test_questions_that_do_not_fit_are_refused(model: VisionLanguageModel) -> None:
    images = scene_pictures("test", 1, 0).images
    assert answer(model, images, ["where " * 5])  # unusual, but it fits
    with pytest.raises(ValueError, match="do not fit into the context window"):
        model(model.features(torch.zeros(1, 3, 32, 32)), torch.zeros(1, 40, dtype=torch.long))
    with pytest.raises(ValueError, match="cannot hold a picture of 4 patches"):
        VisionLanguageModel(VISION, type(LANGUAGE)(vocab_size=9, max_len=4))


def test_the_asked_half() -> None:
    for place, sign in (("left", 0), ("right", 1)):
        half = half_of(place, 4)
        assert half.sum() == 8 and half[0, 3 * sign] == 1 and half[0, 3 - 3 * sign] == 0
    pictures = scene_pictures("test", 40, 0, "two")
    for scene in pictures.subjects[:5]:
        assert isinstance(scene, Scene)
        one = Question("count", f"how many {scene.groups[1].shape}s are there?", "one")
        assert asked_group(scene, one) is scene.groups[1]


def test_attention_is_a_share_of_all_and_is_drawn(model: VisionLanguageModel) -> None:
    pictures = scene_pictures("test", 40, 0, "both")
    maps = attention_maps(model, pictures.images[:3], ["where is each ring?"] * 3)
    assert maps.shape == (1, 3, 4, 4)
    total = maps.sum(dim=(2, 3))
    assert (total > 0).all() and (total < 1).all()
    (share,) = share_on_asked(model, pictures)
    assert 0.3 < share < 0.7  # untrained: about even
    figure = attention_figure(model, pictures)
    assert f"{share:.0%}" in figure.get_suptitle()
