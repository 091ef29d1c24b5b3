"""The character tokenizer, decoding while generating, and rebuilding from a checkpoint."""

import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorial_kit.byte_bpe import ByteBPE
from tutorial_kit.tokenizers import (
    UNKNOWN,
    CharTokenizer,
    StreamDecoder,
    Tokenizer,
    tokenizer_from_dict,
)

TEXT = "To be, or not to be: \U0001f642 é 中文\n"


def test_ids_follow_the_sorted_characters():
    tokenizer = CharTokenizer.from_text("banana")
    assert tokenizer.characters == ["a", "b", "n"]
    assert tokenizer.vocab_size == 3
    assert tokenizer.encode("nab") == [2, 0, 1]
    assert tokenizer.decode([2, 0, 1]) == "nab"
    assert tokenizer.special_tokens == {}


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=0x1FFFF, exclude_categories=["Cs"]), min_size=1))
def test_characters_come_back(text):
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == len(set(text))


def test_array_and_list_agree():
    tokenizer = CharTokenizer.from_text(TEXT)
    ids = tokenizer.encode_array(TEXT)
    assert ids.dtype == np.int32
    assert ids.tolist() == tokenizer.encode(TEXT) == [tokenizer.characters.index(c) for c in TEXT]
    assert tokenizer.encode("") == []
    assert tokenizer.encode_array("").shape == (0,)


def test_decode_takes_lists_arrays_tensors_and_iterators():
    tokenizer = CharTokenizer.from_text("abc")
    for ids in ([0, 2], np.array([0, 2]), torch.tensor([0, 2]), iter([0, 2])):
        assert tokenizer.decode(ids) == "ac"


@pytest.mark.parametrize(
    ("text", "position", "name"),
    [("abz", 2, "'z' (U+007A)"), ("a\U0001f642", 1, "U+1F642"), ("中", 0, "'中' (U+4E2D)")],
)
def test_an_unknown_character_is_named_with_its_position(text, position, name):
    tokenizer = CharTokenizer.from_text("abc")
    with pytest.raises(ValueError, match=f"at position {position} ") as error:
        tokenizer.encode(text)
    assert name in str(error.value)
    assert "unknown=True" in str(error.value)


def test_unk_stands_for_every_unknown_character():
    tokenizer = CharTokenizer.from_text("abc", unknown=True)
    assert tokenizer.vocab_size == 4
    assert tokenizer.special_tokens == {UNKNOWN: 3}
    assert tokenizer.encode("az中b") == [0, 3, 3, 1]
    assert tokenizer.decode([0, 3, 1]) == "a<unk>b"


@pytest.mark.parametrize(
    ("characters", "words"), [([], "0 characters"), (["a", "bc"], "'bc'"), (["a", "a"], "twice")]
)
def test_a_vocabulary_must_be_single_distinct_characters(characters, words):
    with pytest.raises(ValueError, match=words):
        CharTokenizer(characters)


@pytest.mark.parametrize("bad", [-1, -100, 3, 10**9])
def test_ids_outside_the_vocabulary_are_errors(bad):
    with pytest.raises(ValueError, match=f"the id {bad} at position 1 .* from 0 to 2"):
        CharTokenizer.from_text("abc").decode([0, bad])


def test_a_stream_gives_whole_characters_only():
    tokenizer = ByteBPE.train("aa", n_merges=0)
    text = "né 中 \U0001f642!"
    decoder = StreamDecoder(tokenizer)
    parts = [decoder.push(token_id) for token_id in tokenizer.encode(text)]
    assert "".join(parts) + decoder.finish() == text
    assert "\ufffd" not in "".join(parts)
    assert parts[-5:] == ["", "", "", "\U0001f642", "!"]


def test_a_stream_that_ends_inside_a_character_says_so():
    tokenizer = ByteBPE.train("aa", n_merges=0)
    decoder = StreamDecoder(tokenizer)
    assert [decoder.push(i) for i in tokenizer.encode("中")[:2]] == ["", ""]
    assert decoder.finish() == "\ufffd"
    # A byte that cannot continue the character ends it at once.
    decoder = StreamDecoder(tokenizer)
    assert decoder.push(tokenizer.encode("中")[0]) + decoder.push(tokenizer.encode("a")[0]) == (
        "\ufffda"
    )


@settings(deadline=None)
@given(st.lists(st.integers(0, 257), max_size=40))
def test_a_stream_equals_decoding_at_once(ids):
    tokenizer = ByteBPE.train("aaaa", n_merges=1)
    decoder = StreamDecoder(tokenizer)
    assert "".join(map(decoder.push, ids)) + decoder.finish() == tokenizer.decode(ids)


@pytest.mark.parametrize(
    "tokenizer",
    [
        CharTokenizer.from_text(TEXT),
        CharTokenizer.from_text(TEXT, unknown=True),
        ByteBPE.train(TEXT * 3, n_merges=10, special_tokens=["<|endoftext|>", "<pad>"]),
    ],
    ids=["characters", "with <unk>", "bytes"],
)
def test_a_checkpoint_gives_the_same_tokenizer_back(tokenizer: Tokenizer):
    file = io.BytesIO()
    torch.save(tokenizer.to_dict(), file)
    file.seek(0)
    again = tokenizer_from_dict(torch.load(file, weights_only=True))
    assert again == tokenizer
    assert again.encode(TEXT) == tokenizer.encode(TEXT)
    assert again.special_tokens == tokenizer.special_tokens
    assert pickle.loads(pickle.dumps(tokenizer)).encode(TEXT) == tokenizer.encode(TEXT)
    assert tokenizer.decode_bytes(tokenizer.encode(TEXT)) == TEXT.encode()


def test_tokenizers_with_other_tokens_differ():
    assert CharTokenizer.from_text("ab") != CharTokenizer.from_text("abc")
    assert CharTokenizer.from_text("ab") != CharTokenizer.from_text("ab", unknown=True)
    assert ByteBPE.train("aaaa", n_merges=1) != ByteBPE.train("bbbb", n_merges=1)
    assert ByteBPE.train("aaaa", n_merges=1) != CharTokenizer.from_text("a")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "wordpiece"}, "'wordpiece'"),
        ({}, "kind None"),
        ({"kind": "characters", "characters": ["a"]}, "lacks the entry 'unknown'"),
        ({"kind": "byte_bpe", "vocab": {}}, "lacks the entry 'merges'"),
    ],
)
def test_a_foreign_checkpoint_is_a_clear_error(values, words):
    with pytest.raises(ValueError, match=words):
        tokenizer_from_dict(values)
