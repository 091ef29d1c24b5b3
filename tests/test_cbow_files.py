"""Vector files: round trips, gensim as reader and writer, truncated and foreign files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cbow.vector_files import load_vectors, save_vectors

WORDS = ["the", "naïve", "3.14", "don't", "猫"]


def vectors(n_words: int = len(WORDS), n_dims: int = 7) -> np.ndarray:
    """Float32 numbers of all sizes, with bytes that look like spaces and line ends among them."""
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.integers(-30, 30, (n_words, n_dims))
    values = (rng.normal(size=(n_words, n_dims)) * scale).astype(np.float32)
    values[0, :2] = np.frombuffer(b"\n \n  \n\n ", dtype="<f4")
    return values


@pytest.mark.parametrize("binary", [False, True])
def test_a_round_trip_keeps_every_bit(tmp_path: Path, binary: bool) -> None:
    path = tmp_path / "new" / "vectors"
    save_vectors(path, WORDS, vectors(), binary)
    words, read = load_vectors(path)
    assert words == WORDS
    assert read.dtype == np.float32 and np.array_equal(read, vectors())


@pytest.mark.parametrize("binary", [False, True])
def test_gensim_reads_our_files(tmp_path: Path, binary: bool) -> None:
    models = pytest.importorskip("gensim.models")
    save_vectors(tmp_path / "ours", WORDS, vectors(), binary)
    theirs = models.KeyedVectors.load_word2vec_format(str(tmp_path / "ours"), binary=binary)
    assert theirs.index_to_key == WORDS
    assert np.array_equal(theirs.vectors, vectors())


@pytest.mark.parametrize("binary", [False, True])
def test_we_read_gensims_files(tmp_path: Path, binary: bool) -> None:
    models = pytest.importorskip("gensim.models")
    theirs = models.KeyedVectors(vector_size=7)
    theirs.add_vectors(WORDS, vectors())
    theirs.save_word2vec_format(str(tmp_path / "theirs"), binary=binary)
    words, read = load_vectors(tmp_path / "theirs")
    assert words == WORDS
    np.testing.assert_allclose(read, vectors(), rtol=0 if binary else 1e-6)


def test_one_word_of_one_number_and_doubles(tmp_path: Path) -> None:
    for binary in (False, True):
        save_vectors(tmp_path / "tiny", ["w"], np.array([[0.1]]), binary)
        assert load_vectors(tmp_path / "tiny")[1].tolist() == [[np.float32(0.1)]]


@pytest.mark.parametrize("binary", [False, True])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, binary: bool) -> None:
    path = tmp_path / "vectors"
    save_vectors(path, WORDS, vectors(), binary)
    whole = path.read_bytes()
    for length in range(len(whole) - binary):  # a binary file needs no last line end
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="truncated|breaks off|no word2vec file"):
            load_vectors(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "begins with '' instead of a line with the numbers"),
        (b"the 0.1 0.2 0.3\nof 0.4 0.5 0.6\n", "A GloVe file becomes one when you add this line"),
        (b"\x80\x02}q\x00X\x05\x00\x00", "is no word2vec file"),
        (b"00 5\n", "begins with '00 5'"),
        (b"9" * 5_000 + b" 2\n", "begins with '9999"),
        (b"9999999999 99999999999\nw 1 2\n", "9,999,999,999 words of .* it is truncated"),
        (b"2 2\na 1.5 2\nb 1\n", r"breaks off or is damaged at word 2 of 2 \(near byte 16\)"),
        (b"2 2\na 1.5 2\nb 1 2", "no whole row of a word and 2 numbers"),
        (b"2 2\na 1 2\nb one two\n", "is damaged at word 2 of 2"),
        (b"2 2\na 1 2\n\xff 1 2\n", "is damaged at word 2 of 2"),
        (b"1 2\na 1 2\nb 1 2\n", "goes on after the 1 words of its first line"),
        (b"2 2\na 1 2\na 1 2\n", "holds the word 'a' twice"),
        (b"2 2\na 1 2\nb 1 nan\n", "no numbers, first for 'b'"),
        (b"2 2\na 1 2\nb 1 1e99\n", "infinite or no numbers, first for 'b'"),
        (b"2 2\n" + b"x" * 9_000, "is damaged at word 1 of 2"),
    ],
)
def test_files_that_hold_no_vectors(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=text):
        load_vectors(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist: there are no vectors"):
        load_vectors(tmp_path / "none")


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    with pytest.raises(ValueError, match="'New York' is empty or holds white space"):
        save_vectors(path, ["New York"], np.ones((1, 2)), binary=False)
    with pytest.raises(ValueError, match=r"2 words and vectors of shape \(1, 2\)"):
        save_vectors(path, ["a", "b"], np.ones((1, 2)), binary=True)
    assert not path.exists()
