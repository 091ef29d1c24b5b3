"""Lets a trainer that owns its loop do one step at a time, so that two of them can take turns.

Neither our trainers nor TRL's return between two steps. So each runs in a thread of its own, and
stops at one place of its loop until its next turn. From there to the same place one step later is
one whole turn of the loop: loading, forward, backward, optimizer, schedule, counters, display.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch

from instruction_tuning.tuning_batches import RowSampler


class Stopped(Exception):
    """Ends a training in the middle of its loop."""


class Lockstep:
    """A training in a thread of its own; both sides wait for each other."""

    def __init__(self) -> None:
        """Starts nothing yet; makes a temporary folder for what the training writes."""
        self._folder = TemporaryDirectory()
        self._wanted, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._stopping, self._over = False, False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def folder(self) -> str:
        """Path of the folder; it is deleted when the training is finished."""
        return self._folder.name

    def start(self, train: Callable[[], object]) -> None:
        """Makes the thread; nothing runs before the first ``step``, which includes all set-up.

        Args:
            train: the whole training; somewhere in its loop it comes to ``pause``.
        """
        threads = torch.get_num_threads()

        def run() -> None:
            torch.set_num_threads(threads)
            self._wanted.acquire()
            try:
                if not self._stopping:
                    train()
            except Stopped:
                pass
            except BaseException as error:  # handed on to whoever waits for the step
                self._error = error
            self._over = True
            self._done.release()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Called by the training, once a step: waits until another step is wanted."""
        self._done.release()
        self._wanted.acquire()
        if self._stopping:
            raise Stopped

    def step(self) -> None:
        """Lets the training go on to its next pause.

        Raises:
            ValueError: it has come to its end instead.
        """
        if not self._over:
            self._wanted.release()
            self._done.acquire()
        if self._error is not None:
            raise self._error
        if self._over:
            raise ValueError(
                "the training has ended, so there is no further step to time. Give it more steps."
            )

    def finish(self) -> None:
        """Ends the training, wherever it waits, and its thread."""
        self._stopping = True
        self._wanted.release()
        if self._thread is not None:
            self._thread.join()
        self._folder.cleanup()


def pausing(train: Callable[[], object], lockstep: Lockstep) -> Callable[[], object]:
    """Returns one of our trainings such that it pauses before it takes its next minibatch.

    Only one of them can run in a process at a time.

    Args:
        train: calls a trainer of ``instruction_tuning``; whichever it is, it asks a ``RowSampler``.
        lockstep: of the training.
    """
    take = RowSampler.next_rows
    taken = 0

    def pause_and_take(sampler: RowSampler) -> list[int]:
        nonlocal taken
        if taken:
            lockstep.pause()
        taken += 1
        return take(sampler)

    def run() -> object:
        with patch.object(RowSampler, "next_rows", pause_and_take):
            return train()

    return run


def pause_behind_steps(trainer: Any, lockstep: Lockstep) -> None:
    """Lets a trainer of transformers pause at the end of each step."""
    from transformers import TrainerCallback

    class Pause(TrainerCallback):
        """Called by the trainer."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Waits for the next turn."""
            lockstep.pause()

    trainer.add_callback(Pause())
