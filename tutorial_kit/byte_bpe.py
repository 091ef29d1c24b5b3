"""Byte-level byte-pair encoding: the tokenizer of GPT-2.

Source: Sennrich et al. 2016 (the merges), Radford et al. 2019, section 2.2 (on bytes). Read
`tutorial_kit.byte_level` (text to pieces to bytes) and `tutorial_kit.bpe_merges` (merges, learned
and applied) first; this file joins them to a tokenizer with the ids and files of GPT-2
(`tutorial_kit.bpe_vocabulary`). Every text has bytes and every byte an id: there is no ``<unk>``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutorial_kit.bpe_merges import Pair, apply_merges, count_pieces, learn_merges
from tutorial_kit.bpe_vocabulary import (
    bytes_of_tokens,
    find_special_tokens,
    name_tokens,
    number_of_merges,
    read_files,
    write_files,
)
from tutorial_kit.byte_level import BYTE_TO_SYMBOL, CHUNK, blocks, check_encodable, split_pieces
from tutorial_kit.tokenizers import checked_ids

END_OF_TEXT = "<|endoftext|>"
CACHE_CHARACTERS = 1 << 21  # the cache is emptied when its chunks hold more characters than this


class ByteBPE:
    """GPT-2's tokenizer, with merges learned here or published ones.

    >>> tokenizer = ByteBPE.train("low low low lower lowest", n_merges=4)
    >>> tokenizer.pieces("lower low")
    ['low', 'e', 'r', ' low']
    >>> tokenizer.encode("lower low")
    [257, 68, 81, 258]
    >>> tokenizer.decode([258, 68, 81])
    ' lower'
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[str],
        special_tokens: Sequence[str] = (END_OF_TEXT,),
    ) -> None:
        """Builds a tokenizer from what GPT-2's two files hold; see `train` and `load`.

        Args:
            vocab: token, in the printable form of `byte_level.to_symbols` -> id.
            merges: one string "left right" per merge, the lowest rank first.
            special_tokens: the entries of ``vocab`` that stand for themselves, not for bytes.

        Raises:
            ValueError: the three do not fit together.
        """
        self.vocab = dict(vocab)
        self.merges = list(merges)
        self._token_bytes = bytes_of_tokens(self.vocab, self.merges, special_tokens)  # by id
        self.special_tokens = {name: self.vocab[name] for name in special_tokens}
        longest_first = sorted(special_tokens, key=len, reverse=True)
        self._special_pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._byte_ids = [self.vocab[BYTE_TO_SYMBOL[byte]] for byte in range(256)]
        self._ranks: dict[Pair, int] = {}  # pair -> rank
        self._merged: list[int] = []  # rank -> the id that replaces the pair
        for rank, merge in enumerate(self.merges):
            left, right = merge.split(" ")
            self._ranks[self.vocab[left], self.vocab[right]] = rank
            self._merged.append(self.vocab[left + right])
        self._ids_of_chunk = _ChunkCache(self._encode_chunk)

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int | None = None,
        *,
        n_merges: int | None = None,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        min_count: int = 2,
    ) -> ByteBPE:
        """Learns a vocabulary. Its ids, as in GPT-2: 256 bytes, the merges, the special tokens.

        Args:
            texts: one text or several. Merges never join the end of one with the start of the next.
            vocab_size: the number of tokens wanted, all included; or else
            n_merges: the number of merges wanted.
            special_tokens: names of tokens that plain text never produces.
            min_count: only pairs that occur this often are merged. If there are too few of them,
                the vocabulary is smaller than wanted.

        Raises:
            ValueError: the text is empty, a size is impossible, or a special token is a plain one.
        """
        n_merges = number_of_merges(vocab_size, n_merges, len(special_tokens), min_count)
        piece_counts = count_pieces([texts] if isinstance(texts, str) else texts)
        if not piece_counts:
            raise ValueError(
                "the text to train a vocabulary on has 0 characters: there are no pairs to count. "
                "Give it a text that is not empty."
            )
        pairs = learn_merges(piece_counts, n_merges, min_count=min_count)
        vocab, merges = name_tokens(pairs, special_tokens)
        return cls(vocab, merges, special_tokens)

    @property
    def vocab_size(self) -> int:
        """The number of tokens: bytes, merges and special tokens."""
        return len(self.vocab)

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Returns the ids of ``text``.

        Args:
            text: any text. An empty one has no ids.
            allow_special: turn the name of a special token into its id. Leave this off for text
                from others: with it, whoever writes "<|endoftext|>" ends your document.

        Raises:
            ValueError: the text holds half of a surrogate pair, which is no character.
        """
        return list(chain.from_iterable(self._encode_blocks(text, allow_special)))

    def encode_array(self, text: str, *, allow_special: bool = False) -> NDArray[np.int32]:
        """Returns the ids of ``text``, shape (n_tokens,); for long texts. See `encode`."""
        return np.concatenate(
            [np.array(ids, np.int32) for ids in self._encode_blocks(text, allow_special)]
        )

    def _encode_blocks(self, text: str, allow_special: bool) -> Iterator[list[int]]:
        check_encodable(text)
        split_special = allow_special and self.special_tokens
        parts = self._special_pattern.split(text) if split_special else [text]
        for place, part in enumerate(parts):
            if place % 2:  # split() returns text, special token, text, special token, ..., text
                yield [self.special_tokens[part]]
                continue
            for block in blocks(part):
                if self._ids_of_chunk.n_characters > CACHE_CHARACTERS:
                    self._ids_of_chunk = _ChunkCache(self._encode_chunk)
                ids_of_chunks = map(self._ids_of_chunk.__getitem__, CHUNK.findall(block))
                yield list(chain.from_iterable(ids_of_chunks))

    def _encode_chunk(self, chunk: str) -> list[int]:
        ids: list[int] = []
        for piece in split_pieces(chunk):
            byte_ids = [self._byte_ids[byte] for byte in piece.encode("utf-8")]
            ids += apply_merges(byte_ids, self._ranks, self._merged)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ``ids``; bytes that are not UTF-8 become U+FFFD.

        A model may produce such bytes, `encode` never does.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Returns the bytes of ``ids``; a special token's are its name.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        return b"".join([self._token_bytes[i] for i in checked_ids(ids, self.vocab_size)])

    def pieces(self, text: str) -> list[str]:
        """Returns the text of each token of ``text``, to look at."""
        return [self.decode([token_id]) for token_id in self.encode(text)]

    def save(self, folder: Path | str) -> None:
        """Writes ``vocab.json`` and ``merges.txt``, which GPT-2 tokenizers of others read too.

        Raises:
            OSError: the folder cannot be written to.
        """
        write_files(Path(folder), self.vocab, self.merges)

    @classmethod
    def load(cls, folder: Path | str, special_tokens: Sequence[str] | None = None) -> ByteBPE:
        """Reads a folder with ``vocab.json`` and ``merges.txt``.

        Args:
            folder: written by `save`, or a published GPT-2 checkpoint.
            special_tokens: by default those that `bpe_vocabulary.find_special_tokens` finds.

        Raises:
            FileNotFoundError: one of the files is missing.
            ValueError: one is damaged, or they do not belong together.
        """
        vocab, merges = read_files(Path(folder))
        if special_tokens is None:
            special_tokens = find_special_tokens(vocab, merges)
        return cls(vocab, merges, special_tokens)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types only, ready for a checkpoint."""
        return {
            "kind": "byte_bpe",
            "vocab": dict(self.vocab),
            "merges": list(self.merges),
            "special_tokens": list(self.special_tokens),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ByteBPE:
        """Rebuilds what `to_dict` described."""
        return cls(values["vocab"], values["merges"], values["special_tokens"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByteBPE) and self.to_dict() == other.to_dict()


class _ChunkCache(dict[str, list[int]]):
    """Chunk -> ids, worked out when a chunk is looked up for the first time."""

    def __init__(self, encode_chunk: Callable[[str], list[int]]) -> None:
        self.encode_chunk = encode_chunk
        self.n_characters = 0

    def __missing__(self, chunk: str) -> list[int]:
        self.n_characters += len(chunk)
        self[chunk] = ids = self.encode_chunk(chunk)
        return ids
