"""The loop that fine-tunes: one for classes, tags and spans, which differ in their loss alone."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert.finetuning_config import FinetuneConfig
from bert.finetuning_data import IGNORE, Encoded, LabeledBatch, labeled_batches
from bert.finetuning_recipe import freeze_layers, parameter_groups, set_learning_rates
from tutorial_kit.compute import autocast
from tutorial_kit.optimizers import fused_adamw
from tutorial_kit.training import check_loss

EVALUATION_BATCH = 64

Loss = Callable[[nn.Module, LabeledBatch], Tensor]


def classification_loss(model: nn.Module, batch: LabeledBatch) -> Tensor:
    """Mean cross-entropy of the classes, a scalar in nats."""
    return F.cross_entropy(model(batch.tokens, batch.mask, batch.segments), batch.targets)


def tagging_loss(model: nn.Module, batch: LabeledBatch) -> Tensor:
    """Mean cross-entropy over the pieces that have a tag; -100 marks the others."""
    logits = model(batch.tokens, batch.mask, batch.segments)  # (B, T, tags)
    return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE)


def span_loss(model: nn.Module, batch: LabeledBatch) -> Tensor:
    """Mean of the cross-entropies of the first and the last place (Devlin et al., section 4.2)."""
    allowed = (batch.segments == 1) & batch.mask  # (B, T): the answer stands in the second text
    start, end = model(batch.tokens, batch.mask, batch.segments, allowed)  # (B, T) each
    first, last = batch.targets.unbind(1)  # (B,) each
    return (F.cross_entropy(start, first) + F.cross_entropy(end, last)) / 2


@dataclass
class Outcome:
    """How a fine-tuning went."""

    epochs: int = 0
    updates: int = 0
    seconds: float = 0.0  # of the updates; evaluation left out
    best_epoch: int = 0  # whose weights the model has; the last one without a choice
    history: list[dict[str, float]] = field(default_factory=list)  # of each epoch: "train_loss",
    # and "validation" where the epochs were compared


def train_head(
    model: nn.Module,
    examples: Sequence[Encoded],
    loss_of: Loss,
    config: FinetuneConfig,
    pad_id: int,
    device: torch.device,
    *,
    scratch: bool = False,
    validate: Callable[[], float] | None = None,
    change: Callable[[LabeledBatch], LabeledBatch] | None = None,
) -> Outcome:
    """Trains a head and the encoder below it; the model is left in evaluation mode.

    Args:
        model: a head on an encoder, on the device.
        examples: the labeled ones.
        loss_of: (model, batch) -> scalar.
        config: the recipe; its seed draws the order and the dropout.
        pad_id: the id of [PAD].
        device: where the model is.
        scratch: the encoder has read nothing.
        validate: with ``select="best"``: returns the score to choose the epoch by.
        change: what is done to each minibatch before the model reads it, such as hiding words.

    Raises:
        ValueError: the loss is no longer a number.
    """
    freeze_layers(model.bert, config.freeze)  # type: ignore[arg-type]
    optimizer = fused_adamw(parameter_groups(model, config, scratch), config.lr, (0.9, 0.98))
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    generator = torch.Generator().manual_seed(config.seed)
    n_epochs = config.n_epochs(len(examples))
    n_updates = n_epochs * -(-len(examples) // config.batch_size)
    outcome, best, kept = Outcome(epochs=n_epochs), float("-inf"), None

    for epoch in range(1, n_epochs + 1):
        model.train()
        started, losses = time.perf_counter(), []
        for batch in labeled_batches(examples, config.batch_size, pad_id, generator):
            set_learning_rates(optimizer, (outcome.updates + 1) / n_updates, config.warmup)
            batch = change(batch) if change else batch
            with autocast(config.precision, device):
                loss = loss_of(model, batch.to(device))
            loss.backward()
            if config.clip:
                nn.utils.clip_grad_norm_(trained, config.clip)
            optimizer.step()
            optimizer.zero_grad()
            outcome.updates += 1
            losses.append(loss.item())
            check_loss(losses[-1], outcome.updates)
        outcome.seconds += time.perf_counter() - started

        row = {"train_loss": sum(losses) / len(losses)}
        model.eval()
        if validate is not None and config.select == "best":
            row["validation"] = validate()
            if row["validation"] > best:  # of equal epochs the first
                best, outcome.best_epoch = row["validation"], epoch
                kept = copy.deepcopy(model.state_dict())
        outcome.history.append(row)
    if kept is not None:
        model.load_state_dict(kept)
    else:
        outcome.best_epoch = n_epochs
    return outcome


@torch.no_grad()
def predictions(
    model: nn.Module, examples: Sequence[Encoded], pad_id: int, device: torch.device
) -> list[Any]:
    """Returns what a classifier or a tagger answers to each example, in their order.

    Returns:
        A class for each example; or the list of its pieces' tags.
    """
    model.eval()
    answers: list[Any] = [None] * len(examples)
    for batch in labeled_batches(examples, EVALUATION_BATCH, pad_id):
        batch = batch.to(device)
        chosen = model(batch.tokens, batch.mask, batch.segments).argmax(-1)  # (B,) or (B, T)
        for row, answer in zip(batch.rows, chosen.tolist(), strict=True):
            is_tags = isinstance(answer, list)
            answers[row] = answer[: len(examples[row].tokens)] if is_tags else answer
    return answers
