"""Counts what each tokenizer of the project makes of English and of Chinese held-out text.

Two vocabularies are learned by each tokenizer: one from the training part of the documentation
corpus (English alone), one from the training sentences of the Transformer's grammar (both
languages). Each then reads text that it was not learned from; the English one also reads Chinese,
which nothing prepared it for. Nothing is timed and nothing is random: the numbers depend on the
versions of the installed libraries, whose documentation is the text, and on nothing else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.tokenization_figures import fertility_figure, size_figure
from bert.wordpiece import WordPiece, train_wordpiece
from transformer.grammar_corpus import GrammarCorpus, grammar_corpus
from transformer.joint_vocabulary import train_tokenizer
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.bpe_vocabulary import name_tokens
from tutorial_kit.byte_bpe import END_OF_TEXT, ByteBPE
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.documentation_corpus import documentation_corpus
from tutorial_kit.plotting import save_figure
from tutorial_kit.results import Result, record
from tutorial_kit.tokenizers import UNKNOWN, CharTokenizer, Tokenizer
from tutorial_kit.word_tokenizer import CHAT_TOKENS, PRINTABLE, WordTokenizer

SIZE = 4096  # tokens that a vocabulary may have where its size can be chosen
SIZES = (257, 512, 1024, 2048, 4096, 8192, 16384)  # of byte-level BPE; 257: bytes, end of text
LABELS = {
    "bytes": "bytes",
    "characters": "characters",
    "words": "words, else letters",
    "bpe": "byte-level BPE",
    "wordpiece": "WordPiece",
}
TEXTS = {  # name -> (vocabulary, in what its tokens are counted)
    "documentation": ("English", "word"),
    "grammar_english": ("joint", "word"),
    "grammar_chinese": ("joint", "character"),
    "foreign_chinese": ("English", "character"),
}
COLUMNS = {
    "vocabulary": "tokens in the vocabulary",
    "per_word": "tokens a word",
    "per_character": "tokens a character",
    "bytes": "bytes a token",
    "unknown": "unknown tokens",
    "used": "of the vocabulary occurs in the held-out text",
}
MEASURES = {
    f"tokenization.{text}.{name}_{column}": f"{label}: {COLUMNS[column]}"
    for text, (_, unit) in TEXTS.items()
    for name, label in LABELS.items()
    for column in ("vocabulary", f"per_{unit}", "bytes", "unknown")
} | {
    f"tokenization.size.bpe_{size}_{column}": f"{size:,} tokens: {COLUMNS[column]}"
    for size in SIZES
    for column in ("per_word", "bytes", "used")
}


@dataclass(frozen=True)
class Reading:
    """What a tokenizer made of a text."""

    vocabulary: int  # tokens it could have used
    tokens: int
    words: int  # of the text, separated by white space
    characters: int  # of the text, without white space
    size: int  # of the text in UTF-8, in bytes
    unknown: int  # tokens that stand for something the vocabulary lacks
    distinct: int  # different tokens

    def column(self, name: str) -> float:
        """Returns one of `COLUMNS`; shares in %."""
        return {
            "vocabulary": float(self.vocabulary),
            "per_word": self.tokens / self.words,
            "per_character": self.tokens / self.characters,
            "bytes": self.size / self.tokens,
            "unknown": 100 * self.unknown / self.tokens,
            "used": 100 * self.distinct / self.vocabulary,
        }[name]


def read(tokenizer: Tokenizer | WordPiece, texts: Sequence[str]) -> Reading:
    """Lets a tokenizer read texts, one by one.

    Raises:
        ValueError: the texts have no word.
    """
    whole = " ".join(texts)
    words = whole.split()
    if not words:
        raise ValueError("there are 0 words to read, so no ratio to them. Give texts with words.")
    ids = [token for text in texts for token in tokenizer.encode(text)]
    unknown = tokenizer.special_tokens.get(UNKNOWN, tokenizer.special_tokens.get("[UNK]"))
    return Reading(
        tokenizer.vocab_size, len(ids), len(words), sum(map(len, words)),
        sum(len(text.encode()) for text in texts), 0 if unknown is None else ids.count(unknown),
        len(set(ids)),
    )  # fmt: skip


def english_vocabulary(texts: Sequence[str], size: int = SIZE) -> dict[str, Tokenizer | WordPiece]:
    """Learns each tokenizer from English texts.

    Args:
        texts: to learn from.
        size: tokens wanted; bytes and characters have as many as there are.
    """
    spelling = len(PRINTABLE) + len(CHAT_TOKENS) + 1  # tokens of `WordTokenizer` that are no words
    return {
        "bytes": ByteBPE(*name_tokens([], [END_OF_TEXT]), [END_OF_TEXT]),
        "characters": CharTokenizer.from_text("".join(texts), unknown=True),
        "words": WordTokenizer.from_texts(texts, max(1, size - spelling), unknown=True),
        "bpe": ByteBPE.train(texts, size),
        "wordpiece": train_wordpiece(texts, size),
    }


def joint_vocabulary(corpus: GrammarCorpus, size: int = SIZE) -> dict[str, Tokenizer | WordPiece]:
    """Learns each tokenizer from both sides of sentence pairs; the BPE is the Transformer's."""
    english, chinese = map(list, zip(*corpus.pairs("train"), strict=True))
    bpe = train_tokenizer(english, size, words=corpus.chinese_words)
    return {**english_vocabulary([*english, *chinese], size), "bpe": bpe}


def sizes_of_bpe(
    train: Sequence[str], held_out: Sequence[str], sizes: Sequence[int] = SIZES
) -> dict[int, Reading]:
    """Reads held-out texts with BPE vocabularies of several sizes.

    The merges are learned once: a smaller vocabulary has the first of them.
    """
    merges = ByteBPE.train(train, max(sizes)).merges
    bare = name_tokens([], [])[0]  # the 256 bytes
    readings = {}
    for size in sizes:
        first = merges[: size - len(bare) - 1]
        tokens = [*bare, *(merge.replace(" ", "") for merge in first), END_OF_TEXT]
        vocabulary = {token: place for place, token in enumerate(tokens)}
        readings[size] = read(ByteBPE(vocabulary, first), held_out)
    return readings


def read_all(
    documentation: tuple[Sequence[str], Sequence[str]], corpus: GrammarCorpus, size: int = SIZE
) -> dict[str, dict[str, Reading]]:
    """Learns both vocabularies and reads the four held-out texts.

    Args:
        documentation: English texts to learn from, and held-out ones.
        corpus: sentence pairs, split.
        size: tokens of a vocabulary.

    Returns:
        Text -> tokenizer -> reading.
    """
    english, chinese = map(list, zip(*corpus.pairs("test"), strict=True))
    held_out = {
        "documentation": documentation[1],
        "grammar_english": english,
        "grammar_chinese": chinese,
        "foreign_chinese": chinese,
    }
    learned = {
        "English": english_vocabulary(documentation[0], size),
        "joint": joint_vocabulary(corpus, size),
    }
    return {
        text: {name: read(learned[vocabulary][name], held_out[text]) for name in LABELS}
        for text, (vocabulary, _) in TEXTS.items()
    }


def results_of(
    readings: Mapping[str, Mapping[str, Reading]], sizes: Mapping[int, Reading]
) -> list[Result]:
    """Returns a result for each entry of `MEASURES`."""
    named = {f"{text}.{name}": r for text, row in readings.items() for name, r in row.items()}
    named |= {f"size.bpe_{size}": reading for size, reading in sizes.items()}
    results = []
    for name, note in MEASURES.items():
        key, column = next((key, name.removeprefix(f"tokenization.{key}_")) for key in named
                           if name.startswith(f"tokenization.{key}_"))  # fmt: skip
        unit = "%" if column in ("unknown", "used") else ""
        results.append(
            Result(name, named[key].column(column), unit, note=note,
                   command="python -m benchmarks.tokenization")
        )  # fmt: skip
    return results


def print_tables(readings: Mapping[str, Mapping[str, Reading]]) -> None:
    """Prints a table for each text."""
    for text, row in readings.items():
        columns = ("vocabulary", f"per_{TEXTS[text][1]}", "bytes", "unknown")
        cells = [[f"{r.column(column):,.5g}" for column in columns] for r in row.values()]
        rows = [[LABELS[name], *line] for name, line in zip(row, cells, strict=True)]
        print(format_table([text, *(COLUMNS[column] for column in columns)], rows), flush=True)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.tokenization",
        description="Count what each tokenizer makes of English and Chinese text.",
    )
    parser.add_argument(
        "--only", choices=list(MEASURES), help="any of them: all are counted together"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Counts, prints tables, draws the figures of docs/tokenization.md, records the results."""
    build_parser().parse_args(argv)
    start = time.perf_counter()
    documentation = documentation_corpus()
    train, held_out = (
        [
            paragraph
            for document in documentation.documents(split)
            for paragraph in document.paragraphs
        ]
        for split in ("train", "test")
    )
    readings = read_all((train, held_out), grammar_corpus())
    sizes = sizes_of_bpe(train, held_out)
    print_tables(readings)
    folder = PROJECT_ROOT / "docs" / "figures" / "tokenization"
    values, unknown = (
        {text: {name: reading.column(column or f"per_{TEXTS[text][1]}") for name, reading in
                row.items()} for text, row in readings.items()}
        for column in ("", "unknown")
    )  # fmt: skip
    save_figure(fertility_figure(values, unknown, LABELS), folder / "fertility.png")
    columns = {size: (r.column("bytes"), r.column("used")) for size, r in sizes.items()}
    save_figure(size_figure(columns), folder / "size.png")
    seconds = round(time.perf_counter() - start, 1)
    results = [replace(result, seconds=seconds) for result in results_of(readings, sizes)]
    return record("tokenization", results)


if __name__ == "__main__":
    run_entry(main)
