"""What a tuning tells while it goes on; the same for all five trainers.

A trainer's reporter derives from this and adds its own evaluation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn

from instruction_tuning.tuning_state import TrainResult, TuningState
from tutorial_kit.config import config_to_dict
from tutorial_kit.run_reporter import RunReporter
from tutorial_kit.training import read_metrics

Model = TypeVar("Model", bound=nn.Module)


class TuningReporter(RunReporter, Generic[Model]):
    """The bar, the lines, the log and the checkpoints of one run."""

    def __init__(
        self, state: TuningState[Model], folder: Path, learned_from: str, *, resume: bool
    ) -> None:
        """Writes the settings, prints the first line.

        Args:
            state: of the run.
            folder: outputs/instruction_tuning/<run>.
            learned_from: what the training reads, as "8,000 demonstrations".
            resume: keep the log's lines up to the run's step.
        """
        self.state = state
        self.last = folder / "checkpoints" / "last.pt"
        self.best = folder / "checkpoints" / "best.pt"
        trained = sum(weight.numel() for weight in state.parameters())
        whole = sum(weight.numel() for weight in state.model.parameters())
        share = f" of {whole:,}" if trained < whole else ""
        super().__init__(
            state, folder, config_to_dict(state.config), resume=resume,
            headline=f"{trained:,}{share} parameters; training on {state.device}, {learned_from}",
        )  # fmt: skip

    def show_step(self, rows: int, factor: float, **values: str) -> None:
        """Moves the progress bar.

        Args:
            rows: of the step's minibatch, for the speed.
            factor: the learning rate as a share of its peak.
            values: what else stands beside the bar, such as the loss.
        """
        speed = rows * self.state.step / max(self.state.seconds, 1e-9)
        self.move_bar(**values, lr=f"{factor:.2f}", rows_per_s=f"{speed:,.0f}")

    def keep_best(self, score: float) -> None:
        """Saves ``best.pt`` if the score is the highest so far."""
        if self.state.is_best(score):
            self.state.save(self.best)

    def save(self) -> None:
        """Writes the checkpoint that ``--resume`` goes on from."""
        self.state.save(self.last)

    def result(self) -> TrainResult[Model]:
        """Closes the bar and returns the tuned model."""
        self.close()
        history: list[dict[str, Any]] = read_metrics(self.folder / "metrics.jsonl")
        model = self.state.finished_model()
        return TrainResult(model, self.folder, history, self.state.step, self.state.seconds)
