"""Shared by all tests: one thread (tiny tensors gain nothing from two), and no file outside tmp."""

from __future__ import annotations

from pathlib import Path

import pytest

try:
    import torch
except ImportError:  # the doctor's tests also run where nothing is installed
    pass
else:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _outputs_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends whatever a test trains to its own folder."""
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(tmp_path / "outputs"))
