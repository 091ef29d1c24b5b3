"""A learning curve as SVG that stands in an HTML page, and any text as HTML.

The SVG has classes instead of colors: the page's style decides, for light and for dark. Standard
library only.
"""

from __future__ import annotations

import html
import math
import re

from tutorial_kit.report_facts import Curve
from tutorial_kit.texts import Texts

WIDTH, HEIGHT = 330, 210  # of a chart, in units of its own
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 24, 34  # margins around its axes
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def text(value: object) -> str:
    """Returns a text as HTML: nothing in it is a tag, a reference or an order to the browser."""
    spelled = _STEERING.sub(lambda found: f"U+{ord(found[0]):04X}", str(value))
    return html.escape(spelled)


def chart(curve: Curve | None, name: str, texts: Texts) -> str:
    """Returns the learning curve of one run as SVG; an empty one of the same size without a run.

    Args:
        curve: the losses; None if there are none.
        name: the family's, for those who hear the page.
        texts: the kit's.
    """
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label='
    if curve is None:
        words = text(texts.get("report.no_curve"))
        middle = f'<text x="{WIDTH / 2:g}" y="{HEIGHT / 2:g}" text-anchor="middle">{words}</text>'
        return f'{head}"{words}">\n{middle}\n</svg>'
    series = {"train": curve.train, "validation": curve.validation}
    steps, losses = zip(*curve.train, *curve.validation, strict=True)
    x_marks, y_marks = marks(0.0, max(steps)), marks(min(losses), max(losses))

    def x(step: float) -> float:
        share = step / x_marks[-1]
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(loss: float) -> float:
        share = (loss - y_marks[0]) / (y_marks[-1] - y_marks[0])
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [f'{head}"{text(texts.get("report.chart", family=name, run=curve.run))}">']
    for mark in y_marks:
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" '
            f'y2="{y(mark):.1f}"/>\n<text x="{LEFT - 6}" y="{y(mark) + 4:.1f}" '
            f'text-anchor="end">{mark:g}</text>'
        )
    for mark in x_marks:
        anchor = "end" if mark == x_marks[-1] else "middle"
        parts.append(f'<text x="{x(mark):.1f}" y="{HEIGHT - BOTTOM + 15}" '
                     f'text-anchor="{anchor}">{mark:,.10g}</text>')  # fmt: skip
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">'
                 f'{text(texts.get("report.steps"))}</text>')  # fmt: skip
    parts.append(f'<text x="{LEFT}" y="12">{text(texts.get("report.loss"))}</text>')
    for place, (kind, points) in zip((258, 320), series.items(), strict=True):
        line = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in points)
        dots = [f'<circle class="{kind}" cx="{x(s):.1f}" cy="{y(v):.1f}" r="2.5"/>'
                for s, v in points]  # fmt: skip
        words = text(texts.get(f"report.{kind}"))
        parts += [f'<polyline class="{kind}" points="{line}"/>', *dots] if points else []
        parts.append(f'<text class="{kind}" x="{place}" y="12" text-anchor="end">{words}</text>')
    return "\n".join([*parts, "</svg>"])


def marks(low: float, high: float) -> list[float]:
    """Returns three to six round numbers in equal steps from below ``low`` to above ``high``.

    >>> marks(0.0, 1000.0)
    [0.0, 500.0, 1000.0]
    >>> marks(2.03, 3.4)
    [2.0, 2.5, 3.0, 3.5]
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 2.0))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / 4.0)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]
