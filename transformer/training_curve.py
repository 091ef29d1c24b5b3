"""The picture of a training run: its losses, and the BLEU of its translations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tutorial_kit.plotting import PALETTE, headline, label, new_figure
from tutorial_kit.training import read_evaluations


def training_curve_figure(metrics: Path) -> Figure:
    """Draws losses and BLEU over the steps of a run, side by side.

    The training loss stays above the validation loss for two reasons that are no fault of the
    model: its targets are smoothed, and dropout is on.

    Args:
        metrics: the run's ``metrics.jsonl``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no evaluation yet.
    """
    rows = read_evaluations(metrics)
    steps = [row["step"] for row in rows]
    losses = [row["validation_loss"] for row in rows]
    translated = [row for row in rows if "bleu" in row]
    figure, axes = new_figure(2 if translated else 1, width=9.6 if translated else 6.4)
    left, *others = figure.axes
    style: dict[str, Any] = {"marker": "o", "markersize": 3} if len(rows) <= 25 else {}
    train = [row["train_loss"] for row in rows]
    left.plot(steps, train, color=PALETTE[4], label="training (smoothed, dropout on)", **style)
    left.plot(steps, losses, color=PALETTE[0], label="validation", **style)
    left.set_ylim(bottom=0)
    label(left, "", "step", "loss (nats per target token)")
    left.legend(frameon=False, fontsize=8)
    best = min(rows, key=lambda row: row["validation_loss"])
    finding = (
        f"Validation loss falls from {losses[0]:.2f} to {best['validation_loss']:.2f} nats per "
        f"token in {best['step']:,} steps, {best['seconds']:.0f} s"
    )
    if losses[-1] > best["validation_loss"] + 0.02:
        finding += f", then rises to {losses[-1]:.2f}: the model learns by heart"
    if translated:
        (right,) = others
        places = [row["step"] for row in translated]
        right.plot(places, [row["bleu"] for row in translated], color=PALETTE[0],
                   label="BLEU (greedy)", **style)  # fmt: skip
        exact = [100.0 * row["exact_match"] for row in translated]
        if max(exact) >= 5.0:  # captions have many good translations, grammar sentences one
            right.plot(places, exact, color=PALETTE[1], label="exact match (%)", **style)
        right.set_ylim(0, 100 if max(exact) >= 5.0 else None)
        label(right, "", "step", "score on validation (0 to 100)")
        right.legend(frameon=False, fontsize=8)
        finding += f"; BLEU reaches {max(row['bleu'] for row in translated):.1f}"
    headline(figure, finding)
    return figure
