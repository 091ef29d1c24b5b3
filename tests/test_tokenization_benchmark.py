"""What docs/tokenization.md measures: by hand on a few words; every measure is recorded."""

from __future__ import annotations

import pytest

from benchmarks import tokenization
from benchmarks.tokenization import (
    LABELS,
    MEASURES,
    TEXTS,
    english_vocabulary,
    read,
    read_all,
    results_of,
    sizes_of_bpe,
)
from benchmarks.tokenization_figures import fertility_figure, size_figure
from bert.wordpiece import WordPiece
from transformer.grammar_corpus import grammar_corpus
from tutorial_kit.byte_bpe import ByteBPE
from tutorial_kit.tokenizers import CharTokenizer

ENGLISH = ["the cat sat on the mat", "the dog sat on the log", "a cat and a dog"] * 4
HELD_OUT = ["the cog sat", "a mat on the dog"]


@pytest.fixture(scope="module")
def readings():
    return read_all((ENGLISH, HELD_OUT), grammar_corpus(600), size=1500)


def test_a_reading_by_hand():
    """Two words, 6 characters and a space; "é" is two bytes and no character of the vocabulary."""
    found = read(CharTokenizer(list("ab c"), unknown=True), ["ab cabé"])
    assert (found.tokens, found.words, found.characters, found.size) == (7, 2, 6, 8)
    assert (found.unknown, found.distinct, found.vocabulary) == (1, 5, 5)
    columns = {name: found.column(name) for name in tokenization.COLUMNS}
    assert columns["per_word"] == 3.5 and columns["per_character"] == 7 / 6
    assert columns["bytes"] == 8 / 7 and columns["unknown"] == 100 / 7 and columns["used"] == 100


def test_the_unknown_token_of_wordpiece_counts_once_for_a_whole_word():
    wordpiece = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat"])
    found = read(wordpiece, ["the cat", "the walrus"])
    assert (found.tokens, found.unknown) == (4, 1)


def test_nothing_to_read_is_an_error():
    with pytest.raises(ValueError, match="0 words to read"):
        read(CharTokenizer(["a"]), [" ", ""])


def test_bytes_and_bpe_know_every_text_and_the_others_do_not():
    vocabulary = english_vocabulary(ENGLISH, 300)
    found = {name: read(tokenizer, ["猫在睡觉"]) for name, tokenizer in vocabulary.items()}
    for name in ("bytes", "bpe"):
        assert (found[name].tokens, found[name].unknown) == (12, 0)  # three bytes a character
    for name in ("characters", "words", "wordpiece"):
        assert found[name].tokens == found[name].unknown == 4
    assert list(vocabulary) == list(LABELS)


def test_learned_pieces_are_longer_than_letters_and_chinese_must_be_learned(readings):
    english, chinese, foreign = (
        readings[text] for text in ("documentation", "grammar_chinese", "foreign_chinese")
    )
    for name in ("words", "bpe", "wordpiece"):
        assert english[name].tokens < english["characters"].tokens == english["bytes"].tokens
    assert chinese["bpe"].tokens < chinese["characters"].tokens < foreign["bpe"].tokens
    assert chinese["bytes"].tokens == foreign["bytes"].tokens
    assert {name: row["bytes"].size for name, row in readings.items()}.keys() == TEXTS.keys()


def test_a_smaller_vocabulary_is_the_beginning_of_a_larger_one():
    sizes = sizes_of_bpe(ENGLISH, HELD_OUT, (257, 262, 270))
    for size, reading in sizes.items():
        alone = read(ByteBPE.train(ENGLISH, size), HELD_OUT)
        assert alone == reading and reading.vocabulary == size
    assert sizes[257].tokens > sizes[262].tokens > sizes[270].tokens


def test_every_measure_is_recorded_and_the_figures_state_the_finding(readings):
    sizes = dict.fromkeys(tokenization.SIZES, readings["documentation"]["bpe"])
    results = {result.name: result for result in results_of(readings, sizes)}
    assert results.keys() == MEASURES.keys()
    assert all(result.note == MEASURES[name] for name, result in results.items())
    reading = readings["grammar_chinese"]["bpe"]
    name = "tokenization.grammar_chinese.bpe_per_character"
    assert results[name].value == reading.tokens / reading.characters
    assert results["tokenization.foreign_chinese.wordpiece_unknown"].unit == "%"
    values = {text: dict.fromkeys(LABELS, 2.0) for text in TEXTS}
    unknown = {text: dict.fromkeys(LABELS, 0.0) for text in TEXTS}
    values["foreign_chinese"]["bpe"], unknown["foreign_chinese"]["words"] = 3.0, 99.0
    figure = fertility_figure(values, unknown, LABELS)
    assert "2.00 tokens for a Chinese character" in figure._suptitle.get_text()
    shown = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert shown.count("2.00, all unknown") == 1 and shown.count("3.00") == 1
    title = size_figure({257: (1.0, 40.0), 512: (2.0, 70.0), 1024: (3.0, 50.0)})
    assert title._suptitle.get_text().startswith("1,024 tokens instead of 512: each is 50 % longer")
