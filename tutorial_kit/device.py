"""Which device to use, how to seed it, and what machine this is.

Determinism: on CPU with a fixed thread count a run repeats bit for bit. On CUDA and MPS some
kernels add in an order that changes from run to run, so only the first digits repeat.
"""

from __future__ import annotations

import ctypes
import os
import platform
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutorial_kit.processor import core_count

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str = "auto") -> torch.device:
    """Returns the device called ``name``; "auto" takes CUDA, then Apple MPS, then CPU.

    Raises:
        ValueError: the name is unknown, or this machine has no such device.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    kind, _, index = name.partition(":")
    if kind not in available or (index and not index.isdigit()):
        raise ValueError(f"device {name!r} is unknown. Use one of: {', '.join(DEVICES)}.")
    usable = ", ".join(kind for kind, there in available.items() if there)
    if not available[kind]:
        raise ValueError(
            f"device {name!r} is not available: torch {torch.__version__} finds none on this "
            f"machine. Use --device auto, or one of: {usable}."
        )
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r} does not exist: this machine has {torch.cuda.device_count()} CUDA "
            "device(s), counted from 0. Use --device cuda."
        )
    return torch.device(name)


def seed_everything(seed: int) -> None:
    """Seeds Python's, numpy's and torch's generators (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def mixed_seed(seed: int, number: int) -> int:
    """Returns a seed that differs for every pair, so that run 1 does not repeat run 0 shifted."""
    return (seed * 0x9E3779B97F4A7C15 + number * 0xD1342543DE82EF95) % 2**63


def keep_freed_memory() -> bool:
    """Asks glibc to keep large freed buffers instead of returning them to the kernel.

    A training step on CPU frees and asks for the same large buffers again and again; by default
    each one is unmapped and mapped anew, and the kernel must clear every page. Two thresholds of
    ``mallopt(3)`` stop that. Costs: the process keeps its peak memory until it ends.

    Returns:
        Whether the C library took the settings; False where it is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD in malloc.h
    limit = 2**31 - 1
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(mmap_threshold, 1 << 30) and libc.mallopt(trim_threshold, limit))
    except (OSError, AttributeError):
        return False


def bound_compiled_products(most: int = 48) -> None:
    """Lets oneDNN keep at most ``most`` compiled products; call before the first one.

    oneDNN writes machine code for every shape of product that it meets, and keeps the last 1,024
    of them, about two megabytes each. Minibatches of sentences hardly ever have the same shape
    twice: after forty of them this had taken 1 GB, more than all else in the training. A step of
    constant shape needs some twenty to fifty. Settings in the environment go first.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # torch has one too
        os.environ.setdefault(name, str(most))


def multiply_with_onednn() -> bool:
    """Lets oneDNN multiply float32 matrices on this CPU, if the products stay float32.

    torch gives float32 products to MKL, which uses only a part of the instructions of some
    processors (AMD's with AVX-512: oneDNN took half the time). The setting that hands them to
    oneDNN allows bfloat16 products, and processors with matrix tiles (AMX) would make use of it:
    so one product is tried, and the setting taken back if it is less exact than float32. Without
    AVX-512 it changes nothing.

    Returns:
        Whether the setting was kept.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    kept = products_are_exact()
    if not kept:
        torch.set_float32_matmul_precision(before)
    return kept


def products_are_exact() -> bool:
    """Tells whether float32 matrices are multiplied in float32, by multiplying two."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 256, generator=generator)  # (rows, inner)
    w = torch.randn(256, 256, generator=generator)  # (inner, columns)
    return bool((x @ w - x.double() @ w.double()).abs().max() < 1e-3)  # bfloat16 misses by 0.2


def tune_cpu() -> None:
    """Makes training on a CPU faster without changing what it computes; once per process."""
    keep_freed_memory()
    bound_compiled_products()
    multiply_with_onednn()


def describe_machine() -> dict[str, Any]:
    """Returns what a measured number depends on: processor, cores, threads, versions."""
    machine: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": core_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name(0)
    return machine


def _cpu_name() -> str:
    """Returns the processor's name, as Linux tells it where it does."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
