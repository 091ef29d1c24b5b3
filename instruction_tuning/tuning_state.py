"""Everything a tuning consists of at one moment, and how it is saved and brought back.

What must be in a checkpoint for the resumed run to equal the uninterrupted one bit for bit: the
trained weights, the optimizers' memories, the number of the next minibatch, the random generators
(replies are sampled), the counters. All five trainers use this class; PPO adds its value model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from gpt.gpt_components import CausalSelfAttention
from gpt.gpt_model import GPT
from instruction_tuning.lora import add_lora, merge_lora, remove_lora
from instruction_tuning.saved_model import (
    FAMILY,
    load_trained,
    trained_weights,
    weights_fingerprint,
)
from instruction_tuning.tuning_batches import RowSampler
from instruction_tuning.tuning_config import TuningConfig
from tutorial_kit.checkpoints import (
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from tutorial_kit.config import config_to_dict
from tutorial_kit.device import seed_everything
from tutorial_kit.optimizers import Muon, decay_groups, fused_adamw
from tutorial_kit.run_progress import RunProgress, check_same_settings
from tutorial_kit.training import warmup_cosine, warmup_stable_decay
from tutorial_kit.word_tokenizer import WordTokenizer

Model = TypeVar("Model", bound=nn.Module)

MAY_DIFFER = {"max_steps", "epochs", "eval_every", "checkpoint_every", "threads"}
"""Settings that a resumed run may change: what it has learned so far does not depend on them."""


@dataclass(frozen=True)
class TrainResult(Generic[Model]):
    """What a tuning returns."""

    model: Model  # in evaluation mode, LoRA merged
    folder: Path  # outputs/instruction_tuning/<run>
    history: list[dict[str, Any]]  # rows of metrics.jsonl
    steps: int  # updates done
    seconds: float  # spent in steps


def body_of(model: nn.Module) -> GPT:
    """Returns the GPT in a model: itself, or what a reward or value model stands on."""
    body = model if isinstance(model, GPT) else model.body
    assert isinstance(body, GPT)
    return body


def build_optimizers(
    model: nn.Module, config: TuningConfig, lr: float | None = None
) -> list[torch.optim.Optimizer]:
    """Returns AdamW for all that is trained, or Muon for the blocks' matrices and AdamW beside it.

    Each parameter group remembers its peak learning rate as "peak_lr".

    Args:
        model: a GPT, or one with another head; weights that ask for no gradient are left out.
        config: optimizer, rates, decay.
        lr: peak learning rate of AdamW, if it is not the settings'.
    """
    groups = decay_groups(model, config.weight_decay)
    optimizers: list[torch.optim.Optimizer] = []
    if config.optimizer == "muon":
        blocks = body_of(model).blocks
        for part in blocks.modules():
            if isinstance(part, CausalSelfAttention) and isinstance(part.qkv, nn.Linear):
                part.qkv.weight.muon_splits = part.rows  # type: ignore[attr-defined]
        matrices = [p for p in blocks.parameters() if p.ndim == 2 and p.requires_grad]
        taken = {id(p) for p in matrices}
        for group in groups:
            group["params"] = [p for p in group["params"] if id(p) not in taken]
        optimizers.append(Muon(matrices, config.muon_lr))
    optimizers.append(fused_adamw(groups, config.lr if lr is None else lr, (0.9, config.beta2)))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


class TuningState(RunProgress, Generic[Model]):
    """One run: what is tuned, optimizers, place in the data, counters."""

    COUNTERS = (*RunProgress.COUNTERS, "best")

    def __init__(
        self,
        config: TuningConfig,
        model: Model,
        tokenizer: WordTokenizer,
        stage: str,
        lengths: Sequence[int],
        device: torch.device,
        *,
        sorted_together: int | None = None,
        critic: nn.Module | None = None,
        critic_lr: float | None = None,
    ) -> None:
        """Starts a run at step 0, seeded.

        Args:
            config: the settings.
            model: what is tuned; the run works on a copy, the given one stays as it is.
            tokenizer: the model's.
            stage: "sft", "reward", "dpo", "ppo" or "grpo".
            lengths: tokens of each training row; see ``RowSampler``.
            device: where to train.
            sorted_together: minibatches sorted by length together; None means the usual number.
            critic: a second model that is trained beside the first, PPO's value model.
            critic_lr: its peak learning rate of AdamW; None means the settings'.

        Raises:
            ValueError: there is no row, or LoRA is asked for on a layer that does not exist.
        """
        super().__init__(config.steps_for(len(lengths)))
        self.config, self.tokenizer, self.stage, self.device = config, tokenizer, stage, device
        seed_everything(config.seed)
        # Evaluation mode, also while it learns: dropout would score replies with another model
        # than the one that wrote them.
        self.model: Model = copy.deepcopy(model).to(device).eval()
        self.base_weights = weights_fingerprint(body_of(self.model)) if config.lora_rank else ""
        if config.lora_rank:
            layers = tuple(config.lora_layers.split(","))
            add_lora(body_of(self.model), layers, config.lora_rank, config.lora_alpha)
        self.optimizers = build_optimizers(self.model, config)
        self.critic = copy.deepcopy(critic).to(device).eval() if critic is not None else None
        if self.critic is not None:
            self.optimizers += build_optimizers(self.critic, config, critic_lr)
        options = {} if sorted_together is None else {"sorted_together": sorted_together}
        self.sampler = RowSampler(lengths, config.batch_size, config.seed, **options)
        self.best = float("-inf")  # highest score of an evaluation so far; the trainer says which
        self.notes: dict[str, Any] = {}  # plain types and tensors that a trainer wants saved, too

    def parameters(self) -> list[nn.Parameter]:
        """Returns all weights of the model that are trained; the critic's are not among them."""
        return [weight for weight in self.model.parameters() if weight.requires_grad]

    def set_learning_rates(self) -> float:
        """Sets every group's learning rate for the coming step; returns the factor of the peak."""
        c = self.config
        share = self.share_for_schedule(least=1e-3)
        if c.schedule == "cosine":
            factor = warmup_cosine(share, c.warmup, c.floor)
        elif c.schedule == "linear":  # all that is not warm-up is decay
            factor = warmup_stable_decay(share, c.warmup, 1.0 - c.warmup, c.floor)
        else:
            factor = min(1.0, share / c.warmup) if c.warmup else 1.0
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group["peak_lr"]
        return factor

    def is_best(self, score: float) -> bool:
        """Tells whether a score is the highest so far, and remembers it; of equals the later is."""
        if score < self.best:
            return False
        self.best = score
        return True

    def finished_model(self) -> Model:
        """Returns a copy of the model as others use it: LoRA merged, ready to write or to score."""
        model = copy.deepcopy(self.model)
        if self.config.lora_rank:
            merge_lora(body_of(model))
            remove_lora(body_of(model))
        return model.eval()

    def save(self, path: Path) -> None:
        """Writes a checkpoint from which a run goes on bit for bit."""
        lora = bool(self.config.lora_rank)
        state = {
            "stage": self.stage,
            "model": trained_weights(self.model) if lora else self.model.state_dict(),
            "model_config": config_to_dict(body_of(self.model).config),
            "base_weights": self.base_weights,
            "critic": self.critic.state_dict() if self.critic is not None else None,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "tokenizer": self.tokenizer.to_dict(),
            "rows": len(self.sampler.lengths),
            "minibatch": self.sampler.number,
            "random": random_states(),
            "notes": self.notes,
            **self.counters(),
        }
        save_checkpoint(path, family=FAMILY, config=config_to_dict(self.config), state=state)

    def restore(self, path: Path) -> None:
        """Goes back to what ``save`` wrote.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it cannot be read, or it belongs to other settings or data.
        """
        checkpoint = load_checkpoint(path, family=FAMILY)
        state = checkpoint["state"]
        self._check_same_run(checkpoint["config"], state, path)
        if self.config.lora_rank:
            load_trained(self.model, state["model"], path)
        else:
            self.model.load_state_dict(state["model"])
        if self.critic is not None:
            self.critic.load_state_dict(state["critic"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.sampler.number = state["minibatch"]
        self.notes = state["notes"]
        restore_random_states(state["random"])
        self.restore_counters(state)

    def _check_same_run(
        self, config: Mapping[str, Any], state: Mapping[str, Any], path: Path
    ) -> None:
        """Refuses a checkpoint of another stage, of other settings or of other data."""
        here = {
            "stage": (state["stage"], self.stage),
            "rows of data": (state["rows"], len(self.sampler.lengths)),
            "base weights": (state["base_weights"], self.base_weights),
        }
        if state["stage"] == self.stage:
            check_same_settings(config, config_to_dict(self.config), path, MAY_DIFFER)
        for name, (saved, now) in here.items():
            if saved != now:
                raise ValueError(
                    f"cannot resume {path}: its {name} were {saved}, here they are {now}, and the "
                    "result would be neither. Resume as it was started, or start a new --name."
                )
