"""Shared by all tests: one thread (tiny tensors gain nothing from two), and no file outside tmp."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; subprocesses inherit it

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _outputs_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends whatever a test trains to its own folder."""
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(tmp_path / "outputs"))
