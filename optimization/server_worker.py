"""One thread owns the model: it takes requests from a queue, writes tokens, hands them back.

A model's cache is no place for two threads at once, and two computations at a time would only share
the same cores. So connections, of which there may be hundreds, talk to one worker. Under a lock
are the queue and the counts; the batch itself is the worker's alone.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optimization.server_batch import Ended, Event, RunningBatch, Ticket
from optimization.server_requests import Refusal, Request
from tutorial_kit.console import one_line

RATE_SECONDS = 10.0  # tokens/s is told of so many seconds
RETRY_SECONDS = 1  # when a refused client may try again

Events = Sequence[tuple[Ticket, Event]]


@dataclass
class Counts:
    """What has happened since the start; guarded by the worker's lock."""

    accepted: int = 0  # requests
    answered: int = 0  # completely
    cancelled: int = 0  # the client went away or was too slow, or the server was cut short
    refused: int = 0  # the queue was full, or the server was stopping
    failed: int = 0  # the model raised an error
    tokens: int = 0  # written
    steps: int = 0  # passes of the model


class Worker:
    """Takes requests, writes them in a batch; ``submit``, ``cancel``, ``stop``: any thread."""

    def __init__(
        self,
        batch: RunningBatch,
        deliver: Callable[[Events], None],
        *,
        max_batch: int,
        max_waiting: int,
        continuous: bool = True,
    ) -> None:
        """Prepares the thread; ``start`` starts it.

        Args:
            batch: empty, and from now on the worker's.
            deliver: called by the worker after each token with what happened.
            max_batch: rows at once.
            max_waiting: requests in the queue.
            continuous: let requests join between two tokens; False: only an empty batch is filled.
        """
        self.counts = Counts()
        self._batch, self._deliver = batch, deliver
        self._max_batch, self._max_waiting, self._continuous = max_batch, max_waiting, continuous
        self._waiting: deque[Ticket] = deque()
        self._running = 0
        self._changed = threading.Condition()
        self._stopping = self._dropping = False
        self._recent: deque[tuple[float, int]] = deque()  # (when, tokens) of the last steps
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="model")

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def submit(self, request: Request) -> Ticket:
        """Puts a request into the queue.

        Raises:
            Refusal: 503, the queue is full or the server stops.
        """
        with self._changed:
            if self._stopping or len(self._waiting) >= self._max_waiting:
                self.counts.refused += 1
                why = (
                    "the server is stopping: it answers what it has accepted."
                    if self._stopping
                    else f"{self._max_waiting} requests are waiting already: try again later."
                )
                raise Refusal(503, why, {"Retry-After": str(RETRY_SECONDS)})
            ticket = Ticket(request)
            self._waiting.append(ticket)
            self.counts.accepted += 1
            self._changed.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Gives up a request: its place is free before the next token. Harmless if it is done."""
        with self._changed:
            ticket.cancelled = True
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                self.counts.cancelled += 1

    def stop(self, *, drop: bool = False) -> None:
        """Refuses new requests; the thread ends when the accepted ones are done.

        Args:
            drop: end them unfinished, before the next token.
        """
        with self._changed:
            self._stopping = True
            self._dropping = self._dropping or drop
            self._changed.notify()

    def join(self, seconds: float | None = None) -> bool:
        """Waits for the thread to end; returns whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def metrics(self) -> dict[str, float]:
        """Returns the counts, the queue, the batch and the speed of the last seconds."""
        now = time.monotonic()
        with self._changed:
            self._forget(now)
            written = sum(tokens for _, tokens in self._recent)
            span = min(RATE_SECONDS, max(now - self._started, 1e-9))
            return {
                **vars(self.counts),
                "waiting": len(self._waiting),
                "running": self._running,
                "tokens_per_second": round(written / span, 1),
                "tokens_per_step": round(self.counts.tokens / max(1, self.counts.steps), 2),
                "seconds": round(now - self._started, 1),
            }

    def _work(self) -> None:
        while (joining := self._next()) is not None:
            try:
                self._batch.join(joining)
                events = self._batch.step() if self._batch.rows else []
            except Exception as error:  # one bad step must not end the server
                problem = Ended("error", f"the model failed: {one_line(error)}")
                lost = dict.fromkeys([*self._batch.clear(), *joining])
                events = [(ticket, problem) for ticket in lost]
            self._count(events)
            self._deliver(events)

    def _next(self) -> list[Ticket] | None:
        """Waits for work; returns what joins before the next token, None at the end."""
        with self._changed:
            while not (self._waiting or self._running or self._stopping):
                self._changed.wait()
            dropped: list[Ticket] = []
            if self._dropping:
                dropped = [*self._batch.clear(), *self._waiting]
                self._waiting.clear()
                self._deliver([(t, Ended("error", "the server was stopped.")) for t in dropped])
            self.counts.cancelled += len(self._batch.leave()) + len(dropped)
            self._running = len(self._batch.rows)
            if self._stopping and not (self._waiting or self._running):
                return None
            joining: list[Ticket] = []
            if self._continuous or not self._running:
                while self._waiting and self._running < self._max_batch:
                    joining.append(self._waiting.popleft())
                    self._running += 1
            return joining

    def _count(self, events: Events) -> None:
        ends = [event.reason for _, event in events if isinstance(event, Ended)]
        tokens = sum(not isinstance(event, Ended) for _, event in events)
        now = time.monotonic()
        with self._changed:
            self._running = len(self._batch.rows)
            self.counts.failed += ends.count("error")
            self.counts.answered += len(ends) - ends.count("error")
            self.counts.tokens += tokens
            self.counts.steps += bool(events)  # no pass if the last row was given up
            self._recent.append((now, tokens))
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Drops what is too old to count for the present speed."""
        while self._recent and self._recent[0][0] < now - RATE_SECONDS:
            self._recent.popleft()
