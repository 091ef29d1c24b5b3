"""What every training loop needs around its lines: schedules, a metrics log, a clean stop.

The loops themselves stand in the families, visible; nothing here calls back into them.
"""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.demo import outputs_folder
from tutorial_kit.files import atomic_write


def warmup_cosine(progress: float, warmup: float, floor: float) -> float:
    """Linear warm-up, then half a cosine down to ``floor`` (Loshchilov & Hutter 2017, eq. 5).

    Args:
        progress: share of the training that is done, 0 to 1.
        warmup: share spent on the warm-up.
        floor: the factor at the end.

    Returns:
        The factor for the peak learning rate, 0 to 1.

    >>> [round(warmup_cosine(p, 0.1, 0.1), 3) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.55, 0.1]
    """
    if progress < warmup:
        return progress / warmup
    remaining = (min(progress, 1.0) - warmup) / max(1.0 - warmup, 1e-9)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * remaining))


def warmup_stable_decay(progress: float, warmup: float, decay: float, floor: float) -> float:
    """Linear warm-up, a constant stretch, then linear decay (Hu et al. 2024, MiniCPM, section 4).

    Args:
        progress: share of the training that is done, 0 to 1.
        warmup: share spent on the warm-up.
        decay: share spent on the decay, at the end.
        floor: the factor at the end.

    Returns:
        The factor for the peak learning rate, 0 to 1.

    >>> [round(warmup_stable_decay(p, 0.1, 0.5, 0.0), 3) for p in (0.05, 0.3, 0.75, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    if progress < 1.0 - decay:
        return 1.0
    return floor + (1.0 - floor) * (1.0 - min(progress, 1.0)) / max(decay, 1e-9)


def run_folder(family: str, run: str) -> Path:
    """Returns ``outputs/<family>/<run>`` under the project, or under ``LLM_TUTORIAL_OUTPUTS``.

    Raises:
        ValueError: the run's name would leave the folder.
    """
    if not run or Path(run).name != run or run in (".", ".."):
        raise ValueError(
            f"--name {run!r} is not a folder name: outputs go to outputs/{family}/<run>/. "
            "Use letters, digits, '-' and '_'."
        )
    return outputs_folder(PROJECT_ROOT) / family / run


def write_json(path: Path, content: Any) -> None:
    """Writes plain types as readable JSON; the file is either whole or untouched."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")


def check_loss(loss: float, step: int, resume_from: Path | None = None) -> None:
    """Stops a training whose loss is no longer a number.

    Raises:
        ValueError: the loss is NaN or infinite; the text says what usually helps.
    """
    if math.isfinite(loss):
        return
    last = f" The last good checkpoint is {resume_from}." if resume_from else ""
    raise ValueError(
        f"the loss is {loss} at step {step}: the updates have grown too large, and every later "
        f"step would be NaN. Lower the learning rate or lengthen the warm-up.{last}"
    )


class MetricsLog:
    """``metrics.jsonl``: one JSON object a line, each with the step it belongs to."""

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        """Opens the log.

        Args:
            path: the file; its folder is made if it is missing.
            resume_step: None starts a new file; a number keeps the lines up to that step, because a
                killed run may have logged steps after its last checkpoint.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept: list[dict[str, Any]] = []
        if resume_step is not None and path.is_file():
            kept = [row for row in read_metrics(path) if row["step"] <= resume_step]
        with atomic_write(path, "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)

    def write(self, step: int, **values: float | str) -> None:
        """Appends one line; it is on disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a metrics log; a half-written last line is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def read_evaluations(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a metrics log for a picture, which needs at least one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no evaluation yet.
    """
    rows = read_metrics(path)
    if not rows:
        raise ValueError(
            f"{path} holds no evaluation yet: there is no curve to draw. Train until the first one."
        )
    return rows


class InterruptGuard:
    """Makes of the first Ctrl-C a request to stop after the current step; the second stops at once.

    Use: ``with InterruptGuard() as guard:``; after each step look at ``guard.requested``.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __enter__(self) -> InterruptGuard:
        try:
            self._previous = signal.signal(signal.SIGINT, self._handle)
        except ValueError:  # not the main thread: Ctrl-C keeps its usual meaning
            self._previous = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
