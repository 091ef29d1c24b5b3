"""The benchmarks of the menu: foretold and real minutes, and how long threads wait."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import runner, threads
from benchmarks.runner import Told
from tutorial_kit.results import Result

STORY = """
--- cbow: CBOW (1 of 2, about 20 s; Ctrl-C skips it) ---
cbow finished after 25.0 s: fine

--- gpt: GPT (2 of 2, about 2 min; Ctrl-C skips it) ---
gpt finished after 100.0 s: fine
"""


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Result]:
    """Keeps what would be recorded, by name."""
    kept: dict[str, Result] = {}

    def record(stem: str, result: Result) -> None:
        assert stem == "runner"
        kept[result.name] = result

    for module in (runner, threads):
        monkeypatch.setattr(module, "record", record)
        monkeypatch.setattr(module, "prepare", dict)
    return kept


@pytest.mark.parametrize("load", ["idle", "busy"])
def test_the_largest_error_counts(
    load: str, recorded: dict[str, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def run_all(busy: bool) -> tuple[float, list[Told]]:
        asked.append(busy)
        return 130.0, runner.read_story(STORY)

    monkeypatch.setattr(runner, "run_all", run_all)
    runner.main(["--only", f"runner.forecast.{load}"])
    assert asked == [load == "busy"]
    first, largest = (recorded[f"runner.forecast.{load}{end}"].value for end in ("_first", ""))
    assert first == pytest.approx(20) and largest == pytest.approx(20)
    assert ("runner.all.seconds" in recorded) == (load == "idle")


def test_the_demos_start_without_memory_and_with_what_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path))
    (tmp_path / "forecast.json").write_text("{}")
    (tmp_path / "corpus").mkdir()

    def run(command: list[str], env: dict[str, str], **_: Any) -> Any:
        assert [path.name for path in Path(env["LLM_TUTORIAL_CACHE"]).iterdir()] == ["corpus"]
        assert not Path(env["LLM_TUTORIAL_OUTPUTS"]).exists()
        return subprocess.CompletedProcess(command, 0, STORY, "")

    monkeypatch.setattr(runner.subprocess, "run", run)
    assert [one.foretold for one in runner.run_all(busy=False)[1]] == [20.0, 120.0]
    failed = subprocess.CompletedProcess([], 2, "gpt failed", "")
    monkeypatch.setattr(runner.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ValueError, match="2 demos failed: gpt failed"):
        runner.run_all(busy=False)


def test_short_waits_are_compared_with_long_ones(
    recorded: dict[str, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {threads.SHORT_WAIT: 0.02, threads.LONG_WAIT: 0.05}
    monkeypatch.setattr(threads, "step_seconds", lambda wait, steps: seconds[wait])
    threads.main(["--rounds", "3"])
    assert set(recorded) == set(threads.MEASURES)
    assert recorded["runner.threads.busy"].value == pytest.approx(2.5)


def test_a_step_is_timed_in_a_process_of_its_own() -> None:
    assert 0 < threads.step_seconds(threads.SHORT_WAIT, 1) < 60
