"""Documents as token ids, with the WordPiece vocabulary that was trained on them; cached.

Training the vocabulary and tokenizing take up to a minute; the cache file is named by a hash of the
text, of the vocabulary's size and of the tokenizer's code, so that none of them can go stale.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bert.bert_data import PairData
from bert.document_sources import SPLITS, Documents, load_documents
from bert.wordpiece import WordPiece, train_wordpiece
from tutorial_kit.datasets import cache_folder
from tutorial_kit.files import atomic_write

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
PARTS = ("tokens", "lengths", "counts")  # all ids; tokens of a sentence; sentences of a document


@dataclass(frozen=True)
class BertData:
    """What a model is pre-trained on and measured on."""

    name: str  # the source, as given
    wordpiece: WordPiece  # trained on the training split
    splits: dict[str, PairData]  # "train", "validation", "test"
    fingerprint: str = ""  # hash of the text and of how it was tokenized


def load_bert_data(dataset: str, vocab_size: int) -> BertData:
    """Reads documents, trains a WordPiece vocabulary on the training split, tokenizes; cached.

    Args:
        dataset: see ``load_documents``.
        vocab_size: tokens of the vocabulary.

    Raises:
        FileNotFoundError: the source does not exist.
        ValueError: it holds too little text.
    """
    documents = load_documents(dataset)
    fingerprint = _fingerprint(documents, vocab_size)
    path = cache_folder() / "tokens" / f"bert-{fingerprint}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            pieces = WordPiece.from_dict(json.loads(str(stored["wordpiece"])))
            arrays = {split: _stored(stored, split) for split in SPLITS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # missing or damaged
        sentences = (s.replace("[UNK]", " ") for document in documents["train"] for s in document)
        pieces = train_wordpiece(sentences, vocab_size)
        arrays = {split: _encode(documents[split], pieces) for split in SPLITS}
        content: dict[str, Any] = {"wordpiece": json.dumps(pieces.to_dict())}
        for split in SPLITS:
            content |= {
                f"{split}.{part}": array for part, array in zip(PARTS, arrays[split], strict=True)
            }
        try:
            with atomic_write(path, "wb") as file:
                np.savez(file, **content)
        except OSError as error:
            print(f"note: the tokens are not cached: {error}")
    sep = pieces.special_tokens["[SEP]"]
    splits = {split: _pair_data(*arrays[split], sep) for split in SPLITS}
    return BertData(dataset, pieces, splits, fingerprint)


def _stored(file: Mapping[str, np.ndarray], split: str) -> Arrays:
    tokens, lengths, counts = (file[f"{split}.{part}"] for part in PARTS)
    return tokens, lengths, counts


def _fingerprint(documents: Documents, vocab_size: int) -> str:
    """Returns a hash of all that decides the ids: the text, the size, the tokenizer's rules."""
    digest = hashlib.sha256(f"{vocab_size}".encode())
    folder = Path(__file__).parent
    for path in (folder / "basic_tokenizer.py", *sorted(folder.glob("*piece*.py"))):
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    for split in SPLITS:
        digest.update(f"\0{split}".encode())
        for document in documents[split]:
            digest.update("\n".join([*document, "\n"]).encode())
    return digest.hexdigest()[:20]


def tokenize_documents(documents: Iterable[list[str]], pieces: WordPiece) -> PairData:
    """Turns documents of sentences into ids; "[UNK]" in a text stays that token.

    Args:
        documents: each a list of sentences; those without any token are left out.
        pieces: the vocabulary.
    """
    return _pair_data(*_encode(documents, pieces), pieces.special_tokens["[SEP]"])


def _encode(documents: Iterable[list[str]], pieces: WordPiece) -> Arrays:
    """Returns all ids (N,), the tokens of each sentence (S,), the sentences of each document."""
    unknown = pieces.special_tokens["[UNK]"]
    ids: list[int] = []
    lengths, counts = [], []
    for document in documents:
        counts.append(0)
        for sentence in document:
            before = len(ids)
            for number, part in enumerate(sentence.split("[UNK]")):
                ids += ([unknown] if number else []) + pieces.encode(part)
            if len(ids) > before:
                lengths.append(len(ids) - before)
                counts[-1] += 1
    return (
        np.array(ids, dtype=np.int32),
        np.array(lengths, dtype=np.int64),
        np.array([count for count in counts if count], dtype=np.int64),
    )


def _pair_data(ids: np.ndarray, lengths: np.ndarray, counts: np.ndarray, sep: int) -> PairData:
    """Puts ``[SEP]`` behind each document and notes where its sentences are."""
    document_of = np.repeat(np.arange(len(counts)), counts)  # (S,)
    document_ends = counts.cumsum()
    ends = lengths.cumsum()  # without the [SEP]s
    last_tokens = ends[document_ends - 1] if len(counts) else document_ends
    shifted = ends + document_of  # one [SEP] for each earlier document
    return PairData(
        torch.from_numpy(np.insert(ids, last_tokens, sep)),
        torch.from_numpy(shifted - lengths),
        torch.from_numpy(shifted),
        torch.from_numpy(document_of),
        torch.from_numpy(document_ends),
    )
