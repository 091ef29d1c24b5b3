"""Results: what is stored, how it is judged and shown, and measuring again by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks.__main__ as overview
from benchmarks import timing
from tutorial_kit import results as kit
from tutorial_kit.results import Result, describe_commit, load_results, record, status


def measured(name: str = "gpt.training.speedup", value: float = 1.8, **fields: object) -> Result:
    """Returns a result that needs nothing from this machine."""
    defaults: dict = {"unit": "x", "machine": {"cores": 2}, "commit": "abc"}
    return Result(name, value, **{**defaults, **fields})


def test_record_merges_and_load_returns_what_was_recorded(tmp_path: Path) -> None:
    first = measured(at_least=1.5, aim=2.2, seeds=(0, 1, 2), spread=0.1, seconds=3.0, note="a | b")
    record("gpt", first, tmp_path)
    record("gpt", [measured("gpt.loss.b", 2.0), measured("gpt.loss.a", 3.0)], tmp_path)
    record("gpt", measured("gpt.loss.b", 1.0, note="Zürich 词元"), tmp_path)
    loaded = load_results(tmp_path)
    assert list(loaded) == ["gpt.loss.a", "gpt.loss.b", "gpt.training.speedup"]
    assert loaded["gpt.training.speedup"] == first
    assert loaded["gpt.loss.b"].value == 1.0
    text = (tmp_path / "gpt.json").read_text(encoding="utf-8")
    assert list(json.loads(text)) == sorted(json.loads(text)) and "词元" in text
    score = measured("gpt.score.c", 0.5, unit="")  # has no unit
    record("gpt", score, tmp_path)
    assert load_results(tmp_path)["gpt.score.c"] == score


def test_record_fills_in_machine_and_commit(tmp_path: Path) -> None:
    (written,) = record("gpt", Result("gpt.a.b", 1.0, "s"), tmp_path)
    assert {"cores", "threads", "torch", "python", "calibration_seconds"} <= set(written.machine)
    assert written.commit and written == load_results(tmp_path)["gpt.a.b"]


def test_a_failed_record_leaves_the_old_file(tmp_path: Path) -> None:
    record("gpt", measured(), tmp_path)
    before = (tmp_path / "gpt.json").read_bytes()
    with pytest.raises(TypeError):
        record("gpt", measured("gpt.other.x", machine={"cores": object()}), tmp_path)
    assert (tmp_path / "gpt.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["gpt.json"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"name": "Speed"}, "not of the form"),
        ({"value": float("nan")}, "value=nan"),
        ({"value": True}, "value=True"),
        ({"spread": float("inf")}, "spread=inf"),
        ({"better": "more"}, "better='more'"),
    ],
)
def test_a_result_that_cannot_be_trusted_is_refused(fields: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        measured(**fields)


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"gpt.a.b": 3}', '{"gpt.a.b": {"value": 1, "unit": "s", "new": 1}}']
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "gpt.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="gpt.json does not hold results"):
        load_results(tmp_path)
    with pytest.raises(ValueError, match="does not hold results"):
        record("gpt", measured(), tmp_path)
    assert (tmp_path / "gpt.json").read_text(encoding="utf-8") == content


def test_one_name_in_two_files_is_refused(tmp_path: Path) -> None:
    record("gpt", measured(), tmp_path)
    record("bert", measured(), tmp_path)
    with pytest.raises(ValueError, match="bert.json and gpt.json"):
        load_results(tmp_path)


@pytest.mark.parametrize(
    ("value", "at_least", "aim", "better", "verdict"),
    [
        (1.4, 1.5, 2.2, "higher", "below goal"),
        (1.5, 1.5, 2.2, "higher", "meets goal"),
        (2.2, 1.5, 2.2, "higher", "meets aim"),
        (0.3, 0.5, 0.2, "lower", "meets goal"),
        (0.6, 0.5, 0.2, "lower", "below goal"),
        (0.1, 0.5, 0.2, "lower", "meets aim"),
        (9.0, 1.5, None, "higher", "meets goal"),
        (9.0, None, 10.0, "higher", "below goal"),
        (9.0, None, None, "higher", "no goal"),
    ],
)
def test_status(
    value: float, at_least: float | None, aim: float | None, better: str, verdict: str
) -> None:
    assert status(measured(value=value, at_least=at_least, aim=aim, better=better)) == verdict


@pytest.mark.parametrize(
    ("value", "unit", "spread", "text"),
    [
        (2.2051, "x", 0.03, "2.21x ± 0.03"),
        (12345.6, "tokens/s", 55.2, "12,346 ± 55 tokens/s"),
        (11.96, "%", 0.62, "12.0 ± 0.6 %"),
        (0.0000123, "s", None, "0.000012 s"),
        (-0.05, "", None, "-0.050"),
        (124_439_808, "parameters", None, "124,439,808 parameters"),
    ],
)
def test_numbers_are_shown_with_the_digits_that_count(
    value: float, unit: str, spread: float | None, text: str
) -> None:
    assert kit.format_measured(measured(value=value, unit=unit, spread=spread)) == text


def test_goals_show_their_direction() -> None:
    assert kit.format_goal(measured(), 1.5) == "≥ 1.5x"
    assert kit.format_goal(measured(unit="%", better="lower"), 25) == "≤ 25 %"
    assert kit.format_goal(measured(), None) == ""


def test_the_commit_says_whether_the_source_was_changed(tmp_path: Path) -> None:
    assert describe_commit(tmp_path) == "unknown"

    def git(*arguments: str) -> None:
        names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *names, *arguments], check=True)

    (tmp_path / "code.py").write_text("1", encoding="utf-8")
    (tmp_path / "page.md").write_text("1", encoding="utf-8")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    commit = describe_commit(tmp_path)
    assert len(commit) >= 7 and "+" not in commit
    (tmp_path / "page.md").write_text("2", encoding="utf-8")
    assert describe_commit(tmp_path) == commit
    (tmp_path / "code.py").write_text("2", encoding="utf-8")
    assert describe_commit(tmp_path) == f"{commit}+changes"
    (tmp_path / "below").mkdir()
    assert describe_commit(tmp_path / "below") == "unknown"


def test_reading_results_does_not_import_torch() -> None:
    code = "import sys, benchmarks.__main__; print('torch' in sys.modules)"
    root = Path(overview.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_measures_are_found_without_importing(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "gpt").mkdir()
    bench = 'import missing_module\nMEASURES: dict[str, str] = {"gpt.a.b": "what"}\n'
    (tmp_path / "benchmarks" / "speed.py").write_text(bench, encoding="utf-8")
    (tmp_path / "gpt" / "run_examples.py").write_text(
        'MEASURES = {"gpt.c.d": "more"}\n', encoding="utf-8"
    )
    overview.find_measures.cache_clear()
    found = overview.find_measures(tmp_path)
    assert found == {
        "gpt.a.b": ("benchmarks.speed", "what"),
        "gpt.c.d": ("gpt.run_examples", "more"),
    }
    (tmp_path / "gpt" / "run_examples.py").write_text(bench, encoding="utf-8")
    overview.find_measures.cache_clear()
    with pytest.raises(ValueError, match="gpt.a.b is measured by"):
        overview.find_measures(tmp_path)


def test_computed_measures_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = tmp_path / "made_up_family"
    family.mkdir()
    code = 'MEASURES = {f"made.{name}": name for name in ("a", "b")}\n'
    (family / "run_examples.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    found = overview.find_measures(tmp_path)
    assert found["made.b"] == ("made_up_family.run_examples", "b")


def test_an_unknown_name_is_one_line_with_close_matches() -> None:
    environment = {**os.environ, "PYTHONUTF8": "1"}
    root = Path(overview.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "gpt.no.such_name"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("error: argument NAME: no module measures")


def test_a_name_that_is_nearly_right_is_helped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(overview, "find_measures", lambda: {"gpt.training.speed": ("m", "")})
    with pytest.raises(SystemExit) as leave:
        overview.main(["gpt.trianing.speed"])
    assert leave.value.code == 2
    assert "Close: gpt.training.speed." in capsys.readouterr().err


def test_a_name_measures_only_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    class Module:
        @staticmethod
        def main(argv: list[str]) -> None:
            calls.append(argv)

    monkeypatch.setattr(overview, "find_measures", lambda: {"gpt.a.b": ("benchmarks.x", "what")})
    monkeypatch.setattr(overview.importlib, "import_module", lambda name: Module)
    monkeypatch.setattr(overview, "load_results", lambda: {"gpt.a.b": measured("gpt.a.b")})
    overview.main(["gpt.a.b"])
    assert calls == [["--only", "gpt.a.b"]]
    assert "1.80x" in capsys.readouterr().out
    monkeypatch.setattr(overview, "load_results", dict)
    with pytest.raises(ValueError, match="ended without recording"):
        overview.main(["gpt.a.b"])


def test_the_overview_shows_goals_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"gpt.a.b": measured("gpt.a.b", at_least=1.5), "gpt.old.x": measured("gpt.old.x")}
    monkeypatch.setattr(overview, "load_results", lambda: found)
    text = overview.overview({"gpt.a.b": ("m", ""), "gpt.new.y": ("m", "")})
    assert "≥ 1.5x" in text and "meets goal" in text
    assert "not measured yet: gpt.new.y" in text
    assert "measured by no module: gpt.old.x" in text
    assert "2 results: 1 meets goal" in text


def test_sides_take_turns() -> None:
    order: list[str] = []

    def ours() -> None:
        order.append("ours")

    def theirs() -> float:
        order.append("theirs")
        return 2.5

    seconds = timing.alternate({"ours": ours, "theirs": theirs}, rounds=3, warmup=1)
    assert order == ["theirs", "ours", "ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert seconds["theirs"] == [2.5, 2.5, 2.5] and len(seconds["ours"]) == 3
    assert all(0 <= value < 2.0 for value in seconds["ours"])
    with pytest.raises(ValueError, match="rounds=0"):
        timing.alternate({"ours": ours}, rounds=0)


def test_ratio_survives_one_disturbed_round() -> None:
    median, spread = timing.ratio([2.0, 2.0, 20.0, 2.2, 1.8], [1.0, 1.0, 1.0, 1.1, 0.9])
    assert median == pytest.approx(2.0) and spread == pytest.approx(0.0)
    with pytest.raises(ValueError):
        timing.ratio([1.0], [1.0, 2.0])


def test_a_busy_machine_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    threads = torch.get_num_threads()
    try:
        monkeypatch.setattr(os, "getloadavg", lambda: (9.0, 9.0, 9.0), raising=False)
        machine = timing.prepare(threads=1)
        assert machine["threads"] == 1 and machine["load_before"] == 9.0
        assert capsys.readouterr().err.count("\n") == 1
        monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)
        timing.prepare(threads=1)
        assert capsys.readouterr().err == ""
    finally:
        torch.set_num_threads(threads)
