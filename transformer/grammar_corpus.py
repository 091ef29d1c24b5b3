"""The offline translation corpus: English to Chinese, from a grammar of the project's own.

What makes translation more than a dictionary is in it: another word order (time and place before
the verb, relative clauses before the noun), agreement on one side and measure words on the other,
tense against aspect (了, 正在, 会), two negations (不, 没有), questions, comparison. Every English
sentence has exactly one translation, so that a model's output is right or wrong.

The held-out sentences are not just new: each holds a *combination* of words ("apple+eat",
"apple+red") that never occurs in training, though each of its words does. Lake & Baroni 2018
("Generalization without systematicity", section 3) asked this of sequence-to-sequence models.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections import Counter
from dataclasses import dataclass

from transformer.synchronous_grammar import GrammarSentence, SynchronousGrammar

N_SENTENCES = 24_000
N_SENTENCES_SMALL = 600  # for smoke tests
SEED = 1
VALIDATION_PERCENT, TEST_PERCENT = 3, 6  # of the combinations; sentences hold one to four of them

# Verbs with a single object: held out, the verb would hardly be left in training.
ALWAYS_TRAINED = {"sing+song", "film+watch", "story+tell", "ask+question", "answer+question"}


@dataclass(frozen=True)
class GrammarCorpus:
    """The sentences of each split, and the Chinese words they are made of."""

    sentences: dict[str, list[GrammarSentence]]  # "train", "validation", "test"
    chinese_words: Counter[str]  # of the training sentences, with their counts

    def pairs(self, split: str) -> list[tuple[str, str]]:
        """Returns the (English, Chinese) pairs of a split."""
        return [(sentence.english, sentence.chinese) for sentence in self.sentences[split]]


@functools.cache
def grammar_corpus(n_sentences: int = N_SENTENCES) -> GrammarCorpus:
    """Writes the corpus; the same one on every machine.

    Args:
        n_sentences: distinct English sentences to draw. A few held-out ones are then dropped: they
            hold a word that training says less than 7 times (or once, in the small corpus).

    Raises:
        ValueError: the grammar has fewer sentences, or there would be nothing to train on.
    """
    if not 100 <= n_sentences <= 100_000:
        raise ValueError(
            f"n_sentences={n_sentences}: the corpus needs at least 100 to have three splits, and "
            "above 100,000 the grammar repeats itself too often. Use 600 to 100,000."
        )
    grammar = SynchronousGrammar(SEED)
    seen: set[str] = set()
    sentences: dict[str, list[GrammarSentence]] = {"train": [], "validation": [], "test": []}
    while len(seen) < n_sentences:
        sentence = grammar.sentence()
        if sentence is not None and sentence.english not in seen:
            seen.add(sentence.english)
            sentences[split_of(sentence)].append(sentence)
    seen_words = Counter(word for s in sentences["train"] for word in words_of(s))
    known = {word for word, count in seen_words.items() if count > n_sentences // 4000}
    for split in ("validation", "test"):
        sentences[split] = [s for s in sentences[split] if known.issuperset(words_of(s))]
    counts = Counter(word for sentence in sentences["train"] for word in sentence.words)
    return GrammarCorpus(sentences, counts)


def split_of(sentence: GrammarSentence) -> str:
    """Returns the split of a sentence: test or validation if one of its combinations is."""
    splits = {combination_split(combination) for combination in sentence.combinations}
    return next((split for split in ("test", "validation") if split in splits), "train")


@functools.cache
def combination_split(combination: str) -> str:
    """Decides by a hash, so that adding words to the lexicon moves no other combination."""
    if combination in ALWAYS_TRAINED:
        return "train"
    percent = zlib.crc32(combination.encode("utf-8")) % 100
    if percent < TEST_PERCENT:
        return "test"
    return "validation" if percent < TEST_PERCENT + VALIDATION_PERCENT else "train"


def words_of(sentence: GrammarSentence) -> set[str]:
    """Returns the words of both sides; "The" and "the" are two words, as for the tokenizer."""
    return {*re.findall(r"[\w']+", sentence.english), *sentence.words}
