"""Cuts a docstring into blocks of running text, leaving out what is no text.

Docstrings are written in several dialects: reStructuredText with numpydoc sections (numpy, scipy,
scikit-learn, sympy, networkx, matplotlib), Google style (torch), and plain text (the standard
library). `text_blocks` knows the layout of all three. Left out here: doctests, literal blocks after
``::``, fenced code, directives with code, formulas or figures, comments, link targets, tables,
headings, the sections "References", "See Also" and "Methods", and the heads of parameter lists
("axis : int, optional"). Kept: paragraphs, list items, the text of notes and warnings, and what a
parameter list says about each parameter. Standard library only.
"""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

_PARAMETER_SECTION = re.compile(
    r"(other )?param(eter)?s|(keyword )?arg(ument)?s|kwargs|returns?|yields|receives|raises|warns"
    r"|attributes|options|inputs?|outputs?|fields|properties|shape|members|variables"
)  # their entries have a head (a name, a type), which is left out, and a description
_DROPPED_SECTION = re.compile(
    r"references?|see also|methods|citations?|bibliography|authors?|signature|functions|classes"
    r"|grammar|contents|copyright|license|links"
)  # left out whole: lists of names and of literature
_KEPT_DIRECTIVE = re.compile(r"note|warning|important|tip|hint|attention|caution|admonition")
_ADORNMENT = re.compile(r"([=\-~^\"'#*+`.:_])\1{2,}$")
_SIMPLE_TABLE = re.compile(r"=+( +=+)+$")
_GRID_TABLE = re.compile(r"[|+][-=+ |]|.*\|$")
_DIRECTIVE = re.compile(r"\.\. +([\w:-]+) ?::(?: +(.*))?$")
_BULLET = re.compile(r"([-*+•]|\(?\w[.)]|\(?\d+[.)]|\[\d+\]) +(?=\S)")
_FIELD = re.compile(r":(\w+)(?: [^:]*)?:(?: +|$)(?!`)")
_GOOGLE_HEAD = re.compile(r"([A-Z][A-Za-z ]{1,20})(?: \(.*\))?::?$")
_GOOGLE_ENTRY = re.compile(  # "axis (int, optional): ", parentheses nested once
    r"[*`'\"]*\w[\w.*`'\", /-]{0,40}( ?\([^()]*(\([^()]*\))*[^()]*\))?`* ?: +"
)
_DASH_ENTRY = re.compile(r"[*`'\"]*[\w.*`'\"()/, ]{1,30}? +(--|-|=>) +")
_PLACEHOLDER = re.compile(r"\{+\w+\}+$|%\(\w+\)s$")


class Block(NamedTuple):
    """Lines that belong to one paragraph."""

    lines: tuple[str, ...]
    is_item: bool = False  # an item of a list
    is_entry: bool = False  # describes a parameter: often begins with a small letter


def text_blocks(docstring: str) -> list[Block]:
    """Splits a docstring into blocks of text, in order; code, tables and headings are left out.

    Args:
        docstring: as written in the source, indentation included.

    >>> [block.lines for block in text_blocks("Add two numbers.\\n\\n>>> 1 + 2\\n3\\n\\nDone.")]
    [('Add two numbers.',), ('Done.',)]
    """
    return _BlockReader(inspect.cleandoc(docstring).splitlines()).read()


class _BlockReader:
    """Walks over the lines once; the attributes are what the lines before mean for the next one."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = [line.rstrip() for line in lines]
        self.blocks: list[Block] = []
        self.current: list[str] = []  # lines of the block being read
        self.indent = 0  # where the block being read begins
        self.hanging = False  # a list item or entry: deeper lines continue it
        self.is_entry = False
        self.skip_deeper: int | None = None  # leave out lines with a larger indentation
        self.section_dropped = False
        self.entries_at: int | None = None  # indentation of the entry heads of a numpydoc section
        self.google_at: int | None = None  # indentation of "Args:", whose entries are deeper

    def read(self) -> list[Block]:
        """Returns the blocks of all lines."""
        i = 0
        while i < len(self.lines):
            i = self._read_line(i)
        self._flush()
        return self.blocks

    def _read_line(self, i: int) -> int:
        """Reads line `i`; returns the number of the line to go on with."""
        line = self.lines[i]
        text = line.lstrip()
        if not text:
            self._flush()
            return i + 1
        indent = len(line) - len(text)
        if self.skip_deeper is not None:
            if indent > self.skip_deeper:
                return i + 1
            self.skip_deeper = None
        if self._is_heading(i, text, indent):
            self._flush()
            self._open_section(text.lower().rstrip(":"), indent)
            return i + 2
        if self.section_dropped:
            return i + 1
        after = self._skip_code_or_table(i, text, indent)
        if after > i:
            return after
        if self._opens_google_section(text, indent):
            return i + 1
        self._read_text(i, text, indent)
        return i + 1

    def _is_heading(self, i: int, text: str, indent: int) -> bool:
        """Tells whether the next line underlines this one."""
        line = self.lines[i + 1] if i + 1 < len(self.lines) else ""
        under = line.lstrip()
        if not _ADORNMENT.match(under) or _ADORNMENT.match(text):
            return False
        return len(text) <= 80 and abs(len(line) - len(under) - indent) < 3

    def _open_section(self, name: str, indent: int) -> None:
        self.section_dropped = bool(_DROPPED_SECTION.fullmatch(name))
        self.entries_at = indent if _PARAMETER_SECTION.fullmatch(name) else None
        self.google_at = None

    def _skip_code_or_table(self, i: int, text: str, indent: int) -> int:
        """Returns the line after the code, table or markup that begins at line `i`, or `i`."""
        if text[0].isalnum():
            return i
        if text.startswith((">>>", "$ ")):
            self._flush()
            return self._next_blank(i)
        if text.startswith(("```", "~~~")):
            self._flush()
            ends = (k for k in range(i + 1, len(self.lines)) if self.lines[k].strip() == text[:3])
            return next(ends, len(self.lines) - 1) + 1
        if _SIMPLE_TABLE.match(text):
            self._flush()
            return self._end_of_table(i)
        if _GRID_TABLE.match(text) or _ADORNMENT.match(text) or _PLACEHOLDER.match(text):
            self._flush()
            return i + 1
        if text.startswith(".. ") or text == "..":
            self._flush()
            directive = _DIRECTIVE.match(text)
            if directive and _KEPT_DIRECTIVE.fullmatch(directive[1].lower()):
                self.indent, self.hanging, self.is_entry = indent, True, False
                self.current = [directive[2]] if directive[2] else []
            else:
                self.skip_deeper = indent
            return i + 1
        return i

    def _next_blank(self, i: int) -> int:
        while i < len(self.lines) and self.lines[i]:
            i += 1
        return i

    def _end_of_table(self, i: int) -> int:
        """A simple table ends with the border that a blank line follows."""
        lines = [*self.lines, ""]
        for k in range(i + 1, len(self.lines)):
            if _SIMPLE_TABLE.match(lines[k].strip()) and not lines[k + 1]:
                return k + 1
        return self._next_blank(i)

    def _opens_google_section(self, text: str, indent: int) -> bool:
        """Handles "Args:" and "References:" on a line of their own."""
        if self.google_at is not None and indent <= self.google_at:
            self.google_at = None
        head = _GOOGLE_HEAD.match(text)
        name = head[1].lower() if head else ""
        is_dropped = _DROPPED_SECTION.fullmatch(name)
        if not is_dropped and not _PARAMETER_SECTION.fullmatch(name):
            return False
        self._flush()
        if is_dropped:
            self.skip_deeper = indent
        else:
            self.google_at, self.entries_at = indent, None
        return True

    def _read_text(self, i: int, text: str, indent: int) -> None:
        """Adds a line to the current block, or begins a new one."""
        if self.entries_at == indent and self._is_entry_head(i, text, indent):
            self._flush()
            return
        in_entries = self.google_at is not None or (self.entries_at or 0) < indent
        in_entries = in_entries and (self.google_at is not None or self.entries_at is not None)
        marker = _FIELD.match(text) or _BULLET.match(text)
        if not marker and in_entries:
            marker = _GOOGLE_ENTRY.match(text)
        if not marker and (not self.current or self.is_entry):
            marker = _DASH_ENTRY.match(text)
            in_entries = in_entries or marker is not None
        if marker:
            self._flush()
            self.indent, self.hanging = indent, True
            self.is_entry = in_entries or text.startswith(":")
            is_type = text.startswith((":type", ":rtype"))
            self.current = [] if is_type else [text[marker.end() :]]
            return
        if self.current and not self._continues(indent):
            self._flush(term=indent > self.indent)
        if not self.current:
            self.indent, self.hanging, self.is_entry = indent, False, in_entries
        self.current.append(text)

    def _is_entry_head(self, i: int, text: str, indent: int) -> bool:
        """Tells "axis : int, optional" from a sentence in a section such as "Returns"."""
        following = self.lines[i + 1] if i + 1 < len(self.lines) else ""
        deeper = len(following) - len(following.lstrip()) > indent
        return deeper or " : " in text or " " not in text.replace(", ", "")

    def _continues(self, indent: int) -> bool:
        if self.hanging:
            return indent > self.indent
        if indent > self.indent:
            # A short line above deeper ones is a term with its definition, a long one is wrapped.
            return len(self.current) > 1 or len(self.current[0]) > 50
        return indent == self.indent

    def _flush(self, term: bool = False) -> None:
        """Ends the current block; a `term` is left out, and ``::`` leaves out what follows."""
        if not self.current:
            return
        if self.current[-1].endswith("::"):
            self.skip_deeper = self.indent
            self.current[-1] = self.current[-1][:-1].removesuffix(" :")
        if not term:
            self.blocks.append(Block(tuple(self.current), self.hanging, self.is_entry))
        self.current = []
