"""Schedules, the metrics log, the clean stop."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest

from tutorial_kit.training import (
    InterruptGuard,
    MetricsLog,
    check_loss,
    read_metrics,
    run_folder,
    warmup_cosine,
    warmup_stable_decay,
)


def test_cosine_schedule_by_hand() -> None:
    assert warmup_cosine(0.0, 0.1, 0.0) == 0.0
    assert warmup_cosine(0.1, 0.1, 0.0) == 1.0
    assert warmup_cosine(0.325, 0.1, 0.2) == pytest.approx(
        0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 4))
    )
    assert warmup_cosine(1.0, 0.1, 0.2) == pytest.approx(0.2)
    assert warmup_cosine(2.0, 0.1, 0.2) == pytest.approx(0.2)


def test_stable_schedule_by_hand() -> None:
    shares = [0.0, 0.05, 0.1, 0.5, 0.6, 0.8, 1.0]
    factors = [warmup_stable_decay(share, 0.1, 0.4, 0.0) for share in shares]
    assert factors == pytest.approx([0.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.0])


def test_log_keeps_only_what_the_checkpoint_knows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in (1, 2, 3):
        log.write(step, loss=1.0 / step)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "lo')  # killed while writing
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]
    MetricsLog(path, resume_step=2).write(3, loss=0.5)
    assert read_metrics(path) == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 0.5},
        {"step": 3, "loss": 0.5},
    ]
    MetricsLog(path)
    assert read_metrics(path) == []


def test_first_interrupt_asks_second_stops() -> None:
    with pytest.raises(KeyboardInterrupt), InterruptGuard() as guard:
        assert not guard.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert guard.requested
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_with_a_remedy(loss: float) -> None:
    with pytest.raises(ValueError, match="at step 7.*Lower the learning rate"):
        check_loss(loss, 7)
    check_loss(1.5, 7)


@pytest.mark.parametrize("name", ["", "..", "a/b", "/tmp"])
def test_run_folder_stays_inside(name: str) -> None:
    with pytest.raises(ValueError, match="is not a folder name"):
        run_folder("gpt", name)
