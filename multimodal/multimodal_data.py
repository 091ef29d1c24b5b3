"""Pictures and what they show, in splits; minibatches of pictures with captions or questions.

A minibatch depends on its number and on the seed alone, so that a resumed run sees the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from instruction_tuning.chat_template import pad_right
from multimodal.captions import ASKED, REQUEST, Question, build_tokenizer, caption, question
from multimodal.digit_captions import digit_caption
from multimodal.rendering import render
from multimodal.scenes import COLORS, SEEN, SPLITS, Scene, Split, sample_scenes
from vit.augmentation import Augmentation
from vit.image_data import load_image_data

Subject = Scene | int  # what a picture shows: a scene, or a digit
PAD, BOS, EOS = 0, 1, 2
IGNORED = -100
COLOR_WORDS = set(COLORS)
MOVES = Augmentation(shift=1, rotate=15.0, zoom=0.15)  # copies of digits that stay what they are
GROUPS = {"one": (1,), "two": (2,), "both": (1, 2)}


@dataclass(frozen=True)
class Pictures:
    """A split."""

    images: Tensor  # (N, C, H, W), levels 0 to 255
    subjects: Sequence[Subject]  # N

    def rows(self, rows: Sequence[int]) -> Pictures:
        """Returns some of them."""
        return Pictures(self.images[torch.as_tensor(rows)], [self.subjects[i] for i in rows])

    def captions(self) -> list[str]:
        """Returns the full caption of each."""
        return [describe(subject) for subject in self.subjects]


def describe(subject: Subject, random: np.random.Generator | None = None) -> str:
    """Returns a caption; ``random`` varies it."""
    if isinstance(subject, Scene):
        return caption(subject, random)
    return digit_caption(subject, random)


@lru_cache(maxsize=12)
def scene_pictures(
    split: Split, count: int, seed: int, groups: str = "one", seen: int = SEEN
) -> Pictures:
    """Samples and draws scenes.

    Args:
        split: which combinations and descriptions may occur, see ``scenes.py``.
        count: pictures.
        seed: of descriptions and pixels; the same one gives other pictures in another split.
        groups: "one", "two" or "both".
        seen: combinations of color and shape in the training.
    """
    scenes = sample_scenes(split, count, seed, groups=GROUPS[groups], seen=seen)
    pixels = render(scenes, seed=len(SPLITS) * seed + SPLITS.index(split))
    return Pictures(torch.from_numpy(pixels), scenes)


def digit_pictures(split: Split, name: str = "digits") -> Pictures:
    """Returns scikit-learn's digits, gray, 8 x 8 pixels; their splits are those of ``vit``.

    Raises:
        ValueError: no digit is held out as unseen.
    """
    if split.startswith("unseen"):
        raise ValueError(
            f"split={split!r} is one of scenes: all ten digits are trained on. Use train, "
            "validation or test."
        )
    part = getattr(load_image_data(name), split)
    images = part.images if part.images.dtype == torch.uint8 else (part.images * 255).round().byte()
    return Pictures(images, part.labels.tolist())


def encode_captions(captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Returns <bos> caption <eos> of each, (B, T), and their lengths, (B,)."""
    tokenizer = build_tokenizer()
    rows = [[BOS, *tokenizer.encode(text), EOS] for text in captions]
    return pad_right(rows, PAD), torch.tensor([len(row) for row in rows])


def encode_questions(asked: Sequence[Question]) -> tuple[Tensor, Tensor]:
    """Returns questions with their answers, and what is to be learned of them.

    Returns:
        Tokens of <bos> question answer, (B, T); and the targets, (B, T): the answer and its <eos>
        one place earlier than it stands, -100 elsewhere.
    """
    tokenizer = build_tokenizer()
    texts, targets = [], []
    for one in asked:
        request, answer = (tokenizer.encode(text) for text in (one.text, " " + one.answer))
        texts.append([BOS, *request, *answer])
        targets.append([IGNORED] * len(request) + [*answer, EOS])
    return pad_right(texts, PAD), pad_right(targets, IGNORED)


@dataclass(frozen=True)
class Batch:
    """What one update learns from."""

    images: Tensor  # (B, C, H, W), levels
    tokens: Tensor  # (B, T)
    extra: Tensor  # of captions: lengths, (B,); of questions: targets, (B, T)
    rows: Tensor  # (B,), numbers of the pictures
    parts: int = 1  # texts in each row of ``tokens``, of equal length


class Sampler:
    """An endless row of minibatches; the pictures are shuffled anew in each epoch.

    A derived class says which texts a minibatch gets.
    """

    def __init__(self, pictures: Pictures, batch_size: int, seed: int) -> None:
        """Starts at minibatch 0.

        Args:
            pictures: to draw from.
            batch_size: B, at most as many as there are pictures.
            seed: of order and texts.

        Raises:
            ValueError: the minibatch is larger than the set.
        """
        if batch_size > len(pictures.subjects):
            raise ValueError(
                f"batch_size={batch_size} is more than the {len(pictures.subjects)} training "
                "pictures: a picture would be its own negative. Use a smaller one."
            )
        self.pictures, self.batch_size, self.seed = pictures, batch_size, seed
        self.number = 0  # of the next minibatch

    def next_batch(self) -> Batch:
        """Returns the next minibatch, on the CPU."""
        total = len(self.pictures.subjects)
        epoch, place = divmod(self.number, total // self.batch_size)
        order = np.random.default_rng([self.seed, 1, epoch]).permutation(total)
        rows = order[place * self.batch_size : (place + 1) * self.batch_size]
        random = np.random.default_rng([self.seed, 2, self.number])
        batch = self.make(self.pictures.rows(rows.tolist()), torch.from_numpy(rows), random)
        self.number += 1
        return batch

    def make(self, pictures: Pictures, rows: Tensor, random: np.random.Generator) -> Batch:
        """Gives pictures their texts."""
        raise NotImplementedError


class CaptionSampler(Sampler):
    """Pictures with captions that leave something out."""

    def __init__(self, pictures: Pictures, batch_size: int, seed: int, gray: bool = True) -> None:
        """Starts at minibatch 0; for ``gray`` see ``without_color``."""
        super().__init__(pictures, batch_size, seed)
        self.gray = gray

    def make(self, pictures: Pictures, rows: Tensor, random: np.random.Generator) -> Batch:
        """Gives each picture a caption."""
        captions = [describe(subject, random) for subject in pictures.subjects]
        images = pictures.images
        if not isinstance(pictures.subjects[0], Scene):
            images = moved(images, int(random.integers(2**31)))
        elif self.gray:
            images = without_color(images, captions)
        return Batch(images, *encode_captions(captions), rows)


class QuestionSampler(Sampler):
    """Pictures with questions and answers, and sometimes with requests for a caption."""

    def __init__(
        self, pictures: Pictures, batch_size: int, seed: int, *, questions: int = 1,
        caption_share: float = 0.0, caption_steps: int = 0,
    ) -> None:  # fmt: skip
        """Starts at minibatch 0.

        Args:
            pictures: scenes.
            batch_size: B.
            seed: of order and questions.
            questions: about each picture, of different kinds.
            caption_share: share of the minibatches that ask for captions.
            caption_steps: first minibatches that ask for captions alone.
        """
        super().__init__(pictures, batch_size, seed)
        self.questions = questions
        self.caption_share, self.caption_steps = caption_share, caption_steps

    def make(self, pictures: Pictures, rows: Tensor, random: np.random.Generator) -> Batch:
        """Gives each picture its questions, or the request for a caption."""
        scenes = [subject for subject in pictures.subjects if isinstance(subject, Scene)]
        if self.number < self.caption_steps or random.random() < self.caption_share:
            return Batch(
                pictures.images, *encode_questions(list(map(caption_request, scenes))), rows
            )
        asked = [
            question(scene, random, kind)
            for scene in scenes
            for kind in random.permutation(list(ASKED))[: self.questions]
        ]
        tokens, targets = (x.view(len(scenes), -1) for x in encode_questions(asked))
        return Batch(pictures.images, tokens, targets, rows, self.questions)


def caption_request(scene: Scene) -> Question:
    """Returns the request for the full caption of a scene."""
    return Question("caption", REQUEST, caption(scene))


def without_color(images: Tensor, captions: Sequence[str]) -> Tensor:
    """Makes the pictures gray whose caption names no color: the caption stays true.

    Then brightness alone tells the shape, and a shape is learned apart from its colors.

    Args:
        images: (B, 3, H, W), levels; they stay as they are.
        captions: B texts.

    Returns:
        (B, 3, H, W): of the gray ones all three channels are the mean.
    """
    plain = torch.tensor([not COLOR_WORDS & set(text.split()) for text in captions])
    gray = images.float().mean(dim=1, keepdim=True).round().byte()  # (B, 1, H, W)
    return torch.where(plain[:, None, None, None], gray, images)


def moved(images: Tensor, seed: int) -> Tensor:
    """Returns digits a little moved, turned and zoomed, (B, 1, 8, 8), levels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(len(images), dtype=torch.long)
    shifted, _ = MOVES(images.float() / 255, labels, generator)
    return (shifted.clamp(0, 1) * 255).round().byte()
