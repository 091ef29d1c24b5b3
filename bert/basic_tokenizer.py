"""BERT's basic tokenizer: what happens to a text before WordPiece cuts its words.

Source: Devlin et al. 2019, section 3 and the code published with it (google-research/bert,
``tokenization.py``, BasicTokenizer). In order: control characters go and white space becomes a
space; each Chinese character becomes a word of its own, because Chinese is written without spaces;
for an uncased model accents and capitals go; each punctuation character becomes a word of its own.

The classes of characters come from Python's `unicodedata` (Unicode 14 in Python 3.11). The
``tokenizers`` library has classes of about 2015: of 1.1 million code points 559 differ, nearly all
younger than that. It also takes 256 Chinese characters (U+2B820 to U+2B91F) for letters, where
we follow the published code. That code keeps characters for private use (class Co); we drop them,
as the library does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

# White space of BERT: tab, line ends and Unicode's classes Zs, Zl and Zp. (Python's own `split`
# would also split at control characters such as U+001F and U+0085, which BERT removes instead.)
# No word reaches beyond a chunk.
SPACES = "\t\n\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
CHUNK = re.compile(f"[^{SPACES}]+")

# The blocks of Chinese characters. Japanese kana and Korean hangul are not among them: those are
# written with spaces or, as kana, left to WordPiece.
CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def is_space(character: str) -> bool:
    """Whether BERT takes the character for white space."""
    return character in "\t\n\r" or unicodedata.category(character) in ("Zs", "Zl", "Zp")


def is_removed(character: str) -> bool:
    """Whether the clean-up drops it: control, format, private use, half a surrogate, U+FFFD."""
    if character in "\t\n\r":
        return False
    return character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs")


def is_chinese(character: str) -> bool:
    """Whether the character lies in one of the blocks of Chinese characters."""
    return any(first <= ord(character) <= last for first, last in CHINESE)


def is_punctuation(character: str) -> bool:
    """Whether it is punctuation: Unicode's classes P*, and every ASCII sign, so "$" and "^" too."""
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")


class _Rule(dict[int, str]):
    """A table for `str.translate` that fills itself: code point -> what to write instead."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        self.rule = rule

    def __missing__(self, code_point: int) -> str:
        self[code_point] = written = self.rule(chr(code_point))
        return written


def _clean(character: str) -> str:
    if is_removed(character):
        return ""
    if is_space(character):
        return " "
    return f" {character} " if is_chinese(character) else character


def _drop_mark(character: str) -> str:
    return "" if unicodedata.category(character) == "Mn" else character


def _set_apart(character: str) -> str:
    return f" {character} " if is_punctuation(character) else character


_CLEAN = _Rule(_clean)
_DROP_MARKS = _Rule(_drop_mark)
_SET_APART = _Rule(_set_apart)


class BasicTokenizer:
    """Cuts a text into words and punctuation.

    >>> BasicTokenizer().words("Café NOIR, 3.5€!")
    ['cafe', 'noir', ',', '3', '.', '5€', '!']
    >>> BasicTokenizer(lower_case=False).words("Café 中文")
    ['Café', '中', '文']
    """

    def __init__(self, lower_case: bool = True, strip_accents: bool | None = None) -> None:
        """Chooses what an uncased model does not want to see.

        Args:
            lower_case: write capitals small ("uncased").
            strip_accents: write letters without accents; None means the same as ``lower_case``.
        """
        self.lower_case = lower_case
        self.strip_accents = lower_case if strip_accents is None else strip_accents

    def words(self, text: str) -> list[str]:
        """Returns the words of ``text``: without white space, punctuation apart."""
        return self.normalize(text).translate(_SET_APART).split()

    def normalize(self, text: str) -> str:
        """Returns ``text`` cleaned, Chinese characters set apart, accents and capitals gone."""
        text = text.translate(_CLEAN)
        if self.strip_accents:  # NFD writes "é" as "e" and a mark of the class Mn
            text = unicodedata.normalize("NFD", text).translate(_DROP_MARKS)
        if self.lower_case:  # each letter for itself: `lower` would write a last sigma as "ς"
            text = text.replace("Σ", "σ").lower()
        return text
