"""Learning a WordPiece vocabulary from text.

Source: Schuster and Nakajima 2012; Wu et al. 2016, section 4.1. Start with single characters, join
the best pair of neighbors into a new piece, again and again.

Which pair is best? The papers say: the one that raises the likelihood of the text most, which many
write as count(ab) / (count(a) count(b)). Google's trainer was never published. The trainer of the
``tokenizers`` library, with which open BERTs are trained, takes the most frequent pair, as
byte-pair encoding does (Sennrich et al. 2016), and so do we: the quotient prefers rare letters that
occur only together. What makes it WordPiece is the "##" of pieces inside a word and the greedy cut
of `bert.piece_cutting`, which needs no merges, only the vocabulary.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

from bert.basic_tokenizer import CHUNK, BasicTokenizer, is_chinese, is_punctuation
from bert.piece_cutting import CONTINUES
from bert.wordpiece_vocabulary import SPECIAL_TOKENS
from tutorial_kit.bpe_merges import Pair, merge_pair


def count_words(texts: Iterable[str], basic: BasicTokenizer) -> Counter[str]:
    """Counts the words of some texts.

    >>> count_words(["A rose is a rose."], BasicTokenizer()).most_common(2)
    [('a', 2), ('rose', 2)]
    """
    chunks: Counter[str] = Counter()
    for text in texts:
        chunks.update(CHUNK.findall(text))
    words: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for word in basic.words(chunk):
            words[word] += count
    return words


def learn_tokens(
    texts: Iterable[str],
    vocab_size: int,
    basic: BasicTokenizer,
    *,
    min_count: int = 2,
    max_characters: int = 1000,
) -> list[str]:
    """Learns the tokens of a vocabulary, in the order of their ids.

    The order: special tokens, characters, characters inside words ("##a"), pieces as they are
    learned, the most frequent first.

    Args:
        texts: what to learn from.
        vocab_size: the number of tokens wanted, all included. There are fewer if the text runs out
            of pairs that occur ``min_count`` times.
        basic: what cuts the texts into words.
        min_count: characters and pairs that occur less often are left out.
        max_characters: only so many characters, the most frequent, get a token; a word with another
            one is [UNK].

    Raises:
        ValueError: the texts have no word, or ``vocab_size`` has no room for the characters.
    """
    for name, value in (("min_count", min_count), ("max_characters", max_characters)):
        if value < 1:
            raise ValueError(
                f"{name}={value} is below 1: a vocabulary is learned from characters that occur. "
                f"Use {name}=1 or more."
            )
    words = count_words(texts, basic)
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    by_count = sorted(characters.items(), key=lambda item: (-item[1], item[0]))
    kept = sorted(c for c, count in by_count[:max_characters] if count >= min_count)
    if not kept:
        raise ValueError(
            f"the text to learn a vocabulary from has {len(words)} different words and no "
            f"character that occurs {min_count} times: there are no pieces to learn. Give it more "
            "text."
        )
    inside = [CONTINUES + c for c in kept if not (is_punctuation(c) or is_chinese(c))]
    tokens = [*SPECIAL_TOKENS, *kept, *inside]
    if vocab_size < len(tokens):
        raise ValueError(
            f"vocab_size={vocab_size} is too small: {len(SPECIAL_TOKENS)} special tokens and "
            f"{len(kept)} characters, at the start of a word and inside, are {len(tokens)} tokens. "
            f"Use more, or max_characters={max(1, vocab_size // 4)}."
        )
    return extend(tokens, words, vocab_size, min_count)


def extend(
    tokens: list[str], word_counts: Mapping[str, int], vocab_size: int, min_count: int
) -> list[str]:
    """Returns ``tokens`` and the pieces learned from the words, until there are ``vocab_size``.

    Of several pairs with the same count, the one with the smallest (left id, right id) is joined
    first. Counts are corrected where a merge changes words, and a heap keeps the most frequent pair
    on top, as in `tutorial_kit.bpe_merges.learn_merges`, whose alphabet is the bytes.
    """
    tokens = list(tokens)
    id_of = {token: place for place, token in enumerate(tokens)}
    words: list[list[int]] = []
    counts: list[int] = []
    for word, count in word_counts.items():
        symbols = [word[:1], *(CONTINUES + character for character in word[1:])]
        if all(symbol in id_of for symbol in symbols):  # otherwise the word is [UNK]
            words.append([id_of[symbol] for symbol in symbols])
            counts.append(count)
    pair_counts: defaultdict[Pair, int] = defaultdict(int)
    where: defaultdict[Pair, set[int]] = defaultdict(set)  # pair -> places of words that hold it
    for index, ids in enumerate(words):
        for pair in pairwise(ids):
            pair_counts[pair] += counts[index]
            where[pair].add(index)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    while len(tokens) < vocab_size:
        # An entry whose count has changed since is out of date; a newer one is in the heap too.
        while heap and -heap[0][0] != pair_counts[heap[0][1]]:
            heapq.heappop(heap)
        if not heap or -heap[0][0] < min_count:
            break
        best = heapq.heappop(heap)[1]
        changes: defaultdict[Pair, int] = defaultdict(int)
        for index in where.pop(best):
            before = words[index]
            after = words[index] = merge_pair(before, best, len(tokens))
            for pair in pairwise(before):
                changes[pair] -= counts[index]
            for pair in pairwise(after):
                changes[pair] += counts[index]
                where[pair].add(index)
        for pair, change in changes.items():
            if change:
                pair_counts[pair] += change
                heapq.heappush(heap, (-pair_counts[pair], pair))
        left, right = best
        tokens.append(tokens[left] + tokens[right].removeprefix(CONTINUES))
    return tokens
