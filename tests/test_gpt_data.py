"""Text: splits, bad files, windows without replacement."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt.text_data import TextData, WindowSampler, load_text_data, read_splits
from tutorial_kit.tokenizers import CharTokenizer


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))


def write(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    return str(path)


def test_a_file_is_split_in_order(tmp_path: Path) -> None:
    text = "".join(chr(0x4E00 + i) for i in range(200))  # no character twice
    splits = read_splits(write(tmp_path, text.encode()))
    assert splits == {"train": text[:180], "validation": text[180:190], "test": text[190:]}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b" \n ", "is empty"),
        (b"ab\0cd", "holds zero bytes"),
        ("中文".encode("gb18030"), "is not UTF-8: byte 0xd6 at position 0"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_splits(write(tmp_path, content))


def test_unknown_source() -> None:
    with pytest.raises(FileNotFoundError, match="neither a known name nor a file"):
        read_splits("wikitext3")


@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
def test_tokens_decode_to_the_text_and_come_from_the_cache(tmp_path: Path, tokenizer: str) -> None:
    source = write(tmp_path, "a cat sat on a mat, 猫。\n".encode() * 60)
    first = load_text_data(source, tokenizer, 300)  # type: ignore[arg-type]
    again = load_text_data(source, tokenizer, 300)  # type: ignore[arg-type]
    texts = read_splits(source)
    for split, text in texts.items():
        assert first.tokenizer.decode(first.tokens[split].tolist()) == text
        assert torch.equal(first.tokens[split], again.tokens[split])
        assert first.n_bytes[split] == len(text.encode())
    (stored,) = (tmp_path / "cache" / "tokens").iterdir()
    stored.write_bytes(stored.read_bytes()[:100])  # a damaged cache is made anew
    assert torch.equal(
        load_text_data(source, tokenizer, 300).tokens["train"], first.tokens["train"]
    )  # type: ignore[arg-type]


def test_bits_per_byte_by_hand() -> None:
    tokens = {"train": torch.zeros(0), "validation": torch.zeros(5), "test": torch.zeros(0)}
    data = TextData("x", CharTokenizer.from_text("ab"), tokens, {"validation": 8})
    # 4 predictions of ln 4 nats are 2 bits each: 8 bits for 8 bytes
    assert data.bits_per_byte(math.log(4), "validation") == pytest.approx(1.0)


def test_windows_visit_every_token_once_an_epoch() -> None:
    tokens = torch.arange(101)
    sampler = WindowSampler(tokens, 10, 3, seed=0)
    seen: list[int] = []
    while sampler.epoch == 0:
        x, y = sampler.next_batch()
        assert torch.equal(y, x + 1) and x.shape == (3, 10)
        seen += x.flatten().tolist()
    first_epoch = seen[: len(sampler.starts) * 10] if len(seen) > 90 else seen
    assert len(set(first_epoch[:90])) == 90


def test_sampler_goes_back_to_its_state_across_an_epoch() -> None:
    def batches(sampler: WindowSampler, n: int) -> list[np.ndarray]:
        return [sampler.next_batch()[0].numpy() for _ in range(n)]

    sampler = WindowSampler(torch.arange(95), 10, 4, seed=3)
    batches(sampler, 3)
    state = sampler.state()
    expected = batches(sampler, 5)
    again = WindowSampler(torch.arange(95), 10, 4, seed=3)
    again.restore(state)
    assert all((a == b).all() for a, b in zip(expected, batches(again, 5), strict=True))


def test_a_minibatch_larger_than_an_epoch() -> None:
    sampler = WindowSampler(torch.arange(31), 10, 16, seed=0)
    assert sampler.next_batch()[0].shape == (16, 10)


def test_a_text_shorter_than_one_context() -> None:
    with pytest.raises(ValueError, match="the training text has 15 tokens, which is too short"):
        WindowSampler(torch.arange(15), 10, 1, seed=0)
