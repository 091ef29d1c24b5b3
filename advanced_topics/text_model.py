"""The small GPT that the logit lens and the sparse features look into; trained once a seed.

It is gpt's modern recipe with six narrow blocks: depth is what the lens wants to see. Both topics
share the training, which is kept under ``outputs/advanced_topics/experiments``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from advanced_topics.topic import FAMILY
from gpt.generation import load_model
from gpt.gpt_components import FeedForward
from gpt.gpt_model import GPT
from gpt.text_data import TextData, load_text_data
from gpt.train_config import TrainConfig, apply_recipe
from gpt.train_gpt import train
from tutorial_kit.config import override
from tutorial_kit.experiments import kept_outcome, variant_folder

BASE = override(
    apply_recipe(TrainConfig(bpe_tokens=512, batch_size=16, max_steps=400), "modern"),
    {"max_len": 64, "d_model": 96, "n_heads": 4, "n_kv_heads": 4, "n_layers": 6, "d_ff": 384},
)
SIZES: dict[str, dict[str, Any]] = {
    "standard": {},
    "tour": {"dataset": "documentation-small", "n_layers": 4, "d_model": 64, "d_ff": 256,
             "max_steps": 120},
    "smoke": {"dataset": "documentation-small", "n_layers": 2, "d_model": 16, "d_ff": 32,
              "n_heads": 2, "n_kv_heads": 2, "max_steps": 2, "batch_size": 2},
}  # fmt: skip
"""What each preset changes: standard is recorded, tour takes seconds, smoke is for tests."""
HELD_OUT_TOKENS = 2**16  # of the validation split, scored when the training ends


def text_model_config(preset: str, seed: int) -> TrainConfig:
    """Returns the settings of the training."""
    config = override(replace(BASE, seed=seed), SIZES[preset])
    return replace(config, eval_every=config.max_steps, checkpoint_every=config.max_steps)


def trained_text_model(preset: str, seed: int) -> tuple[GPT, TextData]:
    """Returns the trained model and its text; trains it if that has not been done before.

    Args:
        preset: one of ``SIZES``.
        seed: of initial weights and order of the text.
    """
    config = text_model_config(preset, seed)
    data = load_text_data(config.dataset, config.tokenizer, config.bpe_tokens)
    folder = variant_folder(FAMILY, config, data.n_bytes)

    def train_it() -> dict[str, float]:
        result = train(config, shortened(data, HELD_OUT_TOKENS), folder)
        return {"validation_loss": result.validation_loss}

    kept_outcome(folder, train_it)
    model, _ = load_model(folder)
    return model, data


def shortened(data: TextData, count: int) -> TextData:
    """Returns the text with only the first ``count`` tokens of its validation split.

    Scoring the whole split would take longer than training one of these models.
    """
    kept = data.tokens["validation"][:count]
    n_bytes = len(data.tokenizer.decode_bytes(kept.tolist()))
    return replace(
        data,
        tokens=data.tokens | {"validation": kept},
        n_bytes=data.n_bytes | {"validation": n_bytes},
    )


def windows(tokens: Tensor, length: int, count: int) -> Tensor:
    """Takes windows from all over a split; they do not overlap.

    Args:
        tokens: (N,), one split.
        length: tokens of a window.
        count: windows wanted; there are fewer if the split is short.

    Returns:
        (B, length).

    Raises:
        ValueError: the split is shorter than one window.
    """
    fitting = min(count, len(tokens) // length)
    if fitting < 1:
        raise ValueError(
            f"the split has {len(tokens)} tokens and a window {length}: there is nothing to read. "
            "Use a longer text."
        )
    starts = torch.arange(fitting) * (len(tokens) // fitting)  # (B,)
    return tokens[starts[:, None] + torch.arange(length)]


@torch.no_grad()
def streams(model: GPT, tokens: Tensor) -> list[Tensor]:
    """Returns the residual stream at every depth: after the embedding and after each block.

    Args:
        model: any GPT.
        tokens: (B, T).

    Returns:
        L + 1 tensors of shape (B, T, D).
    """
    named = model.intermediates(tokens)
    blocks = [named[f"block.{layer}"] for layer in range(model.config.n_layers)]
    return [named["embedding"], *blocks]


@torch.no_grad()
def stream_after(model: GPT, layer: int, tokens: Tensor, rows: int = 256) -> Tensor:
    """Returns the stream after one block, (B, T, D), computed ``rows`` windows at a time.

    Args:
        model: any GPT.
        layer: the block, counted from 0.
        tokens: (B, T).
        rows: windows at once.
    """
    found: list[Tensor] = []
    handle = model.blocks[layer].register_forward_hook(
        lambda _block, _inputs, output: found.append(output[0])
    )
    try:
        for part in tokens.split(rows):
            model.hidden(part)
    finally:
        handle.remove()
    return torch.cat(found)


@torch.no_grad()
def neurons_of(model: GPT, layer: int, tokens: Tensor) -> Tensor:
    """Returns the inside of a block's feed-forward behind its nonlinearity, (B, T, F)."""
    found: list[Tensor] = []
    inside = [module for module in model.modules() if isinstance(module, FeedForward)][layer]
    handle = inside.contract.register_forward_pre_hook(
        lambda _module, inputs: found.append(inputs[0])
    )
    try:
        model.hidden(tokens)
    finally:
        handle.remove()
    return found[0]
