"""Everything a training run consists of at one moment, and how it is saved and brought back.

What must be in a checkpoint for the resumed run to equal the uninterrupted one bit for bit:
weights and their average, the optimizers' memories, the number of the next minibatch, the random
generators (dropout), the counters.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import nn

from tutorial_kit.checkpoints import (
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from tutorial_kit.config import config_to_dict
from tutorial_kit.device import seed_everything
from tutorial_kit.distributed import Processes
from tutorial_kit.optimizers import decay_groups, fused_adamw
from tutorial_kit.run_progress import RunProgress, check_same_settings
from tutorial_kit.training import warmup_cosine, warmup_stable_decay
from vit.filter_muon import FilterMuon
from vit.image_data import ImageData
from vit.saved_model import DataFacts, build_model
from vit.train_config import TrainConfig
from vit.training_batches import ImageBatch, ImageSampler
from vit.vit_components import SelfAttention
from vit.weight_average import WeightAverage


def hidden_weights(model: nn.Module) -> list[nn.Parameter]:
    """Returns the matrices and filters between the first layer and the last.

    The first reads pixels and the last names classes: they, the positions, gains and biases stay
    with AdamW (Jordan et al. 2024). The three matrices of a fused projection are marked as such.
    """
    layers = [part for part in model.modules() if isinstance(part, (nn.Linear, nn.Conv2d))]
    for part in model.modules():
        if isinstance(part, SelfAttention):
            width = part.qkv.in_features
            part.qkv.weight.muon_splits = (width, width, width)  # type: ignore[attr-defined]
    return [cast(nn.Parameter, layer.weight) for layer in layers[1:-1]]


def build_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Returns AdamW for everything, or Muon for the hidden weights and AdamW for the rest.

    Each parameter group remembers its peak learning rate as "peak_lr".
    """
    groups = decay_groups(model, config.weight_decay)
    optimizers: list[torch.optim.Optimizer] = []
    if config.optimizer == "muon":
        hidden = hidden_weights(model)
        taken = {id(weight) for weight in hidden}
        for group in groups:
            group["params"] = [p for p in group["params"] if id(p) not in taken]
        optimizers.append(FilterMuon(hidden, config.muon_lr))
    optimizers.append(fused_adamw(groups, config.lr, (0.9, config.beta2)))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


MAY_DIFFER = {"max_steps", "budget_minutes", "eval_every", "checkpoint_every", "threads"}
"""Settings that a resumed run may change: what it has learned so far does not depend on them."""


class TrainState(RunProgress):
    """One run: model, averaged weights, optimizers, place in the data, counters."""

    COUNTERS = (*RunProgress.COUNTERS, "best_accuracy")

    def __init__(self, config: TrainConfig, data: ImageData, group: Processes) -> None:
        """Starts a run at step 0, seeded.

        Args:
            config: the settings, fitted to the data.
            data: the pictures.
            group: this process among the others.

        Raises:
            ValueError: the processes cannot share the minibatch equally.
        """
        super().__init__(config.max_steps, config.budget_minutes)
        parts = group.count * config.accumulation
        if config.batch_size % parts:
            raise ValueError(
                f"batch_size={config.batch_size} cannot be shared by {group.count} processes in "
                f"{config.accumulation} parts each. Use a multiple of {parts}."
            )
        self.config, self.data, self.group = config, data, group
        seed_everything(config.seed)
        self.model = build_model(config).to(group.device)
        self.average = WeightAverage(self.model, config.ema) if config.ema else None
        self.optimizers = build_optimizers(self.model, config)
        self.sampler = ImageSampler(data, config.augmentation, config.batch_size, config.seed)
        self.best_accuracy = -1.0  # on the validation split, of the best evaluation so far

    def set_learning_rates(self) -> float:
        """Sets every group's learning rate for the coming step; returns the factor of the peak."""
        c = self.config
        share = self.share_for_schedule(least=1e-3)
        if c.schedule == "cosine":
            factor = warmup_cosine(share, c.warmup, c.floor)
        else:  # linear: all that is not warm-up is decay
            factor = warmup_stable_decay(share, c.warmup, 1.0 - c.warmup, c.floor)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group["peak_lr"]
        return factor

    def minibatch(self) -> list[ImageBatch]:
        """Returns this process's share of the next minibatch, in parts of equal size.

        Every process draws the whole minibatch, so that one process and two see the same pictures.
        """
        batch, parts = self.sampler.next_batch(), self.config.accumulation
        mine = batch.rows(slice(self.group.rank, None, self.group.count)).to(self.group.device)
        return [mine.rows(slice(part, None, parts)) for part in range(parts)]

    def is_best(self, accuracy: float) -> bool:
        """Tells whether an evaluation is the best so far, and remembers it; of equals the later is.

        Args:
            accuracy: share of right answers on the validation split.
        """
        if accuracy < self.best_accuracy:
            return False
        self.best_accuracy = accuracy
        return True

    def save(self, path: Path) -> None:
        """Writes a checkpoint from which a run goes on bit for bit."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.weights if self.average else None,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "facts": DataFacts.of(self.data).to_dict(),
            "pictures": self.data.fingerprint,
            "batches": self.sampler.number,
            "random": random_states(),
            **self.counters(),
        }
        save_checkpoint(path, family="vit", config=config_to_dict(self.config), state=state)

    def restore(self, path: Path) -> None:
        """Goes back to what ``save`` wrote.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it cannot be read, or it belongs to other settings or other pictures.
        """
        checkpoint = load_checkpoint(path, family="vit")
        state = checkpoint["state"]
        check_same_settings(checkpoint["config"], config_to_dict(self.config), path, MAY_DIFFER)
        if state["pictures"] != self.data.fingerprint:
            raise ValueError(
                f"cannot resume {path}: the pictures have changed since, and the result would be "
                "of neither. Start a new --name."
            )
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.sampler.number = state["batches"]
        restore_random_states(state["random"])
        self.restore_counters(state)
