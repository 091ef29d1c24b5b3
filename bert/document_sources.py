"""Documents for pre-training: lists of sentences in the order in which they were written.

Sources: "documentation" (built from the installed packages, offline; a document is a module),
"wikitext2" (Wikipedia, downloaded once; a document is an article), "sst2" (the sentences of movie
reviews, without their labels; each is a document of its own, so it has no next sentence), or the
path of a text file with one sentence a line and a blank line between documents, the format of the
paper's own code. Several sources are joined by "+": "documentation+sst2".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tutorial_kit.datasets import dataset_files, read_text_lines
from tutorial_kit.documentation_corpus import documentation_corpus

SPLITS = ("train", "validation", "test")
Documents = dict[str, list[list[str]]]
"""Split -> documents -> sentences."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(\[])")
_ARTICLE = re.compile(r" = [^=].*[^=] = ")
_HEADING = re.compile(r" (= )+.* (= )+")


def split_sentences(text: str) -> list[str]:
    """Cuts a paragraph behind . ! ? where a capital letter, a quote or a bracket follows.

    The rule is simple and sometimes wrong (after "e.g." and a name); next-sentence prediction does
    not mind, because a "sentence" of the paper is any stretch of text (section 3).

    >>> split_sentences("Returns a copy. The axis, e.g. 0, is kept. See numpy.sum.")
    ['Returns a copy.', 'The axis, e.g. 0, is kept.', 'See numpy.sum.']
    """
    return [part for part in _SENTENCE_END.split(text.strip()) if part]


def load_documents(dataset: str) -> Documents:
    """Returns the documents of each split.

    Args:
        dataset: "documentation", "documentation-small" (numpy's alone, for smoke tests),
            "wikitext2", "sst2", a file's path, or several of them joined by "+".

    Returns:
        "train", "validation" and "test" -> documents, each a list of sentences. Documents are never
        divided between splits.

    Raises:
        FileNotFoundError: an unknown name that is no file either.
        ValueError: the file holds too little, or is no UTF-8 text.
    """
    joined: Documents = {split: [] for split in SPLITS}
    for name in dataset.split("+"):
        for split, documents in _load_one(name).items():
            joined[split] += documents
    return joined


def _load_one(name: str) -> Documents:
    readers: dict[str, Callable[[], Documents]] = {
        "documentation": _read_documentation,
        "documentation-small": lambda: _read_documentation(("numpy",)),
        "wikitext2": _read_wikitext2,
        "sst2": _read_sst2,
    }
    if name in readers:
        return readers[name]()
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"--dataset {name!r} is neither a known name nor a file. Use {', '.join(readers)}, or "
            "the path of a text file: one sentence a line, a blank line between documents."
        )
    return _read_file(path)


def _read_documentation(only: tuple[str, ...] = ()) -> Documents:
    corpus = documentation_corpus(only)
    return {
        split: [
            [sentence for text in document.paragraphs for sentence in split_sentences(text)]
            for document in corpus.documents(split)
        ]
        for split in SPLITS
    }


def _read_wikitext2() -> Documents:
    files = dataset_files("wikitext2")
    return {split: wikitext_documents(read_text_lines(files[split])) for split in SPLITS}


def wikitext_documents(lines: list[str]) -> list[list[str]]:
    """Returns the articles of WikiText; headings are left out, "<unk>" becomes "[UNK]".

    >>> wikitext_documents([" = Lobster = ", " ", " = = Size = = ", " A <unk> . It is big . "])
    [['A [UNK] .', 'It is big .']]
    """
    documents: list[list[str]] = []
    for line in lines:
        if _ARTICLE.fullmatch(line) or not documents:
            documents.append([])
        if line.strip() and not _HEADING.fullmatch(line):
            text = re.sub(r" @(.)@ ", r"\1", line).replace("<unk>", "[UNK]")  # "8 @,@ 000"
            documents[-1] += split_sentences(text)
    return [document for document in documents if document]


def _read_sst2() -> Documents:
    files = dataset_files("sst2")
    documents = {
        split: [[line.split("\t")[0]] for line in read_text_lines(files[split])]
        for split in ("train", "validation")
    }
    return {**documents, "test": []}  # its test sentences are for the classifier alone


def _read_file(path: Path) -> Documents:
    """Gives the first 90 % of the documents to training, 5 % each to validation and test."""
    text = "\n".join(line.strip() for line in read_text_lines(path))
    documents = [block.split("\n") for block in re.split(r"\n\n+", text.strip("\n")) if block]
    held_out = max(1, len(documents) // 20)
    if len(documents) < 4:
        raise ValueError(
            f"{path} holds {len(documents)} documents: 4 are the least, two to train on and one "
            "each for validation and test. Put a blank line between documents."
        )
    first, second = len(documents) - 2 * held_out, len(documents) - held_out
    return {
        "train": documents[:first],
        "validation": documents[first:second],
        "test": documents[second:],
    }
