"""WordPiece: words in pieces from a fixed vocabulary, BERT's tokenizer.

Source: Schuster and Nakajima 2012 (the idea), Wu et al. 2016, section 4.1, Devlin et al. 2019,
section 3 (30,000 tokens). Read first how a text becomes words (`bert.basic_tokenizer`), how a word
is cut (`bert.piece_cutting`) and how a vocabulary is learned (`bert.wordpiece_training`); this file
joins them to a tokenizer with BERT's special tokens and files (`bert.wordpiece_vocabulary`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bert.basic_tokenizer import CHUNK, BasicTokenizer
from bert.piece_cutting import CONTINUES, PieceMemory, is_continuation
from bert.wordpiece_training import learn_tokens
from bert.wordpiece_vocabulary import (
    SPECIAL_TOKENS,
    read_vocabulary,
    tokens_by_id,
    write_vocabulary,
)
from tutorial_kit.tokenizers import checked_ids


class WordPiece:
    """BERT's tokenizer, with a vocabulary learned here (`train_wordpiece`) or published (`load`).

    >>> tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "##s", "i", "."]
    >>> wordpiece = WordPiece(tokens)
    >>> wordpiece.tokens(wordpiece.encode("I play. Playing chess"))
    ['i', 'play', '.', 'play', '##ing', '[UNK]']
    >>> wordpiece.encode_words("I plays")
    [[8], [5, 7]]
    >>> wordpiece.pair([8, 5], [8])
    ([2, 8, 5, 3, 8, 3], [0, 0, 0, 0, 1, 1])
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int] | Sequence[str],
        lower_case: bool = True,
        strip_accents: bool | None = None,
    ) -> None:
        """Makes a tokenizer for a vocabulary.

        Args:
            vocabulary: token -> id, or the tokens in the order of their ids. If one occurs twice in
                such a list (published files have that), the later id is used.
            lower_case: for an uncased vocabulary: text is written small and without accents.
            strip_accents: write letters without accents; None means the same as ``lower_case``.

        Raises:
            ValueError: the ids have gaps, or one of the five special tokens is missing.
        """
        self.token_of_id = tokens_by_id(vocabulary)
        self.vocabulary = {token: place for place, token in enumerate(self.token_of_id)}
        self.special_tokens = {name: self.vocabulary[name] for name in SPECIAL_TOKENS}
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self.special_tokens.values()
        )
        self.basic = BasicTokenizer(lower_case, strip_accents)
        self._special_pattern = re.compile(f"({'|'.join(map(re.escape, SPECIAL_TOKENS))})")
        self._memory = PieceMemory(self.basic, self.vocabulary, self.unk_id)

    @property
    def lower_case(self) -> bool:
        """Whether text is written small before it is cut ("uncased")."""
        return self.basic.lower_case

    @property
    def vocab_size(self) -> int:
        """The number of ids V, special tokens included."""
        return len(self.token_of_id)

    @cached_property
    def word_starts(self) -> Tensor:
        """Whether a token starts a word, bool (V,): False for the pieces that begin with "##"."""
        return torch.tensor([not is_continuation(token) for token in self.token_of_id])

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Returns the ids of ``text``, without [CLS] and [SEP] around them; see `pair`.

        Args:
            text: any text. An empty one has no ids.
            allow_special: turn "[MASK]" and the other special tokens, written in the text, into
                their ids. Without it they are a bracket, a word and a bracket, as in any text.
        """
        return list(chain.from_iterable(self._words(text, allow_special)))

    def encode_array(self, text: str, *, allow_special: bool = False) -> NDArray[np.int32]:
        """Returns the ids of ``text`` as an array of shape (n_tokens,). See `encode`."""
        return np.fromiter(chain.from_iterable(self._words(text, allow_special)), np.int32)

    def encode_words(self, text: str, *, allow_special: bool = False) -> list[list[int]]:
        """Returns the pieces of each word, for masking whole words. See `encode`."""
        return list(map(list, self._words(text, allow_special)))

    def _words(self, text: str, allow_special: bool) -> Iterator[list[int]]:
        parts = self._special_pattern.split(text) if allow_special else [text]
        for place, part in enumerate(parts):
            if place % 2:  # split() returns text, special token, text, special token, ..., text
                yield [self.special_tokens[part]]
                continue
            yield from chain.from_iterable(map(self._memory.__getitem__, CHUNK.findall(part)))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Returns the token of each id, as it stands in the vocabulary.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        return [self.token_of_id[i] for i in checked_ids(ids, self.vocab_size)]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the words of ``ids`` with a space between them; pieces with "##" are glued on.

        What the basic tokenizer removed (capitals, accents, spaces around punctuation) is lost. A
        first piece with "##" keeps it: its word began before ``ids``.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        words: list[str] = []
        for token in self.tokens(ids):
            if words and is_continuation(token):
                words.append(token[len(CONTINUES) :])
            else:
                words.append(f" {token}" if words else token)
        return "".join(words)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Returns the text of ``ids`` in UTF-8; see `decode`."""
        return self.decode(ids).encode("utf-8")

    def pair(
        self, ids_a: Sequence[int], ids_b: Sequence[int] | None = None, max_len: int | None = None
    ) -> tuple[list[int], list[int]]:
        """Returns [CLS] a [SEP], or [CLS] a [SEP] b [SEP], and the segment of each token.

        What is too long is cut token by token: the last of the longer text, of b where both are
        equally long. That is the rule of the published code (run_classifier.py).

        Args:
            ids_a: the first text, as `encode` returns it; may be empty.
            ids_b: the second text; None if there is only one.
            max_len: the most tokens, special tokens included; None for no limit.

        Returns:
            (tokens, segments), two lists of the same length; segments are 0 for [CLS] a [SEP] and
            1 for b [SEP].

        Raises:
            ValueError: ``max_len`` has no room for the special tokens.
        """
        n_special = 2 if ids_b is None else 3
        a, b = list(ids_a), list(ids_b or ())
        if max_len is not None:
            room = max_len - n_special
            if room < 0:
                raise ValueError(
                    f"max_len={max_len} was asked of a sequence with {n_special} special tokens: "
                    f"not even those fit. Use max_len={n_special + 2} or more."
                )
            while len(a) + len(b) > room:
                (a if len(a) > len(b) else b).pop()
        tokens = [self.cls_id, *a, self.sep_id]
        segments = [0] * len(tokens)
        if ids_b is not None:
            tokens += [*b, self.sep_id]
            segments += [1] * (len(b) + 1)
        return tokens, segments

    def save(self, folder: Path | str) -> None:
        """Writes ``vocab.txt`` and ``tokenizer_config.json``, which other BERT tokenizers read.

        Raises:
            OSError: the folder cannot be written to.
        """
        write_vocabulary(Path(folder), self.token_of_id, self.basic)

    @classmethod
    def load(cls, path: Path | str, lower_case: bool | None = None) -> WordPiece:
        """Reads a vocabulary, published or saved here.

        Args:
            path: a vocab.txt, or a folder that holds one.
            lower_case: None means: what the tokenizer_config.json beside it says; without one, an
                uncased vocabulary is known by having no capital letter.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no vocabulary of BERT; the text names the file.
        """
        tokens, basic = read_vocabulary(Path(path), lower_case)
        return cls(tokens, basic.lower_case, basic.strip_accents)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types only, ready for a checkpoint."""
        return {
            "kind": "wordpiece",
            "tokens": list(self.token_of_id),
            "lower_case": self.basic.lower_case,
            "strip_accents": self.basic.strip_accents,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WordPiece:
        """Rebuilds what `to_dict` described."""
        return cls(values["tokens"], values["lower_case"], values["strip_accents"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordPiece) and self.to_dict() == other.to_dict()


def train_wordpiece(
    texts: str | Iterable[str],
    vocab_size: int,
    *,
    lower_case: bool = True,
    min_count: int = 2,
    max_characters: int = 1000,
) -> WordPiece:
    """Learns a vocabulary; see `bert.wordpiece_training.learn_tokens` for the arguments and errors.

    >>> wordpiece = train_wordpiece(["low lower lowest"] * 2, vocab_size=30)
    >>> wordpiece.tokens(wordpiece.encode("Slow lowest"))
    ['s', '##l', '##o', '##w', 'lowest']
    """
    basic = BasicTokenizer(lower_case)
    tokens = learn_tokens(
        [texts] if isinstance(texts, str) else texts,
        vocab_size,
        basic,
        min_count=min_count,
        max_characters=max_characters,
    )
    return WordPiece(tokens, lower_case)
