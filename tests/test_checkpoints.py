"""Checkpoints: whole or not there, safe to read, each mistake with its own line."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tutorial_kit import checkpoints
from tutorial_kit.checkpoints import (
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)


def save(path: Path, family: str = "gpt") -> None:
    save_checkpoint(path, family=family, config={"a": 1}, state={"w": torch.arange(3.0), "n": 2})


def test_round_trip_by_file_and_by_run_folder(tmp_path: Path) -> None:
    save(tmp_path / "checkpoints" / "last.pt")
    for path in (tmp_path, tmp_path / "checkpoints" / "last.pt"):
        loaded = load_checkpoint(path, family="gpt")
        assert loaded["config"] == {"a": 1} and loaded["state"]["n"] == 2
        assert torch.equal(loaded["state"]["w"], torch.arange(3.0))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["last.pt"]


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist. Train first"):
        load_checkpoint(tmp_path / "none.pt", family="gpt")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.pt"
    save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="truncated or another kind of file"):
        load_checkpoint(path, family="gpt")


class Exploit:
    """Would make a file when unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("exploited",)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_in_disguise_is_refused_and_runs_nothing(
    tmp_path: Path, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pt"
    if writer == "torch":
        torch.save({"format": Exploit()}, path)
    else:
        path.write_bytes(pickle.dumps(Exploit()))
    with pytest.raises(ValueError, match="is not read: it holds Python objects"):
        load_checkpoint(path, family="gpt")
    assert not (tmp_path / "exploited").exists()


def test_foreign_newer_and_of_another_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pt"
    torch.save({"model": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="not a checkpoint of this project"):
        load_checkpoint(path, family="gpt")
    save(path, family="bert")
    with pytest.raises(ValueError, match="checkpoint of bert, not of gpt"):
        load_checkpoint(path, family="gpt")
    monkeypatch.setattr(checkpoints, "VERSION", 99)
    save(path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="newer version"):
        load_checkpoint(path, family="gpt")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pt"
    save(path)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError):
        save(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_random_states_come_back() -> None:
    states = random_states()
    first = (random.random(), np.random.rand(), torch.rand(2).tolist(), np.random.randn())
    restore_random_states(states)
    assert first == (random.random(), np.random.rand(), torch.rand(2).tolist(), np.random.randn())
