"""The figures of docs/tokenization.md; each title states the finding."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from tutorial_kit.plotting import FAINT, PALETTE, headline, label, new_figure

TITLES = {
    "documentation": "English, vocabulary learned from English (tokens a word)",
    "grammar_chinese": "Chinese, vocabulary learned from both (tokens a character)",
    "foreign_chinese": "Chinese, vocabulary learned from English (tokens a character)",
}


def fertility_figure(
    values: Mapping[str, Mapping[str, float]],
    unknown: Mapping[str, Mapping[str, float]],
    labels: Mapping[str, str],
) -> Figure:
    """Draws how many tokens a word or a character becomes; gray where nearly all are unknown.

    Args:
        values: text -> tokenizer -> tokens a word, or a character.
        unknown: text -> tokenizer -> share of its tokens that are unknown, in %.
        labels: tokenizer -> name in the figure.
    """
    figure, panels = new_figure(len(TITLES), width=10.0, height=3.0)
    for axes, (text, title) in zip(panels, TITLES.items(), strict=True):
        row = [values[text][name] for name in labels]
        lost = [unknown[text][name] > 50 for name in labels]
        bars = axes.barh(range(len(row)), row, color=[FAINT if x else PALETTE[0] for x in lost])
        shown = [f"{x:.2f}{', all unknown' * gone}" for x, gone in zip(row, lost, strict=True)]
        axes.bar_label(bars, shown, padding=3, fontsize=8)
        axes.set_yticks(range(len(row)), list(labels.values()) if axes is panels[0] else [])
        axes.grid(False, axis="y")
        axes.set_ylim(len(row) - 0.5, -0.5)
        axes.set_xlim(0, 1.25 * max(row))
        label(axes, title)
    learned, foreign = (values[text]["bpe"] for text in ("grammar_chinese", "foreign_chinese"))
    headline(
        figure,
        f"BPE needs {learned:.2f} tokens for a Chinese character if it has learned Chinese, "
        f"{foreign:.2f} if it has not",
    )
    return figure


def size_figure(columns: Mapping[int, tuple[float, float]]) -> Figure:
    """Draws what a larger vocabulary of byte-level BPE brings, and how much of it is used.

    Args:
        columns: size -> (bytes a token, share of the tokens that held-out text uses in %).
    """
    figure, panels = new_figure(2, width=8.0, height=3.2)
    sizes = sorted(columns)
    for axes, place, y in zip(
        panels, (0, 1), ("bytes a token", "% of the vocabulary that occurs"), strict=True
    ):
        axes.plot(sizes, [columns[size][place] for size in sizes], "o-", color=PALETTE[place])
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(0, 1.1 * max(columns[size][place] for size in sizes))
        label(axes, "", "tokens in the vocabulary", y)
    small, large = sizes[len(sizes) // 2], sizes[-1]
    longer = columns[large][0] / columns[small][0] - 1
    headline(
        figure,
        f"{large:,} tokens instead of {small:,}: each is {100 * longer:.0f} % longer, "
        f"and {columns[large][1]:.0f} % of them occur in held-out text",
    )
    return figure
