"""From a run's name to its checkpoint and its pictures; weights that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from tutorial_kit.saved_runs import figures_of, find_run, load_weights
from tutorial_kit.training import run_folder


def test_a_run_is_named_or_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_run("gpt", "mine") == run_folder("gpt", "mine")
    assert find_run("gpt", "a/b") == Path("a/b")
    (tmp_path / "mine").mkdir()
    assert find_run("gpt", "mine") == Path("mine"), "what is there wins"


@pytest.mark.parametrize("place", ["", "checkpoints", "checkpoints/last.pt", "checkpoints/other"])
def test_pictures_lie_beside_the_checkpoints(place: str, tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in ("last.pt", "other"):
        (tmp_path / "run" / "checkpoints" / name).write_bytes(b"")
    assert figures_of("gpt", tmp_path / "run" / place) == tmp_path / "run" / "figures"


def test_pictures_of_a_loose_file_and_of_a_named_run(tmp_path: Path) -> None:
    assert figures_of("gpt", tmp_path / "loose.pt") == tmp_path / "figures"
    assert figures_of("gpt", "mine") == run_folder("gpt", "mine") / "figures"


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="last.pt holds weights that do not fit its own settings"):
        load_weights(nn.Linear(2, 2), nn.Linear(3, 2).state_dict(), Path("last.pt"))
    same = nn.Linear(2, 2)
    load_weights(same, nn.Linear(2, 2).state_dict(), Path("last.pt"))
