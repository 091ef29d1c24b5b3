"""A grammar that writes one sentence in two languages at once: English beside Chinese.

A *synchronous grammar* (Aho & Ullman 1969, "Syntax directed translations") has rules with two right
sides. Both name the same slots, each in the order of its language, and whatever fills a slot is a
phrase in both:

    {S} {V.past} {O} {L} {T} .    She bought two books in the shop yesterday.
    {S} {T} {L} {V} 了 {O} 。      她 昨天 在 商店 买 了 两 本 书 。

The rules stand in ``grammar_rules.json``, the words in ``grammar_lexicon.json``. ``{V.past}`` is a
form of the phrase V, and ``{V/S}`` is V agreeing with S ("she reads", "they read").
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from transformer.noun_phrases import NounPhrases, Phrase, join_heads, pick

SLOT = re.compile(r"\{(\w)(?:\.(\w+)|/(\w))?\}")


@dataclass(frozen=True)
class GrammarSentence:
    """A sentence in both languages."""

    english: str
    chinese: str  # without spaces
    words: tuple[str, ...]  # the Chinese words
    combinations: frozenset[str]  # which words it brings together: "apple+eat", "apple+red"


@dataclass(frozen=True)
class Rule:
    """One pair of right sides, with what fills their slots."""

    english: str
    chinese: str
    slots: Mapping[str, str]  # "O" -> "object:V"; "?" at the end: may stay empty
    holds: Sequence[tuple[str, str]] = field(default=())  # slots, or words, that form combinations


class SynchronousGrammar:
    """Draws sentence pairs; the same seed gives the same sentences on every machine."""

    def __init__(self, seed: int) -> None:
        """Reads the rules and the lexicon that lie beside this file."""
        # Of Python's generator only the sequence of random() is promised to stay; see `pick`.
        self.random = random.Random(seed).random
        here = Path(__file__)
        content = json.loads(here.with_name("grammar_rules.json").read_text(encoding="utf-8"))
        self.rules, weights = [], []
        for group in content["rules"]:
            slots = dict(slot.split("=") for slot in group["slots"].split())
            holds = [tuple(pair.split("+")) for pair in group["holds"].split()]
            for english, chinese, weight in group["pairs"]:
                self.rules.append(Rule(english, chinese, slots, holds))
                weights.append(weight)
        self.cumulative = list(accumulate(weights))
        lexicon = here.with_name("grammar_lexicon.json").read_text(encoding="utf-8")
        self.lexicon: dict[str, Any] = json.loads(lexicon)
        self.clashes = re.compile("|".join(self.lexicon["clashes"]))  # "breakfast tonight"
        self.nouns = NounPhrases(self.lexicon, self.random)

    def sentence(self) -> GrammarSentence | None:
        """Draws a sentence; None if the words drawn do not go together (no bird is useful)."""
        point = self.random() * self.cumulative[-1]
        rule = self.rules[next(i for i, total in enumerate(self.cumulative) if point < total)]
        needed = {match[1] for match in SLOT.finditer(rule.english)}
        drawn: dict[str, Phrase] = {}
        for slot, kind in rule.slots.items():
            if slot not in needed:
                continue
            if kind.endswith("?") and self.random() < 0.5:
                drawn[slot] = Phrase("", "")
                continue
            phrase = self._draw(kind.rstrip("?"), drawn)
            if phrase is None:
                return None
            drawn[slot] = phrase
        sentence = assemble(rule, drawn)
        return None if self.clashes.search(sentence.english) else sentence

    def _draw(self, kind: str, drawn: Mapping[str, Phrase]) -> Phrase | None:
        """Returns a phrase for a slot; it may depend on the phrases drawn before."""
        kind, _, argument = kind.partition(":")
        if kind in ("person", "asked", "pronoun"):
            return self._person(kind, drawn)
        if kind == "verb":
            return self._verb([v for v in self.lexicon["verbs"] if set(argument) & set(v[5])])
        if kind == "activity":
            rows = [a for a in self.lexicon["activities"] if argument in a[5]]
            row = pick(rows, self.random)
            return self._verb([[*row[:6], "", row[6]]])
        if kind == "place":
            tags = set(drawn[argument].forms["places"].split())
            rows = [row for row in self.lexicon["places"] if tags & set(row[2].split())]
            if not rows:
                return Phrase("", "")
            english, chinese, _ = pick(rows, self.random)
            return Phrase(english, f"在 {chinese}", english)
        if kind in ("time", "row"):
            rows = self.lexicon["times"][argument] if kind == "time" else self.lexicon[argument]
            english, chinese = pick(rows, self.random)
            return Phrase(english, chinese, english)
        if kind == "precipitation":
            base, past, chinese = pick(self.lexicon["precipitation"], self.random)
            return Phrase(base, chinese, base, {"past": past})
        if kind == "job":
            name, chinese = pick(self.lexicon["jobs"], self.random)
            one = f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
            forms = {"1": one, "s": one, "y": one, "p": f"{name}s"}
            return Phrase(one, chinese, name, forms)
        if kind == "quality":
            rows = self.lexicon["qualities"]
            if argument:
                rows = [row for row in rows if bool(row[1]) == (argument == "compared")]
            english, comparative, chinese = pick(rows, self.random)
            return Phrase(english, chinese, english, {"er": comparative})
        return self.nouns.draw(kind, argument, drawn)

    def _person(self, kind: str, drawn: Mapping[str, Phrase]) -> Phrase | None:
        rows = self.lexicon["people"]
        if kind == "asked":  # "Did I buy two books?" would be an odd thing to ask
            rows = [row for row in rows if row[0] not in ("I", "we")]
        elif kind == "pronoun":
            rows = rows[:6]
        english, as_object, chinese, agreement = pick(rows, self.random)
        others = {phrase.head for phrase in drawn.values()}
        if english in others or (english in ("I", "we") and others & {"I", "we"}):
            return None  # "I gave me", "we are taller than me"
        third = agreement == "s"
        forms = {
            "agreement": "y" if english == "you" else agreement,
            "obj": as_object,
            "be": {"1": "am", "s": "is", "p": "are"}[agreement],
            "was": "were" if agreement == "p" else "was",
            "do": "does" if third else "do",
            "have": "has" if third else "have",
            "go": "goes" if third else "go",
            "s": "s" if third else "",
        }
        return Phrase(english, chinese, english, forms)

    def _verb(self, rows: Sequence[Sequence[str]]) -> Phrase:
        base, third, past, ing, chinese, _, objects, places = pick(rows, self.random)
        forms = {"past": past, "ing": ing, "s": third, "objects": objects, "places": places}
        return Phrase(base, chinese, base, forms)


def assemble(rule: Rule, drawn: Mapping[str, Phrase]) -> GrammarSentence:
    """Puts the phrases into both right sides of the rule."""

    def written(match: re.Match[str]) -> str:
        phrase = drawn[match[1]]
        if match[2]:
            return phrase.forms[match[2]]
        if match[3]:
            return phrase.forms.get(drawn[match[3]].forms["agreement"], phrase.english)
        return phrase.english

    english = " ".join(SLOT.sub(written, rule.english).split())
    english = re.sub(r" ([.?,])", r"\1", english)
    chinese = SLOT.sub(lambda match: drawn[match[1]].chinese, rule.chinese)
    # Two neighboring 在 are one: "正在" and "在 家" give 正在 家.
    words = " ".join(chinese.split()).replace("正在 在 ", "正在 ").split()
    combinations = {name for phrase in drawn.values() for name in phrase.combinations}
    for left, right in rule.holds:  # a slot is one letter, a word is longer: "have+O"
        heads = [drawn[s].head if s in drawn else s * (len(s) > 1) for s in (left, right)]
        if all(heads):
            combinations.add(join_heads(*heads))
    return GrammarSentence(
        english[0].upper() + english[1:], "".join(words), tuple(words), frozenset(combinations)
    )
