"""Sentence pairs as token ids: what the model trains on and what it is measured on.

`transformer.sentence_pairs` says where the pairs come from, `transformer.joint_vocabulary` learns
the tokens. Both languages share one vocabulary, which is what lets the model tie all its embeddings
(Vaswani et al. 2017, sections 3.4 and 5.1). `transformer.batching` makes minibatches of the ids.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transformer.joint_vocabulary import train_tokenizer
from transformer.sentence_pairs import SPLITS, Pair, SentencePairs, read_pairs
from tutorial_kit.byte_bpe import ByteBPE
from tutorial_kit.datasets import cache_folder
from tutorial_kit.files import atomic_write
from tutorial_kit.tokenizers import tokenizer_from_dict

IdPair = tuple[list[int], list[int]]


@dataclass(frozen=True)
class TranslationData:
    """Sentence pairs as text and as token ids, split."""

    name: str  # the source, as given
    tokenizer: ByteBPE  # of both languages; its special tokens are <pad> <bos> <eos> <unk>
    pairs: dict[str, list[Pair]]  # split -> (source, target) texts
    ids: dict[str, list[IdPair]]  # the same pairs: source with <eos>, target with neither mark
    source_language: str  # "en", "de", "zh", or "und" if nothing tells
    target_language: str


def load_translation_data(dataset: str, bpe_tokens: int, max_len: int) -> TranslationData:
    """Reads, splits and tokenizes sentence pairs; tokens are cached, for learning takes seconds.

    A pair with a sentence that does not fit ``max_len`` is dropped, and their number printed.

    Args:
        dataset: "grammar", "grammar-small" (600 sentences, for smoke tests), "multi30k",
            "multi30k-de-en", "tatoeba", or "SOURCE.txt,TARGET.txt".
        bpe_tokens: size of the joint vocabulary, learned from the training pairs; it stays smaller
            when the text has no more pairs to merge.
        max_len: the most tokens the encoder or the decoder reads, <eos> or <bos> included.

    Raises:
        ValueError: an unknown data set; a file that is empty or in another encoding; two files of
            different length; too few pairs; no pair that fits.
        FileNotFoundError: a file does not exist.
    """
    texts = read_pairs(dataset)
    fingerprint = hashlib.sha256(f"joint bpe 1, {bpe_tokens}".encode())
    for split in SPLITS:
        fingerprint.update(json.dumps([split, texts.pairs[split]]).encode())
    path = cache_folder() / "tokens" / f"transformer-{fingerprint.hexdigest()[:20]}.npz"
    tokenizer, ids = _tokenize(texts, bpe_tokens, path)
    pairs = {}
    for split in SPLITS:
        pairs[split], ids[split] = _drop_long(
            texts.pairs[split], ids[split], tokenizer.special_tokens["<eos>"], max_len, split
        )
    return TranslationData(dataset, tokenizer, pairs, ids, *texts.languages)


def _drop_long(
    pairs: Sequence[Pair], ids: Sequence[IdPair], eos: int, max_len: int, split: str
) -> tuple[list[Pair], list[IdPair]]:
    """Keeps the pairs that fit, and appends <eos> to their sources."""
    kept = [row for row, pair in enumerate(ids) if max(map(len, pair)) < max_len]
    dropped = len(ids) - len(kept)
    if not kept:
        raise ValueError(
            f"none of the {len(ids)} {split} pairs fits --max-len {max_len}: the shortest needs "
            f"{min(max(map(len, pair)) for pair in ids) + 1}. Use a larger --max-len, or more "
            "--bpe-tokens, which make sentences shorter."
        )
    if dropped:
        print(f"note: {dropped} of {len(ids)} {split} pairs are longer than {max_len} and left out")
    return [pairs[row] for row in kept], [([*ids[row][0], eos], ids[row][1]) for row in kept]


def _tokenize(
    texts: SentencePairs, bpe_tokens: int, path: Path
) -> tuple[ByteBPE, dict[str, list[IdPair]]]:
    """Returns the tokenizer and each split's ids, from the cache file if it is there and whole."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            tokenizer = tokenizer_from_dict(json.loads(str(stored["tokenizer"])))
            if isinstance(tokenizer, ByteBPE):
                return tokenizer, {split: _unpack(stored, split) for split in SPLITS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # missing or damaged: make it anew
    sources = [source for source, _ in texts.pairs["train"]]
    targets = [target for _, target in texts.pairs["train"]]
    if texts.words is None:
        tokenizer = train_tokenizer([*sources, *targets], bpe_tokens)
    else:
        tokenizer = train_tokenizer(sources, bpe_tokens, words=texts.words)
    encode = tokenizer.encode
    ids = {
        split: [(encode(source), encode(target)) for source, target in texts.pairs[split]]
        for split in SPLITS
    }
    content: dict[str, Any] = {"tokenizer": json.dumps(tokenizer.to_dict())}
    for split in SPLITS:
        sentences = [sentence for pair in ids[split] for sentence in pair]
        content[split] = np.array([i for sentence in sentences for i in sentence], np.int32)
        content[f"{split} lengths"] = np.array([len(sentence) for sentence in sentences], np.int32)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "wb") as file:
            np.savez(file, **content)
    except OSError as error:
        print(f"note: the tokens are not cached: {error}")
    return tokenizer, ids


def _unpack(stored: Any, split: str) -> list[IdPair]:
    """Cuts the flat ids of a split into pairs again."""
    flat, place, sentences = stored[split].tolist(), 0, []
    for length in stored[f"{split} lengths"].tolist():
        sentences.append(flat[place : place + length])
        place += length
    return list(zip(sentences[::2], sentences[1::2], strict=True))
