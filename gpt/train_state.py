"""Everything a training run consists of at one moment, and how it is saved and brought back.

What must be in a checkpoint for the resumed run to equal the uninterrupted one bit for bit:
weights, the optimizers' memories, the step, the position in the data, every random generator, and
the running sum of the losses since the last log line.
"""

from __future__ import annotations

from pathlib import Path

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
from tutorial_kit.run_progress import RunProgress, check_same_settings
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


MAY_DIFFER = {"max_steps", "budget_minutes", "eval_every", "checkpoint_every", "threads"}
"""Settings that a resumed run may change: what it has learned so far does not depend on them."""


class TrainState(RunProgress):
    """One run: model, optimizers, place in the data, counters."""

    COUNTERS = (*RunProgress.COUNTERS, "best")

    def __init__(self, config: TrainConfig, data: TextData, group: Processes) -> None:
        """Starts a run at step 0, seeded.

        Args:
            config: the settings; ``config.model.vocab_size`` is the tokenizer's.
            data: the text.
            group: this process among the others.
        """
        super().__init__(config.max_steps, config.budget_minutes)
        self.config, self.data, self.group = config, data, group
        seed_everything(config.seed)
        self.model = GPT(config.model).to(group.device)
        self.optimizers = build_optimizers(self.model, config)
        self.sampler = WindowSampler(
            data.tokens["train"], config.model.max_len, config.batch_size, config.seed
        )
        self.best = float("inf")  # lowest validation loss so far, nats per token

    def set_learning_rates(self) -> float:
        """Sets every group's learning rate for the coming step; returns the factor of the peak."""
        c = self.config
        share = self.share_for_schedule(least=1e-3)
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
            **self.counters(),
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
        check_same_settings(checkpoint["config"], config_to_dict(self.config), path, MAY_DIFFER)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.sampler.restore(state["sampler"])
        restore_random_states(state["random"])
        self.restore_counters(state)
