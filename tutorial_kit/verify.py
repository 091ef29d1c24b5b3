"""What a verify script does with its checks: PASS or FAIL lines, the exit code, the shape ledger.

The ledger is the table of one forward pass: name and shape of every tensor, the chapter's equation
that it is a side of, the line of the source that computes it, and what it means.

A check is a function without arguments that returns how far a claim is from the truth; its
docstring is the claim. The checks themselves stand in the family, where a reader looks for them.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import format_table

Check = tuple[Callable[[], float], float]
"""A function that measures a difference, and the largest difference that passes."""


def run_checks(checks: Iterable[Check]) -> int:
    """Prints one line per check; returns the exit code: 1 if any failed, else 0.

    A difference that is not a number fails. Gradients are on: a check may need them, and a ``main``
    whose checks do not is decorated with ``torch.no_grad``.
    """
    failures = 0
    for check, tolerance in checks:
        difference = check()
        passed = difference <= tolerance
        failures += not passed
        print(
            f"{'PASS' if passed else 'FAIL'}  {check.__doc__}  [{difference:.1e} <= {tolerance:g}]"
        )
    return int(failures > 0)


def largest(difference: Tensor) -> float:
    """Returns the largest absolute entry; infinity if one is not a number.

    Without that, ``max`` would forget a NaN, and a broken model would pass.

    >>> largest(torch.tensor([0.5, -2.0])), largest(torch.tensor([0.5, float("nan")]))
    (2.0, inf)
    """
    return torch.nan_to_num(difference.abs(), nan=math.inf, posinf=math.inf).max().item()


class Origin(NamedTuple):
    """Where a tensor comes from."""

    code: Callable[..., Any]  # the function or class that computes it
    equation: str = ""  # its number in the chapter, without brackets; "" where it has none
    at: str = ""  # a part of the line that computes it; "" means the line of the definition


def source_line(origin: Origin) -> str:
    """Returns "file:line", the file from the project's root.

    Raises:
        ValueError: the definition has no line with the text it should have.

    >>> source_line(Origin(largest, at="torch.nan_to_num")).rpartition(":")[0]
    'tutorial_kit/verify.py'
    """
    code = inspect.unwrap(origin.code)
    lines, first = inspect.getsourcelines(code)
    start = next(i for i, line in enumerate(lines) if re.match(r"\s*(def|class) ", line))
    place = (
        next((i for i, line in enumerate(lines) if origin.at in line), -1) if origin.at else start
    )
    if place < 0:
        raise ValueError(
            f"no line of {code.__qualname__} has the text {origin.at!r}: the code has changed "
            "since the ledger was written. Give a part of the line that computes the tensor now."
        )
    file = Path(inspect.getfile(code)).resolve().relative_to(PROJECT_ROOT)
    return f"{file.as_posix()}:{first + place}"


def shape_ledger(
    named: Mapping[str, Tensor],
    meanings: Mapping[str, str],
    origins: Mapping[str, Origin] | None = None,
) -> str:
    """Returns the table of a forward pass, a row for every tensor.

    Args:
        named: the model's intermediates, in order; a layer's number stands behind a dot.
        meanings: name without the number -> shape in letters and what it means.
        origins: name without the number -> equation and source; without them the table has neither.

    Raises:
        ValueError: an origin names a line that is not there.

    >>> print(shape_ledger({"block.0": torch.zeros(2, 3)}, {"block": "(B, D) after the block"}))
    tensor   shape   meaning
    -------  ------  ----------------------
    block.0  (2, 3)  (B, D) after the block
    """
    rows = []
    for name, tensor in named.items():
        kind = re.sub(r"\.\d+$", "", name)
        row = [name, str(tuple(tensor.shape))]
        if origins is not None:
            equation = origins[kind].equation
            row += [f"({equation})" if equation else "", source_line(origins[kind])]
        rows.append((*row, meanings[kind]))
    where = [] if origins is None else ["equation", "source"]
    return format_table(["tensor", "shape", *where, "meaning"], rows)
