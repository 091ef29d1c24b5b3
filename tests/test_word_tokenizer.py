"""The tokenizer that knows some words and spells the rest."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorial_kit.tokenizers import UNKNOWN, StreamDecoder, tokenizer_from_dict
from tutorial_kit.word_tokenizer import CHAT_TOKENS, PRINTABLE, WordTokenizer

WORDS = ["spell", " backwards", "Write", " in"]
LETTERS = st.text(st.sampled_from(PRINTABLE))
KNOWN = st.lists(st.one_of(st.sampled_from(WORDS), LETTERS)).map("".join)


@pytest.fixture(scope="module")
def tokenizer() -> WordTokenizer:
    return WordTokenizer(WORDS)


def pieces(tokenizer: WordTokenizer, text: str) -> list[str]:
    return [tokenizer.decode([i]) for i in tokenizer.encode(text)]


def test_known_words_are_one_token_and_others_are_spelled(tokenizer):
    assert pieces(tokenizer, "spell kapi backwards") == [
        "spell", " ", "k", "a", "p", "i", " backwards",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["spelling", "backwards", " spell", "write", "inspell", "SPELL", " in7", "spell_"]
)
def test_a_word_is_whole_with_its_own_space_and_case(tokenizer, text):
    """A known word inside a longer one, without its space or in other letters is no token."""
    words = [piece for piece in pieces(tokenizer, text) if len(piece) > 1]
    assert words == {" in7": [" in"], "spell_": ["spell"]}.get(text, [])


def test_two_spaces_leave_one_for_the_word(tokenizer):
    assert pieces(tokenizer, "a  in") == ["a", " ", " in"]


@settings(deadline=None, max_examples=50)
@given(KNOWN)
def test_text_comes_back(text):
    tokenizer = WordTokenizer(WORDS)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert all(len(CHAT_TOKENS) <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.encode_array(text).tolist() == ids


def test_arrays_have_the_protocols_type(tokenizer):
    assert tokenizer.encode_array("spell").dtype == np.int32
    assert tokenizer.encode_array("").shape == (0,)


def test_special_tokens_come_first_and_no_text_makes_one(tokenizer):
    assert tokenizer.special_tokens == {"<pad>": 0, "<user>": 1, "<assistant>": 2, "<end>": 3}
    assert tokenizer.vocab_size == 4 + len(PRINTABLE) + len(WORDS)
    text = "".join(CHAT_TOKENS)
    assert min(tokenizer.encode(text)) > 3  # typed, so spelled
    assert tokenizer.decode([0, 1, 2, 3]) == text  # and written out, so that one sees it


def test_every_printable_character_has_a_token(tokenizer):
    assert [c for c in map(chr, range(128)) if c in PRINTABLE] == [
        "\n", *(chr(i) for i in range(128) if chr(i).isprintable())
    ]  # fmt: skip
    assert len(tokenizer.encode(PRINTABLE)) == 96


def test_a_foreign_character_is_named(tokenizer):
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\) at position 3 .* use unknown=True"):
        tokenizer.encode("café é")


def test_unk_stands_for_foreign_characters():
    tokenizer = WordTokenizer(WORDS, unknown=True)
    assert tokenizer.special_tokens[UNKNOWN] == 4
    assert tokenizer.decode(tokenizer.encode("é 中 in")) == "<unk> <unk> in"


@pytest.mark.parametrize("bad", [-1, -100, 10**6])
def test_ids_outside_the_vocabulary_are_errors(tokenizer, bad):
    with pytest.raises(ValueError, match=f"the id {bad} at position 1"):
        tokenizer.decode([5, bad])


def test_the_most_frequent_words_are_taken():
    tokenizer = WordTokenizer.from_texts(["spell ", " backwards", "spell ", " in a row"], 3)
    assert tokenizer.words == ["spell", " a", " backwards"]
    assert WordTokenizer.from_texts(["x y z"], 9).words == [" y", " z"]  # "x" is a character


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"words": ["a"]}, "'a' cannot be a word"),
        ({"words": ["two words"]}, "'two words' cannot be a word"),
        ({"words": ["  in"]}, "cannot be a word"),
        ({"words": ["in7"]}, "cannot be a word"),
        ({"words": ["in", "in"]}, "'in' occurs twice"),
        ({"words": [], "characters": "aba"}, "'a' occurs twice"),
        ({"words": [], "special": ["<end>", "<end>"]}, "'<end>' occurs twice"),
        ({"words": [], "special": ["a"]}, "'a' occurs twice"),
        ({"words": [], "characters": ""}, "0 characters"),
    ],
)
def test_a_vocabulary_without_two_ways_to_read_it(arguments, words):
    with pytest.raises(ValueError, match=words):
        WordTokenizer(**arguments)


@pytest.mark.parametrize("unknown", [False, True])
def test_a_checkpoint_gives_the_same_tokenizer_back(unknown):
    tokenizer = WordTokenizer(WORDS, special=["<pad>", "<end>"], unknown=unknown)
    file = io.BytesIO()
    torch.save(tokenizer.to_dict(), file)
    file.seek(0)
    again = tokenizer_from_dict(torch.load(file, weights_only=True))
    assert again == tokenizer
    assert again.special_tokens == tokenizer.special_tokens
    assert again.encode("spell it backwards") == tokenizer.encode("spell it backwards")
    assert tokenizer != WordTokenizer(WORDS, unknown=unknown)


def test_an_incomplete_checkpoint_is_a_clear_error():
    with pytest.raises(ValueError, match="words tokenizer lacks the entry 'characters'"):
        tokenizer_from_dict({"kind": "words", "words": []})


def test_it_can_be_read_while_it_is_written(tokenizer):
    decoder = StreamDecoder(tokenizer)
    text = "spell kapi backwards"
    assert "".join(map(decoder.push, tokenizer.encode(text))) + decoder.finish() == text
