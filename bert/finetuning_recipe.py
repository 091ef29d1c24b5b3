"""What a fine-tuning prepares: a copy of the encoder, frozen parts, each part's learning rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from bert.bert_config import BertConfig
from bert.bert_model import BertModel
from bert.finetuning_config import FinetuneConfig
from bert.wordpiece import WordPiece
from tutorial_kit.optimizers import decay_groups
from tutorial_kit.training import warmup_stable_decay


def from_scratch(config: BertConfig, seed: int = 0) -> BertModel:
    """Returns an encoder that has read nothing, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertModel(config)


def copy_encoder(bert: BertModel, dropout: float) -> BertModel:
    """Returns a copy with another dropout: one pre-training serves many fine-tunings."""
    copy = BertModel(replace(bert.config, dropout=dropout))
    copy.load_state_dict(bert.state_dict())
    return copy


def check_vocabulary(bert: BertModel, wordpiece: WordPiece) -> None:
    """Refuses a vocabulary that is not the weights' own.

    Raises:
        ValueError: their sizes differ: ids would mean other words, or none.
    """
    if wordpiece.vocab_size != bert.config.vocab_size:
        raise ValueError(
            f"the vocabulary has {wordpiece.vocab_size:,} tokens and the weights have vectors for "
            f"{bert.config.vocab_size:,}: ids would mean other words. Use the vocab.txt that "
            "belongs to the weights."
        )


def freeze_layers(bert: BertModel, count: int) -> None:
    """Keeps the embeddings and the lowest layers as they are.

    Args:
        bert: is changed.
        count: layers from below; 0 freezes nothing, -1 the whole encoder.

    Raises:
        ValueError: the model has fewer layers.
    """
    if count > len(bert.encoder):
        raise ValueError(
            f"--freeze {count} is not possible: the encoder has {len(bert.encoder)} layers. "
            "Use -1 to freeze all."
        )
    parts: list[nn.Module] = []
    if count == -1:
        parts = [bert]
    elif count:
        parts = [bert.embeddings, *bert.encoder[:count]]
    for part in parts:
        part.requires_grad_(False)


def parameter_groups(
    model: nn.Module, config: FinetuneConfig, scratch: bool
) -> list[dict[str, Any]]:
    """Returns the groups of AdamW: each layer with its learning rate, the head with its own.

    The top layer learns at the encoder's rate, each one below ``layer_decay`` times as fast as the
    one above, the embeddings slowest (Howard & Ruder 2018, section 3.2: what is lower is more
    general and should move less). "peak" remembers the rate that the schedule scales.

    Args:
        model: a head on an encoder, which it calls ``bert``.
        config: the rates.
        scratch: the encoder has read nothing, so it learns at ``scratch_lr``, all layers alike.
    """
    bert: BertModel = model.bert  # type: ignore[assignment]
    rate = config.scratch_lr if scratch else config.lr
    decay = 1.0 if scratch else config.layer_decay
    n_layers = len(bert.encoder)
    parts: list[tuple[nn.Module, float]] = [(bert.embeddings, rate * decay**n_layers)]
    parts += [(layer, rate * decay ** (n_layers - 1 - i)) for i, layer in enumerate(bert.encoder)]
    parts += [(part, rate) for part in (bert.final_norm, bert.pooler)]
    parts += [(child, config.head_lr) for name, child in model.named_children() if name != "bert"]
    return [
        {**group, "lr": peak, "peak": peak}
        for part, peak in parts
        for group in decay_groups(part, config.weight_decay)
        if group["params"]
    ]


def set_learning_rates(optimizer: torch.optim.Optimizer, progress: float, warmup: float) -> None:
    """Sets each group's rate: a linear rise to its peak, a linear fall to 0 (Devlin et al., A.3).

    Args:
        optimizer: with the groups of ``parameter_groups``.
        progress: share of the updates that is done when this one is, above 0 and up to 1.
        warmup: share of the updates until the peak.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * warmup_stable_decay(progress, warmup, 1.0 - warmup, 0.0)
