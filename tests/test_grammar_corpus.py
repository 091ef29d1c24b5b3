"""The grammar corpus: size, one translation each, held-out combinations, and sentences by hand."""

from __future__ import annotations

import re
import time
from collections import Counter

import pytest

from transformer.grammar_corpus import (
    SEED,
    GrammarCorpus,
    combination_split,
    grammar_corpus,
    words_of,
)
from transformer.noun_phrases import Noun, NounPhrases, Phrase
from transformer.synchronous_grammar import Rule, SynchronousGrammar, assemble

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def corpus() -> GrammarCorpus:
    return grammar_corpus()


@pytest.fixture(scope="module")
def lexicon() -> dict:
    return SynchronousGrammar(0).lexicon


def noun(lexicon: dict, name: str) -> Noun:
    nouns = NounPhrases(lexicon, lambda: 0.0).nouns
    return next(noun for noun in nouns if noun.singular == name)


def test_size_and_time() -> None:
    grammar_corpus.cache_clear()
    start = time.process_time()
    corpus = grammar_corpus()
    assert time.process_time() - start < 3.0
    assert sum(len(corpus.sentences[split]) for split in SPLITS) >= 20_000
    assert all(len(corpus.sentences[split]) >= 800 for split in ("validation", "test"))


def test_the_same_every_time() -> None:
    first = SynchronousGrammar(SEED)
    second = SynchronousGrammar(SEED)
    assert [first.sentence() for _ in range(300)] == [second.sentence() for _ in range(300)]


def test_every_english_sentence_has_one_translation() -> None:
    grammar = SynchronousGrammar(SEED + 1)
    translation: dict[str, str] = {}
    for _ in range(60_000):
        if (sentence := grammar.sentence()) is not None:
            assert translation.setdefault(sentence.english, sentence.chinese) == sentence.chinese


def test_splits_share_no_sentence(corpus: GrammarCorpus) -> None:
    english = [s.english for split in SPLITS for s in corpus.sentences[split]]
    assert len(set(english)) == len(english)


def test_held_out_sentences_hold_combinations_unseen_in_training(corpus: GrammarCorpus) -> None:
    trained = {name for s in corpus.sentences["train"] for name in s.combinations}
    for split in ("validation", "test"):
        for sentence in corpus.sentences[split]:
            unseen = {name for name in sentence.combinations if combination_split(name) != "train"}
            assert unseen and not unseen & trained


def test_every_held_out_word_is_trained(corpus: GrammarCorpus) -> None:
    counts = Counter(word for s in corpus.sentences["train"] for word in words_of(s))
    for split in ("validation", "test"):
        for sentence in corpus.sentences[split]:
            assert min(counts[word] for word in words_of(sentence)) >= 7


def test_no_held_out_combination_leaks_through_another_rule(corpus: GrammarCorpus) -> None:
    """Looks at the words themselves: a held-out adjective and noun never stand side by side."""
    grammar = SynchronousGrammar(0)
    adjectives = {row[0] for row in grammar.lexicon["adjectives"]}
    singular = {form: n.singular for n in grammar.nouns.nouns for form in (n.singular, n.plural)}
    for sentence in corpus.sentences["train"]:
        words = re.findall(r"[\w']+", sentence.english)
        for left, right in zip(words, words[1:], strict=False):
            if left in adjectives and right in singular:
                name = "+".join(sorted((left, singular[right])))
                assert combination_split(name) == "train", sentence.english


def test_every_word_of_the_lexicon_is_used(corpus: GrammarCorpus, lexicon: dict) -> None:
    text = " ".join(sentence.english.lower() for sentence in corpus.sentences["train"])
    for table, column in (("people", 0), ("nouns", 0), ("adjectives", 0), ("places", 0)):
        for row in lexicon[table]:
            assert re.search(rf"\b{re.escape(row[column].lower())}\b", text), row
    for row in lexicon["verbs"] + lexicon["activities"]:
        assert any(re.search(rf"\b{re.escape(form.lower())}\b", text) for form in row[:4]), row


def test_chinese_is_written_in_chinese(corpus: GrammarCorpus) -> None:
    for split in SPLITS:
        for sentence in corpus.sentences[split]:
            assert re.fullmatch(r"[\u4e00-\u9fff，]+[。？]", sentence.chinese), sentence
            assert "".join(sentence.words) == sentence.chinese
            assert re.fullmatch(r"[A-Z][A-Za-z',]*( [A-Za-z',]+)*[.?]", sentence.english), sentence
            assert "在在" not in sentence.chinese


def test_agreement(corpus: GrammarCorpus) -> None:
    wrong = [
        r"\b(he|she|Tom|Anna|Peter|Mary|Xiaoming|Xiaohong) (are|were|do|have|want|like|need|go)\b",
        r"\b(you|we|they) (is|was|does|has|wants|likes|needs|goes|am)\b",
        r"\ban (?!hour)[^aeiou]",
        r"\ba [aeio]",
    ]
    for split in SPLITS:
        for sentence in corpus.sentences[split]:
            start = sentence.english[0].lower() + sentence.english[1:]
            if re.match(r"(did|does|do|will|can|have|has|when|why|where|how|what|who)\b", start):
                continue  # "Did she want", "When will Tom go": the verb is bare
            for pattern in wrong:
                found = re.search(pattern, sentence.english)
                assert not found, sentence.english


@pytest.mark.parametrize(
    ("name", "plural", "english", "chinese"),
    [
        ("book", False, "a book", "一 本 书"),
        ("umbrella", False, "an umbrella", "一 把 雨伞"),
        ("cat", True, "two cats", "两 只 猫"),
        ("table", True, "two tables", "两 张 桌子"),
        ("tea", False, "a cup of tea", "一 杯 茶"),
        ("shoes", True, "two pairs of shoes", "两 双 鞋"),
        ("knife", True, "two knives", "两 把 刀"),
        ("sheep", True, "two sheep", "两 只 羊"),
    ],
)
def test_measure_words(lexicon: dict, name: str, plural: bool, english: str, chinese: str) -> None:
    rolls = iter([0.99, 0.5 if plural else 0.0, 0.0])  # no adjective; a number or one; two
    phrases = NounPhrases(lexicon, lambda: next(rolls))
    chosen = next(noun for noun in phrases.nouns if noun.singular == name)
    phrase = phrases._some(chosen)
    assert (phrase.english, " ".join(phrase.chinese.split())) == (english, chinese)


def test_a_useful_book_but_an_old_one(lexicon: dict) -> None:
    phrases = NounPhrases(lexicon, lambda: 0.0)
    book = next(noun for noun in phrases.nouns if noun.singular == "book")
    rows = {row[0]: row for row in lexicon["adjectives"]}
    for adjective, expected in (("useful", "a useful book"), ("old", "an old book")):
        phrases.adjectives[id(book)] = [rows[adjective]]
        assert phrases._some(book).english == expected


def test_slots_change_places_and_verbs_agree() -> None:
    rule = Rule("{S} {V/S} {O} {L} {T} .", "{S} {T} 正在 {L} {V} {O} 。", {}, [("V", "O")])
    drawn = {
        "S": Phrase("she", "她", "she", {"agreement": "s"}),
        "V": Phrase("read", "看", "read", {"s": "reads"}),
        "O": Phrase("a red book", "一 本 红色 的 书", "book", combinations=("book+red",)),
        "L": Phrase("at home", "在 家里", "at home"),
        "T": Phrase("", ""),
    }
    sentence = assemble(rule, drawn)
    assert sentence.english == "She reads a red book at home."
    assert sentence.chinese == "她正在家里看一本红色的书。"
    assert sentence.combinations == {"book+red", "book+read"}
    drawn["S"] = Phrase("they", "他们", "they", {"agreement": "p"})
    assert assemble(rule, drawn).english == "They read a red book at home."


def test_translations_a_speaker_would_give(corpus: GrammarCorpus) -> None:
    """Shapes of the corpus's sentences, one for each difference between the languages."""
    chinese = {s.english: s.chinese for split in SPLITS for s in corpus.sentences[split]}
    shapes = [
        (r"^.* is \w+ing .* in the \w+\.$", r"正在"),  # progressive
        (r"^Did .*\?$", r"吗？$"),  # yes/no question
        (r" did not ", r"没有"),  # negated past
        (r" will not ", r"不会"),  # negated future
        (r" do(es)? not (?!like|need|have|want|know)", r"不|没有"),
        (r"^This is the \w+ that ", r"^这是.*的"),  # relative clause before the noun
        (r" (taller|bigger|older|\w+ier) than ", r"比"),
        (r"^How many ", r"几"),
        (r"(?<!before) yesterday\.$", r"昨天.+"),
        (r"^There (is|are) (?!no)", r"有"),
        (r"^If it rains tomorrow, ", r"^如果明天下雨，"),
    ]
    for english, expected in shapes:
        matching = [pair for pair in chinese.items() if re.search(english, pair[0])]
        assert len(matching) > 10, english
        for pair in matching:
            assert re.search(expected, pair[1]), pair


def test_the_small_corpus_keeps_the_rules() -> None:
    corpus = grammar_corpus(600)
    trained = {word for s in corpus.sentences["train"] for word in words_of(s)}
    assert 450 <= len(corpus.sentences["train"]) <= 600
    for split in ("validation", "test"):
        assert len(corpus.sentences[split]) >= 5
        assert all(words_of(sentence) <= trained for sentence in corpus.sentences[split])


def test_too_few_sentences_are_refused() -> None:
    with pytest.raises(ValueError, match="n_sentences=3.*Use 600 to 100,000"):
        grammar_corpus(3)
