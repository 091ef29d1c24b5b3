"""What a training run tells while it goes on: a bar, a line for each evaluation, the metrics log.

The loop calls it; it calls nothing back. A family's reporter derives from ``RunReporter`` and adds
its own evaluation: what is scored, which sample is shown, which checkpoint is the best.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutorial_kit.console import progress
from tutorial_kit.run_progress import RunProgress
from tutorial_kit.training import MetricsLog, write_json


class RunReporter:
    """``config.json``, ``metrics.jsonl``, the progress bar and the lines of one run."""

    def __init__(
        self,
        run: RunProgress,
        folder: Path,
        config: Mapping[str, Any],
        *,
        headline: str,
        resume: bool,
        speaks: bool = True,
    ) -> None:
        """Writes the settings, opens the log, prints the first line.

        Args:
            run: the counters, which the loop moves.
            folder: the run's, ``outputs/<family>/<run>``.
            config: plain types, from ``config_to_dict``.
            headline: what is trained on what; the folder is added to it.
            resume: keep the log's lines up to the run's step, instead of starting a new log.
            speaks: False on all but one of several processes: nothing is printed or written there.
        """
        self.run, self.folder, self.speaks = run, folder, speaks
        self.validation_loss = float("nan")  # of the last evaluation
        if not speaks:
            return
        write_json(folder / "config.json", config)
        self._log = MetricsLog(folder / "metrics.jsonl", run.step if resume else None)
        print(f"{headline}; outputs in {folder}")
        self._bar = progress(1.0, "training", "run")
        self._bar.update(run.share_done)

    def move_bar(self, **values: str) -> None:
        """Moves the bar to where the run is, and shows the values beside it."""
        if self.speaks:
            self._bar.set_postfix(**values)
            self._bar.update(self.run.share_done - self._bar.n)

    def show_evaluation(
        self,
        train_loss: float,
        validation_loss: float,
        scores: str,
        sample: str,
        logged: Mapping[str, float | str],
        unit: str = "nats/token",
    ) -> None:
        """Prints the line of an evaluation and its sample, and logs the numbers.

        Args:
            train_loss: mean since the last evaluation.
            validation_loss: on the whole validation split; ``validation_loss`` remembers it.
            scores: what the line says behind the losses.
            sample: lines to read, each indented by four spaces.
            logged: what the log keeps beside step, seconds and the two losses.
            unit: of the losses.
        """
        self.validation_loss = validation_loss
        if not self.speaks:
            return
        self._bar.write(
            f"step {self.run.step:>6}  {self.run.seconds:7.1f} s  train {train_loss:.4f}  "
            f"validation {validation_loss:.4f} {unit}  {scores}\n{sample}"
        )
        self._log.write(
            self.run.step, seconds=round(self.run.seconds, 3), train_loss=train_loss,
            validation_loss=validation_loss, **logged,
        )  # fmt: skip

    def say_how_to_resume(self) -> None:
        """Tells, after Ctrl-C, that nothing is lost."""
        if self.speaks:
            self._bar.write(
                f"stopped at step {self.run.step}; saved. The same command with --resume goes on."
            )

    def close(self) -> None:
        """Closes the bar."""
        if self.speaks:
            self._bar.close()
