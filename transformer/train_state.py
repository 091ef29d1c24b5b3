"""Everything a training run consists of at one moment, and how it is saved and brought back.

What must be in a checkpoint for the resumed run to equal the uninterrupted one bit for bit:
weights, the optimizer's memory, the weights to be averaged, the step, the position in the data,
every random generator, and the running sum of the losses since the last log line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from transformer.batching import BatchSampler
from transformer.train_config import TrainConfig
from transformer.transformer_model import Transformer
from transformer.translation_data import TranslationData
from tutorial_kit.checkpoints import (
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from tutorial_kit.config import config_to_dict
from tutorial_kit.device import seed_everything
from tutorial_kit.optimizers import decay_groups, fused_adamw
from tutorial_kit.run_progress import RunProgress, check_same_settings


class WeightAverage:
    """The mean of the weights at several moments: it errs less than any one of them.

    "last" is the paper's (section 6.1): the plain mean of the last few checkpoints, here those of
    the last evaluations. "ema" is an exponential average over all steps,
    a <- d a + (1 - d) w, whose first steps forget faster: d = min(decay, (1 + t) / (10 + t)).
    "none" keeps nothing.
    """

    def __init__(self, model: nn.Module, kind: str, count: int, decay: float) -> None:
        """Starts without any moment.

        Args:
            model: whose weights are averaged; a tied weight is one weight.
            kind: "none", "last" or "ema".
            count: moments that "last" keeps.
            decay: d of "ema".
        """
        self.weights = [parameter.data for parameter in model.parameters()]
        self.kind, self.count, self.decay = kind, count, decay
        self.moments: list[list[Tensor]] = []  # "last": the newest at the end; "ema": one, a
        self.updates = 0  # t of "ema"

    def after_step(self) -> None:
        """Moves the exponential average towards the new weights."""
        if self.kind != "ema":
            return
        if not self.moments:
            self.moments = [[weight.clone() for weight in self.weights]]
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.moments[0], self.weights, 1.0 - decay)

    def at_evaluation(self) -> None:
        """Adds the present weights to the list of "last", and drops the oldest if it is full."""
        if self.kind == "last":
            self.moments.append([weight.clone() for weight in self.weights])
            del self.moments[: -self.count]

    def mean(self) -> list[Tensor]:
        """Returns the averaged weights; the present ones if there is nothing to average."""
        if not self.moments:
            return [weight.clone() for weight in self.weights]
        return [torch.stack(same).mean(0) for same in zip(*self.moments, strict=True)]

    def apply(self) -> None:
        """Puts the averaged weights into the model, for good."""
        torch._foreach_copy_(self.weights, self.mean())

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Puts the averaged weights into the model, and the trained ones back at the end."""
        trained = [weight.clone() for weight in self.weights]
        self.apply()
        try:
            yield
        finally:
            torch._foreach_copy_(self.weights, trained)


class TrainState(RunProgress):
    """One run: model, optimizer, averaged weights, place in the data, counters."""

    COUNTERS = (*RunProgress.COUNTERS, "tokens", "best")

    def __init__(self, config: TrainConfig, data: TranslationData, device: torch.device) -> None:
        """Starts a run at step 0, seeded.

        Args:
            config: the settings; ``config.model.vocab_size`` is the tokenizer's.
            data: the sentence pairs.
            device: where to train.
        """
        super().__init__(config.max_steps, config.budget_minutes)
        self.config, self.data, self.device = config, data, device
        seed_everything(config.seed)
        self.model = Transformer(config.model).to(device)
        groups = decay_groups(self.model, config.weight_decay)
        self.optimizer = fused_adamw(groups, config.lr, (0.9, config.beta2), eps=1e-9)
        self.average = WeightAverage(
            self.model, config.average, config.average_count, config.average_decay
        )
        self.sampler = BatchSampler(data, config.tokens_per_batch, config.seed)
        self.tokens = 0  # target tokens learned from
        self.best = [-1.0, float("-inf")]  # highest BLEU so far, and minus its loss

    def set_learning_rate(self) -> float:
        """Sets the learning rate for the coming step; returns it."""
        rate = self.config.lr * self.config.rate_factor(self.share_for_schedule(least=1e-4))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def is_best(self, bleu: float, loss: float) -> bool:
        """Remembers the highest BLEU so far, the lower loss of two equal ones; tells if this is it.

        Args:
            bleu: on validation; not a number if it is not measured, and then the loss decides.
            loss: on validation, nats per token.
        """
        found = [bleu if bleu == bleu else 0.0, -loss]
        if found <= self.best:
            return False
        self.best = found
        return True

    def save(self, path: Path) -> None:
        """Writes a checkpoint from which a run goes on bit for bit.

        Its "model" holds the averaged weights, which are the ones to translate with; those that
        training goes on from are in "trained".
        """
        trained = [weight.clone() for weight in self.average.weights]
        with self.average.applied():
            state = {
                "model": self.model.state_dict(),
                "trained": trained,
                "moments": self.average.moments,
                "average_updates": self.average.updates,
                "optimizer": self.optimizer.state_dict(),
                "tokenizer": self.data.tokenizer.to_dict(),
                "languages": [self.data.source_language, self.data.target_language],
                "sampler": self.sampler.state(),
                "random": random_states(),
                **self.counters(),
            }
            config = config_to_dict(self.config)
            save_checkpoint(path, family="transformer", config=config, state=state)

    def restore(self, path: Path) -> None:
        """Goes back to what ``save`` wrote.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it cannot be read, or it belongs to other settings or another vocabulary.
        """
        checkpoint = load_checkpoint(path, family="transformer")
        state = checkpoint["state"]
        here, may_differ = config_to_dict(self.config), self._may_differ()
        check_same_settings(checkpoint["config"], here, path, may_differ)
        if state["tokenizer"] != self.data.tokenizer.to_dict():
            raise ValueError(
                f"cannot resume {path}: its vocabulary of {len(state['tokenizer']['vocab']):,} "
                f"tokens is not the one of this data ({self.data.tokenizer.vocab_size:,}), so its "
                "weights would stand for other words. Bring the old data back, or start a new "
                "--name."
            )
        self.model.load_state_dict(state["model"])  # also what is no parameter
        for weight, saved in zip(self.average.weights, state["trained"], strict=True):
            weight.copy_(saved)
        self.average.moments = [
            [saved.to(self.device) for saved in moment] for moment in state["moments"]
        ]
        self.average.updates = state["average_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.restore(state["sampler"])
        restore_random_states(state["random"])
        self.restore_counters(state)

    def _may_differ(self) -> set[str]:
        """Returns the settings that a resumed run may change: its updates do not depend on them."""
        may_differ = {"max_steps", "budget_minutes", "checkpoint_every", "threads"}
        may_differ |= {"bleu_sentences", "vocab_size"}  # the vocabularies are compared themselves
        if self.config.average != "last":  # which averages what each evaluation has seen
            may_differ.add("eval_every")
        return may_differ
