"""One vocabulary for both languages: byte-pair encoding that never cuts a common character.

A byte-level BPE may merge the last byte of one Chinese character with the first of the next, if the
two are neighbors often enough. Such tokens translate as well as others, but nobody can read them
in a picture. So here the bytes of each common Chinese character are merged first, and rare
characters stay bytes that merge with nothing outside their own character: every token is whole
characters, or bytes of a single one. The rest is the kit's BPE (`tutorial_kit.bpe_merges`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from tutorial_kit.bpe_merges import count_pieces, learn_merges
from tutorial_kit.bpe_vocabulary import name_tokens, number_of_merges
from tutorial_kit.byte_bpe import ByteBPE

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
MIN_COUNT = 2  # a pair of tokens that occurs once teaches nothing about other text
COMMON = 10  # a Chinese character that occurs this often becomes a token
HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")


def train_tokenizer(
    texts: Iterable[str], bpe_tokens: int, words: Mapping[str, int] | None = None
) -> ByteBPE:
    """Learns the joint vocabulary.

    Args:
        texts: training text, usually of both sides.
        bpe_tokens: tokens wanted: 256 bytes, the merges, four special tokens.
        words: words of a language without spaces and their counts, if they are known. Merges do
            not cross their borders.

    Raises:
        ValueError: the text is empty, or there are too few tokens for the bytes.
    """
    n_merges = number_of_merges(bpe_tokens, None, len(SPECIAL_TOKENS), MIN_COUNT)
    pieces = count_pieces(texts)
    for word, count in (words or {}).items():
        for piece, inside in count_pieces([word]).items():
            pieces[piece] += count * inside
    if not pieces:
        raise ValueError("the text to learn a vocabulary from is empty. Give it some sentences.")
    merges = learn_merges(readable_pieces(pieces), n_merges, min_count=MIN_COUNT)
    return ByteBPE(*name_tokens(merges, SPECIAL_TOKENS), SPECIAL_TOKENS)


def readable_pieces(pieces: Mapping[str, int]) -> Counter[str]:
    """Cuts pieces at rare Chinese characters, and adds common ones with the weight of all text.

    >>> readable_pieces({"猫狗猫": 5})
    Counter({'猫': 25, '狗': 5})
    """
    characters: Counter[str] = Counter()
    for piece, count in pieces.items():
        for character in HAN.findall(piece):
            characters[character] += count
    common = {character for character, count in characters.items() if count >= COMMON}
    result: Counter[str] = Counter()
    for piece, count in pieces.items():
        part = ""
        for character in piece:
            if character in characters and character not in common:
                result[part] += count
                result[character] += count
                part = ""
            else:
                part += character
        result[part] += count
    most = sum(len(piece) * count for piece, count in pieces.items())  # no pair occurs so often
    for character in sorted(common):
        result[character] += most
    del result[""]
    return result


def is_han(character: str) -> bool:
    """Tells whether a character is a Chinese one."""
    return HAN.match(character) is not None
