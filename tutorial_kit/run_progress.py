"""How far a training run is: steps, seconds, the losses since the last evaluation; and its resume.

A family's ``TrainState`` derives from ``RunProgress`` and adds model, optimizers and data.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any


class RunProgress:
    """The counters of a run. They belong into its checkpoint: see ``counters``."""

    COUNTERS: tuple[str, ...] = ("step", "seconds", "loss_sum", "loss_count")
    """Attributes that a checkpoint holds; a family that counts more names more."""

    def __init__(self, max_steps: int, budget_minutes: float = 0.0) -> None:
        """Starts at step 0.

        Args:
            max_steps: updates of the whole run, if there is no budget.
            budget_minutes: minutes of training, instead of ``max_steps``; 0 means none.
        """
        self.max_steps, self.budget_minutes = max_steps, budget_minutes
        self.step = 0  # updates done
        self.seconds = 0.0  # spent in steps, evaluation left out
        self.loss_sum, self.loss_count = 0.0, 0  # training losses since the last evaluation

    @property
    def share_done(self) -> float:
        """How much of the run is behind us, 0 to 1: by the clock if there is a budget."""
        if self.budget_minutes:
            return min(1.0, self.seconds / (60.0 * self.budget_minutes))
        return min(1.0, self.step / self.max_steps)

    def share_for_schedule(self, least: float) -> float:
        """Returns the share of the run at which the coming step's learning rate is read.

        Args:
            least: the smallest share: the first step must not be wasted at rate 0.
        """
        share = self.share_done if self.budget_minutes else (self.step + 1) / self.max_steps
        return max(share, least)

    def add_loss(self, loss: float) -> None:
        """Adds a step's training loss to the mean of the next evaluation."""
        self.loss_sum, self.loss_count = self.loss_sum + loss, self.loss_count + 1

    def take_mean_loss(self) -> float:
        """Returns the mean training loss since the last call, and starts a new mean."""
        mean = self.loss_sum / max(1, self.loss_count)
        self.loss_sum, self.loss_count = 0.0, 0
        return mean

    def counters(self) -> dict[str, Any]:
        """Returns the counters for a checkpoint."""
        return {name: getattr(self, name) for name in self.COUNTERS}

    def restore_counters(self, saved: Mapping[str, Any]) -> None:
        """Goes back to what ``counters`` returned; other entries of ``saved`` are left alone."""
        for name in self.COUNTERS:
            setattr(self, name, saved[name])


def check_same_settings(
    saved: Mapping[str, Any], here: Mapping[str, Any], path: Path, may_differ: Collection[str]
) -> None:
    """Refuses to resume with settings that differ where the run would become another one.

    Args:
        saved: the config in the checkpoint, from ``config_to_dict``; nested dictionaries count.
        here: the config of this command, likewise.
        path: the checkpoint, for the text.
        may_differ: names of the settings that do no harm.

    Raises:
        ValueError: a setting differs; the text names it. Those of the run come before the model's:
            other data often mean another vocabulary, and the data are the reason.
    """
    nested = [name for name, value in here.items() if isinstance(value, dict)]
    pairs = [(name, saved.get(name), here[name]) for name in here if name not in nested]
    for group in nested:
        pairs += [(name, saved[group].get(name), value) for name, value in here[group].items()]
    for name, old, new in pairs:
        if name not in may_differ and old != new:
            raise ValueError(
                f"cannot resume {path}: it was trained with {name}={old}, this command asks "
                f"for {new}, and the result would be neither. Resume with the same settings, "
                "or start a new --name."
            )
