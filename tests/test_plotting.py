"""Figures: written whole, the same on every machine, and never with boxes for text."""

import subprocess
import sys
import warnings

import pytest
from matplotlib.text import Text

from tutorial_kit import PROJECT_ROOT, plotting
from tutorial_kit.plotting import (
    PALETTE,
    SHADES,
    chinese_font,
    drawable,
    font_families,
    headline,
    label,
    new_figure,
    save_figure,
    share_bar,
    token_label,
)


def png_size(path):
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def test_a_saved_figure_is_a_png_at_twice_the_usual_resolution(tmp_path):
    figure, axis = new_figure(width=4, height=2)
    axis.plot([1, 2, 3])
    path = tmp_path / "new" / "folders" / "curve.png"
    assert save_figure(figure, path) == path
    assert png_size(path) == (640, 320)
    assert [file.name for file in path.parent.iterdir()] == ["curve.png"]


def test_axes_come_in_reading_order():
    figure, axes = new_figure(columns=3, rows=2)
    assert len(axes) == 6
    places = [
        (axis.get_subplotspec().rowspan.start, axis.get_subplotspec().colspan.start)
        for axis in axes
    ]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_the_same_figure_is_the_same_file(tmp_path):
    def bytes_of(name):
        figure, axis = new_figure()
        axis.plot([3, 1, 2], label="loss")
        label(axis, "Loss rises again", "step", "loss (nats)")
        return save_figure(figure, tmp_path / name).read_bytes()

    assert bytes_of("a.png") == bytes_of("b.png")


def test_a_failed_save_keeps_the_old_figure(tmp_path, monkeypatch):
    path = tmp_path / "curve.png"
    path.write_bytes(b"old")
    figure, axis = new_figure()

    def broken(file, **options):
        file.write(b"half")
        raise RuntimeError("drawing failed")

    monkeypatch.setattr(figure, "savefig", broken)
    with pytest.raises(RuntimeError, match="drawing failed"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]


def test_plotting_leaves_no_global_state_and_no_pyplot():
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from tutorial_kit.plotting import new_figure, label\n"
        "figure, axis = new_figure(); label(axis, 'x', 'y', 'z')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT)


def test_hard_text_draws_without_a_missing_glyph(tmp_path):
    """Matplotlib warns when it draws a box; here warnings are errors."""
    figure, axis = new_figure()
    hard = "中文 \U0001f600 \x07 \u200b $a_$ \ud800 ü"
    label(axis, hard, hard, hard)
    axis.set_xticks([0, 1], [drawable("注意"), drawable("$")])
    axis.text(0.5, 0.5, drawable(hard))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(figure, tmp_path / "hard.png")


@pytest.fixture
def no_chinese_font(monkeypatch):
    monkeypatch.setattr(plotting, "chinese_font", lambda: None)
    plotting._can_draw.cache_clear()
    yield
    plotting._can_draw.cache_clear()


def test_without_a_chinese_font_the_text_says_which_characters(no_chinese_font, tmp_path):
    assert font_families() == ["DejaVu Sans"]
    assert drawable("a中") == "aU+4E2D"
    figure, axis = new_figure()
    label(axis, "中文")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(figure, tmp_path / "hard.png")


@pytest.mark.skipif(chinese_font() is None, reason="no font with Chinese glyphs is installed")
def test_a_chinese_font_is_used_where_there_is_one():
    assert drawable("中文") == "中文"
    assert font_families() == ["DejaVu Sans", chinese_font()]


def test_a_font_with_a_box_for_every_code_is_no_chinese_font(monkeypatch):
    monkeypatch.setattr(plotting, "_has_glyph", lambda path, character: True)
    assert chinese_font.__wrapped__() is None


def test_long_titles_are_folded_to_the_axes():
    figure, axes = new_figure(columns=2)
    label(axes[0], "word " * 40)
    lines = axes[0].get_title(loc="left").splitlines()
    figure.draw_without_rendering()
    assert len(lines) > 2
    title = axes[0]._left_title.get_window_extent()
    assert title.width < figure.bbox.width / 2


def distance(one, other):
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5


# Linear RGB as two kinds of dichromats see it (Viénot, Brettel & Mollon 1999).
BLINDNESS = {
    "no red cones": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
    "no green cones": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
}


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_palette_survives_color_blindness(kind):
    seen = []
    for color in PALETTE:
        linear = [(int(color[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5)]
        mixed = [sum(w * c for w, c in zip(row, linear, strict=True)) for row in BLINDNESS[kind]]
        seen.append([max(0.0, c) ** (1 / 2.2) for c in mixed])
    closest = min(distance(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert closest > 0.1


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" the", "·the"),
        ("\n\n", "↵↵"),
        ("\t", "⇥"),
        ("", ""),
        ("$", "\\$"),
        (" representations", "·represe…"),
    ],
)
def test_a_token_becomes_a_short_label(token, shown):
    assert token_label(token) == shown


def test_a_headline_and_a_share_bar_fit_into_a_small_figure():
    figure, axis = new_figure(width=3.4, height=3)
    image = axis.imshow([[0.0, 0.04], [0.3, 1.0]], norm=SHADES)
    share_bar(figure, image, axis, "share")
    headline(figure, "A finding that is longer than a small figure is wide, so it is folded")
    figure.draw_without_rendering()
    assert figure.get_suptitle().count("\n") >= 1
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    beyond = [t.get_text() for t in texts if t.get_window_extent().x1 > figure.bbox.width]
    assert beyond == []
    assert image.norm(0.25) == 0.5
