"""What a verify script does with its checks: PASS or FAIL lines, the exit code, the shape ledger.

A check is a function without arguments that returns how far a claim is from the truth; its
docstring is the claim. The checks themselves stand in the family, where a reader looks for them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

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


def shape_ledger(named: Mapping[str, Tensor], meanings: Mapping[str, str]) -> str:
    """Returns the table of a forward pass: every tensor's name, shape and meaning.

    Args:
        named: the model's intermediates, in order; a layer's number stands behind a dot.
        meanings: name without the number -> shape in letters and what it means.

    >>> print(shape_ledger({"block.0": torch.zeros(2, 3)}, {"block": "(B, D) after the block"}))
    tensor   shape   meaning
    -------  ------  ----------------------
    block.0  (2, 3)  (B, D) after the block
    """
    rows = [
        (name, str(tuple(tensor.shape)), meanings[re.sub(r"\.\d+$", "", name)])
        for name, tensor in named.items()
    ]
    return format_table(["tensor", "shape", "meaning"], rows)
