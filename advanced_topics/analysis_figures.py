"""The figures of the four analyses; each title states the finding, computed from the outcomes.

Every function takes what a topic measured, one mapping for each seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from advanced_topics.induction import MODELS, step_of_turn
from advanced_topics.readability import STRONGEST, WIDER
from advanced_topics.scaling_law import fit_power_law, held_out_error, r_squared
from tutorial_kit.plotting import PALETTE, headline, label, new_figure

Outcomes = Sequence[Mapping[str, Any]]


def scaling_finding(outcomes: Outcomes) -> str:
    """Says how well the law fits and how well it predicts the size that it has not seen."""
    sizes, losses, _ = _sizes_and_losses(outcomes)
    law = fit_power_law(sizes[:-1], losses[:-1])
    miss = held_out_error(sizes, losses)
    return (
        f"A power law of exponent {law.exponent:.2f} explains "
        f"{100 * r_squared(law, sizes[:-1], losses[:-1]):.2f} % of the variance of "
        f"{len(sizes) - 1} sizes; of the largest it predicts {miss['predicted']:.3f} nats, "
        f"measured are {miss['measured']:.3f} ({miss['error']:.1f} % off)"
    )


def scaling_figure(outcomes: Outcomes) -> Figure:
    """Draws loss against size with the fitted law and the model that it has not seen."""
    sizes, losses, spread = _sizes_and_losses(outcomes)
    law = fit_power_law(sizes[:-1], losses[:-1])
    figure, axes = new_figure(width=7.0, height=4.2)
    dense = np.geomspace(sizes[0], 1.2 * sizes[-1], 200)
    words = f"{law.floor:.2f} + {law.scale:.3g} N^-{law.exponent:.2f}, fitted on the black ones"
    axes.plot(dense, law.predict(dense), color=PALETTE[0], label=words)
    axes.axhline(law.floor, color=PALETTE[0], linestyle=":", linewidth=1, label="its floor")
    style = {"capsize": 3, "linestyle": "none"}
    axes.errorbar(sizes[:-1], losses[:-1], spread[:-1], marker="o", color=PALETTE[6],
                  label="trained", **style)  # fmt: skip
    axes.errorbar(sizes[-1:], losses[-1:], spread[-1:], marker="s", color=PALETTE[1],
                  label="trained, but not shown to the fit", **style)  # fmt: skip
    axes.set_xscale("log")
    axes.legend(fontsize=8, frameon=False)
    label(axes, scaling_finding(outcomes), "parameters without embedding and head, N",
          "held-out loss (nats/character)")  # fmt: skip
    return figure


def _sizes_and_losses(outcomes: Outcomes) -> tuple[list[float], list[float], list[float]]:
    losses, spread = _mean(outcomes, "losses")
    return outcomes[0]["sizes"], losses, spread


def induction_finding(outcomes: Outcomes) -> str:
    """Says when the head and the loss turn, and where the control ends, with their numbers."""
    curves = [outcome["two layers"] for outcome in outcomes]
    loss, score = (
        fmean(step_of_turn(curve["steps"], curve[what]) for curve in curves)
        for what in ("loss", "score")
    )
    ends = {name: fmean(o[name]["loss"][-1] for o in outcomes) for name in MODELS}
    best = fmean(curve["score"][-1] for curve in curves)
    return (
        f"Two layers: the best head's prefix matching turns at step {score:.0f} and ends at "
        f"{best:.2f}; the loss turns at step {loss:.0f} and ends at {ends['two layers']:.2f} nats. "
        f"One layer ends at {ends['one layer']:.2f}"
    )


def induction_figure(outcomes: Outcomes) -> Figure:
    """Draws loss and scores over the training, a thin line for each seed."""
    figure, (left, right) = new_figure(columns=2, width=9.5, height=4.0)
    lines = [
        (left, "one layer", "loss", "one layer"),
        (left, "two layers", "loss", "two layers"),
        (right, "one layer", "score", "one layer, prefix matching"),
        (right, "two layers", "score", "two layers, prefix matching"),
        (right, "two layers", "previous", "two layers, previous token"),
    ]
    colors = [PALETTE[1], PALETTE[0], PALETTE[1], PALETTE[0], PALETTE[2]]
    for color, (axes, name, what, words) in zip(colors, lines, strict=True):
        for number, outcome in enumerate(outcomes):
            curve = outcome[name]
            axes.plot(curve["steps"], curve[what], color=color, linewidth=1.2, alpha=0.8,
                      label=words if number == 0 else None)  # fmt: skip
    start = fmean(outcome["two layers"]["loss"][0] for outcome in outcomes)
    left.axhline(start, color=PALETTE[6], linestyle="--", linewidth=1, label="all tokens alike")
    left.set_ylim(bottom=0)
    right.set_ylim(0, 1.05)
    label(left, "", "step", "loss where the context tells (nats)")
    label(right, "", "step", "share of the attention, best head")
    left.legend(fontsize=8, frameon=False, loc="lower left")
    right.legend(fontsize=8, frameon=False, loc="center right", bbox_to_anchor=(1.02, 0.27))
    headline(figure, induction_finding(outcomes))
    return figure


def lens_finding(outcomes: Outcomes) -> str:
    """Says what the plain and the mapped lens read half-way up, with their numbers."""
    lens, mapped = (_mean(outcomes, name)[0] for name in ("plain", "mapped"))
    frequency = fmean(outcome["frequency"] for outcome in outcomes)
    half = (len(lens) - 1) // 2
    verdict = "better" if lens[half] < frequency else "worse"
    return (
        f"After {outcomes[0]['depths'][half]} of {len(lens) - 1} the logit lens reads "
        f"{lens[half]:.2f} nats, {verdict} than guessing by frequency ({frequency:.2f}); behind a "
        f"linear map {mapped[half]:.2f}. The whole model: {lens[-1]:.2f}"
    )


def lens_figure(outcomes: Outcomes) -> Figure:
    """Draws the loss and the settled guesses at every depth."""
    depths = outcomes[0]["depths"]
    places = range(len(depths))
    figure, (left, right) = new_figure(columns=2, width=9.5, height=4.0)
    lines = {"plain": "logit lens", "mapped": "behind a fitted linear map"}
    for color, (name, words) in zip(PALETTE, lines.items(), strict=False):
        mean, spread = _mean(outcomes, name)
        left.errorbar(places, mean, spread, marker="o", capsize=3, color=color, label=words)
    frequency = fmean(outcome["frequency"] for outcome in outcomes)
    left.axhline(frequency, color=PALETTE[6], linestyle="--", linewidth=1,
                 label="guessing by frequency")  # fmt: skip
    left.legend(fontsize=8, frameon=False)
    lines = {"agree": "is the final guess", "settled": "is it and stays it"}
    for color, (name, words) in zip(PALETTE[2:], lines.items(), strict=False):
        mean, spread = _mean(outcomes, name)
        right.errorbar(places, mean, spread, marker="o", capsize=3, color=color, label=words)
    right.set_ylim(0, 105)
    right.legend(fontsize=8, frameon=False)
    for axes in (left, right):
        axes.set_xticks(places, depths, rotation=30, ha="right")
    label(left, "", "the model read after", "loss (nats/token)")
    label(right, "", "the model read after", "share of the test tokens whose guess ... (%)")
    headline(figure, lens_finding(outcomes))
    return figure


def _mean(outcomes: Outcomes, name: str) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation over the seeds of a list that each one measured."""
    rows = np.asarray([outcome[name] for outcome in outcomes])  # (seeds, places)
    return rows.mean(axis=0).tolist(), rows.std(axis=0, ddof=min(1, len(rows) - 1)).tolist()


GROUPS = {
    "features": "features",
    "neurons": "neurons",
    "stream": "stream's numbers",
    "random": "random directions",
}
READ_BY = {"this": "the token itself", "before": "the token before", "next": "the token after",
           "kind": "the kind of token"}  # fmt: skip


def sparse_finding(outcomes: Outcomes) -> str:
    """Says what the features keep and how many can be read, beside what can be read anyway."""
    used, recovered = (fmean(o[name] for o in outcomes) for name in ("used", "recovered"))
    total, wider = (
        [fmean(o["shares"][group][name] for o in outcomes) for group in GROUPS]
        for name in ("readable", "wider")
    )
    named = zip(total, GROUPS.values(), strict=True)
    shares = ", ".join(f"{share:.0f} % of the {words}" for share, words in named)
    return (
        f"{used:.0f} features a token recover {recovered:.0f} % of the loss. A word explains, on "
        f"new text, {shares}; at {STRONGEST} of the strongest {WIDER} places {wider[0]:.0f} % of "
        f"the features, {wider[-1]:.0f} % of the random directions"
    )


def sparse_figure(outcomes: Outcomes) -> Figure:
    """Draws which share of each kind of unit can be read, and by what."""
    figure, axes = new_figure(width=8.0, height=4.2)
    left = np.zeros(len(GROUPS))
    for color, (name, words) in zip(PALETTE, READ_BY.items(), strict=False):
        widths = [fmean(o["shares"][group][name] for o in outcomes) for group in GROUPS]
        axes.barh(list(GROUPS.values()), widths, left=left, color=color, label=words, height=0.65)
        left += widths
    totals = np.asarray([[o["shares"][group]["readable"] for group in GROUPS] for o in outcomes])
    spread = totals.std(axis=0, ddof=min(1, len(totals) - 1))
    axes.errorbar(left, range(len(GROUPS)), xerr=spread, color=PALETTE[6], linestyle="none",
                  capsize=3)  # fmt: skip
    wider = [fmean(o["shares"][group]["wider"] for o in outcomes) for group in GROUPS]
    axes.plot(wider, range(len(GROUPS)), "D", color=PALETTE[6], markersize=5,
              label=f"by any, at {STRONGEST} of the strongest {WIDER} places")  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside lower right", ncols=3, fontsize=8, frameon=False)
    label(axes, "", "share that a word explains, checked on new text (%)")
    headline(figure, sparse_finding(outcomes))
    return figure
