"""A markdown page as the documents' checks see it: blocks of code, headings, positions, problems.

Only as much of markdown is understood as the checks need. Text inside code never counts: a page may
show a marker or a link as an example.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<ticks>`{3,}|~{3,})(?P<info>[^`]*)$")
_INLINE_CODE = re.compile(r"(?<!`)(`+)(?!`)((?:(?!\n\s*\n).)+?)(?<!`)\1(?!`)", re.DOTALL)
_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


class Problem(NamedTuple):
    """Something wrong in a document: where, what, and what to do about it."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


class Edit(NamedTuple):
    """A generated stretch of a page: its place, what belongs there, what to say if it differs."""

    start: int
    end: int
    new: str
    complaint: str


class Fence(NamedTuple):
    """A fenced block of code."""

    info: str  # what follows the opening backticks: "python run"
    text: str  # the code, without the block's indentation, ending with a line break
    line: int  # number of the opening line
    start: int  # offset of the first character inside
    end: int  # offset behind the last character inside
    indent: str  # of the opening line: a block may stand in a list
    ticks: str  # the backticks that open it
    closed: bool  # False if it reaches to the page's end


class Heading(NamedTuple):
    """A heading written with ``#``."""

    level: int
    text: str
    line: int
    offset: int


@dataclass(frozen=True)
class Page:
    """One markdown file; ``name`` is its path from the project's root with forward slashes."""

    name: str
    text: str

    def line(self, offset: int) -> int:
        """Returns the number of the line that holds the character at ``offset``."""
        return self.text.count("\n", 0, offset) + 1

    def problem(self, offset: int, text: str) -> Problem:
        """Returns a problem at the line of ``offset``."""
        return Problem(self.name, self.line(offset), text)

    @cached_property
    def fences(self) -> list[Fence]:
        """The fenced blocks, in order; one that is never closed reaches to the page's end."""
        found, opened, offset, inside = [], None, 0, 0
        for number, line in enumerate(self.text.splitlines(keepends=True), 1):
            match = _FENCE.match(line.rstrip("\r\n"))
            if opened is None and match:
                opened, inside = (match, number), offset + len(line)
            elif opened and match and _closes(match, opened[0]):
                found.append(self._fence(*opened, inside, offset, True))
                opened = None
            offset += len(line)
        if opened:
            found.append(self._fence(*opened, inside, offset, False))
        return found

    def _fence(
        self, opening: re.Match[str], line: int, start: int, end: int, closed: bool
    ) -> Fence:
        info, indent, ticks = opening["info"].strip(), opening["indent"], opening["ticks"]
        lines = self.text[start:end].splitlines(keepends=True)
        text = "".join(part.removeprefix(indent) for part in lines)
        return Fence(info, text, line, start, end, indent, ticks, closed)

    @cached_property
    def without_blocks(self) -> str:
        """The text with fenced blocks blanked out; every other character keeps its offset."""
        text = self.text
        for fence in self.fences:
            text = text[: fence.start] + _blank(text[fence.start : fence.end]) + text[fence.end :]
        return text

    @cached_property
    def prose(self) -> str:
        """The text with all code blanked out, inline code too; offsets are kept."""
        return _INLINE_CODE.sub(lambda match: _blank(match[0]), self.without_blocks)

    @cached_property
    def inline_code(self) -> list[tuple[int, str]]:
        """(offset, content) of each piece of inline code."""
        found = _INLINE_CODE.finditer(self.without_blocks)
        return [(match.start(), " ".join(match[2].split())) for match in found]

    @cached_property
    def headings(self) -> list[Heading]:
        """The headings, in order."""
        return [
            Heading(len(match[1]), match[2], self.line(match.start()), match.start())
            for match in _HEADING.finditer(self.without_blocks)
        ]

    @cached_property
    def anchors(self) -> set[str]:
        """What ``#...`` may point to: GitHub's slugs of the headings, and explicit ids."""
        slugs: set[str] = set()
        for heading in self.headings:
            slug, count = slugify(heading.text), 0
            while (name := f"{slug}-{count}" if count else slug) in slugs:
                count += 1
            slugs.add(name)
        return slugs | set(re.findall(r"<a\s+(?:id|name)=\"([^\"]+)\"", self.prose))

    @property
    def words(self) -> int:
        """How many words of prose there are: code, comments and tags do not count."""
        text = re.sub(r"<[^>]*>", " ", _COMMENT.sub(" ", self.without_blocks))
        return len(re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text))


def slugify(heading: str) -> str:
    """Turns a heading into the anchor GitHub gives it.

    >>> slugify("3. The `forward` pass: *what* happens?")
    '3-the-forward-pass-what-happens'
    """
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", _COMMENT.sub("", heading))
    text = re.sub(r"<[^>]*>", "", text)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def apply_edits(text: str, edits: list[Edit]) -> str:
    """Returns the text with each edit's stretch replaced."""
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start] + edit.new + text[edit.end :]
    return text


def _closes(match: re.Match[str], opening: re.Match[str]) -> bool:
    same_kind = match["ticks"][0] == opening["ticks"][0]
    return same_kind and len(match["ticks"]) >= len(opening["ticks"]) and not match["info"].strip()


def _blank(text: str) -> str:
    """Replaces everything but line breaks by spaces."""
    return re.sub(r"[^\n]", " ", text)
