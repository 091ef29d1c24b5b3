"""Byte-pair encoding itself: learn merges from word counts, apply them to a word.

Source: Sennrich, Haddow and Birch 2016, "Neural Machine Translation of Rare Words with Subword
Units", section 3.2 and algorithm 1. Learning merges the most frequent pair of neighbors into a new
symbol, again and again; applying repeats the merges in the order in which they were learned.
A *pair* is two neighboring ids, its *rank* is its place among the merges.

Differences from algorithm 1: the alphabet is the 256 bytes (Radford et al. 2019, section 2.2), so
no text is outside the vocabulary and no end-of-word mark is needed; and pairs are not counted anew
for each merge. A merge changes few words, so the counts of those alone are corrected, and a heap
keeps the most frequent pair on top: on WikiText-2, 8,192 merges touch 0.3 million words instead of
8,192 x 33,000.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from tutorial_kit.byte_level import (
    BYTES_IN_ORDER,
    CHUNK,
    blocks,
    check_encodable,
    split_pieces,
)

Pair: TypeAlias = tuple[int, int]

ID_OF_BYTE = {byte: token_id for token_id, byte in enumerate(BYTES_IN_ORDER)}


def count_pieces(texts: Iterable[str]) -> Counter[str]:
    """Counts the pieces (about: words) of some texts.

    >>> count_pieces(["a rose is a rose"]).most_common(2)
    [(' rose', 2), ('a', 1)]

    Raises:
        ValueError: a text cannot be written in UTF-8.
    """
    chunks: Counter[str] = Counter()
    for text in texts:
        check_encodable(text)
        for block in blocks(text):
            chunks.update(CHUNK.findall(block))
    pieces: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for piece in split_pieces(chunk):
            pieces[piece] += count
    return pieces


def learn_merges(
    piece_counts: Mapping[str, int], n_merges: int, *, min_count: int = 2
) -> list[Pair]:
    """Learns merges, the most frequent pair first.

    Ids 0 to 255 are the bytes in GPT-2's order (`BYTES_IN_ORDER`); the merge of rank r makes the id
    256 + r. Of several pairs with the same count, the one with the smallest (left id, right id) is
    merged first. That is the rule of the ``tokenizers`` library, which learns the same merges.

    The paper's figure 1 example. "es" occurs 6 + 3 times, as does "st"; e comes before s:

    >>> counts = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    >>> name = [chr(byte) for byte in BYTES_IN_ORDER]
    >>> for left, right in learn_merges(counts, 4):
    ...     name.append(name[left] + name[right])
    ...     print(name[left], "+", name[right])
    e + s
    es + t
    l + o
    lo + w

    Args:
        piece_counts: piece -> how often it occurs; see `count_pieces`.
        n_merges: how many merges to learn.
        min_count: stop early when no pair occurs this often. A pair that occurs once teaches
            nothing about other text.

    Returns:
        The merged pairs of ids; fewer than ``n_merges`` if the text runs out of pairs.
    """
    words = [[ID_OF_BYTE[byte] for byte in piece.encode("utf-8")] for piece in piece_counts]
    word_counts = list(piece_counts.values())
    pair_counts, where = _count_pairs(words, word_counts)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)

    merges: list[Pair] = []
    while len(merges) < n_merges:
        # An entry whose count has changed since is out of date; a newer one is in the heap too.
        while heap and -heap[0][0] != pair_counts[heap[0][1]]:
            heapq.heappop(heap)
        if not heap or -heap[0][0] < min_count:
            break
        _, best = heapq.heappop(heap)
        new_id = len(BYTES_IN_ORDER) + len(merges)
        merges.append(best)

        changes: defaultdict[Pair, int] = defaultdict(int)
        for index in where.pop(best):
            before = words[index]
            after = words[index] = merge_pair(before, best, new_id)
            for pair in pairwise(before):
                changes[pair] -= word_counts[index]
            for pair in pairwise(after):
                changes[pair] += word_counts[index]
                where[pair].add(index)
        for pair, change in changes.items():
            if change:
                pair_counts[pair] += change
                heapq.heappush(heap, (-pair_counts[pair], pair))
    return merges


def _count_pairs(
    words: list[list[int]], word_counts: list[int]
) -> tuple[defaultdict[Pair, int], defaultdict[Pair, set[int]]]:
    """Returns pair -> its count in the text, and pair -> the words (their places) that hold it."""
    pair_counts: defaultdict[Pair, int] = defaultdict(int)
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += word_counts[index]
            where[pair].add(index)
    return pair_counts, where


def merge_pair(word: list[int], pair: Pair, new_id: int) -> list[int]:
    """Returns a copy of ``word`` in which ``new_id`` replaces each ``pair``, from left to right.

    >>> merge_pair([7, 7, 7, 8], (7, 7), 256)
    [256, 7, 8]
    """
    left, right = pair
    merged: list[int] = []
    place = 0
    while place < len(word):
        if word[place] == left and word[place + 1 : place + 2] == [right]:
            merged.append(new_id)
            place += 2
        else:
            merged.append(word[place])
            place += 1
    return merged


def apply_merges(ids: list[int], ranks: Mapping[Pair, int], merged: Sequence[int]) -> list[int]:
    """Returns ``ids`` with every possible merge made: the lowest rank first, from left to right.

    The rule needs three lines: look at all pairs, replace the one of the lowest rank, repeat. But
    that looks at every pair after every merge. Here a heap gives the next pair, and links to the
    neighbors make a merge cheap, so that a "word" of a million letters (Chinese has no spaces)
    takes seconds, not days. Short words profit too.

    >>> apply_merges([0, 1, 0, 1, 2], {(0, 1): 0, (256, 2): 1}, [256, 257])
    [256, 257]

    Args:
        ids: the ids of a word's bytes.
        ranks: pair -> rank.
        merged: rank -> the id that replaces the pair.
    """
    ids = list(ids)
    end = len(ids)
    left_of, right_of = list(range(-1, end - 1)), list(range(1, end + 1))
    heap = [(ranks[pair], i) for i, pair in enumerate(pairwise(ids)) if pair in ranks]
    heapq.heapify(heap)
    while heap:
        rank, place = heapq.heappop(heap)
        right = right_of[place]
        # An earlier merge may have changed or swallowed (-1) one of the two since.
        if right == end or ranks.get((ids[place], ids[right])) != rank:
            continue
        ids[place], ids[right] = merged[rank], -1
        after = right_of[place] = right_of[right]
        if after < end:
            left_of[after] = place
            if (new_rank := ranks.get((ids[place], ids[after]))) is not None:
                heapq.heappush(heap, (new_rank, place))
        before = left_of[place]
        if before >= 0 and (new_rank := ranks.get((ids[before], ids[place]))) is not None:
            heapq.heappush(heap, (new_rank, before))
    return [token_id for token_id in ids if token_id >= 0]
