"""Tokenizers: what turns text into the numbers a language model reads, and back.

Every tokenizer of the project has the same functions (the protocol `Tokenizer`), so a model does
not care which one it gets. `CharTokenizer` below is the simplest: one token per character. Its
sequences are long and a character it never saw is an error; `tutorial_kit.byte_bpe` cures both.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

UNKNOWN = "<unk>"


class Tokenizer(Protocol):
    """What a model, a trainer and a generator may ask of any tokenizer."""

    special_tokens: dict[str, int]
    """Tokens that stand for no text, such as ``<unk>`` or ``<|endoftext|>``, and their ids."""

    @property
    def vocab_size(self) -> int:
        """The number of tokens V; ids run from 0 to V - 1."""

    def encode(self, text: str) -> list[int]:
        """Returns the ids of ``text``."""

    def encode_array(self, text: str) -> NDArray[np.int32]:
        """Returns the ids of ``text`` as an array of shape (n_tokens,)."""

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text that ``ids`` stand for."""

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Returns the UTF-8 bytes that ``ids`` stand for; they may end inside a character."""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types only, ready for a checkpoint; see `tokenizer_from_dict`."""


class CharTokenizer:
    """One token per character; the ids follow the characters' sorted order.

    >>> tokenizer = CharTokenizer.from_text("hello world")
    >>> "".join(tokenizer.characters)
    ' dehlorw'
    >>> tokenizer.encode("hello")
    [3, 2, 4, 4, 5]
    >>> tokenizer.decode([7, 5, 6, 4, 1])
    'world'
    """

    def __init__(self, characters: Sequence[str], *, unknown: bool = False) -> None:
        """Makes a tokenizer for exactly these characters.

        Args:
            characters: single characters; the place of each is its id.
            unknown: adds ``<unk>`` after the last character. Characters outside the vocabulary
                then become ``<unk>`` instead of an error.

        Raises:
            ValueError: no character at all, one that is not single, or one that occurs twice.
        """
        self.characters = list(characters)
        if not self.characters:
            raise ValueError(
                "a character vocabulary was built from 0 characters: there is nothing to encode. "
                "Give it a text that is not empty."
            )
        for character in self.characters:
            if len(character) != 1:
                raise ValueError(
                    f"the vocabulary entry {character!r} has {len(character)} characters, but a "
                    "character token stands for exactly 1. Use CharTokenizer.from_text(text)."
                )
        if len(set(self.characters)) != len(self.characters):
            twice = next(c for c in self.characters if self.characters.count(c) > 1)
            raise ValueError(
                f"the character {twice!r} occurs twice in the vocabulary: it would have two ids. "
                "Use CharTokenizer.from_text(text)."
            )
        self._tokens = self.characters + ([UNKNOWN] if unknown else [])
        self.special_tokens = {UNKNOWN: len(self.characters)} if unknown else {}
        # Code point -> id, for `encode_array`; -1 where the vocabulary has no such character.
        code_points = [ord(character) for character in self.characters]
        self._id_of_code_point = np.full(max(code_points) + 1, -1, dtype=np.int32)
        self._id_of_code_point[code_points] = np.arange(len(code_points))

    @classmethod
    def from_text(cls, text: str, *, unknown: bool = False) -> CharTokenizer:
        """Builds the vocabulary from every character that occurs in ``text``."""
        return cls(sorted(set(text)), unknown=unknown)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, ``<unk>`` included."""
        return len(self._tokens)

    def encode(self, text: str) -> list[int]:
        """Returns one id per character.

        Raises:
            ValueError: a character is not in the vocabulary (and there is no ``<unk>``).
        """
        return self.encode_array(text).tolist()

    def encode_array(self, text: str) -> NDArray[np.int32]:
        """Returns one id per character, shape (n_characters,); megabytes take milliseconds.

        Raises:
            ValueError: a character is not in the vocabulary (and there is no ``<unk>``).
        """
        # UTF-32 spends four bytes on each character, so the bytes are an array of code points.
        raw = text.encode("utf-32-le", errors="surrogatepass")
        code_points = np.frombuffer(raw, dtype="<u4")
        last = len(self._id_of_code_point) - 1
        ids = np.where(
            code_points > last, np.int32(-1), self._id_of_code_point[np.minimum(code_points, last)]
        )
        outside = np.flatnonzero(ids < 0)
        if outside.size and not self.special_tokens:
            position = int(outside[0])
            character = text[position]
            raise ValueError(
                f"the character {character!r} (U+{ord(character):04X}) at position {position} is "
                f"not among the vocabulary's {len(self.characters)} characters: it has no id. "
                "Remove it, build the vocabulary from text that has it, or use unknown=True."
            )
        ids[outside] = self.special_tokens.get(UNKNOWN, -1)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ``ids``; ``<unk>`` is written out.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        return "".join([self._tokens[i] for i in checked_ids(ids, self.vocab_size)])

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Returns the text of ``ids`` in UTF-8."""
        return self.decode(ids).encode("utf-8", errors="surrogatepass")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharTokenizer) and self._tokens == other._tokens

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types only, ready for a checkpoint."""
        return {
            "kind": "characters",
            "characters": list(self.characters),
            "unknown": bool(self.special_tokens),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CharTokenizer:
        """Rebuilds what `to_dict` described."""
        return cls(values["characters"], unknown=values["unknown"])


class StreamDecoder:
    """Turns ids into text while they are being generated.

    A token of a byte-level vocabulary may end inside a character: the first two of the four bytes
    of an emoji, say. Decoding token by token would print U+FFFD for each part. This decoder keeps
    the unfinished bytes back until the rest arrives.

    >>> decoder = StreamDecoder(CharTokenizer.from_text("abc"))
    >>> decoder.push(0) + decoder.push(2) + decoder.finish()
    'ac'
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """Takes the next id and returns the text that is now certain; it may be empty."""
        return self._decoder.decode(self._tokenizer.decode_bytes([token_id]))

    def finish(self) -> str:
        """Returns what is left at the end; U+FFFD if the last character was never completed."""
        return self._decoder.decode(b"", final=True)


def token_names(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[str]:
    """Returns each token's text; part of a character becomes its bytes, such as ``<E4B8>``."""
    names = []
    for token in tokens:
        raw = tokenizer.decode_bytes([token])
        try:
            names.append(raw.decode("utf-8"))
        except UnicodeDecodeError:
            names.append(f"<{raw.hex().upper()}>")
    return names


def checked_ids(ids: Iterable[int], vocab_size: int) -> list[int]:
    """Returns ``ids`` (a list, an array or a tensor) as a list of plain integers.

    Raises:
        ValueError: an id is below 0 or not below ``vocab_size``. (Without this check Python would
            read -1 as "the last token".)
    """
    plain: list[int] = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    for position, token_id in enumerate(plain):
        if not 0 <= token_id < vocab_size:
            raise ValueError(
                f"the id {token_id} at position {position} cannot be decoded: the vocabulary's "
                f"{vocab_size:,} ids run from 0 to {vocab_size - 1}. Use the tokenizer that the "
                "ids were made with, and drop labels to ignore (-100) first."
            )
    return plain


def tokenizer_from_dict(values: Mapping[str, Any]) -> Tokenizer:
    """Rebuilds the tokenizer that a checkpoint describes.

    Args:
        values: what the tokenizer's ``to_dict`` returned.

    Raises:
        ValueError: the description is of no known kind, or incomplete.
    """
    from tutorial_kit.byte_bpe import ByteBPE  # here, because both files import this module
    from tutorial_kit.word_tokenizer import WordTokenizer

    kinds: dict[str, type[CharTokenizer] | type[ByteBPE] | type[WordTokenizer]] = {
        "characters": CharTokenizer,
        "byte_bpe": ByteBPE,
        "words": WordTokenizer,
    }
    kind = values.get("kind")
    if kind not in kinds:
        raise ValueError(
            f"the checkpoint's tokenizer is of the kind {kind!r}, but this version knows "
            f"{', '.join(kinds)}: the file is foreign or newer. Update, or train again."
        )
    try:
        return kinds[kind].from_dict(values)
    except KeyError as missing:
        raise ValueError(
            f"the checkpoint's {kind} tokenizer lacks the entry {missing}: it cannot be rebuilt. "
            "The file is damaged or foreign; train again."
        ) from None
