"""Checks of markdown that fill nothing in: links, figures, the parts of a chapter, typed numbers.

Rules that a page's author meets:

- A link is relative, its target is part of the repository, its ``#anchor`` is a heading there.
- A picture has, on the line above it, ``<!-- figure: FILE FUNCTION -->``: who draws it.
- A chapter (``*/README_*.md``, three in ``docs/``) has the headings of ``CHAPTER_PARTS``, level 2,
  in this order, each with something below it. A heading may say more ("Intuition: three tokens"),
  and be numbered.
- In a table below a heading (level 2 or deeper) with one of ``RESULT_WORDS``, digits outside the
  first column come from a value marker, or stand in inline code because they belong to a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from urllib.parse import unquote

from tools.docs_fill import KINDS
from tools.docs_page import Heading, Page, Problem
from tools.docs_quote import MarkerError, find_symbol

CHAPTER_PARTS = (
    "What you will build",
    "Intuition",
    "Equations",
    "The code",
    "The shape ledger",
    "Run it",
    "What to see",
    "Experiments",
    "Pitfalls",
    "Differences from the paper",
    "Exercises",
    "Summary",
    "References",
)
CHAPTER_WORDS = (1500, 3500)
RESULT_WORDS = ("result", "experiment", "measured", "chapters")

_LINK = re.compile(r"(!?)\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+[\"'(][^\n]*?)?\)")
_INNER_IMAGE = re.compile(r"(!)\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)(?=\])")
_TAG = re.compile(r"<(img|a)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"")
_REFERENCE = re.compile(r"^( {0,3})\[[^\]^]+\]:\s*<?(\S+?)>?(?:\s|$)", re.MULTILINE)
_FIGURE = re.compile(
    r"<!--\s*figure:\s*(\S+)\s+(\S+)\s*-->\s*?\n?[ \t]*(?:<p[^>]*>\s*)?(!\[|<img|\[!\[)?"
)
_GENERATED = re.compile(rf"<!--\s*({'|'.join(KINDS)}):.*?<!--\s*/\1\s*-->", re.DOTALL)


def check_blocks(page: Page) -> Iterator[Problem]:
    """Finds blocks of code that are not closed: the next block or the page's rest is inside."""
    for fence in page.fences:
        swallowed = re.search(rf"^\s*{fence.ticks}+\w", fence.text, re.MULTILINE)
        if swallowed or not fence.closed:
            text = "this block of code is never closed. Close it with the same backticks."
            yield Problem(page.name, fence.line, text)


def _targets(page: Page) -> Iterator[tuple[int, str, bool]]:
    """Yields (offset, target, is it a picture?) of every link and picture."""
    for pattern in (_LINK, _INNER_IMAGE, _TAG, _REFERENCE):
        for match in pattern.finditer(page.prose):
            yield match.start(), match[2], match[1] in ("!", "img")


def check_links(
    page: Page, pages: Mapping[str, Page], files: Mapping[str, str | None]
) -> Iterator[Problem]:
    """Checks that what the page links to exists.

    Args:
        page: the page.
        pages: all pages by name, for their anchors.
        files: every file of the repository by its path from the root; the text of Python files.

    Yields:
        The problems.
    """
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    for offset, target, _ in _targets(page):
        if re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
            continue  # another site: not looked at
        path, _, anchor = unquote(target).partition("#")
        if path.startswith("/"):
            yield page.problem(offset, f"link {target!r} is absolute. Write it from this page.")
            continue
        name = _resolve(page.name, path) if path else page.name
        if name not in files and name not in folders:
            text = f"link {target!r} leads nowhere: {name} is not in the repository. Correct it."
            yield page.problem(offset, text)
        elif anchor and name in pages and anchor not in pages[name].anchors:
            text = f"link {target!r}: {name} has no heading with the anchor #{anchor}. Correct it."
            yield page.problem(offset, text)
        elif anchor and (line := re.match(r"L(\d+)", anchor)):
            lines = (files.get(name) or "").count("\n") + 1
            if files.get(name) is not None and int(line[1]) > lines:
                text = f"link {target!r}: the file has {lines} lines. Use a source marker instead."
                yield page.problem(offset, text)


def _resolve(page: str, path: str) -> str:
    """Returns the path from the root that a page's relative path means."""
    parts: list[str] = []
    for part in (*PurePosixPath(page).parent.parts, *PurePosixPath(path).parts):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts) or "."


def check_figures(page: Page, files: Mapping[str, str | None]) -> Iterator[Problem]:
    """Checks that each picture of the repository names an existing function that draws it."""
    named_at = set()
    for match in _FIGURE.finditer(page.prose):
        path, function, picture = match.groups()
        if picture:
            named_at.add(match.start(3))
        else:
            text = "no picture follows this figure marker. Put it on the next line, or remove this."
            yield page.problem(match.start(), text)
        if wrong := _why_nothing_draws(path, function, files.get(path)):
            yield page.problem(match.start(), f"figure marker: {wrong}")
    for offset, target, is_picture in _targets(page):
        remote = re.match(r"[a-z]+:", target)
        if is_picture and not remote and not named_at & {offset, offset - 1}:
            text = f"picture {target!r} does not say who draws it. Write <!-- figure: FILE FUNCTION"
            yield page.problem(offset, f"{text} --> on the line above.")


def _why_nothing_draws(path: str, function: str, source: str | None) -> str:
    """Returns what is wrong with the function a figure names, "" if it exists."""
    if source is None:
        return f"there is no {path}. Correct the path (from the root)."
    try:
        if find_symbol(source, function):
            return ""
    except MarkerError as error:
        return str(error)
    return f"{path} has no {function!r}: renamed? Correct the marker."


def check_chapter(page: Page) -> tuple[list[Problem], list[str]]:
    """Checks the parts of a chapter; returns the problems and the warnings (its length)."""
    problems = []
    sections = [heading for heading in page.headings if heading.level == 2]
    position = -1
    for part in CHAPTER_PARTS:
        where = [i for i, section in enumerate(sections) if _is_part(section, part)]
        if not where:
            line = sections[position].line if position >= 0 else 1
            text = f"the chapter has no part {part!r}. Write it under '## {part}' below this line."
            problems.append(Problem(page.name, line, text))
        elif where[0] < position:
            text = f"part {part!r} stands too early. The order: {', '.join(CHAPTER_PARTS)}."
            problems.append(Problem(page.name, sections[where[0]].line, text))
        else:
            position = where[0]
            if not _content(page, sections, position):
                text = f"part {part!r} is empty. Write it."
                problems.append(Problem(page.name, sections[position].line, text))
    least, most = CHAPTER_WORDS
    if least <= page.words <= most:
        return problems, []
    warning = f"{page.name}: {page.words:,} words; a chapter has {least:,} to {most:,}"
    return problems, [warning]


def _is_part(section: Heading, part: str) -> bool:
    text = re.sub(r"^[\d.]+\s+", "", section.text).lower()
    return text.startswith(part.lower())


def _content(page: Page, sections: list[Heading], index: int) -> str:
    """Returns what stands below a heading of level 2, up to the next one."""
    end = sections[index + 1].offset if index + 1 < len(sections) else len(page.text)
    return page.text[sections[index].offset : end].partition("\n")[2].strip()


def check_typed_numbers(page: Page) -> Iterator[Problem]:
    """Finds numbers typed by hand in tables below a heading that promises results."""
    blanked = _GENERATED.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), page.prose)
    level = 0  # of the heading that promises results; 0: none is in force
    headings = {heading.line: heading for heading in page.headings}
    for number, line in enumerate(blanked.splitlines(), 1):
        if number in headings:
            heading = headings[number]
            promises = any(word in heading.text.lower() for word in RESULT_WORDS)
            if promises and heading.level > 1:  # a page's title promises nothing about its tables
                level = min(level or heading.level, heading.level)
            elif heading.level <= level:
                level = 0
        elif level and line.lstrip().startswith("|"):
            cells = line.strip().strip("|").split("|")[1:]
            if typed := re.search(r"\S*\d\S*", " ".join(cells)):
                advice = "Use <!-- value: NAME -->, or inline code for a name."
                text = f"{typed[0]!r} is typed by hand in a table of results. {advice}"
                yield Problem(page.name, number, text)
