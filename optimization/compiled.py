"""torch.compile: one generated program instead of many calls; and what to do where it cannot work.

It traces the model, fuses the operations between matrix products into C++ loops (Triton kernels on
a GPU) and compiles them (Ansel et al. 2024). On a CPU that needs a C++ compiler, which a laptop
often lacks; torch then fails at the first call, deep inside. ``compile_model`` tries it at once and
gives back the plain model with the reason in one line.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

Scorer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Compiled:
    """A model that is compiled, or the plain one and why."""

    model: Scorer  # tokens (B, T) -> logits (B, T, V)
    works: bool
    reason: str  # why it is not compiled; "" if it is
    seconds: float  # that compiling took


def find_compiler() -> str | None:
    """Returns the C++ compiler that torch would use: of the variable CXX, or the usual names."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "cl" if os.name == "nt" else "c++"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def compile_model(model: nn.Module, tokens: Tensor) -> Compiled:
    """Compiles a model for inputs of one shape, and runs it once.

    Args:
        model: in evaluation mode; it stays usable.
        tokens: (B, T), an input of the shape it is wanted for.

    Returns:
        The compiled model; where that is impossible the model itself, with the reason.
    """
    if tokens.device.type == "cpu" and find_compiler() is None:
        reason = "no C++ compiler is installed (g++ or clang++): torch.compile is left out"
        return Compiled(model, False, reason, 0.0)
    started = time.perf_counter()
    logging.getLogger("torch._inductor").setLevel(logging.CRITICAL)  # the reason is given below
    try:
        with torch.no_grad():
            compiled = cast(Scorer, torch.compile(model, dynamic=False))
            compiled(tokens)
    except Exception as error:  # whatever tracer, generator or C++ compiler raise: all mean "no"
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return Compiled(
            model, False, f"torch.compile failed ({line[:120]}): it is left out",
            time.perf_counter() - started,
        )  # fmt: skip
    return Compiled(compiled, True, "", time.perf_counter() - started)
