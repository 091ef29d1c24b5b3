"""What loads come to: a row of a table for each way of serving, and the figure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from optimization.load_client import Load, percentile
from tutorial_kit.plotting import PALETTE, label, new_figure

SHARES = (0.5, 0.9, 0.99)
HEADERS = (
    "served", "requests", "errors", "tokens/s", "first p50", "p90", "p99 ms", "next p50", "p90",
    "p99 ms",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """One way of serving, over all its rounds."""

    name: str
    requests: int
    errors: int
    rates: tuple[float, ...]  # tokens/s of each round
    first: tuple[float, ...]  # seconds to the first token of each answer
    gaps: tuple[float, ...]  # seconds between one token and the next

    @property
    def rate(self) -> float:
        """Tokens/s, the median of the rounds."""
        return statistics.median(self.rates)

    def first_ms(self, share: float) -> float:
        """Returns a percentile of the time to the first token, in ms."""
        return 1000 * percentile(self.first, share)

    def gap_ms(self, share: float) -> float:
        """Returns a percentile of the time between two tokens, in ms."""
        return 1000 * percentile(self.gaps, share)

    def row(self) -> list[object]:
        """Returns a row below ``HEADERS``."""
        numbers = [round(self.first_ms(share), 1) for share in SHARES]
        numbers += [round(self.gap_ms(share), 1) for share in SHARES]
        return [self.name, self.requests, self.errors, round(self.rate), *numbers]


def report(name: str, loads: Sequence[Load]) -> Report:
    """Sums up the rounds of one way of serving.

    Raises:
        ValueError: no token came at all; the text names the first error.
    """
    asked = [one for load in loads for one in load.asked]
    errors = [error for load in loads for error in load.errors]
    answered = [one for one in asked if one.arrivals]
    if not any(one.gaps for one in answered):
        seen = errors[0] if errors else "the time was too short"
        raise ValueError(
            f"{name}: no token came behind another ({seen}), so there is nothing to tell. "
            "Look whether the server runs, or load it for longer (--seconds)."
        )
    return Report(
        name, len(asked), len(errors), tuple(load.tokens_per_second for load in loads),
        tuple(one.first_token for one in answered),
        tuple(gap for one in answered for gap in one.gaps),
    )  # fmt: skip


def load_figure(reports: Sequence[Report], streams: int) -> Figure:
    """Draws throughput and both latencies of ways of serving the same streams.

    Args:
        reports: the best way first; the last is what it is compared with.
        streams: clients at once.
    """
    figure, (left, middle, right) = new_figure(columns=3, height=3.8)
    best, worst = reports[0], reports[-1]
    for place, one in enumerate(reports):
        left.barh(place, one.rate, color=PALETTE[place], height=0.6)
        left.plot(one.rates, [place] * len(one.rates), "|", color="black", markersize=8)
    left.set_yticks(range(len(reports)), [one.name for one in reports])
    left.invert_yaxis()
    left.grid(axis="y", visible=False)
    finding = f"{streams} streams: {best.name} writes {best.rate / worst.rate:.1f} times as many"
    label(left, f"{finding} tokens as {worst.name}", "tokens/s, all streams together")
    shares_below(middle, {one.name: one.first for one in reports})
    label(
        middle, f"Half of the clients see a token after {best.first_ms(0.5):.0f} ms, "
        f"not {worst.first_ms(0.5):.0f}", "time to the first token (ms)", "share of requests (%)",
    )  # fmt: skip
    shares_below(right, {one.name: one.gaps for one in reports})
    price = ": the price" if best.gap_ms(0.5) > worst.gap_ms(0.5) else ""
    label(
        right, f"The next one follows after {best.gap_ms(0.5):.1f} ms, not "
        f"{worst.gap_ms(0.5):.1f}{price}", "time between two tokens (ms)", "share of tokens (%)",
    )  # fmt: skip
    right.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def shares_below(axis: Axes, seconds: Mapping[str, Sequence[float]]) -> None:
    """Draws for each name the share of values that lie below a time; dots at p50, p90, p99."""
    for color, (name, values) in zip(PALETTE, seconds.items(), strict=False):
        ordered = sorted(values)
        heights = [100 * (rank + 1) / len(ordered) for rank in range(len(ordered))]
        axis.step([1000 * value for value in ordered], heights, where="post", color=color,
                  label=name)  # fmt: skip
        marks = [1000 * percentile(ordered, share) for share in SHARES]
        axis.plot(marks, [100 * share for share in SHARES], "o", color=color, markersize=4)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=12))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_ylim(0, 102)
