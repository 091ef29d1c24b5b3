"""Where text comes from: the documentation corpus, WikiText-2 or a file, as pieces of bounded size.

A source has a part to train on and one held out: documentation is split by module, WikiText-2 by
article, and of a file the last 5 to 10 % are held out. Every part is read as often as needed, in
pieces, so that a text of any size fits in memory.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tutorial_kit.corpus_building import Document
from tutorial_kit.datasets import DATASETS, dataset_files
from tutorial_kit.documentation_corpus import documentation_corpus

SPLITS = ("train", "validation")
PIECE = 1 << 20  # bytes of a file that are worked on at a time

Pieces = Iterator[tuple[int, str]]  # number of the source, text


@dataclass(frozen=True)
class TextSource:
    """A text that can be read more than once."""

    fingerprint: str  # changes when the text does
    pieces: Callable[[str], Pieces]  # a split's name -> its text, piece by piece
    size: int  # bytes of both splits, about, for the progress bar
    source_names: tuple[str, ...] = ()  # of the libraries


def open_source(dataset: str) -> TextSource:
    """Finds a text.

    Args:
        dataset: "documentation", "documentation-small" (numpy and networkx, for smoke tests),
            "wikitext2", or a file's path.

    Raises:
        FileNotFoundError: it is neither a known name nor a file.
        ValueError: it is a folder or an empty file.
        OSError: WikiText-2 cannot be fetched.
    """
    readers: dict[str, Callable[[], TextSource]] = {
        "documentation": _documentation,
        "documentation-small": lambda: _documentation(("numpy", "networkx")),
        "wikitext2": _wikitext2,
    }
    if dataset in readers:
        return readers[dataset]()
    path = Path(dataset).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder: text is read from one file. Name a text file.")
    if not path.is_file():
        raise FileNotFoundError(
            f"--dataset {dataset!r} is neither a known name nor a file: there is no text to read. "
            f"Use {', '.join(readers)}, or the path of a text file."
        )
    return _text_file(path)


def _documentation(only: tuple[str, ...] = ()) -> TextSource:
    """Returns docstrings, a piece for each module, the modules of all libraries mixed.

    The order is that of a hash of the names. Training visits the text in order while its learning
    rate falls, so in the order of the libraries the last one would be learned with the smallest
    rate; and the first words of this order are an even sample of all libraries.
    """
    corpus = documentation_corpus(only)
    names = tuple(dict.fromkeys(document.library for document in corpus.all_documents))
    digest = hashlib.sha256()
    size = 0
    for document in corpus.all_documents:
        text = "\n".join(document.paragraphs).encode()
        digest.update(f"{document.module} {document.split} {len(text)}\n".encode() + text)
        size += len(text)

    def mixed(document: Document) -> bytes:
        return hashlib.sha256(f"{document.library} {document.module}".encode()).digest()

    def pieces(split: str) -> Pieces:
        for document in sorted(corpus.documents(split), key=mixed):
            yield names.index(document.library), "\n".join(document.paragraphs)

    return TextSource(digest.hexdigest(), pieces, size, names)


def _wikitext2() -> TextSource:
    """Returns WikiText-2 without the marks of its tokenizer; "<unk>" is left out as rare words are.

    " @-@ ", " @,@ " and " @.@ " stand for a hyphen, comma or point inside a word, and "king 's" for
    "king's": put back together, they are cut by the same rule as every other text.
    """
    files = dataset_files("wikitext2")

    def pieces(split: str) -> Pieces:
        for source, text in file_pieces(files[split]):
            text = re.sub(r" @([-,.])@ ", r"\1", text.replace("<unk>", " "))
            yield source, re.sub(r" '(?=[a-z])", "'", text)

    registered = {file.key: file for file in DATASETS["wikitext2"].files}
    digest = " ".join(registered[split].sha256 for split in SPLITS)
    return TextSource(digest, pieces, sum(registered[split].bytes for split in SPLITS))


def _text_file(path: Path) -> TextSource:
    """Returns a file; its last 5 to 10 % are held out."""
    status = path.stat()
    if status.st_size == 0:
        raise ValueError(f"{path} is empty: there is nothing to learn from. Name another file.")
    cut = held_out_begin(path)

    def pieces(split: str) -> Pieces:
        return file_pieces(path, 0, cut) if split == "train" else file_pieces(path, cut)

    fingerprint = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    return TextSource(fingerprint, pieces, status.st_size)


def held_out_begin(path: Path) -> int:
    """Returns the byte at which the held-out part of a file begins.

    It is behind the last line end from 90 to 95 % of the file or, if there is none, behind the last
    space there (of a part longer than a piece, only its end is searched). A tiny file may have
    neither; then nothing is held out.
    """
    size = path.stat().st_size
    end = size - size // 20
    begin = max(size - size // 10, end - PIECE)
    with path.open("rb") as file:
        file.seek(begin)
        cut = _behind_white_space(file.read(end - begin))
    return begin + cut if cut else size


def file_pieces(path: Path, begin: int = 0, end: int | None = None) -> Pieces:
    """Yields a part of a UTF-8 file in pieces of whole lines, or of whole words if a line is long.

    Args:
        path: the file.
        begin: the first byte.
        end: behind the last byte; the file's end by default.

    Yields:
        0, the number of the only source, and text of at most some two megabytes.

    Raises:
        ValueError: a zero byte, or bytes that are not UTF-8; the text says where.
    """
    left = (path.stat().st_size if end is None else end) - begin
    rest, offset = b"", begin
    with path.open("rb") as file:
        file.seek(begin)
        while left > 0 and (block := file.read(min(PIECE, left))):
            left -= len(block)
            rest += block
            cut = _behind_white_space(rest) or _before_last_character(rest)
            cut = cut if left > 0 else len(rest)
            yield 0, _decode(rest[:cut], path, offset)
            rest, offset = rest[cut:], offset + cut


def _behind_white_space(block: bytes) -> int:
    """Returns the place behind the last line end, else behind the last space, else 0."""
    return block.rfind(b"\n") + 1 or block.rfind(b" ") + 1


def _before_last_character(block: bytes) -> int:
    """Returns the place before the last character, of which the last bytes may be missing."""
    cut = len(block) - 1
    while cut > 0 and block[cut] & 0xC0 == 0x80:  # not the first byte of a character
        cut -= 1
    return cut or len(block)


def _decode(raw: bytes, path: Path, offset: int) -> str:
    """Returns bytes as text; `offset` is their place in the file."""
    if b"\0" in raw:
        raise ValueError(f"{path} holds zero bytes, so it is no text. Name a UTF-8 text file.")
    try:
        return raw.decode("utf-8-sig" if offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {raw[error.start]:#04x} at position "
            f"{offset + error.start:,} starts no character. Convert it, for example with iconv -f "
            "LATIN1 -t UTF-8."
        ) from None
