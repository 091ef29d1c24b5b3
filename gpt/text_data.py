"""Text for a language model: where it comes from, how it is split, tokenized and cut into windows.

Sources: "documentation" (built from the installed packages, offline), "tinyshakespeare" and
"wikitext2" (downloaded once), or the path of any UTF-8 text file.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tutorial_kit.byte_bpe import ByteBPE
from tutorial_kit.datasets import cache_folder, dataset_files
from tutorial_kit.documentation_corpus import documentation_corpus
from tutorial_kit.files import atomic_write
from tutorial_kit.tokenizers import CharTokenizer, Tokenizer, tokenizer_from_dict

SPLITS = ("train", "validation", "test")
TokenizerName = Literal["characters", "bpe"]


@dataclass(frozen=True)
class TextData:
    """A text as token ids, split; what the model trains on and what it is measured on."""

    name: str  # the source, as given
    tokenizer: Tokenizer
    tokens: dict[str, Tensor]  # split -> (N,), int64
    n_bytes: dict[str, int]  # split -> UTF-8 bytes, for bits per byte

    def bits_per_byte(self, nats_per_token: float, split: str) -> float:
        """Turns a loss per token into bits per byte of text, which no tokenizer can flatter.

        Args:
            nats_per_token: mean cross-entropy over the split.
            split: which split it was measured on.
        """
        bits = nats_per_token * (len(self.tokens[split]) - 1) / np.log(2.0)
        return float(bits / self.n_bytes[split])


def load_text_data(source: str, tokenizer: TokenizerName, vocab_size: int) -> TextData:
    """Reads, splits and tokenizes a text; the tokens are cached, because a BPE takes seconds.

    Args:
        source: "documentation", "tinyshakespeare", "wikitext2", "documentation-small" (numpy's
            alone, for smoke tests), or a file's path.
        tokenizer: "characters", or "bpe": a byte-level BPE trained on the training split.
        vocab_size: tokens of the BPE; the characters decide their own number.

    Raises:
        ValueError: an unknown source; an empty, binary or wrongly encoded file.
        FileNotFoundError: the file does not exist.
    """
    texts = read_splits(source)
    fingerprint = hashlib.sha256(f"{tokenizer} {vocab_size}".encode())
    for split in SPLITS:
        fingerprint.update(texts[split].encode())
    path = cache_folder() / "tokens" / f"gpt-{fingerprint.hexdigest()[:20]}.npz"
    trained, arrays = _tokenize(texts, tokenizer, vocab_size, path)
    tokens = {split: torch.from_numpy(array.astype(np.int64)) for split, array in arrays.items()}
    sizes = {split: len(text.encode()) for split, text in texts.items()}
    return TextData(source, trained, tokens, sizes)


def _tokenize(
    texts: dict[str, str], name: TokenizerName, vocab_size: int, path: Path
) -> tuple[Tokenizer, dict[str, np.ndarray]]:
    """Returns the tokenizer and each split's ids, from the cache file if it is there and whole."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            tokenizer = tokenizer_from_dict(json.loads(str(stored["tokenizer"])))
            return tokenizer, {split: stored[split] for split in SPLITS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # missing or damaged: make it anew
    if name == "characters":
        tokenizer = CharTokenizer.from_text("".join(texts.values()))
    else:
        tokenizer = ByteBPE.train(texts["train"], vocab_size)
    arrays = {split: tokenizer.encode_array(text) for split, text in texts.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "wb") as file:
            content: dict[str, Any] = {"tokenizer": json.dumps(tokenizer.to_dict()), **arrays}
            np.savez(file, **content)
    except OSError as error:
        print(f"note: the tokens are not cached: {error}")
    return tokenizer, arrays


def read_splits(source: str) -> dict[str, str]:
    """Returns the training, validation and test text of a source.

    "documentation" is split by module, "wikitext2" by article. "tinyshakespeare" is split as is
    usual: the first 90 % train, the rest is validation; it has no test text. A file gives its first
    90 % to training and 5 % each to validation and test.
    """
    readers: dict[str, Callable[[], dict[str, str]]] = {
        "documentation": _read_documentation,
        "documentation-small": lambda: _read_documentation(("numpy",)),
        "tinyshakespeare": _read_tinyshakespeare,
        "wikitext2": _read_wikitext2,
    }
    if source in readers:
        return readers[source]()
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"--dataset {source!r} is neither a known name nor a file. "
            f"Use {', '.join(readers)}, or the path of a text file."
        )
    text = read_text_file(path)
    first, second = int(0.9 * len(text)), int(0.95 * len(text))
    return {"train": text[:first], "validation": text[first:second], "test": text[second:]}


def read_text_file(path: Path) -> str:
    """Reads a UTF-8 text file.

    Raises:
        ValueError: the file is empty, binary, or in another encoding; the text says where.
    """
    raw = path.read_bytes()
    if not raw.strip():
        raise ValueError(f"{path} is empty: there is nothing to learn from. Name another file.")
    if b"\0" in raw[:8192]:
        raise ValueError(f"{path} holds zero bytes, so it is no text. Name a UTF-8 text file.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {raw[error.start]:#04x} at position {error.start} starts "
            "no character. Convert it, for example with iconv -f GB18030 -t UTF-8."
        ) from None


def _read_documentation(only: tuple[str, ...] = ()) -> dict[str, str]:
    corpus = documentation_corpus(only)
    return {split: corpus.text(split) for split in SPLITS}


def _read_tinyshakespeare() -> dict[str, str]:
    text = dataset_files("tinyshakespeare")["text"].read_text(encoding="utf-8")
    cut = int(0.9 * len(text))
    return {"train": text[:cut], "validation": text[cut:], "test": ""}


def _read_wikitext2() -> dict[str, str]:
    files = dataset_files("wikitext2")
    return {split: files[split].read_text(encoding="utf-8") for split in SPLITS}


class WindowSampler:
    """Draws minibatches of windows without replacement, and can be put back to where it was.

    Each epoch cuts the text at a new random offset into windows that touch but do not overlap, and
    visits them in random order: every token is seen once an epoch. Epoch e of seed s is always the
    same, so the whole state is two numbers.
    """

    def __init__(self, tokens: Tensor, length: int, batch_size: int, seed: int) -> None:
        """Prepares the first epoch.

        Args:
            tokens: (N,), the training text.
            length: tokens in a window, T.
            batch_size: windows in a minibatch, B.
            seed: same seed, same minibatches.

        Raises:
            ValueError: the text is too short for one minibatch.
        """
        if len(tokens) < 2 * length + 1:
            raise ValueError(
                f"the training text has {len(tokens)} tokens, which is too short for windows of "
                f"{length}: at least {2 * length + 1} are needed. Use a longer text or --max-len "
                f"{max(1, (len(tokens) - 1) // 4)}."
            )
        self.tokens, self.length, self.seed = tokens, length, seed
        self.batch_size = batch_size
        self.epoch, self.position = 0, 0
        self._shuffle()

    def _shuffle(self) -> None:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        offset = int(torch.randint(self.length, (1,), generator=generator))
        count = (len(self.tokens) - 1 - offset) // self.length
        self.starts = offset + self.length * torch.randperm(count, generator=generator)

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """Returns inputs and targets, both (B, T); the targets are the inputs one token later."""
        starts = self.starts[self.position : self.position + self.batch_size]
        self.position += self.batch_size
        while len(starts) < self.batch_size:  # the epoch ends inside this minibatch
            self.epoch += 1
            self.position = self.batch_size - len(starts)
            self._shuffle()
            starts = torch.cat([starts, self.starts[: self.position]])
        windows = self.tokens[starts[:, None] + torch.arange(self.length + 1)]  # (B, T + 1)
        return windows[:, :-1], windows[:, 1:]

    def state(self) -> dict[str, Any]:
        """Returns where the sampler stands, as plain types."""
        return {"epoch": self.epoch, "position": self.position}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to ``state()``."""
        self.epoch, self.position = state["epoch"], state["position"]
        self._shuffle()
