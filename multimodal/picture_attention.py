"""Where the language model looks in the picture while it answers.

The token that predicts the answer is the question's last. Its attention over the N places of the
picture, a mean over the heads, is a map of G x G patches for each block. Whether the map means
something can be counted: with two groups, how much of it lies on the half of the one asked about?
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from multimodal.answering import answer
from multimodal.captions import Question, build_tokenizer, question
from multimodal.contrastive_model import as_numbers
from multimodal.multimodal_data import BOS, Pictures
from multimodal.scenes import Group, Scene
from multimodal.vision_language_model import VisionLanguageModel
from tutorial_kit.plotting import drawable, headline, new_figure
from vit.attention_pictures import show_overlay, show_picture

KINDS = ("color", "size", "count", "where")  # they name a shape: one group is asked about
SHOWN = ("color", "count", "where", "exists")  # a row of the figure each


@torch.no_grad()
def attention_maps(model: VisionLanguageModel, images: Tensor, texts: Sequence[str]) -> Tensor:
    """Returns the attention of the token that predicts the answer's first.

    Args:
        model: in evaluation mode.
        images: (B, 3, H, W), levels.
        texts: B questions of equally many tokens.

    Returns:
        (L, B, G, G): the mean over heads, as shares of all attention, the text's included.
    """
    tokenizer, device = build_tokenizer(), next(model.parameters()).device
    tokens = torch.tensor([[BOS, *tokenizer.encode(text)] for text in texts], device=device)
    features = model.features(as_numbers(images.to(device)))
    named = model.intermediates(features, tokens)
    layers = [named[f"attention.{i}"] for i in range(len(model.gpt.blocks))]
    grid = round(model.n_prefix**0.5)
    last = torch.stack([weights[:, :, -1, : model.n_prefix].mean(dim=1) for weights in layers])
    return last.unflatten(-1, (grid, grid)).cpu()  # (L, B, G, G)


def half_of(place: str, grid: int) -> Tensor:
    """Returns the half of the picture that a place names, (G, G), 1 inside and 0 outside.

    >>> half_of("top", 2)
    tensor([[1., 1.],
            [0., 0.]])
    """
    mask, half = torch.zeros(grid, grid), grid // 2
    part = slice(0, half) if place in ("left", "top") else slice(-half, None)
    lines = mask if place in ("top", "bottom") else mask.T  # rows, or columns
    lines[part] = 1
    return mask


def asked_group(scene: Scene, one: Question) -> Group:
    """Returns the group whose shape a question names."""
    return next(group for group in scene.groups if group.shape in one.text)


def with_two_groups(pictures: Pictures) -> Pictures:
    """Keeps the pictures with two groups: only there, one is asked about and another is not."""
    two = [i for i, s in enumerate(pictures.subjects) if isinstance(s, Scene) and len(s.groups) > 1]
    return pictures.rows(two)


def share_on_asked(model: VisionLanguageModel, pictures: Pictures) -> list[float]:
    """Returns for each block how much of the attention over the picture lies on the asked half.

    Even attention gives 0.5. Pictures with one group are left out.
    """
    model.eval()
    random = np.random.default_rng(0)
    shown = with_two_groups(pictures)
    scenes = [subject for subject in shown.subjects if isinstance(subject, Scene)]
    shares = []
    for kind in KINDS:
        asked = [question(scene, random, kind) for scene in scenes]
        maps = attention_maps(model, shown.images, [one.text for one in asked])  # (L, B, G, G)
        places = [asked_group(s, one).place for s, one in zip(scenes, asked, strict=True)]
        masks = torch.stack([half_of(place, maps.shape[-1]) for place in places])  # (B, G, G)
        inside = (maps * masks).sum(dim=(2, 3)) / maps.sum(dim=(2, 3))  # (L, B)
        shares.append(inside.mean(dim=1))
    return torch.stack(shares).mean(dim=0).tolist()


def attention_figure(model: VisionLanguageModel, pictures: Pictures) -> Figure:
    """Draws four questions, the answers, and each block's attention over the picture.

    Args:
        model: a trained one.
        pictures: held-out scenes; the first ones with two groups are shown.
    """
    model.eval()
    shares = share_on_asked(model, pictures)
    shown = with_two_groups(pictures)
    random = np.random.default_rng(1)
    columns = len(shares) + 1
    figure, axes = new_figure(
        columns, len(SHOWN), width=max(6.0, 1.75 * columns + 0.4), height=1.75 * len(SHOWN) + 0.9
    )
    for row, (scene, kind) in enumerate(zip(shown.subjects, SHOWN, strict=False)):
        assert isinstance(scene, Scene)
        one, image = question(scene, random, kind), shown.images[row : row + 1]
        said = answer(model, image, [one.text])[0]
        maps = attention_maps(model, image, [one.text])[:, 0]  # (L, G, G)
        first = axes[row * columns]
        show_picture(first, image[0] / 255)
        first.set_title(drawable(f"{one.text} {said}"), fontsize=8, loc="left")
        for layer, attention in enumerate(maps):
            title = f"block {layer + 1}" if row == 0 else ""
            show_overlay(axes[row * columns + layer + 1], image[0] / 255, attention, title)
            axes[row * columns + layer + 1].set_xlabel(
                f"{attention.sum():.0%} on the picture", fontsize=7
            )
    best = max(range(len(shares)), key=shares.__getitem__)
    headline(
        figure,
        f"While it answers, block {best + 1} puts {shares[best]:.0%} of its attention over the "
        "picture on the half of the group asked about (even: 50%)",
    )
    return figure
