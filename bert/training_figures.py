"""Two curves: what pre-training learns over its steps, and what it is worth with few labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tutorial_kit.plotting import FAINT, PALETTE, headline, label, new_figure
from tutorial_kit.training import read_evaluations

PRETRAINED = "pre-trained"
MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class CurvePoint:
    """One contestant with one number of labels, over the seeds."""

    contestant: str
    n_labels: int
    accuracies: tuple[float, ...]  # on the test split, 0 to 1, one for each seed


def training_curve_figure(metrics: Path) -> Figure:
    """Draws the losses of a pre-training, and beside them the accuracies.

    The line of the unigram entropy is where a model stands that knows how frequent each token is
    and nothing of the text around; below it, it has begun to read.

    Args:
        metrics: the run's ``metrics.jsonl``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no evaluation yet.
    """
    rows = read_evaluations(metrics)
    figure, (left, right) = new_figure(2, width=9.6)
    style: dict[str, Any] = {"marker": "o", "markersize": 3} if len(rows) <= 25 else {}
    for key, color, name in (
        ("train_mlm_loss", PALETTE[4], "training (mean since the last)"),
        ("validation_mlm_loss", PALETTE[0], "held-out text"),
    ):
        _curve(left, rows, key, 1.0, color=color, label=name, **style)
    best = min(rows, key=lambda row: row["validation_mlm_loss"])
    entropy = best.get("unigram_entropy")  # of the same held-out tokens as that loss
    if entropy is not None:
        left.axhline(entropy, color=FAINT, linestyle="--", linewidth=1.2)
        left.text(0.99, entropy, f"unigram entropy {entropy:.2f}", va="bottom", ha="right",
                  fontsize=8, color=FAINT, transform=left.get_yaxis_transform())  # fmt: skip
    label(left, "", "step", "MLM loss (nats per masked token)")
    left.legend(frameon=False, fontsize=8)
    for key, color, name in (
        ("validation_mlm_accuracy", PALETTE[0], "masked tokens"),
        ("validation_nsp_accuracy", PALETTE[1], "next sentence (chance: 50 %)"),
    ):
        _curve(right, rows, key, 100.0, color=color, label=name, **style)
    right.set_ylim(0, 100)
    label(right, "", "step", "right on held-out text (%)")
    if right.lines:  # a log may lack accuracies
        right.legend(frameon=False, fontsize=8, loc="upper left")
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    headline(figure, _pretraining_finding(best))
    return figure


def few_label_figure(
    points: Sequence[CurvePoint], task: str, chance: float | None = None
) -> Figure:
    """Draws the accuracy of each contestant over the number of labeled examples.

    Lines are means over the seeds, bands reach one standard deviation to both sides, dots are the
    single runs.

    Args:
        points: of all contestants; accuracies from 0 to 1.
        task: what was to be told, for the axis.
        chance: the accuracy of guessing, 0 to 1, or None.

    Raises:
        ValueError: there is no point.
    """
    if not points:
        raise ValueError("a few-label curve of 0 points was asked for. Measure some first.")
    figure, axis = new_figure(width=7.0, height=4.0)
    for place, name in enumerate(dict.fromkeys(point.contestant for point in points)):
        own = sorted((p for p in points if p.contestant == name), key=lambda p: p.n_labels)
        n_labels = [p.n_labels for p in own]
        means = np.array([100 * np.mean(p.accuracies) for p in own])
        spreads = np.array([100 * _deviation(p.accuracies) for p in own])
        color, marker = PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]
        axis.plot(n_labels, means, color=color, marker=marker, markersize=5, label=name)
        axis.fill_between(n_labels, means - spreads, means + spreads, color=color, alpha=0.15,
                          linewidth=0)  # fmt: skip
        for p in own:
            axis.plot([p.n_labels] * len(p.accuracies), [100 * a for a in p.accuracies], ".",
                      color=color, markersize=3)  # fmt: skip
    if chance is not None:
        axis.axhline(100 * chance, color=FAINT, linestyle="--", linewidth=1)
        axis.text(0.99, 100 * chance, "guessing", transform=axis.get_yaxis_transform(), ha="right",
                  va="bottom", fontsize=8, color=FAINT)  # fmt: skip
    shown = sorted({point.n_labels for point in points})
    axis.set_xscale("log")
    axis.set_xticks(shown, [f"{n:,}" for n in shown])
    axis.set_xticks([], minor=True)
    seeds = max(len(point.accuracies) for point in points)
    label(axis, few_label_finding(points), "labeled examples",
          f"accuracy on {task} (%)\nmean and deviation of {seeds} seeds")  # fmt: skip
    axis.legend(frameon=False, fontsize=8)
    return figure


def few_label_finding(points: Sequence[CurvePoint], subject: str = PRETRAINED) -> str:
    """Says by how much the pre-trained model leads with few labels, and where another one leads.

    A lead counts where it is larger than both standard deviations over the seeds.

    Args:
        points: as in `few_label_figure`.
        subject: the contestant that the sentence is about; the best one if it is not there.
    """
    table: dict[str, dict[int, float]] = {}
    spreads: dict[tuple[str, int], float] = {}
    for point in points:
        mean = 100 * float(np.mean(point.accuracies))
        table.setdefault(point.contestant, {})[point.n_labels] = mean
        spreads[point.contestant, point.n_labels] = 100 * _deviation(point.accuracies)
    if subject not in table:
        subject = max(table, key=lambda name: max(table[name].values()))
    own = table.pop(subject)
    fewest = min(own)
    others = {name: row for name, row in table.items() if fewest in row}
    sentence = f"With {fewest:,} labels {subject} BERT reaches {own[fewest]:.1f} %"
    gains = [
        f"{abs(gain):.1f} {'above' if gain >= 0 else 'below'} {name}"
        for name, gain in ((name, own[fewest] - row[fewest]) for name, row in others.items())
    ]
    if gains:
        sentence += f", {' and '.join(gains)}"
    losses = [
        f"with {n:,} labels {name} leads by {row[n] - own[n]:.1f}"
        for name, row in table.items()
        for n in sorted(row)
        if n != fewest and n in own and row[n] - own[n] > max(spreads[subject, n], spreads[name, n])
    ]
    return "; ".join([sentence, *losses])


def _curve(
    axis: Axes, rows: Sequence[dict[str, Any]], key: str, factor: float, **style: Any
) -> None:
    """Draws one number of the log, where it is there."""
    kept = [row for row in rows if key in row]
    if kept:
        axis.plot([row["step"] for row in kept], [factor * row[key] for row in kept], **style)


def _deviation(values: Sequence[float]) -> float:
    """Returns the standard deviation of a sample; 0 for a single run."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _pretraining_finding(best: dict[str, Any]) -> str:
    """States where the loss ends, against the unigram entropy, and what is guessed right."""
    loss, entropy = best["validation_mlm_loss"], best.get("unigram_entropy")
    finding = f"Held-out MLM loss reaches {loss:.2f} nats in {best['step']:,} steps"
    if "seconds" in best:
        finding += f", {best['seconds']:,.0f} s"
    if entropy is not None:
        side = "below" if loss < entropy else "above"
        finding += f": {abs(entropy - loss):.2f} {side} the unigram entropy"
        if loss >= entropy:
            finding += ", so the model does not yet use the text around a mask"
    parts = [
        f"{100 * best[key]:.0f} % of {name}"
        for key, name in (
            ("validation_mlm_accuracy", "masked tokens"),
            ("validation_nsp_accuracy", "next sentences"),
        )
        if key in best
    ]
    return finding + (f"; {' and '.join(parts)} are right" if parts else "")
