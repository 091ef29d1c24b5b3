"""Everything a pre-training consists of at one moment, and how it is saved and brought back.

What must be in a checkpoint for the resumed run to equal the uninterrupted one bit for bit:
weights, the optimizers' memories, the step, the number of the minibatch, every random generator
(dropout draws from it), and the running sums of the losses since the last log line.
"""

from __future__ import annotations

from pathlib import Path

import torch

from bert.bert_components import SelfAttention
from bert.bert_data import PretrainingBatch
from bert.bert_heads import BertForPreTraining
from bert.bert_model import BertModel
from bert.pretraining_batches import BatchSampler
from bert.pretraining_config import PretrainConfig
from bert.pretraining_data import BertData
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


def build_optimizers(
    model: BertForPreTraining, config: PretrainConfig
) -> list[torch.optim.Optimizer]:
    """Returns AdamW for everything, or Muon for the encoder's matrices and AdamW for the rest.

    Embeddings, norms, biases and heads stay with AdamW (Jordan et al. 2024). Each parameter group
    remembers its peak learning rate as "peak_lr".
    """
    groups = decay_groups(model, config.weight_decay)
    optimizers: list[torch.optim.Optimizer] = []
    if config.optimizer == "muon":
        matrices = [p for p in model.bert.encoder.parameters() if p.ndim == 2]
        for part in model.modules():
            if isinstance(part, SelfAttention):  # three matrices in one
                width = part.qkv.in_features
                part.qkv.weight.muon_splits = (width, width, width)  # type: ignore[attr-defined]
        taken = {id(p) for p in matrices}
        for group in groups:
            group["params"] = [p for p in group["params"] if id(p) not in taken]
        optimizers.append(Muon(matrices, config.muon_lr))
    optimizers.append(fused_adamw(groups, config.lr, (0.9, config.beta2), eps=1e-6))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


MAY_DIFFER = {
    "max_steps", "budget_minutes", "eval_every", "eval_sequences", "checkpoint_every", "threads",
}  # fmt: skip
"""Settings that a resumed run may change: what it has learned so far does not depend on them."""


class PretrainState(RunProgress):
    """One run: model, optimizers, place in the data, counters."""

    COUNTERS = (*RunProgress.COUNTERS, "best", "tokens", "nsp_sum")

    def __init__(self, config: PretrainConfig, data: BertData, group: Processes) -> None:
        """Starts a run at step 0, seeded.

        Args:
            config: the settings; ``config.model.vocab_size`` is the vocabulary's.
            data: the text.
            group: this process among the others.

        Raises:
            ValueError: the processes cannot share the minibatch equally, or there is too little
                text.
        """
        super().__init__(config.max_steps, config.budget_minutes)
        if config.batch_size % (group.count * config.accumulation):
            raise ValueError(
                f"batch_size={config.batch_size} cannot be shared by {group.count} processes in "
                f"{config.accumulation} parts each. Use a multiple of "
                f"{group.count * config.accumulation}."
            )
        self.config, self.data, self.group = config, data, group
        seed_everything(config.seed)
        self.model = BertForPreTraining(BertModel(config.model)).to(group.device)
        self.optimizers = build_optimizers(self.model, config)
        self.sampler = BatchSampler(
            data.splits["train"], data.wordpiece, objective=config.objective,
            batch_size=config.batch_size, max_len=config.model.max_len, seed=config.seed,
            mask_rate=config.mask_rate, whole_word=config.whole_word,
            replace=config.replace_shares,
        )  # fmt: skip
        self.best = float("inf")  # lowest validation loss so far, nats per masked token
        self.tokens = 0  # tokens read, padding included
        self.nsp_sum = 0.0  # losses of next-sentence prediction since the last evaluation

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

    def minibatch(self) -> tuple[list[PretrainingBatch], int]:
        """Returns the next minibatch: this process's parts, and the masked tokens of all."""
        batch = self.sampler.next_batch()
        mine = batch.rows(slice(self.group.rank, None, self.group.count)).to(self.group.device)
        parts = [
            mine.rows(slice(i, None, self.config.accumulation))
            for i in range(self.config.accumulation)
        ]
        return parts, batch.n_masked

    def add_losses(self, mlm_loss: float, nsp_loss: float) -> None:
        """Adds a step's losses to the means of the next evaluation."""
        self.add_loss(mlm_loss)
        self.nsp_sum += nsp_loss

    def take_mean_nsp_loss(self) -> float:
        """Returns the mean since the last call; call it before ``take_mean_loss``."""
        mean, self.nsp_sum = self.nsp_sum / max(1, self.loss_count), 0.0
        return mean

    def save(self, path: Path) -> None:
        """Writes a checkpoint from which a run goes on bit for bit."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "wordpiece": self.data.wordpiece.to_dict(),
            "text": self.data.fingerprint,
            "batches": self.sampler.number,
            "random": random_states(),
            **self.counters(),
        }
        save_checkpoint(path, family="bert", config=config_to_dict(self.config), state=state)

    def restore(self, path: Path) -> None:
        """Goes back to what ``save`` wrote.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it cannot be read, or it belongs to other settings or another text.
        """
        checkpoint = load_checkpoint(path, family="bert")
        state = checkpoint["state"]
        check_same_settings(checkpoint["config"], config_to_dict(self.config), path, MAY_DIFFER)
        if state["text"] != self.data.fingerprint:
            raise ValueError(
                f"cannot resume {path}: the text has changed since (new versions of the libraries "
                "that it is read from?), and the result would be of neither. Start a new --name."
            )
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.sampler.number = state["batches"]
        restore_random_states(state["random"])
        self.restore_counters(state)
