"""Sentence pairs as text: where they come from and how they are split.

Sources: "grammar" (English to Chinese, made here, offline), "multi30k" and "multi30k-de-en"
(captions of photos), "tatoeba" (English to Chinese), both fetched once, or two text files of your
own, "SOURCE.txt,TARGET.txt", aligned by line. Where the authors made no split, the source sentence
decides: one sentence often has several translations, and training on one of them while testing on
another would measure memory.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformer.grammar_corpus import N_SENTENCES_SMALL, grammar_corpus
from transformer.joint_vocabulary import is_han
from tutorial_kit.datasets import dataset_files, read_text_lines

SPLITS = ("train", "validation", "test")
Pair = tuple[str, str]


@dataclass(frozen=True)
class SentencePairs:
    """The pairs of each split, and what is known about the languages."""

    pairs: dict[str, list[Pair]]  # "train", "validation", "test" -> (source, target)
    languages: tuple[str, str]  # "en", "de", "zh", or "und" if nothing tells
    words: Counter[str] | None = None  # of the target side, where it is known which they are


def read_pairs(dataset: str) -> SentencePairs:
    """Returns the sentence pairs of a source, split; see `translation_data`.

    Raises:
        ValueError: an unknown source; a file that is empty or in another encoding; two files of
            different length; too few pairs.
        FileNotFoundError: a file does not exist.
    """
    readers: dict[str, Callable[[], SentencePairs]] = {
        "grammar": _read_grammar,
        "grammar-small": lambda: _read_grammar(N_SENTENCES_SMALL),
        "multi30k": lambda: _read_multi30k("en", "de"),
        "multi30k-de-en": lambda: _read_multi30k("de", "en"),
        "tatoeba": _read_tatoeba,
    }
    if dataset in readers:
        return readers[dataset]()
    files = [Path(name.strip()) for name in dataset.split(",")]
    if len(files) != 2:
        raise ValueError(
            f"--dataset {dataset!r} is neither a known name nor two files. "
            f"Use {', '.join(readers)}, or SOURCE.txt,TARGET.txt with one sentence a line."
        )
    return _read_files(*files)


def _read_grammar(n_sentences: int | None = None) -> SentencePairs:
    corpus = grammar_corpus(n_sentences) if n_sentences else grammar_corpus()
    pairs = {split: corpus.pairs(split) for split in SPLITS}
    return SentencePairs(pairs, ("en", "zh"), corpus.chinese_words)


def _read_multi30k(source: str, target: str) -> SentencePairs:
    files = dataset_files("multi30k")
    pairs = {}
    for split in SPLITS:
        paths = files[f"{split}.{source}"], files[f"{split}.{target}"]
        left, right = map(read_text_lines, paths)
        pairs[split] = align(left, right, *map(str, paths))
    return SentencePairs(pairs, (source, target))


def _read_tatoeba() -> SentencePairs:
    rows = [line.split("\t") for line in read_text_lines(dataset_files("tatoeba_cmn")["pairs"])]
    pairs = [(clean(row[0]), clean(row[1])) for row in rows if len(row) == 3]
    return SentencePairs(split_by_source(pairs, n_held_out=1000), ("en", "zh"))


def _read_files(source: Path, target: Path) -> SentencePairs:
    left, right = read_user_lines(source), read_user_lines(target)
    pairs = align(left, right, str(source), str(target))
    languages = _language(source, left), _language(target, right)
    return SentencePairs(split_by_source(pairs, max(1, len(pairs) // 20)), languages)


def read_user_lines(path: Path) -> list[str]:
    r"""Reads a UTF-8 text file; lines end at ``\n`` only, as in `read_text_lines`.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is empty, binary, or in another encoding; the text says where.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}. Check the name given to --dataset.")
    raw = path.read_bytes()
    if not raw.strip():
        raise ValueError(f"{path} is empty: there is nothing to learn from. Name another file.")
    if b"\0" in raw[:8192]:
        raise ValueError(
            f"{path} holds zero bytes: it is UTF-16 or no text at all. Save it as UTF-8, for "
            "example with iconv -f UTF-16 -t UTF-8."
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {raw[error.start]:#04x} at position {error.start} starts "
            "no character. Convert it, for example with iconv -f GB18030 -t UTF-8."
        ) from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def align(
    source: Sequence[str], target: Sequence[str], source_name: str, target_name: str
) -> list[Pair]:
    """Joins two sides line by line; pairs with an empty side are left out and counted.

    Raises:
        ValueError: the sides differ in length, or no pair has text on both sides.
    """
    if len(source) != len(target):
        raise ValueError(
            f"{source_name} has {len(source):,} lines and {target_name} {len(target):,}: line n of "
            "one must be the translation of line n of the other. Make them match."
        )
    pairs = [(clean(a), clean(b)) for a, b in zip(source, target, strict=True)]
    kept = [pair for pair in pairs if all(pair)]
    if not kept:
        raise ValueError(f"{source_name} and {target_name} have no line with text on both sides.")
    if len(kept) < len(pairs):
        print(f"note: {len(pairs) - len(kept)} pairs with an empty side are left out")
    return kept


def clean(sentence: str) -> str:
    """Returns the sentence with single spaces, as sentences to translate are read later."""
    return " ".join(sentence.split())


def split_by_source(pairs: Sequence[Pair], n_held_out: int) -> dict[str, list[Pair]]:
    """Splits so that no source sentence is on both sides, whatever its translations.

    Sentences that differ only in case, spaces or punctuation count as the same one. In validation
    and test each occurs once. A hash decides, not the order in the file.

    Args:
        pairs: all pairs.
        n_held_out: different source sentences in validation, and as many in test.

    Raises:
        ValueError: there are too few different source sentences.
    """
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        key = "".join(filter(str.isalnum, pair[0].casefold())) or pair[0]
        groups.setdefault(key, []).append(pair)
    if len(groups) < 2 * n_held_out + 1:
        raise ValueError(
            f"{len(groups)} different source sentences cannot be split: validation and test take "
            f"{n_held_out} each, and some must be left to train on. Give it more pairs."
        )
    keys = sorted(groups, key=lambda key: hashlib.sha256(key.encode()).digest())
    held_out = [groups[key][0] for key in keys[: 2 * n_held_out]]
    train = set(keys[2 * n_held_out :])
    return {
        "train": [pair for key, group in groups.items() if key in train for pair in group],
        "validation": held_out[:n_held_out],
        "test": held_out[n_held_out:],
    }


def _language(path: Path, lines: Sequence[str]) -> str:
    """Guesses a file's language: Chinese by its characters, others by an ending such as ".de"."""
    letters = list(filter(str.isalpha, "".join(lines[:1000])))
    if sum(map(is_han, letters)) > 0.3 * len(letters):
        return "zh"
    names = [suffix[1:].lower() for suffix in reversed(path.suffixes)]
    return next((name for name in names if name in ("en", "de", "fr", "es", "it", "nl")), "und")
