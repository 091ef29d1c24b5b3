"""The byte-level BPE against the reference implementation, its properties, and bad input."""

import argparse
import inspect
import itertools
import json
import random
import re
import textwrap
import unicodedata
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutorial_kit import byte_bpe, byte_level
from tutorial_kit.bpe_merges import apply_merges, count_pieces, learn_merges, merge_pair
from tutorial_kit.byte_bpe import END_OF_TEXT, ByteBPE
from tutorial_kit.byte_level import (
    BYTE_TO_SYMBOL,
    BYTES_IN_ORDER,
    CHUNK,
    SPACE,
    blocks,
    split_pieces,
    to_bytes,
    to_symbols,
)

tokenizers = pytest.importorskip("tokenizers")

ALL_SPACES = re.findall(f"[{SPACE}]", "".join(map(chr, range(0x3001))))
ALPHABETS = {
    "English": [
        *"etaoinshrdlu",
        " ",
        " ",
        "'s",
        "'ll",
        "'T",
        "I'm",
        "don't",
        ",",
        ".",
        "--",
        "The",
    ],
    "numbers": [*"0123456789", "½", "²", "Ⅷ", "٣", "〇", "三", "\U0001d7d8", "\U00010107", " "],
    "Chinese": [*"的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年，。！？", "\u3000"],
    "emoji": ["🙂", "👩‍👩‍👧‍👦", "👍🏽", "🇫🇷", "❤️", "🏴\U000e0067\U000e0062\U000e007f", " ", "ok"],
    "combining marks": [*"aeiouñ", "\u0301", "\u0308", "\u0323", "\u20dd", "क्षि", "שָׁ", "ก็", " "],
    "control characters": [*map(chr, [*range(32), *range(127, 160)]), "a", " "],
    "white space": [*ALL_SPACES, "x", "1", "!", " ", " ", "\n", "\u200b", "\u180e"],
    "near surrogates": ["\ud7ff", "\ue000", "\ufffd", "\ufeff", "\uffff", "\U0010ffff", "a", " "],
    "invalid-looking bytes": [
        bytes([a, b]).decode(encoding, "replace")
        for a, b in [(0xC3, 0x28), (0xFF, 0xFE), (0xED, 0xA0), (0x80, 0x41), (0xF4, 0x90)]
        for encoding in ("utf-8", "latin-1")
    ],
    "special tokens": [END_OF_TEXT, "<|", "endoftext", "|>", "<pad>", " "],
}
# Characters whose class has not changed since Unicode 3.2: the reference's tables may be younger
# or older than Python's.
SETTLED = [
    chr(c)
    for c in range(0x30000)
    if (category := unicodedata.category(chr(c))) not in ("Cn", "Cs")
    and unicodedata.ucd_3_2_0.category(chr(c)) == category
]
settled_text = st.lists(
    st.sampled_from(SETTLED) | st.sampled_from(["'s", " ", "\n", "a", "1", "!"])
).map("".join)
white_text = st.lists(
    st.sampled_from([" ", "\n", "\t", "\x1c", "\xa0", "\u3000", "a", "1", "!", "'s"])
).map("".join)


def make_lines(n_lines: int) -> list[str]:
    draw = random.Random(0)
    alphabets = [*ALPHABETS.values(), SETTLED]
    lines = []
    for _ in range(n_lines):
        kinds = draw.choices(alphabets, k=draw.randint(1, 3))
        lines.append("".join(draw.choice(draw.choice(kinds)) for _ in range(draw.randint(1, 40))))
    return lines


@pytest.fixture(scope="module")
def corpus() -> str:
    """English, code and the alphabets above: some merges for every kind of character."""
    return "\n".join([inspect.getsource(argparse), inspect.getsource(textwrap), *make_lines(1000)])


@pytest.fixture(scope="module")
def trained(corpus) -> ByteBPE:
    return ByteBPE.train(corpus, n_merges=1500)


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    trained.save(path)
    return path


def reference_tokenizer(folder) -> "tokenizers.Tokenizer":
    model = tokenizers.models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    reference = tokenizers.Tokenizer(model)
    reference.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=True
    )
    return reference


def reference_training(texts, n_merges, min_count=2) -> dict:
    reference = tokenizers.Tokenizer(tokenizers.models.BPE())
    reference.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + n_merges,
        min_frequency=min_count,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    reference.train_from_iterator(texts, trainer)
    model = json.loads(reference.to_str())["model"]
    model["merges"] = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    return model


# --- against the reference ---


def test_ids_equal_the_reference_on_10000_lines(trained, folder):
    reference = reference_tokenizer(folder)
    lines = make_lines(10_000)
    for line, expected in zip(lines, reference.encode_batch(lines), strict=True):
        assert trained.encode(line) == expected.ids, repr(line)
    text = "\n".join(lines)
    expected = reference.encode(text).ids
    assert trained.encode(text) == expected
    assert trained.encode_array(text).tolist() == expected


def test_ids_equal_those_of_transformers(trained, folder):
    transformers = pytest.importorskip("transformers")
    reference = transformers.GPT2TokenizerFast.from_pretrained(str(folder))
    assert len(reference) == trained.vocab_size
    for line in make_lines(2000):
        assert trained.encode(line, allow_special=True) == reference.encode(line), repr(line)
    ids = trained.encode(f"one{END_OF_TEXT}two", allow_special=True)
    assert reference.decode(ids) == trained.decode(ids)


@settings(deadline=None)
@given(settled_text)
def test_pieces_equal_the_reference(text):
    pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    expected = [symbols for symbols, _ in pre_tokenizer.pre_tokenize_str(text)]
    assert [to_symbols(piece.encode()) for piece in split_pieces(text)] == expected


@pytest.mark.parametrize("min_count", [1, 3])
def test_merges_equal_the_reference(corpus, min_count):
    texts = [corpus[start : start + 40_000] for start in range(0, len(corpus), 40_000)]
    ours = ByteBPE.train(texts, n_merges=2000, min_count=min_count, special_tokens=())
    expected = reference_training(texts, 2000, min_count)
    assert ours.merges == expected["merges"]
    assert ours.vocab == expected["vocab"]


@settings(deadline=None)
@given(st.lists(st.text("ab c", max_size=30), min_size=1, max_size=5), st.integers(0, 20))
def test_merges_equal_the_reference_where_counts_tie(texts, n_merges):
    if not any(texts):
        return
    ours = ByteBPE.train(texts, n_merges=n_merges, min_count=1, special_tokens=())
    assert ours.merges == reference_training(texts, n_merges, 1)["merges"]


def test_the_printable_alphabet_is_the_reference_s():
    assert set(BYTE_TO_SYMBOL.values()) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert sorted(BYTE_TO_SYMBOL.values()) == [BYTE_TO_SYMBOL[byte] for byte in BYTES_IN_ORDER]
    assert BYTES_IN_ORDER.index(ord(" ")) == 220  # as in GPT-2's published vocab.json
    assert to_bytes(to_symbols(bytes(range(256)))) == bytes(range(256))


def test_a_folder_trained_elsewhere_with_special_tokens_first_can_be_loaded(tmp_path, corpus):
    special = ["<s>", "<pad>", "[MASK]"]
    reference = tokenizers.Tokenizer(tokenizers.models.BPE())
    reference.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    reference.train_from_iterator([corpus], trainer)
    reference.model.save(str(tmp_path))
    ours = ByteBPE.load(tmp_path)
    assert ours.special_tokens == {"<s>": 0, "<pad>": 1, "[MASK]": 2}
    text = "<s>one [MASK] two<pad>"
    assert ours.encode(text, allow_special=True) == reference.encode(text).ids
    assert ours.decode(ours.encode(text, allow_special=True)) == text


# --- the parts ---


def test_letters_and_numbers_are_unicode_s():
    everything = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF)
    for character_class in ("L", "N"):
        expected = [c for c in everything if unicodedata.category(c)[0] == character_class]
        pieces = split_pieces(" ".join(expected))
        assert "".join(pieces) == " ".join(expected)
        assert len(pieces) == len(expected)
        assert split_pieces("".join(expected)) == ["".join(expected)]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello world", ["Hello", " world"]),
        ("I've we'll he'd it's I'm you're can't", None),
        ("it'S", ["it", "'", "S"]),
        ("a  b", ["a", " ", " b"]),
        ("a \n b\n", ["a", " \n", " b", "\n"]),
        ("x\x1cy", ["x", "\x1c", "y"]),
        ("é", ["é"]),
        ("e\u0301", ["e", "\u0301"]),
        ("中文123", ["中文", "123"]),
    ],
)
def test_pieces_worked_by_hand(text, pieces):
    if pieces is None:
        assert split_pieces(text)[1::2] == ["'ve", "'ll", "'d", "'s", "'m", "'re", "'t"]
    else:
        assert split_pieces(text) == pieces


@settings(deadline=None)
@given(settled_text | white_text)
def test_chunks_can_be_cut_one_by_one(text):
    chunks = CHUNK.findall(text)
    assert "".join(chunks) == text
    assert list(itertools.chain.from_iterable(map(split_pieces, chunks))) == split_pieces(text)


@settings(deadline=None)
@given(settled_text | white_text, st.integers(1, 10))
def test_blocks_can_be_cut_one_by_one(text, size):
    parts = list(blocks(text, size))
    assert "".join(parts) == text
    assert list(itertools.chain.from_iterable(map(split_pieces, parts))) == split_pieces(text)


def apply_merges_slowly(ids, ranks, merged):
    ids = list(ids)
    while pairs := [(ranks[p], i) for i, p in enumerate(itertools.pairwise(ids)) if p in ranks]:
        rank, place = min(pairs)
        ids[place : place + 2] = [merged[rank]]
    return ids


def learn_merges_slowly(piece_counts, n_merges, min_count):
    words = [([BYTES_IN_ORDER.index(b) for b in p.encode()], n) for p, n in piece_counts.items()]
    merges = []
    while len(merges) < n_merges:
        counts = Counter()
        for word, count in words:
            for pair in itertools.pairwise(word):
                counts[pair] += count
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        if counts[best] < min_count:
            break
        words = [(merge_pair(word, best, 256 + len(merges)), count) for word, count in words]
        merges.append(best)
    return merges


@settings(deadline=None)
@given(st.text("aabc", max_size=60), st.integers(0, 30), st.integers(1, 3))
def test_incremental_counts_equal_counting_anew(text, n_merges, min_count):
    counts = count_pieces([text])
    expected = learn_merges_slowly(counts, n_merges, min_count)
    assert learn_merges(counts, n_merges, min_count=min_count) == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40), st.data())
def test_the_heap_equals_the_rule(ids, data):
    """Also for merges that no training would give: several ways to the same token."""
    pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), unique=True, max_size=8)
    ranks = {pair: rank for rank, pair in enumerate(data.draw(pairs))}
    merged = [data.draw(st.integers(4, 6)) for _ in ranks]
    assert apply_merges(ids, ranks, merged) == apply_merges_slowly(ids, ranks, merged)


def test_training_worked_by_hand():
    # " low" 3 times, "low" and " lower" once: "lo" and "ow" 5 times each, and l comes before o.
    tokenizer = ByteBPE.train("low low low low lower", n_merges=4)
    assert tokenizer.merges == ["l o", "lo w", "Ġ low", "e r"][:3]  # "er" occurs only once
    assert tokenizer.vocab_size == 256 + 3 + 1
    assert tokenizer.special_tokens == {END_OF_TEXT: 259}
    assert tokenizer.pieces("lowest slow low") == ["low", "e", "s", "t", " ", "s", "low", " low"]
    assert tokenizer.encode(" low") == [258]


def test_merges_do_not_cross_texts_or_pieces():
    assert ByteBPE.train(["ab", "ab"], n_merges=5).merges == ["a b"]
    assert ByteBPE.train(["a", "b"] * 5, n_merges=5).merges == []
    assert ByteBPE.train("a1a1a1 a1", n_merges=5).merges == []


def test_vocab_size_counts_everything(corpus):
    tokenizer = ByteBPE.train(corpus, vocab_size=300, special_tokens=["<a>", "<b>"])
    assert tokenizer.vocab_size == 300
    assert len(tokenizer.merges) == 42
    assert tokenizer.special_tokens == {"<a>": 298, "<b>": 299}
    assert ByteBPE.train("abc", vocab_size=257).merges == []


# --- properties of the whole ---


@settings(deadline=None)
@given(st.text())
def test_every_text_comes_back(trained, text):
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert trained.decode_bytes(ids) == text.encode()
    assert trained.encode_array(text).tolist() == ids
    assert trained.special_tokens[END_OF_TEXT] not in ids


@settings(deadline=None)
@given(settled_text)
def test_pieces_are_encoded_independently(trained, text):
    one_by_one = [trained.encode(piece) for piece in split_pieces(text)]
    assert trained.encode(text) == list(itertools.chain.from_iterable(one_by_one))


@settings(deadline=None)
@given(st.lists(st.integers(0, 1756), max_size=30))
def test_any_ids_have_bytes_and_text(trained, ids):
    data = trained.decode_bytes(ids)
    assert trained.decode(ids) == data.decode("utf-8", errors="replace")


def test_an_empty_text_has_no_ids(trained):
    assert trained.encode("") == []
    assert trained.encode_array("").shape == (0,)
    assert trained.encode_array("").dtype == np.int32
    assert trained.decode([]) == ""


def test_half_a_character_decodes_to_the_replacement_character(trained):
    first, *_ = ByteBPE.train("aa", n_merges=0).encode("中")
    assert trained.decode([first]) == "\ufffd"
    assert trained.decode_bytes([first]) == "中".encode()[:1]


def test_the_cache_is_emptied_and_changes_nothing(trained, corpus, monkeypatch):
    expected = trained.encode(corpus)
    monkeypatch.setattr(byte_bpe, "CACHE_CHARACTERS", 1000)
    monkeypatch.setattr(byte_bpe, "blocks", lambda text: byte_level.blocks(text, 5000))
    again = ByteBPE.from_dict(trained.to_dict())
    assert again.encode(corpus) == expected
    assert again._ids_of_chunk.n_characters < 1000 + 6000


def test_a_very_long_word_takes_no_quadratic_time(trained):
    word = "".join(random.Random(0).choices("的一是不了人我在有他", k=50_000))
    assert trained.decode(trained.encode(word)) == word


# --- special tokens ---


def test_plain_text_never_makes_a_special_token(trained):
    end = trained.special_tokens[END_OF_TEXT]
    text = f"one{END_OF_TEXT}two"
    assert end not in trained.encode(text)
    assert trained.decode(trained.encode(text)) == text
    ids = trained.encode(text, allow_special=True)
    assert ids == [*trained.encode("one"), end, *trained.encode("two")]
    assert trained.encode(END_OF_TEXT, allow_special=True) == [end]
    assert trained.encode_array(END_OF_TEXT * 2, allow_special=True).tolist() == [end, end]
    assert trained.decode([end]) == END_OF_TEXT


def test_the_longest_special_token_wins():
    tokenizer = ByteBPE.train("aa", n_merges=0, special_tokens=["<a>", "<a><b>", "two words"])
    assert tokenizer.encode("<a><b><a>", allow_special=True) == [257, 256]
    assert tokenizer.encode("two words", allow_special=True) == [258]
    assert tokenizer.decode([258]) == "two words"


def test_without_special_tokens_allow_special_changes_nothing():
    tokenizer = ByteBPE.train("aa", n_merges=0, special_tokens=())
    assert tokenizer.encode("ab<a>", allow_special=True) == tokenizer.encode("ab<a>")


# --- files ---


def test_saved_and_loaded_tokenizers_are_equal(trained, folder):
    loaded = ByteBPE.load(folder)
    assert loaded == trained
    assert loaded.special_tokens == trained.special_tokens
    assert sorted(path.name for path in folder.iterdir()) == ["merges.txt", "vocab.json"]


def test_number_signs_and_windows_line_ends_are_read(tmp_path):
    tokenizer = ByteBPE.train("#### ####", n_merges=2)
    assert tokenizer.merges == ["# #", "## ##"]
    tokenizer.save(tmp_path)
    merges = tmp_path / "merges.txt"
    merges.write_bytes(merges.read_bytes().replace(b"\n", b"\r\n"))
    assert ByteBPE.load(tmp_path) == tokenizer
    merges.write_text("# #\n## ##\n", encoding="utf-8")  # without the version line
    assert ByteBPE.load(tmp_path) == tokenizer


def test_unusual_special_tokens_must_be_named(tmp_path):
    tokenizer = ByteBPE.train("aa", n_merges=0, special_tokens=["end of text"])
    tokenizer.save(tmp_path)
    with pytest.raises(ValueError, match="name it in special_tokens"):
        ByteBPE.load(tmp_path)
    assert ByteBPE.load(tmp_path, special_tokens=["end of text"]) == tokenizer


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"texts": "", "n_merges": 5}, "0 characters"),
        ({"texts": [], "n_merges": 5}, "0 characters"),
        ({"texts": ["", ""], "n_merges": 5}, "0 characters"),
        ({"texts": "a", "vocab_size": 256}, "vocab_size=256 is too small.*257 or more"),
        ({"texts": "a", "vocab_size": 0}, "vocab_size=0 is too small"),
        ({"texts": "a", "n_merges": -1}, "too small"),
        ({"texts": "a"}, "exactly one"),
        ({"texts": "a", "n_merges": 1, "vocab_size": 258}, "exactly one"),
        ({"texts": "a", "n_merges": 1, "min_count": 0}, "min_count=0 is below 1"),
        ({"texts": "a", "n_merges": 1, "special_tokens": ["a"]}, "special token 'a'"),
        ({"texts": "a", "n_merges": 1, "special_tokens": [""]}, "special token ''"),
        ({"texts": "a", "n_merges": 1, "special_tokens": ["<a>", "<a>"]}, "given twice"),
        ({"texts": "ab\ud800", "n_merges": 1}, r"U\+D800, .* at position 2"),
    ],
)
def test_impossible_trainings_are_clear_errors(arguments, words):
    with pytest.raises(ValueError, match=words):
        ByteBPE.train(**arguments)


def test_half_a_surrogate_pair_is_named_with_its_position(trained):
    with pytest.raises(ValueError, match=r"U\+DFFF, half of a surrogate pair, at position 3"):
        trained.encode("abc\udfff")


@pytest.mark.parametrize("bad", [-1, 1757, 10**6])
def test_ids_outside_the_vocabulary_are_errors(trained, bad):
    with pytest.raises(ValueError, match=f"the id {bad} at position 2 .* from 0 to 1756"):
        trained.decode([0, 1, bad])


def edit(text: str, kind: str) -> str:
    """Returns a merges.txt damaged in one way."""
    lines = text.splitlines(keepends=True)
    return {
        "cut between lines": "".join(lines[:-700]),
        "cut inside a line": "".join(lines[:-700]) + lines[-700].split(" ")[0],
        "another order": "".join([lines[0], *lines[:0:-1]]),
        "empty": "",
        "prose": "This is a file\nabout something else\n",
        "empty line": "".join([*lines[:100], "\n", *lines[100:]]),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cut between lines", "no merge makes the token .* cut off"),
        ("cut inside a line", "merge 801 reads .* cut off"),
        ("another order", "merge 1 reads"),
        ("empty", "0 merges"),
        ("prose", "merge 1 reads 'This is a file'"),
        ("empty line", "merge 100 reads ''"),
    ],
)
def test_a_damaged_merges_file_is_a_clear_error(trained, tmp_path, kind, words):
    trained.save(tmp_path)
    merges = tmp_path / "merges.txt"
    merges.write_text(edit(merges.read_text(encoding="utf-8"), kind), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        ByteBPE.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1', "is not JSON"),
        (b"", "is not JSON"),
        (b'["a", "b"]', "not an object"),
        (b'{"a": "b"}', "not an object"),
        (b'{"a": 0}', "do not belong together"),
        (b'{"a": 5}', "ids are not 0 to 0"),
        (b'{"a": 0, "b": 0}', "ids are not 0 to 1"),
        (b"{}", "do not belong together"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
    ],
)
def test_a_damaged_vocabulary_is_a_clear_error(trained, tmp_path, content, words):
    trained.save(tmp_path)
    (tmp_path / "vocab.json").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        ByteBPE.load(tmp_path)


def test_a_vocabulary_of_other_merges_is_a_clear_error(trained, tmp_path):
    trained.save(tmp_path)
    other = ByteBPE.train("something else altogether, else, altogether", n_merges=5)
    (tmp_path / "vocab.json").write_text(json.dumps(other.vocab), encoding="utf-8")
    with pytest.raises(ValueError, match="do not belong together"):
        ByteBPE.load(tmp_path)


@pytest.mark.parametrize("missing", ["vocab.json", "merges.txt"])
def test_a_missing_file_is_named(trained, tmp_path, missing):
    trained.save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        ByteBPE.load(tmp_path)


# --- the benchmark ---


def test_the_benchmark_measures_what_it_promises(tmp_path, corpus):
    from benchmarks import bpe

    path = tmp_path / "text.txt"
    path.write_text(corpus[:50_000], encoding="utf-8")
    threads = torch.get_num_threads()
    try:
        results = bpe.main(["--text", str(path), "--rounds", "1"])
    finally:
        torch.set_num_threads(threads)
    assert [result.name for result in results] == list(bpe.MEASURES)
    assert all(result.value > 0 for result in results)
    with pytest.raises(ValueError, match="--rounds 0"):
        bpe.main(["--text", str(path), "--rounds", "0"])
