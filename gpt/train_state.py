"""Everything a training run consists of at one moment, and how it is saved and brought back.

What must be in a checkpoint for the resumed run to equal the uninterrupted one bit for bit:
weights, the optimizers' memories, the step, the position in the data, every random generator, and
the running sum of the losses since the last log line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt.gpt_components import CausalSelfAttention
from gpt.gpt_model import GPT
from gpt.text_data import TextData, WindowSampler
from gpt.train_config import TrainConfig
from tutorial_kit.checkpoints import (
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from tutorial_kit.config import config_to_dict
from tutorial_kit.device import seed_everything
from tutorial_kit.distributed import Processes
from tutorial_kit.optimizers import Muon, decay_groups, fused_adamw
from tutorial_kit.training import warmup_cosine, warmup_stable_decay


def build_optimizers(model: GPT, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Returns AdamW for everything, or Muon for the blocks' matrices and AdamW for the rest.

    Each parameter group remembers its peak learning rate as "peak_lr".
    """
    optimizers: list[torch.optim.Optimizer]
    if config.optimizer == "adamw":
        groups = decay_groups(model, config.weight_decay)
        optimizers = [fused_adamw(groups, config.lr, (0.9, config.beta2))]
    else:
        matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
        for attention in model.modules():
            if isinstance(attention, CausalSelfAttention):
                attention.qkv.weight.muon_splits = attention.rows  # type: ignore[attr-defined]
        embeddings = [p for name, p in model.named_parameters() if "embedding" in name]
        taken = {id(p) for p in matrices + embeddings}
        rest = [p for p in model.parameters() if id(p) not in taken]
        groups = [
            {"params": embeddings, "lr": config.embedding_lr, "weight_decay": 0.0},
            {"params": rest, "lr": config.head_lr, "weight_decay": 0.0},
        ]
        optimizers = [
            Muon(matrices, config.muon_lr),
            fused_adamw(groups, config.head_lr, (0.8, 0.95), eps=1e-10),
        ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


class TrainState:
    """One run: model, optimizers, place in the data, counters."""

    def __init__(self, config: TrainConfig, data: TextData, group: Processes) -> None:
        """Starts a run at step 0, seeded.

        Args:
            config: the settings; ``config.model.vocab_size`` is the tokenizer's.
            data: the text.
            group: this process among the others.
        """
        self.config, self.data, self.group = config, data, group
        seed_everything(config.seed)
        self.model = GPT(config.model).to(group.device)
        self.optimizers = build_optimizers(self.model, config)
        self.sampler = WindowSampler(
            data.tokens["train"], config.model.max_len, config.batch_size, config.seed
        )
        self.step = 0  # updates done
        self.seconds = 0.0  # spent in steps, evaluation left out
        self.loss_sum, self.loss_count = 0.0, 0  # training losses since the last evaluation
        self.best = float("inf")  # lowest validation loss so far, nats per token

    @property
    def share_done(self) -> float:
        """How much of the run is behind us, 0 to 1: by the clock if there is a budget."""
        if self.config.budget_minutes:
            return min(1.0, self.seconds / (60.0 * self.config.budget_minutes))
        return min(1.0, self.step / self.config.max_steps)

    def set_learning_rates(self) -> float:
        """Sets every group's learning rate for the coming step; returns the factor of the peak."""
        c = self.config
        share = self.share_done
        if not c.budget_minutes:
            share = (self.step + 1) / c.max_steps  # the first step must not be wasted at rate 0
        share = max(share, 1e-3)
        if c.schedule == "cosine":
            factor = warmup_cosine(share, c.warmup, c.floor)
        else:
            factor = warmup_stable_decay(share, c.warmup, c.decay, c.floor)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group["peak_lr"]
        return factor

    def minibatch(self) -> tuple[Tensor, Tensor]:
        """Returns this process's share of the next minibatch: inputs and targets."""
        x, y = self.sampler.next_batch()
        mine = slice(self.group.rank, None, self.group.count)
        return x[mine].to(self.group.device), y[mine].to(self.group.device)

    def save(self, path: Path) -> None:
        """Writes a checkpoint from which a run goes on bit for bit."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "tokenizer": self.data.tokenizer.to_dict(),
            "sampler": self.sampler.state(),
            "random": random_states(),
            "step": self.step,
            "seconds": self.seconds,
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
            "best": self.best,
        }
        save_checkpoint(path, family="gpt", config=config_to_dict(self.config), state=state)

    def restore(self, path: Path) -> None:
        """Goes back to what ``save`` wrote.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it cannot be read, or it belongs to other settings.
        """
        checkpoint = load_checkpoint(path, family="gpt")
        state = checkpoint["state"]
        self._check_settings(checkpoint["config"], path)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.sampler.restore(state["sampler"])
        restore_random_states(state["random"])
        for name in ("step", "seconds", "loss_sum", "loss_count", "best"):
            setattr(self, name, state[name])

    def _check_settings(self, saved: dict[str, Any], path: Path) -> None:
        """Refuses settings that differ where a resumed run would change."""
        here = config_to_dict(self.config)
        may_differ = {"max_steps", "budget_minutes", "eval_every", "checkpoint_every", "threads"}
        pairs = [(name, saved["model"].get(name), value) for name, value in here["model"].items()]
        pairs += [(name, saved.get(name), value) for name, value in here.items() if name != "model"]
        for name, old, new in pairs:
            if name not in may_differ and old != new:
                raise ValueError(
                    f"cannot resume {path}: it was trained with {name}={old}, this command asks "
                    f"for {new}, and the result would be neither. Resume with the same settings, "
                    "or start a new --name."
                )
