"""Turns a docstring into paragraphs of plain English prose.

`tutorial_kit.docstring_blocks` leaves out code, tables, headings and parameter heads by their
layout. This module then takes the markup out of each block and keeps it if it reads as prose.

Markup: the name inside ``x``, `x`, :func:`x` and *x* stays, the quotes and roles go; a link keeps
its text; a citation mark stays as "[1]". A sentence is left out if it contains a web address, a
formula that is more than a name, or a placeholder; so is a sentence that is mostly code.
Prose: at least five words that are mostly words, some of them the small words of English, a capital
at the beginning and a punctuation mark at the end. Standard library only.
"""

from __future__ import annotations

import re
import unicodedata

from tutorial_kit.docstring_blocks import text_blocks

MIN_WORDS = 5
"""Shorter paragraphs are captions and labels more often than sentences."""

_UNREADABLE = "\ufffc"  # stands for what cannot be said in words; its sentence is left out

_TYPEWRITER = str.maketrans(
    {"‘": "'", "’": "'", "´": "'", "“": '"', "”": '"', "…": "...", "−": "-"}
)
_MATH_ROLE = re.compile(r":math:`([^`]*)`")
_ROLE = re.compile(r"(?::[\w+.-]+)+:`([^`<]*?)(?:\s*<[^`]*>)?`")
_MARKDOWN_LINK = re.compile(r"\[([^\]]+)\]\([^()\s]*[/#.][^()\s]*\)")
_LINK = re.compile(r"`([^`<]*?)\s*<[^`<>]*>`_{0,2}")
_DOLLARS = re.compile(r"(?<![\w$])\$\$?([^$]{1,300})\$\$?(?!\w)")
_FIXED_FORM = re.compile(r"``(.+?)``(?!`)")
_INTERPRETED = re.compile(r"`([^`]+)`_{0,2}")
_LATEX_QUOTES = re.compile(r"``([^`']*)''")
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,2})(?=[^\s*])([^*]*[^\s*])\1(?![\w*])")
_SHORT_PREFIX = re.compile(r"^!|^\.(?=[A-Za-z])")
_CITATION = re.compile(r"\[(#?[\w.+-]+)\]_+")
_SUBSTITUTION = re.compile(r"\|(\w[\w .-]*)\|_*")
_ESCAPE = re.compile(r"\\([^\w\s]| )")
_SIMPLE_MATH = re.compile(r"[\w+\-*/=<>.,()\[\]' ]{1,30}")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!cf\.)(?<!vs\.)\s+(?=[A-Z\"'(\[])")
_CUT_WORD = re.compile(r"(?<=[a-z]-)\n(?=[a-z])")
_WORD = re.compile(
    r"(?<!\S)[(\"'\[]*(?:[A-Za-z]+(?:['/-][A-Za-z]+)*|-?[0-9]+(?:\.[0-9]+)?%?)"
    r"[)\"'\]]*[.,;:!?]*[)\"']*(?!\S)"
)
_UNSPEAKABLE = re.compile(
    rf"[{_UNREADABLE}\\`\x00-\x1f\x7f-\x9f\ud800-\udfff]"  # formulas, control characters
    r"|https?:|ftp://|www\.|sphx_glr"  # addresses
    r"|\{\w*\}|%\(\w+\)s|@\w+@"  # placeholders
)
_NAME = re.compile(r"[A-Za-z]*[a-z][A-Z]|.*[_(=<>{}\\|@^~]")
_END = re.compile(r"[.!?:][)\"'\]]*$")
_SMALL_WORDS = (
    "a an and are as at be by can each for from has have if in into is it its may must no not of on"
    " one or so such than that the their then there these this to used was when where which will"
    " with you your"
)
_IS_SMALL = frozenset(_SMALL_WORDS.split())


def clean_docstring(docstring: str) -> list[str]:
    """Returns the prose of a docstring as paragraphs, each one line without markup.

    Args:
        docstring: as written in the source, indentation included.

    Returns:
        Paragraphs in the order of the docstring; empty if it holds no prose.

    >>> clean_docstring('''Return the ``mean`` of an array along :attr:`axis`.
    ...
    ...     Parameters
    ...     ----------
    ...     axis : int
    ...         The axis along which the mean is taken.
    ...
    ...     >>> mean([1, 2])
    ...     1.5
    ...     ''')
    ['Return the mean of an array along axis.', 'The axis along which the mean is taken.']
    """
    paragraphs: list[str] = []
    for block in text_blocks(docstring):
        if _is_table(block.lines):
            continue
        if paragraphs and paragraphs[-1].endswith(":") and not block.is_item:
            _drop_last_sentence(paragraphs)
        sentences = _SENTENCE_END.split(plain_text(_join(block.lines)))
        text = " ".join(filter(is_readable, sentences))
        if block.is_entry and text[:1].islower() and not _NAME.match(text.split()[0]):
            text = text[0].upper() + text[1:]
        if is_prose(text):
            paragraphs.append(text)
    if paragraphs and paragraphs[-1].endswith(":"):
        _drop_last_sentence(paragraphs)
    return paragraphs


def _join(lines: tuple[str, ...]) -> str:
    """Joins the lines of a paragraph; a word cut at its hyphen ("built-", "in") becomes one."""
    return _CUT_WORD.sub("", "\n".join(lines))


def _drop_last_sentence(paragraphs: list[str]) -> None:
    """Takes away "Its value is given by:" when the formula or code that it announces is gone."""
    text = " ".join(_SENTENCE_END.split(paragraphs.pop())[:-1])
    if is_prose(text):
        paragraphs.append(text)


def plain_text(text: str) -> str:
    """Takes reStructuredText, Markdown and LaTeX markup out of running text.

    >>> plain_text("See :func:`~numpy.linalg.norm`, `docs <https://x.org>`_ and *this* [1]_.")
    'See norm, docs and this [1].'
    """
    text = unicodedata.normalize("NFC", text).translate(_TYPEWRITER)
    if "`" in text:
        text = _MATH_ROLE.sub(_formula, text)
        text = _ROLE.sub(_reference, text)
        text = _LINK.sub(r"\1", text)
        text = _FIXED_FORM.sub(r"\1", text)
        text = _LATEX_QUOTES.sub(r'"\1"', text)
        text = _INTERPRETED.sub(_reference, text)
    if "$" in text:
        text = _DOLLARS.sub(_formula, text)
    if "*" in text:
        text = _EMPHASIS.sub(r"\2", text)
    if "](" in text:
        text = _MARKDOWN_LINK.sub(r"\1", text)
    if "]_" in text:
        text = _CITATION.sub(r"[\1]", text)
    if "|" in text:
        text = _SUBSTITUTION.sub(r"\1", text)
    if "\\" in text:
        text = _ESCAPE.sub(lambda match: match[1].strip(), text)
    return " ".join(text.split())


def _formula(match: re.Match[str]) -> str:
    """Keeps a formula such as "n" or "x > 0"; one that needs LaTeX cannot be read aloud."""
    formula = match[1].strip()
    return formula if _SIMPLE_MATH.fullmatch(formula) else _UNREADABLE


def _reference(match: re.Match[str]) -> str:
    """Shortens a cross-reference as Sphinx does: "~a.b.c" is shown as "c", "!x" as "x"."""
    target = match[1].strip()
    if target.startswith("~"):
        return target[1:].rpartition(".")[2]
    return _SHORT_PREFIX.sub("", target)


def _is_table(lines: tuple[str, ...]) -> bool:
    """Tells whether most lines have columns, that is wide gaps inside."""
    gaps = sum("   " in line for line in lines)
    return 2 * gaps > len(lines)


def is_readable(sentence: str) -> bool:
    """Tells whether a sentence consists of words, most of them English (or numbers), not code."""
    if _UNSPEAKABLE.search(sentence):
        return False
    return len(_WORD.findall(sentence)) >= 0.7 * (sentence.count(" ") + 1)


def is_prose(text: str) -> bool:
    """Tells whether a paragraph reads as prose, by the rule at the top of this module.

    >>> is_prose("Return the largest of the values."), is_prose("x = numpy.max(values, axis=0)")
    (True, False)
    """
    words = text.split()
    if len(words) < MIN_WORDS or not _END.search(text):
        return False
    if not (text[0].isupper() or text[0] in "\"'([" or text[0].isdigit()):
        return False
    small = sum(word in _IS_SMALL for word in text.lower().split())
    return small >= 1 and small >= 0.1 * len(words)
