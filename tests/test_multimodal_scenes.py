"""Scenes: drawn as described, split without leaks, asked about without giving answers away."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch

from multimodal.captions import ASKED, COUNTS, SPECIAL, build_tokenizer, caption, phrase, question
from multimodal.digit_captions import digit_caption, digit_prompts
from multimodal.multimodal_data import (
    BOS,
    EOS,
    IGNORED,
    PAD,
    CaptionSampler,
    Pictures,
    QuestionSampler,
    digit_pictures,
    encode_captions,
    encode_questions,
    scene_pictures,
    without_color,
)
from multimodal.rendering import DISTANCES, RGB, SIDE, centers, render
from multimodal.scenes import (
    COLORS,
    COMBINATIONS,
    MOST,
    OPPOSITE,
    PLACES,
    SEEN,
    SHAPES,
    SPLITS,
    Group,
    Scene,
    combinations_of,
    fifth,
    sample_scenes,
)

ONE = Group("square", "red", "large", "left", 1)


def test_combinations_are_split_and_each_color_and_shape_is_trained_on() -> None:
    parts = [combinations_of(split) for split in ("train", "unseen_validation", "unseen_test")]
    assert sorted(pair for part in parts for pair in part) == sorted(COMBINATIONS)
    assert [len(part) for part in parts] == [SEEN, 3, 6]
    for seen in (6, 9, SEEN):
        few = combinations_of("train", seen)
        assert len(few) == seen and set(few) <= set(parts[0])
        assert {color for color, _ in few} == set(COLORS)
        assert {shape for _, shape in few} == set(SHAPES)
    with pytest.raises(ValueError, match=r"combinations=28 is not possible.*Use 6 to 27"):
        combinations_of("train", 28)


def test_descriptions_are_split_whatever_the_seed() -> None:
    described = {
        split: {
            frozenset(scene.groups)
            for seed in (0, 1)
            for scene in sample_scenes(split, 300, seed, groups=(1, 2))
        }
        for split in SPLITS
    }
    for split, scenes in described.items():
        for other, others in described.items():
            assert split == other or not scenes & others
    scene = next(s for s in sample_scenes("train", 50, 0) if len(s.groups) == 2)
    assert fifth(scene) == fifth(Scene(scene.groups[::-1]))  # the same scene


def test_two_groups_can_be_told_apart() -> None:
    for scene in sample_scenes("train", 300, 0, groups=(2,)):
        first, second = scene.groups
        assert first.shape != second.shape and first.color != second.color
        assert OPPOSITE[first.place] == second.place


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_has_the_area_that_its_distance_says(shape: str) -> None:
    """Anti-aliasing keeps areas: the sum of the coverage is the area, wherever the thing stands."""
    fine = (np.arange(-240, 240, dtype=np.float32) + 0.5) / 40
    x, y = (side.astype(np.float32) for side in np.meshgrid(fine, fine))
    area = (DISTANCES[shape](x, y, np.float32(5)) < 0).sum() / 1600
    for offset in (0.0, 0.3, 0.5):
        coarse = np.arange(-8, 9, dtype=np.float32) + np.float32(offset)
        x, y = (side.astype(np.float32) for side in np.meshgrid(coarse, coarse))
        cover = np.clip(0.5 - DISTANCES[shape](x, y, np.float32(5)), 0, 1).sum()
        assert cover == pytest.approx(area, rel=0.04)


def test_pictures_show_what_is_described() -> None:
    for place in PLACES:
        for color in COLORS:
            scene = Scene((replace(ONE, place=place, color=color),))
            image = render([scene], seed=3)[0].astype(float) / 255
            others = np.array([RGB[name] for name in COLORS])
            change = abs(image - image[:, :1, :1]).sum(0)  # from the corner, which is empty
            thing = change > 0.6 * change.max()
            pixel = np.median(image[:, thing], axis=1)
            assert COLORS[np.abs(others - pixel).sum(1).argmin()] == color
            spot = np.argwhere(thing).mean(0)  # row, column
            upright = place in ("left", "right")
            assert (spot[1 if upright else 0] < SIDE / 2) == (place in ("left", "top"))


def test_things_stay_inside_and_apart() -> None:
    random = np.random.default_rng(0)
    for count in range(1, MOST + 1):
        for place in PLACES:
            spots = centers(replace(ONE, count=count, place=place), random)
            assert len(spots) == count
            assert all(5.1 <= value <= SIDE - 5.1 for spot in spots for value in spot)
            gaps = [np.hypot(*np.subtract(a, b)) for a, b in zip(spots, spots[1:], strict=False)]
            assert all(gap > 2 * 5.1 for gap in gaps)


def test_the_same_seed_draws_the_same_picture() -> None:
    scenes = sample_scenes("test", 5, 0)
    assert np.array_equal(render(scenes, 1), render(scenes, 1))
    assert not np.array_equal(render(scenes, 1), render(scenes, 2))
    assert render(scenes, 1).shape == (5, 3, SIDE, SIDE)


def test_answers_are_true() -> None:
    random = np.random.default_rng(0)
    for scene in sample_scenes("train", 400, 1):
        by_shape = {group.shape: group for group in scene.groups}
        by_color = {group.color: group for group in scene.groups}
        for kind in ASKED:
            asked = question(scene, random, kind)
            words = asked.text.rstrip("?").split()
            if kind == "shape":
                assert by_color[words[-1]].shape == asked.answer
                continue
            if kind == "exists":
                color, shape = words[-2:]
                there = shape in by_shape and by_shape[shape].color == color
                assert asked.answer == ("yes" if there else "no")
                continue
            (group,) = [g for s, g in by_shape.items() if s in asked.text]
            truth = {"color": group.color, "size": group.size, "where": group.place,
                     "count": COUNTS[group.count - 1]}  # fmt: skip
            assert asked.answer == truth[kind]


def test_who_knows_the_question_alone_stays_below_60_percent() -> None:
    """The best guess for each question, counted on the training scenes, on other scenes."""
    random = np.random.default_rng(0)
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for scene in sample_scenes("train", 3000, 0):
        for kind in ASKED:
            asked = question(scene, random, kind)
            answers[asked.text][asked.answer] += 1
    right = Counter[str]()
    scenes = sample_scenes("test", 1000, 0)
    for scene in scenes:
        for kind in ASKED:
            asked = question(scene, random, kind)
            best = answers[asked.text].most_common(1)
            right[kind] += bool(best) and best[0][0] == asked.answer
    shares = {kind: right[kind] / len(scenes) for kind in ASKED}
    assert sum(shares.values()) / len(shares) < 0.5, shares
    assert shares["size"] < 0.6 and shares["exists"] < 0.75 and shares["count"] < 0.45


def test_captions_say_less_or_all() -> None:
    scene = Scene((Group("cross", "cyan", "small", "bottom", 2), replace(ONE, place="top")))
    full = caption(scene)
    assert full == "one large red square at the top and two small cyan crosses at the bottom"
    random = np.random.default_rng(0)
    varied = {caption(scene, random) for _ in range(3000)}
    assert full in varied and len(varied) == 16  # each of four attributes said or not
    assert phrase(ONE, {"shape", "place"}) == "one large red thing"


def test_every_word_of_the_world_is_one_token() -> None:
    tokenizer = build_tokenizer()
    random = np.random.default_rng(0)
    for scene in sample_scenes("train", 200, 0):
        asked = question(scene, random)
        for text in (caption(scene), caption(scene, random), asked.text, " " + asked.answer):
            pieces = [tokenizer.decode([i]).strip() for i in tokenizer.encode(text)]
            assert all(len(piece) > 1 or piece in ("a", "?") for piece in pieces), pieces
    for digit in range(10):
        for text in digit_prompts(digit):
            assert all(
                len(tokenizer.decode([i]).strip()) > 1 or tokenizer.decode([i]).strip() == "a"
                for i in tokenizer.encode(text)
            )
    assert [tokenizer.special_tokens[name] for name in SPECIAL] == [PAD, BOS, EOS]
    with pytest.raises(ValueError, match="'7'"):
        tokenizer.encode("how about 7")


def test_targets_are_the_answer_and_its_end_alone() -> None:
    random = np.random.default_rng(0)
    asked = [question(scene, random) for scene in sample_scenes("train", 20, 0)]
    tokens, targets = encode_questions(asked)
    tokenizer = build_tokenizer()
    for one, row, goal in zip(asked, tokens.tolist(), targets.tolist(), strict=True):
        learned = [token for token in goal if token != IGNORED]
        assert tokenizer.decode(learned[:-1]) == " " + one.answer and learned[-1] == EOS
        first = goal.index(learned[0])
        # The first learned place holds the question's last token; what follows is the answer.
        assert tokenizer.decode(row[1 : first + 1]) == one.text
        assert row[first + 1 : first + len(learned)] == learned[:-1]


def test_gray_pictures_go_with_captions_without_a_color() -> None:
    pictures = scene_pictures("train", 64, 0)
    sampler = CaptionSampler(pictures, 64, 0)
    batch = sampler.next_batch()
    tokenizer = build_tokenizer()
    gray = (batch.images[:, 0] == batch.images[:, 1]).flatten(1).all(1).tolist()
    texts = [tokenizer.decode(row).split() for row in batch.tokens.tolist()]
    named = [any(color in " ".join(text) for color in COLORS) for text in texts]
    assert gray == [not name for name in named] and 5 < sum(gray) < 59
    colored = CaptionSampler(pictures, 64, 0, gray=False).next_batch()
    assert torch.equal(colored.images, pictures.images[colored.rows])
    assert torch.equal(colored.tokens, batch.tokens)
    same = without_color(pictures.images[:2], ["one red ring", "one red ring"])
    assert torch.equal(same, pictures.images[:2])


def test_an_epoch_shows_every_picture_once_and_number_decides() -> None:
    pictures = scene_pictures("train", 64, 0, "both")
    sampler = QuestionSampler(pictures, 16, seed=3, caption_share=0.5)
    rows = torch.cat([sampler.next_batch().rows for _ in range(4)])
    assert rows.sort().values.tolist() == list(range(64))
    again = QuestionSampler(pictures, 16, seed=3, caption_share=0.5)
    again.number = 3
    fourth = again.next_batch()
    assert torch.equal(fourth.rows, rows[48:]) and again.number == 4
    with pytest.raises(ValueError, match="batch_size=65 is more than the 64 training pictures"):
        CaptionSampler(pictures, 65, 0)


def test_captions_come_first_if_asked_for() -> None:
    pictures = scene_pictures("train", 64, 0, "both")
    sampler = QuestionSampler(pictures, 16, 0, questions=2, caption_steps=1)
    describes = build_tokenizer().encode("describe")[0]
    first, second = sampler.next_batch(), sampler.next_batch()
    assert (first.tokens[:, 1] == describes).all() and first.parts == 1
    assert (second.tokens[:, 1] != describes).all() and second.parts == 2


def test_a_picture_is_asked_questions_of_different_kinds() -> None:
    pictures = scene_pictures("train", 64, 0, "two")
    batch = QuestionSampler(pictures, 16, 0, questions=6).next_batch()
    texts = batch.tokens.view(16, 6, -1)
    assert (texts[:, :, 0] == BOS).all()
    tokenizer = build_tokenizer()
    for row in texts:
        starts = {" ".join(tokenizer.decode(text).split()[:2]) for text in row[:, 1:].tolist()}
        assert len(starts) == 6  # what color, which shape, how large, how many, where is, is there


def test_digits_have_captions_and_move() -> None:
    pictures = digit_pictures("train", "digits-small")
    assert pictures.images.dtype == torch.uint8 and pictures.images.shape[1:] == (1, 8, 8)
    assert pictures.captions()[0] == digit_caption(int(pictures.subjects[0]))  # type: ignore[arg-type]
    batch = CaptionSampler(pictures, 32, 0).next_batch()
    assert batch.images.shape == (32, 1, 8, 8)
    assert not torch.equal(batch.images, pictures.images[batch.rows])  # moved a little
    with pytest.raises(ValueError, match="all ten digits are trained on"):
        digit_pictures("unseen_test")


def test_padding_is_behind() -> None:
    tokens, lengths = encode_captions(["one red ring", "two small cyan bars at the top"])
    assert tokens[0, lengths[0] - 1] == EOS and (tokens[0, lengths[0] :] == PAD).all()
    assert isinstance(Pictures(torch.zeros(1, 3, 2, 2), [3]).captions()[0], str)
