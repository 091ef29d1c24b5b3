"""PASS and FAIL lines, their exit code, differences that are not a number."""

from __future__ import annotations

import math

import pytest
import torch

from tutorial_kit.verify import largest, run_checks, shape_ledger


def close() -> float:
    """One is one."""
    return 1e-7


def far() -> float:
    """One is two."""
    return 1.0


def broken() -> float:
    """One is nothing."""
    return math.nan


def test_every_check_has_a_line_and_one_failure_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_checks([(close, 1e-6), (close, 1e-7)]) == 0
    assert run_checks([(close, 1e-6), (far, 0.5), (broken, 1.0), (close, 0.0)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in lines] == ["PASS", "PASS", "PASS", "FAIL", "FAIL", "FAIL"]
    assert lines[3] == "FAIL  One is two.  [1.0e+00 <= 0.5]"


def test_the_largest_difference_is_never_not_a_number() -> None:
    assert largest(torch.tensor([[-3.0, 2.0]])) == 3.0
    for strange in (math.nan, math.inf, -math.inf):
        assert largest(torch.tensor([0.0, strange])) > 1e30


def test_the_ledger_finds_the_meaning_of_a_numbered_layer() -> None:
    named = {"a.b.11": torch.zeros(2), "logits": torch.zeros(1, 3)}
    ledger = shape_ledger(named, {"a.b": "stream", "logits": "scores"}).splitlines()
    assert [line.split() for line in ledger[2:]] == [
        ["a.b.11", "(2,)", "stream"],
        ["logits", "(1,", "3)", "scores"],
    ]
