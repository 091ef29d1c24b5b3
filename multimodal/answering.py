"""Questions about pictures, answered word by word, and how many answers are exactly right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multimodal.captions import ASKED, Question, build_tokenizer, question
from multimodal.contrastive_model import as_numbers, blank
from multimodal.multimodal_config import TEXT_LENGTH
from multimodal.multimodal_data import BOS, EOS, Pictures, caption_request
from multimodal.scenes import Scene
from multimodal.vision_language_model import VisionLanguageModel

TOGETHER = 256  # questions answered at once


@dataclass(frozen=True)
class Scores:
    """Shares of exactly right answers, 0 to 1."""

    by_kind: dict[str, float]

    @property
    def overall(self) -> float:
        """The mean over the kinds, each of which was asked equally often."""
        return sum(self.by_kind.values()) / len(self.by_kind)


@torch.no_grad()
def answer(model: VisionLanguageModel, images: Tensor, texts: Sequence[str]) -> list[str]:
    """Answers questions, always with the most probable token, until <eos> or a full window.

    Args:
        model: in evaluation mode.
        images: (B, 3, H, W), levels 0 to 255.
        texts: B questions, or ``captions.REQUEST``.

    Returns:
        B answers, "" if a question fills the window.

    Raises:
        ValueError: a question does not fit, or has a character that the vocabulary lacks.
    """
    tokenizer, device = build_tokenizer(), next(model.parameters()).device
    encoded = [[BOS, *tokenizer.encode(text)] for text in texts]
    groups: dict[int, list[int]] = defaultdict(list)  # rows by length: no padding to write behind
    for row, tokens in enumerate(encoded):
        groups[len(tokens)].append(row)
    answers = [""] * len(texts)
    for rows in groups.values():
        for start in range(0, len(rows), TOGETHER):
            part = rows[start : start + TOGETHER]
            asked = torch.tensor([encoded[row] for row in part], device=device)  # (b, T)
            features = model.features(as_numbers(images[part].to(device)))  # (b, N, D_v)
            for row, written in zip(part, _write(model, features, asked).tolist(), strict=True):
                written = written[: written.index(EOS)] if EOS in written else written
                answers[row] = tokenizer.decode(written).strip()
    return answers


def _write(model: VisionLanguageModel, features: Tensor, tokens: Tensor) -> Tensor:
    """Returns what the model writes behind the tokens, (b, written); rows go on behind <eos>."""
    begin, finished = tokens.shape[1], torch.zeros(len(tokens), dtype=torch.bool)
    while tokens.shape[1] < TEXT_LENGTH and not finished.all():
        last = model.hidden(features, tokens)[:, -1]  # (b, D)
        chosen = model.gpt.project(last).argmax(dim=-1)  # (b,)
        tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        finished |= (chosen == EOS).cpu()
    return tokens[:, begin:]


def questions_about(
    pictures: Pictures, seed: int = 0, kinds: Sequence[str] = tuple(ASKED)
) -> list[list[Question]]:
    """Returns for each kind one question about each picture; the seed chooses the group."""
    random = np.random.default_rng([seed, 3])
    scenes = [subject for subject in pictures.subjects if isinstance(subject, Scene)]
    return [[question(scene, random, kind) for scene in scenes] for kind in kinds]


def exact_match(
    model: VisionLanguageModel, pictures: Pictures, *, blanked: bool = False, captions: bool = False
) -> Scores:
    """Asks one question of every kind about every picture.

    Args:
        model: a trained one.
        pictures: scenes that it has not seen.
        blanked: show a gray area instead of each picture.
        captions: ask for captions instead; right is a caption with every word right.
    """
    model.eval()
    images = blank(pictures.images) if blanked else pictures.images
    asked = questions_about(pictures)
    if captions:
        asked = [[caption_request(s) for s in pictures.subjects if isinstance(s, Scene)]]
    shares = {}
    for questions in asked:
        answers = answer(model, images, [one.text for one in questions])
        right = [said == one.answer for said, one in zip(answers, questions, strict=True)]
        shares[questions[0].kind] = sum(right) / len(right)
    return Scores(shares)
