"""A tokenizer that knows some words and spells all others.

Frequent words, those that requests are made of, are one token each. Every other word is cut into
its letters. So a model reads a short request, and still sees each letter of the word that it is
asked to work on: a model whose tokens are pieces of words cannot see their letters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutorial_kit.tokenizers import UNKNOWN, checked_ids

PRINTABLE = "\n" + "".join(map(chr, range(32, 127)))
"""Line break, space and every printable character of ASCII: the letters to spell with."""

CHAT_TOKENS = ("<pad>", "<user>", "<assistant>", "<end>")
"""Tokens of a conversation: padding, who speaks, and the end of a reply."""

_PIECE = re.compile(r" ?[A-Za-z]+|.", re.DOTALL)  # a word with its space, or one character
_WORD = re.compile(r" ?[A-Za-z]+")


class WordTokenizer:
    """One token per known word, one per character of everything else.

    A word is known with or without the space before it; the two are different tokens, so no space
    is ever lost. Special tokens stand for no text: `encode` never returns one, whatever the text
    says, and nobody can fake the end of a turn by typing ``<end>``.

    >>> tokenizer = WordTokenizer(["spell", " backwards"])
    >>> [tokenizer.decode([i]) for i in tokenizer.encode("spell kapi backwards")]
    ['spell', ' ', 'k', 'a', 'p', 'i', ' backwards']
    >>> tokenizer.special_tokens
    {'<pad>': 0, '<user>': 1, '<assistant>': 2, '<end>': 3}
    """

    def __init__(
        self,
        words: Sequence[str],
        characters: str = PRINTABLE,
        special: Sequence[str] = CHAT_TOKENS,
        *,
        unknown: bool = False,
    ) -> None:
        """Makes a tokenizer; ids run over the special tokens, the characters, the words.

        Args:
            words: at least two characters each, letters with at most one space before them.
            characters: what all other text is spelled with.
            special: names of tokens that stand for no text.
            unknown: adds ``<unk>`` to the special tokens. Characters outside ``characters`` then
                become ``<unk>`` instead of an error.

        Raises:
            ValueError: there is no character, a word cannot be found in a text as one piece, or
                two tokens have the same name.
        """
        self.words, self.characters = list(words), characters
        if not characters:
            raise ValueError(
                "the tokenizer got 0 characters: words that it does not know could not be spelled. "
                "Leave characters as they are, or name those of your text."
            )
        for word in self.words:
            if len(word) < 2 or not _WORD.fullmatch(word):
                raise ValueError(
                    f"{word!r} cannot be a word of the vocabulary: text is cut into letters with "
                    "at most one space before them. Use WordTokenizer.from_texts(texts, count)."
                )
        self._special = [*special, *([UNKNOWN] if unknown else [])]
        self._tokens = [*self._special, *characters, *self.words]
        twice = [name for name, times in Counter(self._tokens).items() if times > 1]
        if twice:
            raise ValueError(
                f"the token {twice[0]!r} occurs twice in the vocabulary: it would have two ids. "
                "Name each special token, character and word once."
            )
        self.special_tokens = {name: i for i, name in enumerate(self._special)}
        self._ids = {t: i for i, t in enumerate(self._tokens) if i >= len(self._special)}

    @classmethod
    def from_texts(
        cls, texts: Iterable[str], count: int, *, unknown: bool = False
    ) -> WordTokenizer:
        """Makes tokens of the most frequent words of some texts.

        Args:
            texts: such as the wordings of requests, without the words to work on.
            count: most words to take; of equally frequent ones the alphabet decides.
            unknown: see the class.

        >>> WordTokenizer.from_texts(["say it twice", "say it"], count=2).words
        [' it', 'say']
        """
        pieces = Counter(piece for text in texts for piece in _PIECE.findall(text))
        words = [piece for piece in pieces if len(piece) > 1]
        words.sort(key=lambda word: (-pieces[word], word))
        return cls(words[:count], unknown=unknown)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, special ones included."""
        return len(self._tokens)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of ``text``, never a special token's except ``<unk>``.

        Raises:
            ValueError: a character is not in the vocabulary (and there is no ``<unk>``).
        """
        ids: list[int] = []
        known = self._ids
        for piece in _PIECE.findall(text):
            token = known.get(piece)
            if token is not None:
                ids.append(token)
                continue
            for character in piece:
                token = known.get(character)
                ids.append(self._unknown(character, text) if token is None else token)
        return ids

    def _unknown(self, character: str, text: str) -> int:
        """Returns the id of ``<unk>``, or says which character has no token."""
        if UNKNOWN not in self.special_tokens:
            raise ValueError(
                f"the character {character!r} (U+{ord(character):04X}) at position "
                f"{text.index(character)} is not among the {len(self.characters)} characters that "
                "this vocabulary spells with: it has no id. Remove it, or use unknown=True."
            )
        return self.special_tokens[UNKNOWN]

    def encode_array(self, text: str) -> NDArray[np.int32]:
        """Returns the ids of ``text``, shape (n_tokens,); raises as `encode`."""
        return np.array(self.encode(text), dtype=np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ``ids``; the names of special tokens are written out.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        return "".join([self._tokens[i] for i in checked_ids(ids, self.vocab_size)])

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Returns the text of ``ids`` in UTF-8."""
        return self.decode(ids).encode("utf-8", errors="surrogatepass")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordTokenizer) and self.to_dict() == other.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types only, ready for a checkpoint."""
        unknown = UNKNOWN in self.special_tokens
        return {
            "kind": "words",
            "words": list(self.words),
            "characters": self.characters,
            "special": self._special[:-1] if unknown else list(self._special),
            "unknown": unknown,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WordTokenizer:
        """Rebuilds what `to_dict` described."""
        return cls(
            values["words"], values["characters"], values["special"], unknown=values["unknown"]
        )
