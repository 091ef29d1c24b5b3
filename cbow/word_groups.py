"""Words to draw: groups that belong together, pairs in the same relation, both for any text.

No text has all of them. What a training knows is drawn: the groups whose words are the most
frequent there, so documentation shows other groups than an encyclopedia.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

GROUPS = {
    "numbers": "one two three four five six seven eight nine ten",
    "months": "january february march april june july august september october november december",
    "colors": "red green blue white black yellow gray orange",
    "countries": "france germany italy spain japan china india russia england canada",
    "family": "father mother son daughter brother sister wife husband uncle children",
    "music": "song album band guitar singer music lyrics chorus vocals drums",
    "war": "army troops battle soldiers enemy attack regiment infantry fleet navy",
    "weather": "storm hurricane wind winds rain rainfall tropical cyclone flooding",
    "statistics": "mean variance median covariance deviation probability distribution quantile",
    "types": "integer float boolean string bytes tuple dictionary list int str",
    "plots": "figure axes plot axis legend title marker label colorbar tick",
    "graphs": "graph node nodes edge edges vertex vertices path cycle tree",
    "learning": "classifier estimator regression training features samples prediction labels",
    "networks": "layer layers weights gradient loss batch dropout activation convolution",
    "matrices": "matrix vector eigenvalues diagonal inverse symmetric determinant transpose rows",
}
"""Group -> its words."""

RELATIONS = {
    "singular to plural": "array arrays function functions value values element elements "
    "point points object objects game games song songs year years city cities book books "
    "ship ships",
    "country to capital": "france paris germany berlin italy rome japan tokyo china beijing "
    "russia moscow england london spain madrid ireland dublin greece athens",
    "male to female": "he she his her himself herself man woman father mother son daughter "
    "brother sister king queen husband wife",
    "verb to third person": "return returns compute computes raise raises contain contains "
    "create creates use uses give gives take takes",
    "adjective to comparative": "large larger small smaller high higher low lower fast faster "
    "long longer great greater good better",
}
"""Relation -> its pairs, one after the other."""

LEAST = 4  # known words of a group, or known pairs of a relation, to be drawn


def known_groups(index: Mapping[str, int], most: int = 6, words: int = 8) -> dict[str, list[str]]:
    """Returns the groups that a text tells most about, the most frequent first.

    Args:
        index: word -> its row, frequent words first.
        most: groups to return.
        words: of each group, at most; the most frequent.
    """
    found = {}
    for name, text in GROUPS.items():
        known = sorted((word for word in text.split() if word in index), key=index.__getitem__)
        if len(known) >= LEAST:
            found[name] = known[:words]

    def rarity(name: str) -> float:  # what is missing counts like the rarest word of all
        rows = [index.get(word, len(index)) for word in GROUPS[name].split()]
        return sum(math.log1p(row) for row in rows) / len(rows)

    return {name: found[name] for name in sorted(found, key=rarity)[:most]}


def known_relations(
    index: Mapping[str, int], most: int = 3, pairs: int = 7
) -> dict[str, list[tuple[str, str]]]:
    """Returns the relations of which most pairs are known, with their most frequent pairs.

    Args:
        index: word -> its row, frequent words first.
        most: relations to return.
        pairs: of each relation, at most.
    """
    found = {}
    for name, text in RELATIONS.items():
        known = [pair for pair in _pairs(text.split()) if set(pair) <= index.keys()]
        known.sort(key=lambda pair: max(index[word] for word in pair))
        if len(known) >= LEAST:
            found[name] = known[:pairs]

    def rarity(name: str) -> float:
        rows = [index[word] for pair in found[name] for word in pair]
        return sum(math.log1p(row) for row in rows) / len(rows)

    return {name: found[name] for name in sorted(found, key=rarity)[:most]}


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the words two by two."""
    return list(zip(words[::2], words[1::2], strict=True))
