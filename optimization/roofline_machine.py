"""What this machine can do: bytes moved and operations done a second, measured in turns.

The bandwidth is that of simple programs over large arrays, as in McCalpin's STREAM: read, copy, and
triad (a = b + s c). An array that is larger than every cache tells of the memory. But a model reads
the *same* weights for every token, and a large cache may hold a part of them: so reading is also
measured over arrays as large as the weights.

The arithmetic is that of large products of matrices. Every program gets several turns, and its best
counts: others on the machine can only make it slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from gpt.int8_weights import Int8Linear
from gpt.packed_weights import PackedLinear, packing_works
from optimization.roofline_counts import FLOAT, Roof


@dataclass(frozen=True)
class Machine:
    """Measured speeds."""

    read: Mapping[int, float]  # bytes of the array -> bytes/s of reading it again and again
    memory: Mapping[str, float]  # program -> bytes/s over arrays larger than every cache
    arithmetic: Mapping[str, float]  # number format -> operations/s

    @property
    def bandwidth(self) -> float:
        """Bytes a second from memory, the best of the programs."""
        return max(self.memory.values())

    def roof(self, weights: str = "float32", size: int | None = None) -> Roof:
        """Returns the roof for a number format.

        Args:
            weights: "float32" or "int8".
            size: bytes that are read again and again, one of ``read``; None means from memory.
        """
        bandwidth = self.bandwidth if size is None else max(self.read[size], self.bandwidth)
        return Roof(self.arithmetic[weights], bandwidth)


def in_turns(programs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Times programs in turns, forwards and backwards, after one turn that does not count.

    Returns:
        Program -> seconds of each turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    order = list(programs)
    for number in range(-1, rounds):
        for name in order if number % 2 == 0 else order[::-1]:
            started = time.perf_counter()
            programs[name]()
            if number >= 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def measure_machine(large: int, sizes: Mapping[str, int], matrix: int, rounds: int) -> Machine:
    """Measures bandwidth and arithmetic on the CPU, with torch's present number of threads.

    Args:
        large: bytes of an array that no cache holds; three are made.
        sizes: number format -> bytes of its weights.
        matrix: rows and columns of the matrices that are multiplied.
        rounds: turns of each program.
    """
    a, b, c = (torch.ones(large // FLOAT) for _ in range(3))
    small = {name: torch.ones(size // FLOAT) for name, size in sizes.items()}
    again = {name: max(1, large // size) for name, size in sizes.items()}
    programs: dict[str, Callable[[], object]] = {
        "read": lambda: b.sum(),
        "copy": lambda: a.copy_(b),
        "triad": lambda: torch.add(b, c, alpha=3.0, out=a),
    }
    moved = {"read": b.nbytes, "copy": 2 * b.nbytes, "triad": 3 * b.nbytes}
    for name, array in small.items():
        programs[f"read {name}"] = lambda array=array, name=name: [  # type: ignore[misc]
            array.sum() for _ in range(again[name])
        ]
    with torch.inference_mode():
        for name, product in _products(matrix).items():
            programs[name] = product
        seconds = {name: min(times) for name, times in in_turns(programs, rounds).items()}
    operations = 2.0 * matrix**3
    return Machine(
        {
            sizes[name]: again[name] * array.nbytes / seconds[f"read {name}"]
            for name, array in small.items()
        },
        {name: count / seconds[name] for name, count in moved.items()},
        {
            "float32": operations / min(seconds["matmul"], seconds.get("packed", float("inf"))),
            "int8": operations / seconds["int8"],
        },
    )


def _products(matrix: int) -> dict[str, Callable[[], object]]:
    """Returns the ways of multiplying two square matrices."""
    x = torch.randn(matrix, matrix, generator=torch.Generator().manual_seed(0))
    linear = nn.Linear(matrix, matrix, bias=False)
    ways: dict[str, Callable[[], object]] = {"matmul": lambda: x @ linear.weight.T}
    if packing_works(linear):
        packed = PackedLinear(linear)
        ways["packed"] = lambda: packed(x)
    rounded = Int8Linear(linear)
    ways["int8"] = lambda: rounded(x)
    return ways
