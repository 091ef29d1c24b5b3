"""The few lines that let a training script run unchanged under ``torchrun``.

``torchrun --nproc-per-node 2 gpt/train_gpt.py`` starts two processes that differ in their rank.
Each takes its share of every batch, and DistributedDataParallel averages the gradients (gloo on
CPU, nccl on CUDA). Started plainly, there is one process of rank 0 and nothing is set up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed


@dataclass(frozen=True)
class Processes:
    """This process among the others."""

    rank: int  # 0 .. count - 1
    count: int  # number of processes
    device: torch.device  # this process's device

    @property
    def is_main(self) -> bool:
        """Whether this process prints, logs and saves."""
        return self.rank == 0

    def average(self, values: torch.Tensor) -> torch.Tensor:
        """Returns the mean of a tensor over all processes."""
        if self.count > 1:
            torch.distributed.all_reduce(values)
            values /= self.count
        return values


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Joins the other processes that torchrun has started, if it has; leaves them at the end."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    if device.type == "cuda" and count > 1:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if count > 1:
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(rank, count, device)
    finally:
        if count > 1:
            torch.distributed.destroy_process_group()
