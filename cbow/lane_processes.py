"""Two processes that train the same vectors: memory of both, and how they wait for each other.

Threads would be simpler, but Python lets only one thread at a time run its own code, and a step is
some forty short calls: each thread waits for the other again and again. Processes do not. Linux can
**fork**: the child begins as a copy of the parent, and only memory that was asked for as shared
stays common. So the child needs no message but "the next round": it draws its text itself. Threads
of the parent do not exist in the child, which computes alone.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import current_process, get_context
from typing import Any

import torch
from torch import Tensor

_SPINS = 2_000  # looks before a waiting process lets others have its core, some 0.5 ms


def can_fork() -> bool:
    """Returns whether this process may have children that begin as copies.

    macOS can fork, too, but its own libraries do not survive it; and a daemon of Python's
    ``multiprocessing`` has no children.
    """
    return sys.platform == "linux" and not current_process().daemon


def shared_copy(tensor: Tensor) -> Tensor:
    """Returns a copy, on the CPU, in memory that stays common to a process and its children."""
    memory = mmap.mmap(-1, max(1, tensor.numel() * tensor.element_size()))
    shared = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel()).view_as(tensor)
    return shared.copy_(tensor.detach())


class LaneProcesses:
    """The processes of one training: this one, worker 0, and its children."""

    def __init__(self, workers: int) -> None:
        """Makes what they meet at; ``start`` makes the processes.

        Args:
            workers: how many processes there are with this one; 1 makes no child.
        """
        self.worker, self.parent = 0, os.getpid()
        # here[i][j]: worker i has told worker j that it has come. A semaphore also makes sure that
        # what a process wrote before it came is seen by the one that waited.
        numbers = range(workers) if workers > 1 else ()
        self.here = [[get_context("fork").Semaphore(0) for _ in numbers] for _ in numbers]
        self.pipes: list[Any] = []
        self.children: list[Any] = []

    def start(self, work: Callable[[int, Any], None]) -> None:
        """Forks.

        Args:
            work: (worker, message) -> nothing: a child's part of what ``begin`` asks for.
        """
        for worker in range(1, len(self.here)):
            context = get_context("fork")  # not known on Windows
            ours, theirs = context.Pipe()
            child = context.Process(
                target=self._follow, args=(worker, work, theirs, [*self.pipes, ours]), daemon=True
            )
            child.start()
            theirs.close()
            self.pipes.append(ours)
            self.children.append(child)

    def begin(self, message: Any) -> None:
        """Lets every child do its part; the message is what its ``work`` gets."""
        try:
            for pipe in self.pipes:
                pipe.send(message)
        except OSError:
            self._raise_what_happened()

    def meet(self) -> None:
        """Waits until every process has come here."""
        others = [worker for worker in range(len(self.here)) if worker != self.worker]
        for other in others:
            self.here[self.worker][other].release()
        for other in others:
            looks = 0
            while not self.here[other][self.worker].acquire(block=False):
                looks += 1
                if looks > _SPINS:
                    time.sleep(1e-5)
                    self._check_others()

    def close(self) -> None:
        """Ends the children."""
        for pipe in self.pipes:
            pipe.close()
        for child in self.children:
            child.terminate()
            child.join()
        self.pipes, self.children = [], []

    def _check_others(self) -> None:
        """Notices that a process has ended, and does not wait for it for ever."""
        if self.worker:
            if os.getppid() != self.parent:
                os._exit(1)
        elif any(pipe.poll() for pipe in self.pipes) or not all(
            child.is_alive() for child in self.children
        ):
            self._raise_what_happened()

    def _raise_what_happened(self) -> None:
        """Raises the error of a child, or that it has ended."""
        for pipe in self.pipes:
            with suppress(EOFError, OSError):
                if pipe.poll():
                    raise pipe.recv()
        for child in self.children:
            child.join(1)
        code = next((child.exitcode for child in self.children if child.exitcode), 0)
        raise ValueError(
            f"a process of the training has ended (exit code {code}), perhaps for want of memory. "
            "Use --resume to go on from the last checkpoint, with --threads 1 to do it in one."
        )

    def _follow(
        self, worker: int, work: Callable[[int, Any], None], pipe: Any, parents: list[Any]
    ) -> None:
        """Runs in a child until the parent closes its end of the pipe."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to answer
        for end in parents:  # copies; a pipe is only closed when all of them are
            end.close()
        self.worker, self.pipes, self.children = worker, [], []
        torch.set_num_threads(1)
        with suppress(EOFError, OSError):
            while True:
                message = pipe.recv()
                try:
                    work(worker, message)
                except Exception as error:
                    pipe.send(error)
                    return
