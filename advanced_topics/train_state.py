"""Everything a training run consists of at one moment, and how it is saved and brought back."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from advanced_topics.advanced_config import AdvancedConfig
from advanced_topics.recall_task import RecallSampler, recall_vocabulary
from advanced_topics.small_decoder import SmallDecoder
from advanced_topics.topic import FAMILY
from gpt.text_data import TextData, WindowSampler, load_text_data
from tutorial_kit.checkpoints import (
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from tutorial_kit.config import config_from_dict, config_to_dict
from tutorial_kit.device import seed_everything
from tutorial_kit.optimizers import decay_groups, fused_adamw
from tutorial_kit.run_progress import RunProgress, check_same_settings
from tutorial_kit.saved_runs import load_weights
from tutorial_kit.training import warmup_cosine

MAY_DIFFER = {"eval_every", "checkpoint_every", "threads"}
"""Settings that a resumed run may change: what it learns does not depend on them."""


def load_data(config: AdvancedConfig) -> TextData | None:
    """Returns the text of a run; None for the recall task, which draws its sequences."""
    return None if config.task == "recall" else _text(config.dataset, config.bpe_tokens)


@lru_cache(maxsize=2)
def _text(source: str, bpe_tokens: int) -> TextData:
    """Reads a text once for all trainings of a process."""
    return load_text_data(source, "bpe", bpe_tokens)


def fit_to_data(config: AdvancedConfig, data: TextData | None) -> AdvancedConfig:
    """Returns the config with the vocabulary size of its data."""
    size = data.tokenizer.vocab_size if data else recall_vocabulary(config.keys)
    return replace(config, model=replace(config.model, vocab_size=size))


def load_trained(path: Path) -> SmallDecoder:
    """Returns the model of a checkpoint, in evaluation mode.

    Args:
        path: a checkpoint file, or a run's folder, whose last checkpoint is then meant.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it cannot be read.
    """
    checkpoint = load_checkpoint(path, family=FAMILY)
    model = SmallDecoder(config_from_dict(AdvancedConfig, checkpoint["config"]).model)
    load_weights(model, checkpoint["state"]["model"], path)
    return model.eval()


class TrainState(RunProgress):
    """One run: model, optimizer, place in the data, counters."""

    def __init__(self, config: AdvancedConfig, data: TextData | None, device: torch.device) -> None:
        """Starts a run at step 0, seeded.

        Args:
            config: the settings, from ``fit_to_data``.
            data: the text; None for the recall task.
            device: where to train.
        """
        super().__init__(config.max_steps)
        self.config, self.data, self.device = config, data, device
        seed_everything(config.seed)
        self.model = SmallDecoder(config.model).to(device)
        groups = decay_groups(self.model, config.weight_decay)
        self.optimizer = fused_adamw(groups, config.lr, (0.9, 0.98))
        self.sampler: WindowSampler | RecallSampler
        if data is None:
            self.sampler = RecallSampler(config.pairs, config.keys, config.batch_size, config.seed)
        else:
            self.sampler = WindowSampler(
                data.tokens["train"], config.window, config.batch_size, config.seed
            )

    def set_learning_rate(self) -> float:
        """Sets the learning rate of the coming step; returns it as a share of its peak."""
        share = self.share_for_schedule(least=1e-3)
        factor = warmup_cosine(share, self.config.warmup, self.config.floor)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.config.lr
        return factor

    def minibatch(self) -> tuple[Tensor, Tensor]:
        """Returns the next inputs and targets, both (B, T)."""
        x, y = self.sampler.next_batch()
        return x.to(self.device), y.to(self.device)

    def save(self, path: Path) -> None:
        """Writes a checkpoint from which a run goes on bit for bit."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state(),
            "random": random_states(),
            **self.counters(),
        }
        save_checkpoint(path, family=FAMILY, config=config_to_dict(self.config), state=state)

    def restore(self, path: Path) -> None:
        """Goes back to what ``save`` wrote.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it cannot be read, or it belongs to other settings.
        """
        checkpoint = load_checkpoint(path, family=FAMILY)
        state = checkpoint["state"]
        check_same_settings(checkpoint["config"], config_to_dict(self.config), path, MAY_DIFFER)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.restore(state["sampler"])
        restore_random_states(state["random"])
        self.restore_counters(state)
