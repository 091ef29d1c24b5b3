"""Impossible settings: each check names the field, the value and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tutorial_kit import config_checks as checks


@pytest.mark.parametrize(
    ("check", "good", "bad", "text"),
    [
        (checks.check_counts, [1, 9], [0, -1], "is not possible. Use 1 or more."),
        (checks.check_not_negative, [0, 0.5], [-1, -0.1], "is below 0. Use 0 or more."),
        (checks.check_learning_rates, [1e-9], [0.0, -1.0], "learns nothing. Use more than 0."),
        (checks.check_shares, [0, 0.5, 1], [-0.1, 1.1], "is no share. Use 0 to 1."),
        (checks.check_shares_below_one, [0.0, 0.99], [-0.1, 1.0], "is no share below 1. Use 0"),
    ],
)
def test_fields_out_of_range(
    check: Callable[..., None], good: list[float], bad: list[float], text: str
) -> None:
    for value in good:
        check(SimpleNamespace(first=good[0], second=value), "first", "second")
    for value in bad:
        with pytest.raises(ValueError, match=f"second={value} {text}"):
            check(SimpleNamespace(first=good[0], second=value), "first", "second")


@pytest.mark.parametrize(("d_model", "near"), [(130, 128), (131, 132), (3, 4), (1, 4)])
def test_a_width_that_the_heads_cannot_share(d_model: int, near: int) -> None:
    with pytest.raises(ValueError, match=f"d_model={d_model} is not divisible.*Use d_model={near}"):
        checks.check_heads(d_model, 4)
    checks.check_heads(near, 4)
