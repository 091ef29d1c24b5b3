"""The vocabulary of a byte-level BPE: which token has which id, checked, written and read.

Files, as published with GPT-2 (Radford et al. 2019) and kept in Hugging Face folders:
``vocab.json`` maps token -> id, ``merges.txt`` has one merge a line, "left right", the lowest rank
first, after a first line "#version: 0.2". (A later line may begin with "#" too: there it merges
number signs.) Tokens are written in the printable form of `byte_level.to_symbols`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from tutorial_kit.bpe_merges import Pair
from tutorial_kit.byte_level import BYTE_TO_SYMBOL, BYTES_IN_ORDER, SYMBOL_TO_BYTE, to_bytes
from tutorial_kit.files import atomic_write

VOCAB_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
VERSION_LINE = "#version: 0.2"

# Letters or digits in brackets, such as <|endoftext|>, <pad> or [MASK]. Merges never make such a
# token, because GPT-2's pieces hold either letters or signs.
LOOKS_SPECIAL = re.compile(r"<.*[^\W_].*>|\[.*[^\W_].*\]")


def number_of_merges(
    vocab_size: int | None, n_merges: int | None, n_special: int, min_count: int
) -> int:
    """Returns the number of merges to learn; the arguments are those of `ByteBPE.train`.

    Raises:
        ValueError: both sizes or none are given, or a number is too small.
    """
    smallest = len(BYTES_IN_ORDER) + n_special
    if (vocab_size is None) == (n_merges is None):
        raise ValueError(
            f"got vocab_size={vocab_size} and n_merges={n_merges}, but one follows from the other: "
            f"vocab_size = {smallest} + n_merges. Give exactly one of them."
        )
    if n_merges is None:
        n_merges = (vocab_size or 0) - smallest
    if n_merges < 0:
        raise ValueError(
            f"vocab_size={smallest + n_merges} is too small: the 256 bytes and {n_special} special "
            f"tokens are {smallest} before the first merge. Use vocab_size={smallest} or more."
        )
    if min_count < 1:
        raise ValueError(
            f"min_count={min_count} is below 1: pairs that do not occur would be merged. "
            "Use 2, or 1 to merge pairs seen only once too."
        )
    return n_merges


def name_tokens(
    pairs: Sequence[Pair], special_tokens: Sequence[str]
) -> tuple[dict[str, int], list[str]]:
    """Returns (vocab, merges) in printable form. The ids: bytes, merges, special tokens.

    Args:
        pairs: the merges; see `bpe_merges.learn_merges`.
        special_tokens: names that follow the last merge.

    Raises:
        ValueError: a special token is empty, given twice, or one that text itself produces.
    """
    tokens = [BYTE_TO_SYMBOL[byte] for byte in BYTES_IN_ORDER]
    merges = []
    for left, right in pairs:
        merges.append(f"{tokens[left]} {tokens[right]}")
        tokens.append(tokens[left] + tokens[right])
    for name in special_tokens:
        if not name or name in tokens:
            raise ValueError(
                f"the special token {name!r} is empty, given twice, or a token that plain text "
                "produces: the two could not be told apart. Use a name such as <|endoftext|>."
            )
        tokens.append(name)
    return {token: token_id for token_id, token in enumerate(tokens)}, merges


def bytes_of_tokens(
    vocab: Mapping[str, int], merges: Sequence[str], special_tokens: Sequence[str]
) -> list[bytes]:
    """Returns id -> bytes, after checking that the three arguments fit together.

    Raises:
        ValueError: the ids have gaps, a merge is no pair of known tokens, or a token is neither a
            byte nor the result of a merge nor special.
    """
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise ValueError(
            f"the vocabulary's {len(vocab):,} ids are not 0 to {len(vocab) - 1:,}, each once: a "
            "model has one embedding row per id. Use the vocab.json that belongs to the merges."
        )
    made = set(SYMBOL_TO_BYTE)
    for number, merge in enumerate(merges, 1):
        left, _, right = merge.partition(" ")
        if left not in made or right not in made:
            raise ValueError(
                f"merge {number} reads {merge!r}, but a merge is two tokens, each a byte or made "
                "by an earlier merge, with one space between them: merges.txt is cut off, damaged "
                "or another kind of file. Fetch or save it again."
            )
        made.add(left + right)
    for token in chain(made, special_tokens):
        if token not in vocab:
            raise ValueError(
                f"the vocabulary of {len(vocab):,} tokens has no {token!r}, which is a byte, a "
                "merge's result or a special token: vocab.json and merges.txt do not belong "
                "together, or one is cut off. Fetch or save both again."
            )
    for token, token_id in vocab.items():
        if token not in made and token not in special_tokens:
            raise ValueError(
                f"no merge makes the token {token!r} (id {token_id}), so no text would produce it. "
                f"If merges.txt ({len(merges):,} merges) is cut off, fetch or save it again; "
                "if the token is special, name it in special_tokens."
            )
    in_order = sorted(vocab, key=vocab.__getitem__)
    return [
        token.encode("utf-8") if token in special_tokens else to_bytes(token) for token in in_order
    ]


def find_special_tokens(vocab: Mapping[str, int], merges: Sequence[str]) -> list[str]:
    """Returns the tokens that are no byte, come from no merge and look like ``<...>`` or ``[...]``.

    The two files do not say which tokens are special. A token that fits neither description is left
    out here; `ByteBPE` then reports that no merge makes it.
    """
    made = set(SYMBOL_TO_BYTE) | {merge.replace(" ", "") for merge in merges}
    return [token for token in vocab if token not in made and LOOKS_SPECIAL.fullmatch(token)]


def write_files(folder: Path, vocab: Mapping[str, int], merges: Sequence[str]) -> None:
    """Writes both files, each complete or not at all; creates the folder.

    Raises:
        OSError: the folder cannot be written to.
    """
    with atomic_write(folder / VOCAB_FILE, "w") as file:
        json.dump(dict(vocab), file, ensure_ascii=False)
    with atomic_write(folder / MERGES_FILE, "w") as file:
        file.writelines(f"{line}\n" for line in [VERSION_LINE, *merges])


def read_files(folder: Path) -> tuple[dict[str, int], list[str]]:
    """Returns (vocab, merges) of a folder.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: one is not what its name promises.
    """
    vocab_text, merges_text = _read(folder / VOCAB_FILE), _read(folder / MERGES_FILE)
    try:
        vocab = json.loads(vocab_text)
    except ValueError as error:
        raise ValueError(
            f"{folder / VOCAB_FILE} is not JSON ({error}): the file is cut off or damaged. "
            "Fetch or save it again."
        ) from None
    if not isinstance(vocab, dict) or not all(type(value) is int for value in vocab.values()):
        raise ValueError(
            f"{folder / VOCAB_FILE} is JSON, but not an object of token: id entries: it is no "
            "GPT-2 vocabulary. Use the vocab.json that belongs to merges.txt."
        )
    merges = merges_text.removesuffix("\n").split("\n")
    if merges[0].startswith("#version"):
        del merges[0]
    return vocab, [] if merges == [""] else merges


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no {path}: a GPT-2 tokenizer is the two files {VOCAB_FILE} and "
            f"{MERGES_FILE} in one folder. Give the folder that holds both."
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text in UTF-8 (byte {error.start}): the file is damaged or of another "
            "kind. Fetch or save it again."
        ) from None
