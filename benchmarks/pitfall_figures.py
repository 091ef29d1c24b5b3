"""The figures of docs/pitfalls.md: every bug's curves beside those of the correct program."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.pitfall_curves import SIGNS, Curves, Runs, ending, sign_of
from benchmarks.pitfall_exhibits import EXHIBITS
from benchmarks.pitfall_stages import STAGES
from tutorial_kit.plotting import FAINT, PALETTE, headline, label, new_figure

COLUMNS = 4
SOUND, BUGGY = PALETTE[0], PALETTE[1]


def found_signs(stages: Runs, exhibits: Runs) -> dict[str, str]:
    """Returns the sign of each exhibit, as its curves show it."""
    return {
        name: sign_of(ending(stages[EXHIBITS[name].stage]), ending(runs))
        for name, runs in exhibits.items()
    }


def museum_figure(stages: Runs, exhibits: Runs) -> Figure:
    """Draws all exhibits, those with the same sign side by side.

    Args:
        stages: stage -> curves of the correct program, one for each seed.
        exhibits: exhibit -> curves with its bug.
    """
    signs = found_signs(stages, exhibits)
    order = sorted(exhibits, key=lambda name: list(SIGNS).index(signs[name]))
    rows = -(-len(order) // COLUMNS)
    figure, panels = new_figure(COLUMNS, rows, width=12.0, height=2.5 * rows + 0.7)
    for number, name in enumerate(order):
        title = f"{EXHIBITS[name].title} ({SIGNS[signs[name]].lower()})"
        draw_curves(panels[number], stages[EXHIBITS[name].stage], exhibits[name])
        label(panels[number], title, "steps" if number >= len(order) - COLUMNS else "",
              "" if number % COLUMNS else "nats")  # fmt: skip
    for axes in panels[len(order) :]:
        axes.set_axis_off()
    panels[0].legend(fontsize=7, frameon=False)
    hidden = sum(sign in ("normal", "too good") for sign in signs.values())
    headline(figure, f"{hidden} of {len(order)} bugs leave a validation curve that looks normal "
             "or better than the correct one's")  # fmt: skip
    return figure


def exhibit_figure(name: str, right: Sequence[Curves], wrong: Sequence[Curves]) -> Figure:
    """Draws one exhibit: its curves, and beside them what the model is worth in use.

    Args:
        name: of the exhibit.
        right: curves of the correct program, one for each seed.
        wrong: curves with the bug.
    """
    exhibit, stage = EXHIBITS[name], STAGES[EXHIBITS[name].stage]
    sound, buggy = ending(right), ending(wrong)
    figure, (curves, use) = new_figure(2, width=8.0, height=3.3)
    draw_curves(curves, right, wrong)
    figure.legend(*curves.get_legend_handles_labels(), loc="outside lower center", ncols=4,
                  fontsize=8, frameon=False)  # fmt: skip
    sign = SIGNS[sign_of(sound, buggy)].lower()
    label(curves, f"The log: {sign}", "steps", "loss (nats)")
    values = (sound.used, buggy.used)
    bars = use.bar(["without", "with the bug"], values, width=0.5, color=[SOUND, BUGGY])
    use.bar_label(bars, [f"{value:.1f}" if stage.unit == "%" else f"{value:.2f}"
                         for value in values], padding=2, fontsize=9)  # fmt: skip
    use.grid(False, axis="x")
    use.set_ylim(0, 110 if stage.unit == "%" else 1.2 * max(values))
    label(use, f"In use: {stage.used}", "", stage.unit)
    headline(figure, f"{exhibit.title}: validation loss {buggy.validation:.2f} instead of "
             f"{sound.validation:.2f}, {stage.used} {values[1]:.3g} instead of "
             f"{values[0]:.3g} {stage.unit}")  # fmt: skip
    return figure


def draw_curves(axes: Axes, right: Sequence[Curves], wrong: Sequence[Curves]) -> None:
    """Draws both losses of both programs, a line for each seed; what leaves the top is cut off."""
    for runs, color, name in ((right, SOUND, "correct"), (wrong, BUGGY, "with the bug")):
        for seed, run in enumerate(runs):
            marks = {"validation": "-", "training": "--"}
            for (what, line), values in zip(
                marks.items(), (run.validation, run.train), strict=True
            ):
                axes.plot(run.steps, values, line, color=color, linewidth=1.3,
                          alpha=0.9 if what == "validation" else 0.6,
                          label=f"{name}, {what}" if seed == 0 else None)  # fmt: skip
    start = max(run.train[0] for run in (*right, *wrong))
    axes.set_ylim(-0.03 * start, 1.15 * start)
    axes.axhline(0, color=FAINT, linewidth=0.6)
    if (highest := max(run.validation[-1] for run in wrong)) > 1.15 * start:
        axes.text(0.98, 0.96, f"with the bug, validation: {highest:.1f} at the end ↑", fontsize=7,
                  color=BUGGY, ha="right", va="top", transform=axes.transAxes)  # fmt: skip
