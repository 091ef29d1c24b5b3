"""Noun phrases in English and Chinese: articles, plurals, measure words, possessives.

English marks number on the noun and chooses between *a* and *an*, *this* and *these*. Chinese
does neither; it puts a measure word between number and noun, and which one depends on the noun:
两 本 书 (two books), 两 只 猫 (two cats), 一 杯 热 茶 (a cup of hot tea).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

# What a person may own, so that nobody speaks of "my river" in a comparison.
OWNED = {
    *("reading", "paper", "picture", "clothes", "pair", "device", "vehicle", "furniture"),
    *("tool", "ware", "pet", "lost", "building"),
}


@dataclass(frozen=True)
class Phrase:
    """What fills a slot, in both languages."""

    english: str
    chinese: str  # words separated by spaces
    head: str = ""  # the dictionary word, which names combinations
    forms: Mapping[str, str] = field(default_factory=dict)  # "past" -> "bought"
    combinations: tuple[str, ...] = ()  # combinations inside the phrase: an adjective and its noun
    noun: Noun | None = None
    plural: bool = False
    determiner: str = ""


@dataclass(frozen=True)
class Noun:
    """A noun that is counted, or one that comes in portions, such as tea or shoes."""

    singular: str
    plural: str
    chinese: str
    measure: str
    tags: frozenset[str]  # its kinds and its own name
    container: tuple[str, str] | None = None  # "cup", "cups"

    def counted(self, adjective: str, plural: bool) -> str:
        """Returns the noun behind a number: "red apples", "cups of hot tea"."""
        if self.container is None:
            return f"{adjective} {self.plural if plural else self.singular}".strip()
        return f"{self.container[plural]} of {self.bare(adjective)}"

    def bare(self, adjective: str = "") -> str:
        """Returns the noun on its own: "red apples", "hot tea"."""
        return f"{adjective} {self.singular if self.container else self.plural}".strip()

    @property
    def bare_is_plural(self) -> bool:
        """Whether the noun on its own takes "are": apples and shoes do, tea does not."""
        return self.container is None or self.plural == "p"


class NounPhrases:
    """Draws noun phrases of several styles.

    ``some``: one, a number, some, many. ``definite``: this, those, my. ``object``: one of the two.
    ``plain``: definite without an adjective; ``other``: the same noun with another determiner.
    ``mine``, ``ours``: a possessive with one thing, with several. ``the``, ``bare``, ``one`` (a
    car), ``count`` (behind "how many"), ``kind``, ``kinds`` and ``single`` (behind "the" or
    "whose") leave the Chinese noun bare or counted. ``predicate``, ``compared`` are adjectives
    that say something about a noun; ``location`` is where it can be.
    """

    def __init__(self, lexicon: Mapping[str, Any], random: Callable[[], float]) -> None:
        """Reads nouns and adjectives.

        Args:
            lexicon: the content of ``grammar_lexicon.json``.
            random: returns numbers in [0, 1).
        """
        self.lexicon, self.random = lexicon, random
        self.nouns = [
            Noun(one, many, chinese, measure, frozenset([*tags.split(), one]))
            for one, many, chinese, measure, tags in lexicon["nouns"]
        ]
        for name, number, chinese, one, many, measure, tags in lexicon["portions"]:
            kinds = frozenset([*tags.split(), name])
            self.nouns.append(Noun(name, number, chinese, measure, kinds, (one, many)))
        self.adjectives = {
            id(noun): [row for row in lexicon["adjectives"] if noun.tags & set(row[4].split())]
            for noun in self.nouns
        }

    def draw(self, style: str, source: str, drawn: Mapping[str, Phrase]) -> Phrase | None:
        """Returns a phrase, or None if there is none.

        Args:
            style: see the class.
            source: a slot (a verb, whose objects are meant, or a noun), or tags with commas.
            drawn: the slots filled so far.
        """
        if style in ("predicate", "compared"):
            return self._said_of(drawn[source].noun, compared=style == "compared")
        if style == "location":
            return self._location(drawn[source].noun)
        if style == "other":
            return self._other(drawn[source])
        tags = drawn[source].forms["objects"].split() if source in drawn else source.split(",")
        noun = pick([noun for noun in self.nouns if noun.tags & set(tags)], self.random)
        if style == "object":
            style = "some" if self.random() < 0.65 else "definite"
        if style == "some":
            return self._some(noun)
        if style in ("definite", "plain"):
            adjective = self._adjective(noun, 0.2 if style == "definite" else 0.0)
            return self._definite(noun, adjective, self.random() < 0.4)
        if style in ("mine", "ours"):
            if style == "mine" and noun.container:
                return None
            return self._possessive(noun, self._adjective(noun, 0.3), style == "ours")
        return self._simple(style, noun)

    def _adjective(self, noun: Noun, chance: float) -> Sequence[str] | None:
        rows = self.adjectives[id(noun)]
        return pick(rows, self.random) if rows and self.random() < chance else None

    def _some(self, noun: Noun) -> Phrase:
        """An indefinite phrase: a book, two books, some books, many books."""
        row = self._adjective(noun, 0.35)
        adjective, roll = row[0] if row else "", self.random()
        if roll < 0.4:
            counted = noun.counted(adjective, plural=False)
            article = "an" if counted[0] in "aeiou" and not counted.startswith("useful") else "a"
            return phrase_of(noun, row, f"{article} {counted}", f"一 {noun.measure}", False)
        if roll < 0.75 or noun.container:
            number, chinese = pick(self.lexicon["numbers"], self.random)
            counted = f"{number} {noun.counted(adjective, plural=True)}"
            return phrase_of(noun, row, counted, f"{chinese} {noun.measure}", True)
        word, chinese = ("some", "一些") if roll < 0.87 else ("many", "很多")
        return phrase_of(noun, row, f"{word} {noun.bare(adjective)}", chinese, True)

    def _definite(self, noun: Noun, row: Sequence[str] | None, plural: bool) -> Phrase:
        if noun.tags & OWNED and self.random() < 0.5:
            return self._possessive(noun, row, plural)
        return self._demonstrative(noun, row, plural and not noun.container)

    def _demonstrative(
        self, noun: Noun, row: Sequence[str] | None, plural: bool, but: str = ""
    ) -> Phrase:
        words = self.lexicon["determiners"]["plural" if plural else "singular"]
        word, chinese = pick([words for words in words if words[0] != but], self.random)
        english = f"{word} {noun.counted(row[0] if row else '', plural)}"
        measure = "" if plural else noun.measure  # 这些 has its measure word built in
        return phrase_of(noun, row, english, f"{chinese} {measure}", plural, word)

    def _possessive(
        self, noun: Noun, row: Sequence[str] | None, plural: bool, but: str = ""
    ) -> Phrase:
        words = self.lexicon["determiners"]["possessive"]
        word, chinese = pick([words for words in words if words[0] != but], self.random)
        if row and row[2].endswith("的"):  # 我 的 便宜 的 手表 has one 的 too many
            row = None
        adjective = row[0] if row else ""
        if noun.container:  # "my shoes", not "my pair of shoes"
            plural, english = noun.bare_is_plural, noun.bare(adjective)
        else:
            english = noun.counted(adjective, plural)
        return phrase_of(noun, row, f"{word} {english}", chinese, plural, word)

    def _other(self, first: Phrase) -> Phrase | None:
        noun, plural = first.noun, first.plural
        assert noun is not None
        owned = first.determiner not in ("this", "that", "these", "those")
        # Portions keep their determiner's kind: "this pair of shoes", "my shoes".
        if owned if noun.container else noun.tags & OWNED and self.random() < 0.5:
            return self._possessive(noun, None, plural, but=first.determiner)
        return self._demonstrative(noun, None, plural, but=first.determiner)

    def _simple(self, style: str, noun: Noun) -> Phrase | None:
        """Styles in which Chinese says the noun, counted or not, without a determiner."""
        if style == "count":
            counted = noun.counted("", plural=True)
            return phrase_of(noun, None, counted, f"几 {noun.measure}", True)
        if style == "bare":
            row = self._adjective(noun, 0.2)
            english = noun.bare(row[0] if row else "")
            return phrase_of(noun, row, english, "", noun.bare_is_plural)
        if style == "the":
            plural = self.random() < 0.3
            return phrase_of(noun, None, f"the {noun.counted('', plural)}", "", plural)
        if style == "one":
            article = "an" if noun.singular[0] in "aeiou" else "a"
            return phrase_of(noun, None, f"{article} {noun.singular}", "", False)
        plural = noun.bare_is_plural if noun.container else style == "kinds"
        if style == "single" and plural:
            return None
        return phrase_of(noun, None, noun.bare() if plural else noun.singular, "", plural)

    def _said_of(self, noun: Noun | None, compared: bool) -> Phrase | None:
        """An adjective behind the verb; colors are left out, they are said differently."""
        rows = [row for row in self.adjectives[id(noun)] if row[3] and (row[1] or not compared)]
        if not rows:
            return None
        english, comparative, _, chinese, _ = pick(rows, self.random)
        return Phrase(english, chinese, english, {"er": comparative})

    def _location(self, noun: Noun | None) -> Phrase | None:
        assert noun is not None
        rows = [row for row in self.lexicon["locations"] if noun.tags & set(row[2].split())]
        if not rows:
            return None
        english, chinese, _ = pick(rows, self.random)
        return Phrase(english, chinese, english)


def phrase_of(
    noun: Noun,
    row: Sequence[str] | None,
    english: str,
    determiner: str,
    plural: bool,
    word: str = "",
) -> Phrase:
    """Puts a Chinese determiner, the adjective's row and the noun together."""
    chinese = f"{determiner} {row[2] if row else ''} {noun.chinese}"
    forms = {"be": "are" if plural else "is", "was": "were" if plural else "was"}
    pairs = (join_heads(row[0], noun.singular),) if row else ()
    return Phrase(english, chinese, noun.singular, forms, pairs, noun, plural, word)


def join_heads(left: str, right: str) -> str:
    """Names a combination of two words, in whichever order they are given.

    >>> join_heads("red", "apple")
    'apple+red'
    """
    return "+".join(sorted((left, right)))


def pick(items: Sequence[T], random: Callable[[], float]) -> T:
    """Returns one of the items; unlike `random.choice`, the same one in every Python."""
    return items[int(random() * len(items))]
