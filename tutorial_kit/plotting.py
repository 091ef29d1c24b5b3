"""Figures: one style, colors that color-blind readers can tell apart, no window, no global state.

A function makes a figure with `new_figure`, fills and returns it; `save_figure` writes it.
`pyplot` is never imported: it keeps every figure alive and may want a screen. Text in a figure is
never a row of boxes: `drawable` writes the number of a character that no installed font can draw.
"""

from __future__ import annotations

import functools
import logging
import textwrap
import unicodedata
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager, rcsetup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.text import Text

from tutorial_kit.files import atomic_write

PALETTE = (
    "#0072B2",  # blue
    "#D55E00",  # vermilion
    "#009E73",  # green
    "#CC79A7",  # pink
    "#E69F00",  # orange
    "#56B4E9",  # sky blue
    "#000000",  # black
    "#F0E442",  # yellow: too pale for a thin line
)
"""Okabe & Ito 2008, "Color Universal Design", the palest last."""

HEAT_MAP = "Blues"  # one hue, light = small
SHADES = PowerNorm(0.5, 0, 1)  # for shares: most are small, and the small ones differ
INK, FAINT = "#222222", "#8a8a8a"
DPI = 160  # twice the usual 80, sharp on a dense screen
# A Chinese font without a bold face is drawn in its normal one; a reader need not hear of it.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

UNASSIGNED = "\u0378"  # stands for no character
FONT = "DejaVu Sans"  # comes with matplotlib, so a figure looks the same everywhere

STYLE: Any = {
    "axes.prop_cycle": rcsetup.cycler("color", PALETTE),
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}

# Families known to hold Chinese glyphs, the best first: Linux, Windows, macOS.
CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "Heiti TC",
    "Arial Unicode MS",
    "Noto Sans CJK JP",  # how older matplotlib lists the collection that holds all four
    "Droid Sans Fallback",
)


def new_figure(
    columns: int = 1, rows: int = 1, *, width: float | None = None, height: float | None = None
) -> tuple[Figure, Any]:
    """Makes an empty figure in the project's style.

    Args:
        columns: axes side by side.
        rows: axes one above the other.
        width: of the whole figure, in inches; None gives 6.4 for one column, up to 12 for more.
        height: in inches; None gives 3.6 a row.

    Returns:
        The figure and its axes: one ``Axes``, or the list of all in reading order if there are
        several columns or rows.
    """
    size = (width or min(12.0, 6.4 + 2.8 * (columns - 1)), height or 3.6 * rows)
    with matplotlib.rc_context(STYLE | {"font.family": font_families()}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes[0, 0] if axes.size == 1 else list(axes.flat)


def label(axis: Axes, finding: str, x: str = "", y: str = "") -> None:
    """Puts a title and axis names on ``axis``.

    Args:
        axis: where.
        finding: what the picture shows, as a sentence ("Loss stops falling at step 400"). It is
            folded to the width of the axes.
        x: what lies along the horizontal axis, with its unit: "time (s)".
        y: the same for the vertical axis.
    """
    inches = axis.bbox.width / axis.figure.dpi
    axis.set_title(_wrapped(finding, 17.0 * inches), loc="left", fontsize=10, color=INK)
    axis.set_xlabel(drawable(x))
    axis.set_ylabel(drawable(y))


def headline(figure: Figure, finding: str) -> None:
    """Puts a finding over a figure of several axes; `label` is for one."""
    title = _wrapped(finding, 12.0 * figure.get_figwidth())
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)


def _wrapped(finding: str, characters: float) -> str:
    """Breaks a title into lines of so many characters, between words and not at their hyphens."""
    lines = textwrap.wrap(drawable(finding), max(24, round(characters)), break_on_hyphens=False)
    return "\n".join(lines)


def share_bar(figure: Figure, image: Any, axes: Any, name: str) -> None:
    """Puts the legend of the colors of `SHADES` beside ``axes``, one or a list of them."""
    count = len(axes) if isinstance(axes, list) else 1
    bar = figure.colorbar(
        image, ax=axes, ticks=[0, 0.05, 0.25, 0.5, 1], aspect=22, shrink=1 if count == 1 else 0.6
    )
    bar.set_label(name, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)


def token_label(token: str, length: int = 9) -> str:
    """Returns a token as a short label: spaces and line breaks visible, cut to ``length``.

    >>> token_label(" representations")
    '·represe…'
    """
    shown = token.replace("\n", "↵").replace("\t", "⇥").replace(" ", "·")
    return drawable(shown if len(shown) <= length else shown[: length - 1] + "…")


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG; a reader never sees half of one.

    Args:
        figure: from `new_figure`, or any other.
        path: the file; its folder is made if it is missing.

    Returns:
        ``path``.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    families = font_families()  # a glyph that the first lacks comes from the next
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_fontfamily() == ["sans-serif"]:
            text.set_fontfamily(families)
    style = STYLE | {"font.family": families}  # tick labels are born while drawing
    with matplotlib.rc_context(style), atomic_write(path, "wb") as file:
        # Without the version of matplotlib in it, the same figure is the same file.
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return path


@functools.cache
def chinese_font() -> str | None:
    """Returns the name of an installed font that has Chinese glyphs, or None.

    A font of last resort, such as the one in matplotlib 3.11, has a box for every code, even for
    ``UNASSIGNED``: it draws nothing that one could read.
    """
    fonts = {font.name: font.fname for font in reversed(font_manager.fontManager.ttflist)}
    rank = {name: place for place, name in enumerate(CHINESE_FONTS)}
    for name in sorted(fonts, key=lambda name: (rank.get(name, len(rank)), name)):
        chinese = all(_has_glyph(fonts[name], character) for character in "中文语")
        if chinese and not _has_glyph(fonts[name], UNASSIGNED):
            return name
    return None


def font_families() -> list[str]:
    """Returns the fonts to draw with: matplotlib's own, then one that has Chinese, if any does."""
    chinese = chinese_font()
    return [FONT, chinese] if chinese else [FONT]


def drawable(text: str) -> str:
    """Returns ``text`` as a figure can show it, whatever characters it holds.

    Control characters and those that no font can draw become their number, such as ``U+1F600``.
    Dollar signs are escaped: matplotlib would read what stands between two of them as mathematics.

    >>> print(drawable("costs $5 or $6"))
    costs \\$5 or \\$6
    >>> drawable("bell" + chr(7))
    'bellU+0007'
    """
    return "".join(
        "\\$"
        if character == "$"
        else character
        if character == "\n" or _can_draw(character)
        else f"U+{ord(character):04X}"
        for character in text
    )


@functools.lru_cache(maxsize=65536)
def _can_draw(character: str) -> bool:
    """Tells whether one of `font_families` has a glyph for it."""
    if unicodedata.category(character)[0] == "C":  # control, surrogate, private, unassigned
        return False
    # As a list: a name alone would be read as a pattern, in which "-" has a meaning.
    properties = [font_manager.FontProperties(family=[family]) for family in font_families()]
    paths = [font_manager.findfont(wanted) for wanted in properties]
    return any(_has_glyph(path, character) for path in paths)


@functools.cache
def _open_font(path: str) -> Any:
    return font_manager.get_font(path)


def _has_glyph(path: str, character: str) -> bool:
    try:
        return bool(_open_font(path).get_char_index(ord(character)))
    except (OSError, RuntimeError):  # a broken or unsupported font file
        return False
