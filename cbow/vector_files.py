r"""Word vectors in the two formats of word2vec.c, which gensim, fastText's tools and others read.

Both begin with a line "V D" (number of words, dimensions). In the text format a line follows for
each word: the word and its D numbers, apart by spaces. In the binary format the word and a space
are followed by D little-endian float32 numbers and a line end (gensim writes no line end there;
both are read). Words are UTF-8 and hold no white space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tutorial_kit.files import atomic_write

MAX_WORD = 4_096  # bytes; a longer "word" means that the file is no vector file


def save_vectors(path: Path, words: Sequence[str], vectors: np.ndarray, binary: bool) -> None:
    """Writes word vectors; a crash leaves no half-written file.

    Args:
        path: the file; missing folders are created.
        words: V words.
        vectors: (V, D), stored as float32; the text format's nine digits give back the same bits.
        binary: a quarter to a half of the size, and read much faster.

    Raises:
        ValueError: words and rows differ in number, or a word is empty or holds white space.
        OSError: the file cannot be written.
    """
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    if rows.ndim != 2 or len(rows) != len(words):
        raise ValueError(
            f"{len(words):,} words and vectors of shape {rows.shape} do not fit together: each "
            "word has one row. Pass an array of shape (words, dimensions)."
        )
    for word in words:
        if word.split() != [word]:
            raise ValueError(
                f"the word {word!r} is empty or holds white space, which separates the fields of a "
                "vector file: it could not be read back. Replace it, for example by '_'."
            )
    number = " ".join(["%.9g"] * rows.shape[1])
    with atomic_write(Path(path)) as file:
        file.write(f"{len(rows)} {rows.shape[1]}\n".encode())
        for word, row in zip(words, rows, strict=True):
            content = row.tobytes() if binary else (number % tuple(row.tolist())).encode()
            file.write(word.encode() + b" " + content + b"\n")


def load_vectors(path: Path) -> tuple[list[str], np.ndarray]:
    """Reads word vectors in either format; which one it is, the first row tells.

    Args:
        path: the file.

    Returns:
        words: V words, as they are spelled in the file.
        vectors: (V, D) float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, damaged or of another format; the text says where.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: there are no vectors. Check the path.")
    size = path.stat().st_size
    with path.open("rb") as file:
        n_words, n_dims = _header(file, path)
        begin = file.tell()
        least = n_words * (2 * n_dims + 2)  # bytes, if words and numbers have one letter each
        if size - begin < least:
            raise ValueError(
                f"{path} announces {n_words:,} words of {n_dims:,} numbers, for which its "
                f"{size:,} bytes are too few: it is truncated, or no vector file. Copy it again."
            )
        longest = MAX_WORD + 32 * n_dims
        is_text = _is_text_row(file.readline(longest), n_dims)
        file.seek(begin)
        vectors = np.empty((n_words, n_dims), dtype=np.float32)
        read_row = _read_text_row if is_text else _read_binary_row
        words = []
        for row in range(n_words):
            word = read_row(file, vectors[row])
            if word is None:
                raise ValueError(
                    f"{path} breaks off or is damaged at word {row + 1:,} of {n_words:,} (near "
                    f"byte {file.tell():,}): no whole row of a word and {n_dims} numbers stands "
                    "there. Copy the file again, or correct its first line."
                )
            words.append(word)
        if file.read(longest).strip():
            raise ValueError(
                f"{path} goes on after the {n_words:,} words of its first line: the rest would be "
                "lost. Correct the number of words in the first line."
            )
    _check(path, words, vectors)
    return words, vectors


def _header(file: BinaryIO, path: Path) -> tuple[int, int]:
    """Reads the first line: the number of words and of dimensions, both at least 1."""
    line = file.readline(MAX_WORD)
    fields = line.split()
    numbers = [int(field) for field in fields if field.isdigit() and len(field) < 16]
    if len(fields) != 2 or len(numbers) != 2 or min(numbers) < 1:
        seen = line[:40].decode(errors="replace").strip()
        raise ValueError(
            f"{path} begins with {seen!r} instead of a line with the numbers of words and of "
            "dimensions, such as '50000 100': it is no word2vec file. A GloVe file becomes one "
            "when you add this line."
        )
    return numbers[0], numbers[1]


def _is_text_row(line: bytes, n_dims: int) -> bool:
    """Tells whether a row is a word and n_dims numbers in print."""
    try:
        return len([float(field) for field in line.decode().split()[1:]]) == n_dims
    except ValueError:  # also bytes that are not UTF-8
        return False


def _read_text_row(file: BinaryIO, row: np.ndarray) -> str | None:
    """Fills a row from one line and returns its word, or None if the line is none.

    Without its line end a row may have lost digits of its last number, so it does not count.
    """
    line = file.readline(MAX_WORD + 32 * len(row))
    try:
        word, *numbers = line.decode().split()
        if len(numbers) != len(row) or not line.endswith(b"\n"):
            return None
        with np.errstate(over="ignore"):  # infinity is found later, with its word
            row[:] = [float(number) for number in numbers]
    except ValueError:  # an empty line, not UTF-8, or not a number
        return None
    return word


def _read_binary_row(file: BinaryIO, row: np.ndarray) -> str | None:
    """Fills a row from its bytes and returns its word, or None if they are not there."""
    letters = bytearray()
    while (letter := file.read(1)) != b" ":
        if not letter or len(letters) > MAX_WORD:
            return None
        if letter != b"\n" or letters:  # word2vec.c ends the row before with a line end
            letters += letter
    content = file.read(4 * len(row))
    if len(content) != 4 * len(row):
        return None
    row[:] = np.frombuffer(content, dtype="<f4")
    try:
        return letters.decode() or None
    except UnicodeDecodeError:
        return None


def _check(path: Path, words: list[str], vectors: np.ndarray) -> None:
    """Refuses words that stand twice and vectors that are no finite numbers."""
    if len(set(words)) < len(words):
        twice = Counter(words).most_common(1)[0][0]
        raise ValueError(
            f"{path} holds the word {twice!r} twice: it is unclear which vector is meant. Delete "
            "one of the rows."
        )
    if not np.isfinite(vectors).all():
        word = words[int(np.argmin(np.isfinite(vectors).all(axis=1)))]
        raise ValueError(
            f"{path} holds numbers that are infinite or no numbers, first for {word!r}: nothing "
            "can be compared with them. Train again with a smaller learning rate."
        )
