"""One self-contained HTML page about all families: what was learned, curves, architectures.

The page has no script and asks nothing of the network: pictures are ``data:`` addresses, curves
are SVG in the page, and a Content-Security-Policy allows just these and the one style, named by its
hash. Text of models and files is escaped, and what would steer a browser or a terminal (control
characters, marks that turn the direction of writing) is spelled out. Standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tutorial_kit.demo import KeptDemo
from tutorial_kit.demo_runner import Family
from tutorial_kit.files import atomic_write
from tutorial_kit.report_chart import chart, text
from tutorial_kit.report_facts import Facts
from tutorial_kit.texts import Texts

TEMPLATE = Path(__file__).with_suffix(".html")
COLUMNS = ("type", "attention", "use", "idea")  # of the comparison, in the texts for each family


@dataclass(frozen=True)
class Card:
    """One family on the page."""

    family: Family
    status: str  # "finished", "failed", "interrupted" or "missing" (no result yet)
    kept: KeptDemo | None = None  # of a finished one
    facts: Facts = field(default_factory=Facts)
    message: str = ""  # of a failed one: what went wrong
    log: str = ""  # of a failed one: where the traceback is


def write_report(path: Path, cards: Sequence[Card], texts: Texts, *, note: str) -> Path:
    """Writes the page; a reader never sees half of one.

    Args:
        path: the file; its folder is made if it is missing.
        cards: the families, in the order of the lessons.
        texts: the kit's; the page uses ``report.*``.
        note: a line below the title: machine and date.

    Returns:
        ``path``.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    title = texts.get("report.title")
    charts = [_chart_box(card, texts) for card in cards if card.kept]
    parts = [
        f'<header>\n<h1>{text(title)}</h1>\n<p class="soft">{text(note)}</p>',
        _navigation(cards, texts),
        "</header>\n<main>",
        _section("cards", "learned", [_card(card, texts) for card in cards], texts),
        _section("charts", "curves", charts, texts),
        f'<h2 id="architectures">{text(texts.get("report.architectures"))}</h2>',
        _comparison(cards, texts),
        "</main>",
    ]
    page = fill_page(TEMPLATE.read_text(encoding="utf-8"), title, "\n".join(parts))
    with atomic_write(path, "w") as file:
        file.write(page)
    return path


def fill_page(template: str, title: str, body: str) -> str:
    """Puts title, body and the policy, which names the style by its hash, into the template."""
    (style,) = re.findall(r"<style>(.*?)</style>", template, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    values = {"@policy@": policy, "@title@": text(title), "@body@": body}
    # One pass: a mark that stands in a value is not a mark.
    return re.sub("|".join(values), lambda mark: values[mark[0]], template)


def _navigation(cards: Sequence[Card], texts: Texts) -> str:
    targets = [(card.family.name, card.family.name) for card in cards]
    targets += [(name, texts.get(f"report.{name}")) for name in ("curves", "architectures")]
    links = "\n".join(f'<a href="#{text(target)}">{text(name)}</a>' for target, name in targets)
    return f'<nav aria-label="{text(texts.get("report.contents"))}">\n{links}\n</nav>'


def _section(kind: str, name: str, boxes: Sequence[str], texts: Texts) -> str:
    """Returns a heading, its explanation and the boxes under it."""
    heading = f'<h2 id="{name}">{text(texts.get(f"report.{name}"))}</h2>'
    about = f'<p class="soft">{text(texts.get(f"report.{name}.about"))}</p>'
    return "\n".join([heading, about, f'<div class="{kind}">', *boxes, "</div>"])


def _card(card: Card, texts: Texts) -> str:
    family, kept = card.family, card.kept
    status = text(texts.get(f"report.status.{card.status}"))
    parts = [
        f'<article class="card {text(card.status)}" id="{text(family.name)}">',
        f'<p class="kind">{text(family.name)} · <span class="status">{status}</span></p>',
        f"<h3>{text(family.title)}</h3>",
    ]
    if kept is None:
        values = {"family": family.name, "message": card.message}
        values["log"] = card.log or texts.get("runner.no_log")
        parts += [
            f"<p>{text(family.what_you_see)}</p>",
            f'<p class="why">{text(texts.get(f"report.{card.status}", **values))}</p>',
            "</article>",
        ]
        return "\n".join(parts)
    parts += [
        f"<p>{text(texts.get('report.it_learned', learned=kept.result.learned))}</p>",
        f'<p class="headline">{text(kept.result.headline)}</p>',
        _facts(card, kept, texts),
        _picture(card.facts, kept, texts),
    ]
    if card.facts.sample:
        label = text(texts.get("report.sample"))
        sample = text(card.facts.sample)
        parts.append(f'<p class="soft">{label}</p>')
        parts.append(f'<pre tabindex="0" dir="auto">{sample}</pre>')
    if kept.story:
        parts.append(f"<details><summary>{text(texts.get('report.story'))}</summary>")
        parts.append(f'<pre tabindex="0">{text(kept.story.strip())}</pre></details>')
    return "\n".join([*parts, "</article>"])


def _facts(card: Card, kept: KeptDemo, texts: Texts) -> str:
    """Returns parameters, time, speed and the run, as a list of names and values."""
    facts, unknown = card.facts, texts.get("report.unknown")
    rate = unknown
    if facts.rate is not None:
        unit = texts.get(f"report.unit.{facts.rate_unit}")
        rate = texts.get("report.rate", rate=float(f"{facts.rate:.3g}"), unit=unit)
    preset = texts.get("report.smoke") if kept.preset == "smoke" else kept.preset
    values = {
        "parameters": unknown if facts.parameters is None else f"{facts.parameters:,}",
        "time": texts.get("report.seconds", seconds=kept.result.seconds),
        "speed": rate,
        "run": texts.get("report.when", preset=preset, finished=kept.finished),
    }
    rows = [
        f"<div><dt>{text(texts.get(f'report.{name}'))}</dt><dd>{text(value)}</dd></div>"
        for name, value in values.items()
    ]
    return "\n".join(["<dl>", *rows, "</dl>"])


def _picture(facts: Facts, kept: KeptDemo, texts: Texts) -> str:
    if not facts.picture:
        return f'<p class="soft no-picture">{text(texts.get("report.no_picture"))}</p>'
    name = Path(facts.picture_name).stem.replace("_", " ")
    alternative = text(texts.get("report.picture", name=name, learned=kept.result.learned))
    caption = f'<figcaption class="soft">{text(facts.picture_name)}</figcaption>'
    image = f'<img src="{text(facts.picture)}" alt="{alternative}">'
    return f'<figure><div class="picture" tabindex="0">{image}</div>{caption}</figure>'


def _chart_box(card: Card, texts: Texts) -> str:
    curve = card.facts.curve
    run = f' <span class="soft">{text(curve.run)}</span>' if curve else ""
    drawn = chart(curve, card.family.name, texts)
    return f'<div class="chart"><h3>{text(card.family.name)}{run}</h3>\n{drawn}</div>'


def _comparison(cards: Sequence[Card], texts: Texts) -> str:
    """Returns the table of architectures; on a phone each row becomes a block."""
    heads = {name: text(texts.get(f"report.column.{name}")) for name in (*COLUMNS, "parameters")}
    model = text(texts.get("report.column.model"))
    columns = "".join(f'<th scope="col">{head}</th>' for head in (model, *heads.values()))
    lines = [f"<table>\n<thead><tr>{columns}</tr></thead>\n<tbody>"]
    for card in cards:
        known = card.facts.parameters
        cells = {name: texts.get(f"report.{card.family.name}.{name}") for name in COLUMNS}
        cells["parameters"] = texts.get("report.unknown") if known is None else f"{known:,}"
        row = "".join(
            f'<td data-label="{heads[name]}"><span>{text(cell)}</span></td>'
            for name, cell in cells.items()
        )
        name = text(texts.get(f"report.{card.family.name}.model"))
        lines.append(f'<tr><th scope="row">{name}</th>{row}</tr>')
    return "\n".join([*lines, "</tbody>\n</table>"])
