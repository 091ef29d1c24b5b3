"""Words into pieces: the greedy cut of WordPiece, remembered word by word.

Source: the code published with BERT (google-research/bert, ``tokenization.py``,
WordpieceTokenizer). A word is cut from the left: the longest piece of the vocabulary that starts
it, then the longest that goes on, written with "##", and so on. A word that cannot be cut to its
end is unknown, as is one of more than 100 characters. (The published code allows 200; the libraries
that most BERTs are used with, ``tokenizers`` and ``transformers``, 100, and so do we.)
"""

from __future__ import annotations

from collections.abc import Mapping

from bert.basic_tokenizer import BasicTokenizer

CONTINUES = "##"  # how a piece begins that goes on with a word
LONGEST_WORD = 100  # characters
REMEMBERED_CHARACTERS = 1 << 21  # the memory is emptied when its chunks hold more than this


def is_continuation(token: str) -> bool:
    """Whether a token goes on with a word: "##" and something behind it."""
    return token.startswith(CONTINUES) and len(token) > len(CONTINUES)


def cut_word(word: str, vocabulary: Mapping[str, int], unknown: int, longest: int) -> list[int]:
    """Returns the ids of one word's pieces.

    >>> cut_word("unhappy", {"un": 1, "u": 2, "##happy": 3, "##n": 4}, unknown=0, longest=7)
    [1, 3]
    >>> cut_word("unhappily", {"un": 1, "##happ": 2}, unknown=0, longest=6)
    [0]

    Args:
        word: without white space.
        vocabulary: token -> id.
        unknown: the id of [UNK].
        longest: the length of the longest token, so that no longer piece is looked up.
    """
    if len(word) > LONGEST_WORD:
        return [unknown]
    pieces: list[int] = []
    start = 0
    while start < len(word):
        prefix = CONTINUES if start else ""
        end = min(len(word), start + longest)
        while end > start and prefix + word[start:end] not in vocabulary:
            end -= 1
        if end == start:  # not even one character
            return [unknown]
        pieces.append(vocabulary[prefix + word[start:end]])
        start = end
    return pieces


class PieceMemory(dict[str, list[list[int]]]):
    """Chunk (text without white space) -> the pieces of its words, worked out at first sight.

    Text repeats itself: of two million words some 20,000 differ, so most are one look-up.
    """

    def __init__(self, basic: BasicTokenizer, vocabulary: Mapping[str, int], unknown: int) -> None:
        self.basic = basic
        self.vocabulary = vocabulary
        self.unknown = unknown
        self.longest = max(map(len, vocabulary))
        self.pieces_of_word: dict[str, list[int]] = {}
        self.n_characters = 0

    def __missing__(self, chunk: str) -> list[list[int]]:
        self.n_characters += len(chunk)
        if self.n_characters > REMEMBERED_CHARACTERS:
            self.clear()
            self.pieces_of_word.clear()
            self.n_characters = len(chunk)
        words = []
        for word in self.basic.words(chunk):
            if (pieces := self.pieces_of_word.get(word)) is None:
                pieces = cut_word(word, self.vocabulary, self.unknown, self.longest)
                self.pieces_of_word[word] = pieces
            words.append(pieces)
        self[chunk] = words
        return words
