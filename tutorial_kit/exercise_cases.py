"""The cases of an exercise, and where a learner's answer differs from what a case expects.

An answer is tried on one case after the other, the simplest first; the first that fails is told in
one line: the call, what was expected, what came.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from tutorial_kit.console import one_line

RELATIVE, ABSOLUTE = 1e-4, 1e-5  # how far an answer may be from the one expected
SMALL = 16  # numbers of a tensor that is shown whole
LONGEST = 120  # characters of anything else that is shown


class Case(NamedTuple):
    """One call of a learner's function and what it must return."""

    arguments: tuple[Any, ...]
    expected: Any  # a tensor, a number, a list, or a tuple of these for several values
    clue: str  # what to think of if this case fails: NAME of a text ``.clue.NAME``


@dataclass(frozen=True)
class Exercise:
    """One exercise; what it says is in the family's texts."""

    number: int  # from 1, in the order of the file
    level: Literal["easy", "medium", "hard"]
    function: str  # name of the function to write, of its solution, and in the keys of its texts
    cases: Callable[[], Iterable[Case]]  # the check, from the simplest case up


class Fault(NamedTuple):
    """Why an answer does not pass."""

    text: str  # one line: the call, what was expected, what came
    clue: str = ""  # name of the failed case's clue, "" if there is none


def shown(value: object) -> str:
    """Returns a value in few characters: numbers rounded, a large tensor as its shape.

    >>> shown(torch.tensor([[0.5, 1 / 3]])), shown(torch.zeros(2, 3, 4)), shown((True, None))
    ('[[0.5, 0.33333]]', 'a tensor of shape (2, 3, 4)', '(True, None)')
    """
    if isinstance(value, Tensor):
        if value.numel() > SMALL:
            return f"a tensor of shape {tuple(value.shape)}"
        value = value.tolist()
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(shown, value))
        text = f"[{inside}]" if isinstance(value, list) else f"({inside})"
    else:
        text = one_line(value) if isinstance(value, Exception) else " ".join(repr(value).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 4] + " ..."


def difference(expected: object, got: object) -> str | None:
    """Says where an answer differs from the one expected; None if it does not, but for rounding.

    A tensor must have the shape expected; its precision does not matter, but a mask is boolean. A
    number may come as a tensor of one element.

    >>> difference(0.5, torch.tensor(0.5)), difference(torch.ones(2), torch.ones(1, 2))
    (None, 'expected shape (2,), got shape (1, 2)')
    """
    if isinstance(expected, tuple):
        if not isinstance(got, (tuple, list)) or len(got) != len(expected):
            return f"expected {len(expected)} values, got {shown(got)}"
        pairs = enumerate(zip(expected, got, strict=True), 1)
        found = ((place, difference(ours, theirs)) for place, (ours, theirs) in pairs)
        return next((f"value {place}: {text}" for place, text in found if text), None)
    if isinstance(expected, Tensor) and isinstance(got, Tensor):
        return _tensor_difference(expected, got)
    if isinstance(got, Tensor) and got.numel() == 1:
        got = got.item()
    if isinstance(expected, float):
        number = isinstance(got, (int, float))
        same = number and math.isclose(got, expected, rel_tol=RELATIVE, abs_tol=ABSOLUTE)  # type: ignore[arg-type]
    else:
        same = type(got) is type(expected) and got == expected
    kind = "" if type(got) is type(expected) else f" ({type(got).__name__})"
    return None if same else f"expected {shown(expected)}, got {shown(got)}{kind}"


def _tensor_difference(expected: Tensor, got: Tensor) -> str | None:
    """The same for two tensors."""
    if got.shape != expected.shape:
        return f"expected shape {tuple(expected.shape)}, got shape {tuple(got.shape)}"
    if (got.dtype == torch.bool) != (expected.dtype == torch.bool) or got.is_complex():
        return f"expected {expected.dtype}, got {got.dtype}"
    wrong = ~torch.isclose(got.double(), expected.double(), rtol=RELATIVE, atol=ABSOLUTE)
    if not wrong.any():
        return None
    if expected.numel() <= SMALL:
        return f"expected {shown(expected)}, got {shown(got)}"
    place = tuple(wrong.nonzero()[0].tolist())
    return f"at {list(place)} expected {shown(expected[place])}, got {shown(got[place])}"


def find_fault(exercise: Exercise, attempt: Callable[..., Any]) -> Fault | None:
    """Tries an answer on every case.

    Args:
        exercise: what was asked.
        attempt: the function that a learner wrote.

    Returns:
        The first fault, None if there is none.
    """
    for case in exercise.cases():
        call = f"{exercise.function}({', '.join(map(shown, case.arguments))})"
        try:
            got = attempt(*copy.deepcopy(case.arguments))  # an answer may change its input
        except NotImplementedError as error:
            return Fault(one_line(error))
        except Exception as error:  # whatever a learner's line may do wrong
            inside = error.__traceback__.tb_next if error.__traceback__ else None
            line = f" in line {inside.tb_lineno}" if inside else ""
            return Fault(f"{call} raised {type(error).__name__}{line}: {shown(error)}", case.clue)
        if text := difference(case.expected, got):
            return Fault(f"{call}: {text}", case.clue)
    return None
