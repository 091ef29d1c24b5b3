"""What GPT-2 does to text before byte-pair encoding: cut it into pieces, see them as bytes.

Source: Radford et al. 2019, section 2.2, and the ``encoder.py`` published with it. Merges may not
cross the border of a piece, or the vocabulary would fill up with ``dog.``, ``dog!`` and ``dog?``.
A piece is at most one space followed by letters, by digits or by other signs, or it is white space.
The published pattern needs Unicode's classes L (letters) and N (numbers), which Python's ``re``
lacks, so they are built here from Python's own Unicode tables (younger code points count as signs).

Why not the third-party ``regex``, which has both? On 10.8 MB of WikiText-2 its ``findall`` took
0.9 s of CPU time and ours 2.3 s, but neither is needed: text repeats itself. `CHUNK` cuts at white
space only, in 0.4 s, and of its 2 million chunks only the 33,000 distinct ones meet the real
pattern.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator

PRINTABLE = [
    *range(ord("!"), ord("~") + 1),
    *range(ord("¡"), ord("¬") + 1),
    *range(ord("®"), ord("ÿ") + 1),
]
"""The 188 byte values that, read as Latin-1, print as a character of their own."""

BYTES_IN_ORDER = [*PRINTABLE, *(byte for byte in range(256) if byte not in PRINTABLE)]
"""The bytes in the order of GPT-2's first 256 ids: the space, say, is id 220."""

BYTE_TO_SYMBOL = {byte: chr(byte) for byte in PRINTABLE} | {
    byte: chr(256 + place) for place, byte in enumerate(BYTES_IN_ORDER[len(PRINTABLE) :])
}
"""Byte -> the printable character that stands for it in vocab.json and merges.txt. Both files are
text, and one splits at spaces, so a token may hold neither a space nor half a UTF-8 character. The
bytes that do not print take the characters from U+0100 on: the space becomes ``Ġ``, the line end
``Ċ``."""

SYMBOL_TO_BYTE = {symbol: byte for byte, symbol in BYTE_TO_SYMBOL.items()}

# White space as Unicode (and GPT-2) has it. Python's own \s also holds the control characters
# U+001C to U+001F, a difference of four characters that would change ids.
SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

CHUNK = re.compile(rf" ?[^{SPACE}]+|[{SPACE}]+(?![^{SPACE}])|[{SPACE}]+")
"""The pattern of the pieces with one class for all that is not white space. White space is treated
as there, so no piece crosses the border of a chunk, and cutting each chunk into pieces on its own
gives the pieces of the text."""

WORD_END = re.compile(rf"[^{SPACE}](?=[{SPACE}])")


def to_symbols(data: bytes) -> str:
    """Returns bytes in the printable form of vocab.json and merges.txt.

    >>> to_symbols(" café\\n".encode())
    'ĠcafÃ©Ċ'
    """
    return "".join([BYTE_TO_SYMBOL[byte] for byte in data])


def to_bytes(symbols: str) -> bytes:
    """Returns the bytes that a printable form stands for; `to_symbols` reversed.

    Raises:
        KeyError: a character stands for no byte.
    """
    return bytes([SYMBOL_TO_BYTE[symbol] for symbol in symbols])


@functools.cache
def piece_pattern() -> re.Pattern[str]:
    """Returns GPT-2's pattern for the pieces; built at the first call (about 50 ms).

    In the order in which the alternatives are tried: an English contraction; letters; numbers;
    other signs, each with at most one space in front; white space except its last character if text
    follows (that one may be the space in front of the next piece); white space.
    """
    characters = [chr(code_point) for code_point in range(0x34000)]  # no letter lies beyond
    letter = _ranges(filter(str.isalpha, characters))  # the Unicode categories L*
    # Categories N*. Chinese numerals have a numeric value too, but are letters.
    number = _ranges(c for c in filter(str.isnumeric, characters) if not c.isalpha())
    return re.compile(
        r"'s|'t|'re|'ve|'m|'ll|'d"
        rf"| ?[{letter}]+"
        rf"| ?[{number}]+"
        rf"| ?[^{SPACE}{letter}{number}]+"
        rf"|[{SPACE}]+(?![^{SPACE}])"
        rf"|[{SPACE}]+"
    )


def split_pieces(text: str) -> list[str]:
    """Cuts a text into the pieces that merges may not cross; joined, they are the text again.

    >>> split_pieces("Don't  panic: it's 42!\\n\\nOK")
    ['Don', "'t", ' ', ' panic', ':', ' it', "'s", ' 42', '!', '\\n', '\\n', 'OK']
    """
    return piece_pattern().findall(text)


def blocks(text: str, size: int = 1 << 14) -> Iterator[str]:
    """Cuts a long text between chunks into parts of ``size`` characters or a little more.

    The chunks of a whole book are millions of strings. A block's few thousand stay in the
    processor's cache, which made encoding about 1.15 times as fast as blocks of a million did.
    """
    start = 0
    while len(text) - start > size:
        border = WORD_END.search(text, start + size)
        if border is None:
            break
        yield text[start : border.end()]
        start = border.end()
    yield text[start:]


def check_encodable(text: str) -> None:
    """Checks that a text has a UTF-8 form.

    Raises:
        ValueError: it holds half of a surrogate pair, which is no character.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds U+{ord(text[error.start]):04X}, half of a surrogate pair, at position "
            f"{error.start}: it is no character and has no UTF-8 bytes. Read the file with "
            'encoding="utf-8", or replace it: text.encode("utf-8", "replace").decode("utf-8").'
        ) from None


def _ranges(characters: Iterable[str]) -> str:
    """Returns sorted characters as ranges for a regular expression, such as ``A-Za-z``."""
    runs: list[list[int]] = []
    for code_point in map(ord, characters):
        if runs and runs[-1][1] == code_point - 1:
            runs[-1][1] = code_point
        else:
            runs.append([code_point, code_point])
    return "".join([f"{chr(first)}-{chr(last)}" for first, last in runs])
