"""The terminal: one-line errors, exit codes, tables, progress without a terminal."""

from __future__ import annotations

import pytest

from tutorial_kit.console import PlainProgress, format_table, run_entry


def leave(main: object) -> int:
    with pytest.raises(SystemExit) as left:
        run_entry(main)  # type: ignore[arg-type]
    return int(left.value.code or 0)


def raising(error: BaseException) -> object:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize("error", [ValueError("a\n  b"), FileNotFoundError("a b")])
def test_a_user_error_is_one_line_and_exit_code_2(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(raising(error)) == 2
    assert capsys.readouterr().err == "error: a b\n"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(TypeError):
        run_entry(raising(TypeError("a bug")))  # type: ignore[arg-type]


def test_debug_shows_the_traceback_of_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_DEBUG", "1")
    with pytest.raises(ValueError):
        run_entry(raising(ValueError("why")))  # type: ignore[arg-type]


def test_exit_codes() -> None:
    assert leave(lambda: None) == 0
    assert leave(lambda: 3) == 3
    assert leave(lambda: "a result") == 0
    assert leave(raising(KeyboardInterrupt())) == 130


def test_table_aligns_numbers_right() -> None:
    lines = format_table(["name", "n"], [["a", 1], ["long name", 100]]).splitlines()
    assert lines == ["name         n", "---------  ---", "a            1", "long name  100"]
    assert format_table(["only", "head"], []).splitlines()[0] == "only  head"


def test_plain_progress_is_silent_when_quick(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress(10, "working", "item") as bar:
        for _ in range(10):
            bar.update()
            bar.set_postfix(loss=1)
        assert bar.n == 10
    assert capsys.readouterr().err == ""
    bar.last_line -= 11
    bar.update(0)
    assert "working: 100%  loss 1" in capsys.readouterr().err
