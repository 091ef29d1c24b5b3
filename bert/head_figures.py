"""The figure of what heads look at; layers and heads count from 1 in pictures."""

from __future__ import annotations

from matplotlib.figure import Figure

from bert.head_statistics import PATTERNS, HeadStatistics
from tutorial_kit.plotting import HEAT_MAP, INK, SHADES, headline, label, new_figure, share_bar

MAX_NUMBERED = 6  # heads or layers of a panel that still has room for numbers
COLUMNS = 3


def head_statistics_figure(statistics: HeadStatistics) -> Figure:
    """Draws one panel a pattern: the share of every head, layers from bottom to top.

    Each panel's name says what an even spread of attention would give.
    """
    n_layers, n_heads, _ = statistics.shares.shape
    rows = -(-len(PATTERNS) // COLUMNS)
    cell = 0.46 if n_heads <= MAX_NUMBERED else 0.24  # inches
    figure, axes = new_figure(
        COLUMNS,
        rows,
        width=max(8.0, COLUMNS * (n_heads * cell + 0.7) + 0.9),
        height=0.8 + rows * (max(1.1, n_layers * cell) + 0.75),
    )
    for pattern, axis in enumerate(axes):
        shares = statistics.shares[:, :, pattern].numpy()  # (L, H)
        image = axis.imshow(shares, cmap=HEAT_MAP, norm=SHADES, aspect="auto", origin="lower")
        if max(n_layers, n_heads) <= MAX_NUMBERED:
            for layer in range(n_layers):
                for head in range(n_heads):
                    share = shares[layer, head]
                    axis.text(head, layer, f"{share:.2f}", ha="center", va="center", fontsize=7,
                              color="white" if SHADES(share) > 0.6 else INK)  # fmt: skip
        axis.set_xticks(range(n_heads), [str(head + 1) for head in range(n_heads)])
        axis.set_yticks(range(n_layers), [str(layer + 1) for layer in range(n_layers)])
        axis.tick_params(length=0, labelsize=7)
        axis.grid(visible=False)
        label(
            axis,
            "",
            "head" if pattern >= len(PATTERNS) - COLUMNS else "",
            "layer" if pattern % COLUMNS == 0 else "",
        )
        axis.set_title(
            f"{PATTERNS[pattern]} (even: {statistics.even[pattern]:.2f})",
            loc="left",
            fontsize=8.5,
            color=INK,
        )
    share_bar(
        figure,
        image,
        axes,
        f"share of attention, mean over {statistics.n_tokens:,}\n"
        f"tokens of {statistics.n_texts:,} texts",
    )
    headline(figure, statistics.describe())
    return figure
