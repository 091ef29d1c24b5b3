"""Words, vocabulary, corpus on the disk, subsampling, windows; what goes wrong with bad text."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cbow import corpus as corpus_module
from cbow import text_sources, vocabulary
from cbow.cbow_data import (
    CBOWData,
    Corpus,
    Vocabulary,
    context_windows,
    drop_frequent,
    epoch_stretches,
    load_corpus,
    shuffle_sentences,
    tokenize,
    window_extents,
)
from tutorial_kit import PROJECT_ROOT


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))


def write(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "text.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def corpus_of(sentences: list[list[str]]) -> Corpus:
    """A corpus in memory, of words that all count."""
    words = Vocabulary.count(sentences)
    tokens = np.array([words.index[w] for s in sentences for w in s], dtype=np.int32)
    starts = np.cumsum([0, *map(len, sentences)])
    return Corpus("test", words, tokens, starts)


# Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A well-known cat's MAT.", [["a", "well", "known", "cat", "mat"]]),
        ("I don\u2019t. We can't!", [["i", "don't"], ["we", "can't"]]),
        ("about 10,000.50 m, 3 times", [["about", "10,000.50", "m", "3", "times"]]),
        ("n_samples of float32 in np.fft", [["n_samples", "of", "float32", "in", "np", "fft"]]),
        ("e.g. J. S. Bach (no. Yes.)", [["e", "g", "j", "s", "bach", "no"], ["yes"]]),
        ("_Emma_ read \"it.\" Then slept", [["emma", "read", "it"], ["then", "slept"]]),
        ("one line\nanother", [["one", "line"], ["another"]]),
        (" . ' -- \n\n", []),
    ],
)  # fmt: skip
def test_words_and_sentences(text: str, words: list[list[str]]) -> None:
    assert tokenize(text) == words


def test_a_vocabulary_is_sorted_by_count_then_by_the_alphabet() -> None:
    found = Vocabulary.count([["b", "a", "c"], ["c", "b", "a", "d"], ["c"]], min_count=2)
    assert found.words == ("c", "a", "b")
    assert found.counts.tolist() == [3, 2, 2]
    again = Vocabulary.from_dict(found.to_dict())
    assert again.words == found.words and np.array_equal(again.counts, found.counts)


def test_counting_forgets_rare_words_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vocabulary, "MAX_DISTINCT", 100)
    sentences = [[f"rare{number}", "often", "too"] for number in range(1_000)]
    found = Vocabulary.count(sentences)
    assert found.words[:2] == ("often", "too") and found.counts[:2].tolist() == [1_000, 1_000]
    assert len(found) <= 100


def test_unknown_words_are_answered_with_close_spellings() -> None:
    found = Vocabulary.count([["matrix", "matrices", "vector", "eigenvalue"]])
    assert found.find("Matrix") == found.index["matrix"]
    with pytest.raises(ValueError, match=r"'matrx' is not one of the 4 words.*Did you mean matrix"):
        found.find("matrx")
    with pytest.raises(ValueError, match="Try another word"):
        found.find("zebra")


def test_noise_is_the_count_to_the_power() -> None:
    found = Vocabulary(("a", "b", "c"), np.array([16, 1, 1]))
    np.testing.assert_allclose(found.noise(0.75), [0.8, 0.1, 0.1])
    np.testing.assert_allclose(found.noise(1.0), np.array([16, 1, 1]) / 18)


def test_keep_probability_equals_gensim() -> None:
    models = pytest.importorskip("gensim.models")
    rng = np.random.default_rng(0)
    sentences = [[f"w{k}" for k in rng.zipf(1.4, 20) % 500] for _ in range(1_000)]
    found = Vocabulary.count(sentences)
    model = models.Word2Vec(sample=1e-3, min_count=1, vector_size=2)
    model.build_vocab(sentences)
    theirs = [model.wv.get_vecattr(word, "sample_int") / 2**32 for word in found.words]
    np.testing.assert_allclose(found.keep_probability(1e-3), theirs, atol=1e-6)
    assert found.keep_probability(1e-3)[0] < 0.2  # the most frequent word loses most occurrences
    assert (found.keep_probability(0) == 1).all()


@pytest.mark.parametrize("sample", [-1e-3, 1.0, math.nan])
def test_a_wrong_threshold(sample: float) -> None:
    with pytest.raises(ValueError, match="is not a share of the text"):
        Vocabulary.count([["a", "b"]]).keep_probability(sample)


# Windows


def test_subsampling_keeps_the_expected_share_within_four_sigma() -> None:
    rng = np.random.default_rng(1)
    sentences = [[f"w{k}" for k in rng.zipf(1.5, 50) % 100] for _ in range(2_000)]
    corpus = corpus_of(sentences)
    keep = corpus.vocabulary.keep_probability(1e-3)
    tokens, starts = drop_frequent(*corpus.stretch(), keep, np.random.default_rng(2))
    counts = corpus.vocabulary.counts
    sigma = np.sqrt(counts * keep * (1 - keep))
    left = np.bincount(tokens, minlength=len(counts))
    assert (np.abs(left - counts * keep) <= 4 * sigma + 1e-9).all()
    assert starts[0] == 0 and starts[-1] == len(tokens) and len(starts) == len(corpus.starts)


def test_subsampling_keeps_words_in_their_sentences() -> None:
    corpus = corpus_of([[f"s{s}w{w}" for w in range(1 + s % 7)] for s in range(50)])
    keep = np.full(len(corpus.vocabulary), 0.5)
    tokens, starts = drop_frequent(*corpus.stretch(slice(10, 40)), keep, np.random.default_rng(0))
    assert (np.diff(starts) == 0).any()  # some sentences lost all their words
    for number, (begin, end) in enumerate(zip(starts[:-1], starts[1:], strict=True), start=10):
        spelled = [corpus.vocabulary.words[token] for token in tokens[begin:end]]
        assert all(word.startswith(f"s{number}w") for word in spelled)
        assert spelled == sorted(spelled)


def test_contexts_equal_the_definition_written_as_a_loop() -> None:
    rng = np.random.default_rng(3)
    lengths = [0, 5, 1, 0, 12, 2, 30, 0]
    starts = np.cumsum([0, *lengths])
    tokens = rng.integers(0, 1_000, starts[-1]).astype(np.int32)
    contexts, mask, widths = context_windows(tokens, starts, 4, np.random.default_rng(4))
    assert set(widths) == {1, 2, 3, 4}
    for begin, end in zip(starts[:-1], starts[1:], strict=True):
        for target in range(begin, end):
            expected = [
                tokens[place] if begin <= place < end and abs(offset) <= widths[target] else -1
                for offset in (-4, -3, -2, -1, 1, 2, 3, 4)
                for place in [target + offset]
            ]
            assert contexts[target].tolist() == expected
    assert np.array_equal(mask, contexts >= 0)
    left, right, same = window_extents(starts, 4, np.random.default_rng(4))
    assert np.array_equal(left + right, mask.sum(axis=1)) and np.array_equal(same, widths)


def test_windows_never_cross_sentences() -> None:
    starts = np.cumsum([0, *np.random.default_rng(5).integers(0, 9, 3_000)])
    sentence = np.repeat(np.arange(3_000), np.diff(starts)).astype(np.int32)  # as its own token
    contexts, mask, _ = context_windows(sentence, starts, 5, np.random.default_rng(6))
    assert mask.any(axis=1).sum() > 5_000
    assert (contexts == sentence[:, None])[mask].all()


def test_widths_are_drawn_evenly_within_four_sigma() -> None:
    starts = np.array([0, 100_000])
    _, _, widths = window_extents(starts, 5, np.random.default_rng(7))
    sigma = math.sqrt(100_000 * 0.2 * 0.8)
    assert (np.abs(np.bincount(widths, minlength=6)[1:] - 20_000) < 4 * sigma).all()


def test_a_window_of_nothing() -> None:
    with pytest.raises(ValueError, match="window=0 leaves no word"):
        window_extents(np.array([0, 3]), 0, np.random.default_rng(0))


@pytest.mark.parametrize("words", [1, 7, 100, 10_000])
def test_stretches_cover_every_sentence_once(words: int) -> None:
    rng = np.random.default_rng(8)
    corpus = corpus_of([["a", "b"] * int(n) for n in rng.integers(1, 20, 200)])
    stretches = list(epoch_stretches(corpus, words))
    assert [n for s in stretches for n in range(s.start, s.stop)] == list(range(200))
    assert all(len(corpus.stretch(s)[0]) < words + 40 for s in stretches)


# Corpora


def test_a_file_becomes_numbers_and_back(tmp_path: Path) -> None:
    lines = ["the cat sat on the mat.", "the dog sat on the rug, the cat ran! so did the dog"] * 40
    data = load_corpus(write(tmp_path, "\n".join(lines)), min_count=1)
    words = [sentence for line in lines for sentence in tokenize(line)]
    read = [*data.train.sentences(), *data.validation.sentences()]
    assert read == words
    assert 0.04 < len(data.validation.tokens) / len(data.train.tokens) < 0.12
    counted = np.bincount(data.train.tokens, minlength=len(data.vocabulary))
    assert np.array_equal(counted, data.vocabulary.counts)  # of the training text alone
    data.train.write_lines(tmp_path / "lines.txt")
    written = (tmp_path / "lines.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split() for line in written] == list(data.train.sentences())


def test_rare_words_are_left_out_before_windows(tmp_path: Path) -> None:
    text = "one rare two. one two\n" * 10
    data = load_corpus(write(tmp_path, text), min_count=12)
    assert data.vocabulary.words == ("one", "two")
    assert list(data.train.sentences())[:2] == [["one", "two"], ["one", "two"]]


def test_of_a_tiny_text_nothing_is_held_out(tmp_path: Path) -> None:
    data = load_corpus(write(tmp_path, "the cat sees the dog"), 1)
    assert list(data.train.sentences()) == [["the", "cat", "sees", "the", "dog"]]
    assert len(data.validation) == 0 and list(epoch_stretches(data.validation, 10)) == []
    nothing, rng = data.validation.stretch(), np.random.default_rng(0)
    tokens, starts = drop_frequent(*shuffle_sentences(*nothing, rng), np.full(4, 0.5), rng)
    assert len(context_windows(tokens, starts, 2, np.random.default_rng(0))[0]) == 0


def test_a_text_is_read_from_the_cache_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "a few words here, and a few there\n" * 30)
    first = load_corpus(path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(text_sources, "file_pieces", None)  # would fail if the file were read
        again = load_corpus(path, 1)
    assert np.array_equal(first.train.tokens, again.train.tokens)
    assert first.vocabulary.words == again.vocabulary.words
    (next((tmp_path / "cache").rglob("train")) / "tokens.i32").write_bytes(b"1234")  # damaged
    assert list(load_corpus(path, 1).train.sentences()) == list(first.train.sentences())


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "file"))
    data = load_corpus(write(tmp_path, "a few words here\n" * 30), 1)
    assert data.vocabulary.words == ("a", "few", "here", "words")
    assert "The text is read each time" in capsys.readouterr().err


def test_max_tokens_takes_the_first_words(tmp_path: Path) -> None:
    path = write(tmp_path, "a b c dd. e f g\n" * 100)
    data = load_corpus(path, 1, max_tokens=12)
    assert list(data.train.sentences()) == [
        ["a", "b", "c", "dd"],
        ["e", "f", "g"],
        ["a", "b", "c", "dd"],
        ["e"],
    ]
    assert data.vocabulary.counts.sum() == 12
    assert len(load_corpus(path, 1, max_tokens=10**6).train.tokens) > 600


def test_pieces_of_a_file_do_not_cut_lines_words_or_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_sources, "PIECE", 64)
    rng = np.random.default_rng(9)
    triples = ["äää", "ßßß", "€€€", "😀😀😀", "zzz"]
    lines = [" ".join(triples[k] for k in rng.integers(0, 5, n)) for n in rng.integers(0, 40, 99)]
    text = "\ufeff" + "\n".join(lines) + "\n" + "€" * 500
    pieces = [piece for _, piece in text_sources.file_pieces(Path(write(tmp_path, text)))]
    assert "".join(pieces) == text[1:]
    assert max(len(piece.encode()) for piece in pieces) < 3 * 64
    whole = [word for piece in pieces for word in piece.split() if set(word) != {"€"}]
    assert whole == [word for line in lines for word in line.split() if set(word) != {"€"}]


def test_a_line_of_a_million_words(tmp_path: Path) -> None:
    data = load_corpus(write(tmp_path, "to be or not " * 250_000), 1)
    lengths = np.diff(data.train.starts)
    assert len(data.train.tokens) + len(data.validation.tokens) == 1_000_000
    assert lengths.max() == corpus_module.MAX_SENTENCE
    assert sorted(data.vocabulary.words) == ["be", "not", "or", "to"]


def test_documentation_knows_the_library_of_each_word() -> None:
    data = load_corpus("documentation-small", 5)
    names, counts = data.labels()
    assert names == ("numpy", "networkx")
    assert np.array_equal(counts.sum(axis=0), data.vocabulary.counts)
    array, graph = (counts[:, data.vocabulary.find(word)] for word in ("array", "graph"))
    assert array[0] > 20 * array[1] and graph[1] > 20 * graph[0]
    assert len(data.validation.tokens) > 1_000


def test_labels_count_by_source() -> None:
    corpus = corpus_of([["a", "b"], ["b", "c"], ["c", "c", "b"]])
    sources = np.array([0, 1, 0], dtype=np.int16)
    parts = (corpus.name, corpus.vocabulary, corpus.tokens, corpus.starts)
    data = CBOWData("test", Corpus(*parts, sources, ("x", "y")), corpus)
    names, counts = data.labels()
    order = [data.vocabulary.index[word] for word in "abc"]
    assert names == ("x", "y") and counts[:, order].tolist() == [[1, 2, 2], [0, 1, 1]]
    assert CBOWData("test", corpus, corpus).labels()[1].shape == (0, 3)


def test_wikitext_loses_the_marks_of_its_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = " The king 's well @-@ known <unk> didn 't cost 1 @,@ 000 @.@ 5 . ' So ' it is \n"
    path = Path(write(tmp_path, line * 3))
    monkeypatch.setattr(
        text_sources, "dataset_files", lambda name: {"train": path, "validation": path}
    )
    data = load_corpus("wikitext2", 1)
    assert list(data.train.sentences())[:2] == [
        ["the", "king", "well", "known", "didn't", "cost", "1,000.5"],
        ["so", "it", "is"],
    ]


# Bad input


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty: there is nothing to learn from"),
        (b" \n\n \n", "the text has 0 different words"),
        (b"word", "the text has 1 different words, and 1 of them"),
        (b"word word word\n" * 40, "the text has 1 different words"),
        (b"one\ntwo\n" * 40, "no sentence of .* has two words"),
        (b"once upon a time", "0 of them occur at least min_count=2 times.*smaller --min-count"),
        (b"ab\0cd " * 40, "holds zero bytes, so it is no text"),
        ("één twee ".encode("latin-1") * 40, "is not UTF-8: byte 0xe9 at position 0"),
        (b"good words here\n" * 90_000 + b"\xff" + b" x" * 99, "byte 0xff at position 1,440,000"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        load_corpus(write(tmp_path, content), min_count=2 if b"once" in content else 1)


def test_unknown_sources_and_numbers(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither a known name nor a file"):
        load_corpus("wikitext3", 5)
    with pytest.raises(ValueError, match="is a folder"):
        load_corpus(str(tmp_path), 5)
    path = write(tmp_path, "a few words\n" * 9)
    with pytest.raises(ValueError, match="min_count=0 asks for words that never occur"):
        load_corpus(path, 0)
    with pytest.raises(ValueError, match="max_tokens=-1 is no number of words"):
        load_corpus(path, 1, -1)


MEASURE = """
import sys
import numpy as np
from benchmarks.side_processes import peak_memory
from cbow.cbow_data import context_windows, drop_frequent, epoch_stretches, load_corpus
data = load_corpus(sys.argv[1], 5)
rng = np.random.default_rng(0)
keep = data.vocabulary.keep_probability(1e-3)
for stretch in epoch_stretches(data.train, 1 << 18):
    context_windows(*drop_frequent(*data.train.stretch(stretch), keep, rng), 5, rng)
print(len(data.train.tokens), peak_memory() / 1e6)  # MB
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="peak memory cannot be read there")
def test_200_mb_of_text_fit_in_half_a_gigabyte(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = np.array([f"word{k}" for k in range(300_000)])
    path = tmp_path / "large.txt"
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < 200_000_000:
            words = names[rng.zipf(1.2, 100_000) % len(names)]
            file.writelines(" ".join(words[k : k + 20]) + ".\n" for k in range(0, 100_000, 20))
    command = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    n_tokens, megabytes = map(float, done.stdout.split())
    assert n_tokens > 2e7
    assert megabytes < 500
