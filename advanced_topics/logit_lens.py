"""Predictions read from every depth of a trained GPT: the logit lens (nostalgebraist 2020).

The stream has the same width after every block, so the final norm and the head can be applied to it
anywhere, as if the model ended there. That reads what is already written in the head's own
directions. A second lens first maps the stream linearly to where the last block would have it, the
idea of the tuned lens (Belrose et al. 2023): what only the second one reads is there, but written
in other directions.

Difference from Belrose et al.: the map is fitted by least squares, in one step, to the normalized
final stream, and not by gradient descent on the final distribution.

Shapes: windows B, length T, width D, vocabulary V, layers L.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from advanced_topics.text_model import streams, trained_text_model, windows
from gpt.elementwise import rms_norm
from gpt.gpt_model import GPT
from gpt.interpretation import settled_after


@dataclass(frozen=True)
class LensSettings:
    """How much text the lens is fitted and measured on."""

    model: str = "standard"  # preset of text_model.SIZES
    fit_windows: int = 512  # windows of the training split that the maps are fitted on
    test_windows: int = 256  # windows of the test split that are scored
    ridge: float = 1e-3  # pull of the maps towards zero, as a share of the stream's variance


PRESETS = {
    "standard": LensSettings(),
    "tour": LensSettings("tour", 128, 64),
    "smoke": LensSettings("smoke", 8, 4),
}


@torch.no_grad()
def lens_logits(model: GPT, tokens: Tensor) -> Tensor:
    """Reads the model's prediction at every depth.

    Args:
        model: any GPT.
        tokens: (B, T).

    Returns:
        (L + 1, B, T, V), logits; the last are the model's own.
    """
    return torch.stack([model.project(stream) for stream in streams(model, tokens)])


def fit_map(source: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Fits target = source A + b by ridge regression: A = (X'X + r I)^-1 X'Y, b unpenalized.

    Args:
        source: (N, D).
        target: (N, D).
        ridge: r as a share of the mean square of the centered source.

    Returns:
        (D + 1, D): A, and b as its last row.
    """
    x, y = source.double(), target.double()
    x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
    x, y = x - x_mean, y - y_mean
    gram = x.mT @ x  # (D, D)
    gram.diagonal().add_(ridge * gram.diagonal().mean() + 1e-9)
    matrix = torch.linalg.solve(gram, x.mT @ y)  # (D, D)
    return torch.cat([matrix, (y_mean - x_mean @ matrix)[None]]).to(source.dtype)


def apply_map(source: Tensor, fitted: Tensor) -> Tensor:
    """Returns source A + b, (..., D); ``fitted`` is from ``fit_map``."""
    return source @ fitted[:-1] + fitted[-1]


@torch.no_grad()
def mapped_logits(model: GPT, tokens: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Reads every depth through its own linear map.

    Args:
        model: any GPT.
        tokens: (B, T).
        maps: L + 1 of ``fit_map``, from the normalized stream to the final one.

    Returns:
        (L + 1, B, T, V), logits.
    """
    found = streams(model, tokens)
    return torch.stack([
        model.head(apply_map(rms_norm(stream), fitted))
        for stream, fitted in zip(found, maps, strict=True)
    ])  # fmt: skip


@torch.no_grad()
def fit_maps(model: GPT, tokens: Tensor, ridge: float) -> list[Tensor]:
    """Fits the map of every depth to the final stream behind its norm; see ``fit_map``."""
    found = streams(model, tokens)
    target = model.final_norm(found[-1]).flatten(0, 1)  # (B T, D)
    return [fit_map(rms_norm(stream).flatten(0, 1), target, ridge) for stream in found]


def losses_by_depth(logits: Tensor, targets: Tensor) -> list[float]:
    """Returns the mean cross-entropy at each depth, in nats.

    Args:
        logits: (L + 1, B, T, V).
        targets: (B, T).
    """
    return [F.cross_entropy(row.flatten(0, 1), targets.flatten()).item() for row in logits]


def frequency_loss(train: Tensor, targets: Tensor, vocab_size: int) -> float:
    """Returns the loss of guessing by how frequent each token is in the training text, in nats."""
    counts = torch.bincount(train, minlength=vocab_size).double() + 1.0  # no token is impossible
    return float(-(counts / counts.sum()).log()[targets].mean())


def measure_lens(seed: int, settings: LensSettings) -> dict[str, Any]:
    """Reads every depth of a trained model on text that it and the maps have never seen.

    Args:
        seed: of the model.
        settings: how much text.

    Returns:
        "depths", their names; "plain" and "mapped", nats at each; "agree", % of the positions whose
        guess is already the final one; "settled", the same and never another guess above;
        "frequency", nats.
    """
    model, data = trained_text_model(settings.model, seed)
    length = model.config.max_len
    maps = fit_maps(model, windows(data.tokens["train"], length, settings.fit_windows),
                    settings.ridge)  # fmt: skip
    text = windows(data.tokens["test"], length + 1, settings.test_windows)
    tokens, targets = text[:, :-1], text[:, 1:]
    logits = lens_logits(model, tokens)
    guesses = logits.argmax(dim=-1).flatten(1)  # (L + 1, B T)
    settled = settled_after(guesses)  # (B T,)
    depths = range(len(logits))
    return {
        "depths": ["embedding", *(f"block {depth}" for depth in depths[1:])],
        "plain": losses_by_depth(logits, targets),
        "mapped": losses_by_depth(mapped_logits(model, tokens, maps), targets),
        "agree": [100 * (row == guesses[-1]).float().mean().item() for row in guesses],
        "settled": [100 * (settled <= depth).float().mean().item() for depth in depths],
        "frequency": frequency_loss(data.tokens["train"], targets, model.config.vocab_size),
    }
