"""Sparse features of a trained GPT's stream (Bricken et al. 2023).

A model has more things to say than its stream has numbers, so single numbers mean many things at
once. The autoencoder writes the stream as a sum of a few out of many directions, its features.
Whether those are worth having is measured in three ways: how much of the stream they keep, how well
the model works on when it is given their sum instead of the stream, and (in ``readability.py``)
whether a person could say in a word what each one is.

Difference from the paper: the residual stream instead of a feed-forward's inside, and a few hundred
features instead of thousands.

Shapes: windows B, length T, width D, features M.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from advanced_topics.readability import Unit, readable_shares
from advanced_topics.sparse_autoencoder import (
    AutoencoderSettings,
    SparseAutoencoder,
    train_autoencoder,
)
from advanced_topics.text_model import neurons_of, stream_after, trained_text_model, windows
from gpt.gpt_model import GPT, next_token_loss
from tutorial_kit.device import mixed_seed


@dataclass(frozen=True)
class SparseSettings:
    """Whose stream is taken apart, and what the features are judged on."""

    model: str = "standard"  # preset of text_model.SIZES
    layer: int = 3  # block whose output is taken apart, counted from 0
    train_windows: int = 2000  # windows of the training split
    read_windows: int = 800  # windows to explain features on, and as many others to check them
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)


PRESETS = {
    "standard": SparseSettings(),
    "tour": SparseSettings("tour", 1, 300, 200, AutoencoderSettings(256, 8, 512, 150)),
    "smoke": SparseSettings("smoke", 0, 8, 24, AutoencoderSettings(32, 4, 32, 4)),
}


@contextmanager
def changed_stream(model: GPT, layer: int, change: Callable[[Tensor], Tensor]) -> Iterator[GPT]:
    """Lets the blocks above ``layer`` see ``change(stream)`` instead of the stream, for a while."""

    def hook(_block: nn.Module, _inputs: Any, output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        return change(output[0]), output[1]

    handle = model.blocks[layer].register_forward_hook(hook)
    try:
        yield model
    finally:
        handle.remove()


@torch.no_grad()
def loss_recovered(
    model: GPT, layer: int, autoencoder: SparseAutoencoder, text: Tensor
) -> dict[str, float]:
    """Measures how well the model goes on from the reconstruction.

    Args:
        model: the GPT.
        layer: whose output is replaced.
        autoencoder: fitted to that output.
        text: (B, T + 1), held out.

    Returns:
        "clean", "rebuilt" and "erased" (the mean instead of the stream), losses in nats;
        "recovered": 100 % if rebuilt = clean, 0 % if rebuilt = erased.
    """
    tokens, targets = text[:, :-1], text[:, 1:]
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "clean": lambda stream: stream,
        "rebuilt": autoencoder,
        "erased": lambda stream: autoencoder.mean.expand_as(stream),
    }
    losses = {}
    for name, change in changes.items():
        with changed_stream(model, layer, change):
            losses[name] = next_token_loss(model(tokens), targets).item()
    gap = losses["erased"] - losses["clean"]
    if gap <= 0:  # the model does not need the stream, so nothing of its loss can be recovered
        return losses | {"recovered": 0.0}
    return losses | {"recovered": 100 * (losses["erased"] - losses["rebuilt"]) / gap}


def measure_features(seed: int, settings: SparseSettings) -> dict[str, Any]:
    """Fits an autoencoder to a trained model's stream and judges it on text new to both.

    Args:
        seed: of the model and of the autoencoder.
        settings: sizes.

    Returns:
        The numbers of ``loss_recovered``; "explained", % of the stream's variance; "used", features
        above zero a token; "dead", % of the features that no test token uses; "shares" and
        "examples" of ``readable_shares``.
    """
    s = settings
    model, data = trained_text_model(s.model, seed)
    length = model.config.max_len
    stream = stream_after(model, s.layer, windows(data.tokens["train"], length, s.train_windows))
    autoencoder = train_autoencoder(stream.flatten(0, 1), s.autoencoder, seed)
    test = windows(data.tokens["test"], length + 1, s.read_windows)
    held_out = stream_after(model, s.layer, test[:, :-1]).flatten(0, 1)  # (N, D)
    with torch.no_grad():
        features = autoencoder.encode(held_out)
        error = (autoencoder.decode(features) - held_out).square().sum()
    variance = (held_out - held_out.mean(dim=0)).square().sum()
    return {
        **loss_recovered(model, s.layer, autoencoder, test),
        "explained": 100 * (1 - error / variance).item(),
        "used": (features > 0).sum(dim=1).float().mean().item(),
        "dead": 100 * (features == 0).all(dim=0).float().mean().item(),
        **readable_shares(
            units_of(model, autoencoder, s.layer, seed),
            [windows(data.tokens[split], length + 1, s.read_windows)
             for split in ("validation", "test")],
            data.tokenizer,
        ),
    }  # fmt: skip


def units_of(model: GPT, autoencoder: SparseAutoencoder, layer: int, seed: int) -> dict[str, Unit]:
    """Returns the features and three things to compare them with, see ``readability.Unit``.

    Args:
        model: the GPT.
        autoencoder: fitted to the output of ``layer``.
        layer: counted from 0.
        seed: of the random directions.
    """
    width, n_features = autoencoder.decoder.shape[1], len(autoencoder.decoder)
    generator = torch.Generator().manual_seed(mixed_seed(seed, 5))
    random = torch.randn(width, n_features, generator=generator)  # (D, M)

    def normalized(tokens: Tensor) -> Tensor:
        return autoencoder.normalize(stream_after(model, layer, tokens))

    def signed(tokens: Tensor) -> Tensor:
        stream = normalized(tokens)
        return torch.cat([stream, -stream], dim=-1)  # large and small values are two units

    return {
        "features": lambda tokens: autoencoder.encode(stream_after(model, layer, tokens)),
        "neurons": lambda tokens: neurons_of(model, layer, tokens),
        "stream": signed,
        "random": lambda tokens: normalized(tokens) @ random,
    }
