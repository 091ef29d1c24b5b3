"""Where and how exactly a training computes: the device made ready, the precision of its forward.

The device itself is picked by ``device.py``; here is what a trainer does with it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from tutorial_kit.device import pick_device, tune_cpu


def prepare_device(name: str, threads: int = 0) -> torch.device:
    """Picks the device and makes it ready to train.

    Args:
        name: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads; 0 leaves torch's own choice.

    Raises:
        ValueError: this machine has no such device.
    """
    device = pick_device(name)
    if threads:
        torch.set_num_threads(threads)
    if device.type == "cpu":
        tune_cpu()
    return device


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Returns the context of the forward pass: bfloat16 where it pays, else nothing.

    Args:
        precision: "float32", "bfloat16", or "auto", which is bfloat16 on CUDA only.
        device: where the model is.
    """
    bfloat16_pays = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bfloat16" or (precision == "auto" and bfloat16_pays):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
