"""The vocabulary of WordPiece: which token has which id, checked, read and written.

``vocab.txt``, as published with BERT: one token a line, the line's number (from 0) is the id.
Published ones have Windows line ends or a token twice now and then: both are read, the later line
counts. ``tokenizer_config.json`` is what Hugging Face folders say beside it; of that file only what
changes ids is read: ``do_lower_case``, ``strip_accents``, ``tokenize_chinese_chars``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bert.basic_tokenizer import BasicTokenizer
from tutorial_kit.files import atomic_write
from tutorial_kit.published_folder import read_json_object

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCAB_FILE = "vocab.txt"
CONFIG_FILE = "tokenizer_config.json"


def tokens_by_id(vocabulary: Mapping[str, int] | Sequence[str]) -> list[str]:
    """Returns the tokens in the order of their ids, after checking that BERT can use them.

    Raises:
        ValueError: the ids have gaps, or one of the five special tokens is missing.
    """
    tokens = list(vocabulary)
    if isinstance(vocabulary, Mapping):
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise ValueError(
                f"the vocabulary's {len(vocabulary):,} ids are not 0 to {len(vocabulary) - 1:,}, "
                "each once: a model has one embedding row per id. Give the tokens as a list, in "
                "the order of their ids."
            )
        tokens.sort(key=vocabulary.__getitem__)
    missing = [name for name in SPECIAL_TOKENS if name not in tokens]
    if missing:
        raise ValueError(
            f"the vocabulary of {len(tokens):,} tokens has no {', '.join(missing)}: BERT needs "
            f"{' '.join(SPECIAL_TOKENS)}. Use the vocab.txt of a BERT model, one token a line."
        )
    return tokens


def read_vocabulary(path: Path, lower_case: bool | None) -> tuple[list[str], BasicTokenizer]:
    """Reads a vocabulary.

    Args:
        path: a vocab.txt, or a folder that holds one.
        lower_case: None means: what the configuration says; if it says nothing, a vocabulary
            without capitals is uncased.

    Returns:
        The tokens by id, and the basic tokenizer that goes with them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not text in UTF-8, it is empty, a special token is missing, or the
            configuration cannot be followed.
    """
    file = path / VOCAB_FILE if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"no vocabulary at {file}: BERT's tokenizer is a text file, one token a line. Give the "
            f"folder of a BERT model or its {VOCAB_FILE}."
        )
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not UTF-8 text (byte {error.start:,} cannot be read): a vocabulary is one "
            "token a line. Fetch it again, or save it as UTF-8."
        ) from None
    # Only "\n" ends a line: characters such as U+2028, at which splitlines() splits, are tokens.
    tokens = [line.rstrip() for line in text.split("\n")]
    while tokens and not tokens[-1]:
        tokens.pop()
    if not tokens:
        raise ValueError(f"{file} is empty: a vocabulary has one token a line. Fetch it again.")
    try:
        tokens_by_id(tokens)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    beside = file.parent / CONFIG_FILE
    config = read_json_object(beside, "") if beside.is_file() else {}
    if not config.get("tokenize_chinese_chars", True):
        raise ValueError(
            f"{beside} has tokenize_chinese_chars=false, but this tokenizer always sets Chinese "
            "characters apart: the ids would differ. Use another model."
        )
    if lower_case is None:
        lower_case = config.get("do_lower_case")
    if lower_case is None:  # brackets hold [CLS] and [unused7], which say nothing about the text
        lower_case = all(token == token.lower() for token in tokens if token[:1] != "[")
    return tokens, BasicTokenizer(bool(lower_case), config.get("strip_accents"))


def write_vocabulary(folder: Path, tokens: Sequence[str], basic: BasicTokenizer) -> None:
    """Writes both files; see `read_vocabulary`.

    Raises:
        OSError: the folder cannot be written to.
    """
    follows = basic.strip_accents == basic.lower_case
    config = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": basic.lower_case,
        "strip_accents": None if follows else basic.strip_accents,
        "tokenize_chinese_chars": True,
    }
    with atomic_write(folder / VOCAB_FILE, "w") as file:
        file.write("".join(f"{token}\n" for token in tokens))
    with atomic_write(folder / CONFIG_FILE, "w") as file:
        file.write(json.dumps(config, indent=2) + "\n")
