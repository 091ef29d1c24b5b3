"""The figures of tuning: what was maximized against what was wanted, before and after, by task.

One function per figure; each title states what was found. Scores are shares from 0 to 1, drawn in
percent; KL is in nats a reply, measured to the policy after supervised fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tutorial_kit.plotting import FAINT, HEAT_MAP, INK, PALETTE, label, new_figure

KL = "KL to the policy after SFT (nats a reply, root scale)"
REWARD = "mean reward (standard deviations of the replies after SFT)"
EXACT = "held-out requests answered exactly (%)"


class Point(NamedTuple):
    """Where a policy stands while it is tuned."""

    kl: float  # nats a reply from the reference
    reward: float  # the mean score of what it maximizes, such as a reward model's
    judge: float  # the judge's mean score: what was wanted, 0 to 1


class Row(NamedTuple):
    """A policy in the before/after picture."""

    label: str
    exact: float  # greedy, 0 to 1
    exact_sampled: float  # at temperature 1, 0 to 1
    kl: float | None  # nats a reply from the policy after SFT; None: not measured
    spread: float = 0.0  # standard deviation of ``exact`` over seeds
    spread_sampled: float = 0.0  # the same of ``exact_sampled``


def over_optimization_figure(curves: Mapping[str, Sequence[Point]]) -> Figure:
    """Draws reward and judge over KL, side by side (Gao et al. 2023, figure 1).

    Args:
        curves: name -> its points in the order of training, or of n for best-of-n.
    """
    figure, (left, right) = new_figure(columns=2, width=9.6, height=3.9)
    _draw_curves(left, right, curves)
    label(left, "What is maximized: the reward model's score", KL, REWARD)
    label(right, over_optimization_finding(curves), KL, "judge's mean score")
    right.legend(frameon=False, fontsize=8)
    return figure


def _draw_curves(left: Axes, right: Axes, curves: Mapping[str, Sequence[Point]]) -> None:
    """Draws the curves on two axes, reward on the left, judge on the right."""
    for color, (name, points) in zip(PALETTE, curves.items(), strict=False):
        distance = [max(0.0, point.kl) for point in points]
        size = 3 if len(points) > 1 else 7  # a single point must be found without a line
        style: dict[str, Any] = {"color": color, "marker": "o", "markersize": size, "label": name}
        left.plot(distance, [point.reward for point in points], **style)
        right.plot(distance, [point.judge for point in points], **style)
    for axes in (left, right):
        axes.set_xscale("function", functions=(_root, np.square))
        axes.set_xlim(left=0.0)


def _root(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.clip(x, 0.0, None))


def over_optimization_finding(curves: Mapping[str, Sequence[Point]]) -> str:
    """Says which curve loses most of the judge's score while its reward rises, or that none does.

    >>> over_optimization_finding({"PPO": [Point(0, 0.5, 0.6), Point(3, 0.9, 0.4)]})
    'PPO: the reward rises from 0.50 to 0.90, the judge falls from 0.60 to 0.40'
    """
    losses = {}
    for name, points in curves.items():
        best = max(points, key=lambda point: point.judge)
        if points[-1].reward > best.reward:
            losses[name] = best.judge - points[-1].judge
    worst = max(losses, key=losses.__getitem__, default="")
    if not worst or losses[worst] < 0.02:
        return "The judge's score never falls while the reward rises"
    best, last = max(curves[worst], key=lambda point: point.judge), curves[worst][-1]
    return (
        f"{worst}: the reward rises from {best.reward:.2f} to {last.reward:.2f}, "
        f"the judge falls from {best.judge:.2f} to {last.judge:.2f}"
    )


def stages_figure(rows: Sequence[Row]) -> Figure:
    """Draws exact match of each policy, greedy and at temperature 1, and its KL as a number."""
    figure, axes = new_figure(width=7.0, height=1.5 + 0.36 * len(rows))
    draw_stages(axes, rows)
    label(axes, stages_finding(rows), EXACT)
    return figure


def draw_stages(axes: Axes, rows: Sequence[Row]) -> None:
    """Draws a line a policy from its exact match at temperature 1 to the greedy one."""
    for place, row in enumerate(rows):
        greedy, sampled = 100 * row.exact, 100 * row.exact_sampled
        axes.plot([sampled, greedy], [place, place], color=FAINT, linewidth=1.0, zorder=1)
        marks = ((sampled, row.spread_sampled, PALETTE[4], "temperature 1"),
                 (greedy, row.spread, PALETTE[0], "greedy"))  # fmt: skip
        for value, spread, color, name in marks:
            axes.errorbar(value, place, xerr=100 * spread or None, fmt="o", color=color, capsize=3,
                          label=name if place == 0 else None)  # fmt: skip
        if row.kl is not None:
            axes.text(101, place, f"KL {row.kl:.2f}", fontsize=8, color=INK, va="center")
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.legend(frameon=False, fontsize=8, loc="lower left")


def stages_finding(rows: Sequence[Row]) -> str:
    """Says which policy is best, and its gain over the one of KL 0, greedy and at T=1.

    >>> stages_finding([Row("SFT", 0.7, 0.5, 0.0), Row("GRPO", 0.75, 0.7, 1.0)])
    'GRPO is best at temperature 1: 70.0 % exact, +20.0 points over SFT; greedy +5.0'
    """
    first = next((row for row in rows if row.kl is not None and row.kl < 1e-6), rows[0])
    best = max(rows, key=lambda row: row.exact_sampled)
    if best.exact_sampled <= first.exact_sampled:
        return f"No policy is better at temperature 1 than {first.label}, {first.exact_sampled:.1%}"
    sampled, greedy = (100 * (b - a) for a, b in ((first.exact_sampled, best.exact_sampled),
                                                  (first.exact, best.exact)))  # fmt: skip
    return (
        f"{best.label} is best at temperature 1: {100 * best.exact_sampled:.1f} % exact, "
        f"{sampled:+.1f} points over {first.label}; greedy {greedy:+.1f}"
    )


def table_figure(scores: Mapping[str, Mapping[str, float]], what: str) -> Figure:
    """Draws a before/after table: a row a policy, a column a task, the number in a colored field.

    Args:
        scores: policy -> task -> share answered exactly; the policies have the same tasks.
        what: how the replies were chosen, such as "greedy"; it goes into the title.
    """
    names, tasks = list(scores), list(next(iter(scores.values())))
    shares = np.array([[100 * scores[name][task] for task in tasks] for name in names])
    figure, axes = new_figure(width=2.0 + 0.72 * len(tasks), height=1.6 + 0.34 * len(names))
    axes.imshow(shares, cmap=HEAT_MAP, vmin=0, vmax=100, aspect="auto")
    for row, values in enumerate(shares):
        for column, value in enumerate(values):
            color = "white" if value > 60 else INK
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8,
                      color=color)  # fmt: skip
    axes.set_xticks(range(len(tasks)), tasks, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    spread = shares.max(axis=0) - shares.min(axis=0)
    task = tasks[int(spread.argmax())]
    label(axes, f"Answered exactly, {what} (%): the policies differ most in {task}, "
                f"by {spread.max():.0f} points")  # fmt: skip
    return figure


def tasks_figure(scores: Mapping[str, Mapping[str, float]], what: str) -> Figure:
    """Draws a bar a task and policy; the title says how many tasks the last policy raises.

    Args:
        scores: policy -> task -> share answered exactly; the first is "before".
        what: how the replies were chosen, such as "greedy".
    """
    names, tasks = list(scores), list(next(iter(scores.values())))
    figure, axes = new_figure(width=8.4, height=3.8)
    width = 0.8 / len(names)
    for number, (name, color) in enumerate(zip(names, PALETTE, strict=False)):
        places = [place + (number - (len(names) - 1) / 2) * width for place in range(len(tasks))]
        axes.bar(places, [100 * scores[name][task] for task in tasks], width, color=color,
                 label=name)  # fmt: skip
    axes.set_xticks(range(len(tasks)), tasks, rotation=35, ha="right")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    label(axes, f"{what}: {tasks_finding(scores[names[0]], scores[names[-1]], names[-1])}",
          "task", "answered exactly (%)")  # fmt: skip
    return figure


def tasks_finding(before: Mapping[str, float], after: Mapping[str, float], name: str) -> str:
    """Says how many tasks a policy raises, and which fall most.

    >>> tasks_finding({"sort": 0.4, "upper": 0.7}, {"sort": 0.3, "upper": 0.9}, "GRPO")
    'GRPO raises 1 of 2 tasks; sort falls by 10 points'
    """
    changes = {task: 100 * (after[task] - before[task]) for task in before}
    risen = sum(change > 0 for change in changes.values())
    text = f"{name} raises {risen} of {len(changes)} tasks"
    least = min(changes, key=changes.__getitem__)
    if changes[least] < 0:
        return f"{text}; {least} falls by {-changes[least]:.0f} points"
    return f"{text}, and none falls"


def pass_at_k_figure(curves: Mapping[str, Mapping[int, float]]) -> Figure:
    """Draws pass@k of each policy over k: does tuning teach anything new, or only what comes first?

    Args:
        curves: policy -> k -> pass@k from 0 to 1; the first is "before".
    """
    figure, axes = new_figure(width=6.4, height=3.8)
    for name, color in zip(curves, PALETTE, strict=False):
        sizes = sorted(curves[name])
        axes.plot(sizes, [100 * curves[name][k] for k in sizes], "o-", color=color, label=name)
    axes.set_xscale("log", base=2)
    sizes = sorted(next(iter(curves.values())))
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    label(axes, sharpening_finding(curves), "replies to each request, k", "pass@k (%)")
    return figure


def sharpening_finding(curves: Mapping[str, Mapping[int, float]]) -> str:
    """Compares the first policy with the one that is best at k = 1, at both ends of the curve.

    >>> sharpening_finding({"SFT": {1: 0.45, 16: 0.82}, "GRPO": {1: 0.65, 16: 0.8}})
    'GRPO against SFT: +20.0 points at k = 1, -2.0 at k = 16'
    """
    before = next(iter(curves))
    best = max(curves, key=lambda name: curves[name][min(curves[name])])
    if best == before:
        return f"No policy is above {before} at k = 1"
    low, high = min(curves[before]), max(curves[before])
    first, last = (100 * (curves[best][k] - curves[before][k]) for k in (low, high))
    return f"{best} against {before}: {first:+.1f} points at k = {low}, {last:+.1f} at k = {high}"


def story_figure(rows: Sequence[Row], curves: Mapping[str, Sequence[Point]]) -> Figure:
    """Draws the quick start on one sheet: the policies, and reward and judge over KL."""
    figure, (stages, left, right) = new_figure(columns=3, width=13.0, height=4.0)
    draw_stages(stages, rows)
    label(stages, stages_finding(rows), EXACT)
    _draw_curves(left, right, curves)
    label(left, "What is maximized: the reward model's score", KL, REWARD)
    label(right, over_optimization_finding(curves), KL, "judge's mean score")
    right.legend(frameon=False, fontsize=8)
    return figure
