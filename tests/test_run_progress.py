"""The counters of a run, the settings a resumed run may change, and what the run tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tutorial_kit.run_progress import RunProgress, check_same_settings
from tutorial_kit.run_reporter import RunReporter
from tutorial_kit.training import MetricsLog, read_metrics


def test_share_by_steps() -> None:
    run = RunProgress(max_steps=4)
    assert run.share_done == 0.0 and run.share_for_schedule(least=0.3) == 0.3
    assert run.share_for_schedule(least=0.0) == 0.25, "the first step must not be at rate 0"
    run.step = 3
    assert run.share_done == 0.75 and run.share_for_schedule(least=0.3) == 1.0
    run.step = 9
    assert run.share_done == 1.0


def test_share_by_the_clock() -> None:
    run = RunProgress(max_steps=4, budget_minutes=0.5)
    run.step, run.seconds = 3, 12.0
    assert run.share_done == run.share_for_schedule(least=0.0) == pytest.approx(0.4)
    run.seconds = 31.0
    assert run.share_done == 1.0


def test_the_mean_loss_is_taken_once() -> None:
    run = RunProgress(max_steps=4)
    for loss in (1.0, 2.0, 6.0):
        run.add_loss(loss)
    assert run.take_mean_loss() == 3.0
    run.add_loss(5.0)
    assert run.take_mean_loss() == 5.0
    assert run.take_mean_loss() == 0.0


class WithBest(RunProgress):
    COUNTERS = (*RunProgress.COUNTERS, "best")
    best = 9.0


def test_counters_come_back() -> None:
    run, other = WithBest(4), WithBest(4)
    run.step, run.seconds, run.best = 3, 1.5, 0.25
    run.add_loss(2.0)
    saved = run.counters()
    assert set(saved) == {"step", "seconds", "loss_sum", "loss_count", "best"}
    other.restore_counters({**saved, "model": "left alone"})
    assert other.counters() == saved and not hasattr(other, "model")


SETTINGS = {"model": {"d_model": 16, "vocab_size": 9}, "dataset": "a", "max_steps": 8}


def test_equal_settings_and_harmless_ones_may_resume() -> None:
    check_same_settings(SETTINGS, SETTINGS, Path("last.pt"), ())
    check_same_settings(SETTINGS, {**SETTINGS, "max_steps": 9}, Path("last.pt"), {"max_steps"})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"max_steps": 9}, "cannot resume last.pt: it was trained with max_steps=8, this command "
         "asks for 9"),
        ({"model": {"d_model": 32, "vocab_size": 9}}, "with d_model=16, this command asks for 32"),
        ({"model": {"d_model": 16, "vocab_size": 5}, "dataset": "b"}, "with dataset=a"),
        ({"new": 1}, "with new=None, this command asks for 1"),
    ],
)  # fmt: skip
def test_other_settings_are_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_same_settings(SETTINGS, {**SETTINGS, **changes}, Path("last.pt"), ())


def test_the_reporter_prints_and_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunProgress(max_steps=4)
    reporter = RunReporter(run, tmp_path, {"lr": 1}, headline="5 parameters", resume=False)
    run.step, run.seconds = 2, 1.23456
    reporter.move_bar(loss="1.0")
    reporter.show_evaluation(1.5, 1.25, "accuracy 50%", "    sample: a", {"accuracy": 0.5})
    reporter.say_how_to_resume()
    reporter.close()
    assert capsys.readouterr().out.splitlines() == [
        f"5 parameters; outputs in {tmp_path}",
        "step      2      1.2 s  train 1.5000  validation 1.2500 nats/token  accuracy 50%",
        "    sample: a",
        "stopped at step 2; saved. The same command with --resume goes on.",
    ]
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) == {"lr": 1}
    (row,) = read_metrics(tmp_path / "metrics.jsonl")
    assert row == {"step": 2, "seconds": 1.235, "train_loss": 1.5, "validation_loss": 1.25,
                   "accuracy": 0.5}  # fmt: skip
    assert reporter.validation_loss == 1.25


def test_a_resumed_reporter_keeps_the_log_up_to_its_step(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        log.write(step, loss=1.0)
    run = RunProgress(max_steps=4)
    run.step = 2
    RunReporter(run, tmp_path, {}, headline="", resume=True)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_silent_reporter_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunProgress(max_steps=4)
    reporter = RunReporter(run, tmp_path, {}, headline="x", resume=False, speaks=False)
    reporter.move_bar(loss="1.0")
    reporter.show_evaluation(1.0, 2.0, "", "", {})
    reporter.say_how_to_resume()
    reporter.close()
    assert not list(tmp_path.iterdir()) and capsys.readouterr().out == ""
