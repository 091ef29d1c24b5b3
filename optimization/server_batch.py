"""The running batch: requests of any length and kind that are written together, a token a step.

Writing a token reads every weight once, for one row or for eight: a batch shares the reading. In
**continuous batching** (Yu et al. 2022, section 3.1, "iteration-level scheduling") the batch is
decided anew before every token: a request joins as soon as a place is free and leaves when it is
done, instead of waiting for the slowest of its neighbors.

gpt's ``Context`` allows it, because each row of its cache has a length of its own: a new row is a
row of length 0 whose whole prompt is still to be read. Nothing of a row depends on its neighbors,
so a request is answered with the text that ``gpt.generation.generate`` writes for it alone.

Shapes: rows B, vocabulary V.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.context_window import Context
from gpt.gpt_model import GPT
from gpt.sampling import Dice, Sampling, choose
from optimization.server_requests import Request


@dataclass(frozen=True)
class Ended:
    """The last event of a request."""

    # "length": all tokens are written; "stop": a token that ends a text came; "error"; "gone": its
    # client is
    reason: str
    problem: str = ""  # of "error": one line


Event = int | Ended


class Ticket:
    """A request that was accepted: what the server's two threads know of it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.events: asyncio.Queue[Event] = asyncio.Queue()  # tokens, then ``Ended``
        self.cancelled = False  # set by whoever waited for it; its row leaves before the next token


@dataclass
class Row:
    """One request in the batch."""

    ticket: Ticket
    dice: Dice  # its own random numbers
    written: int = 0  # tokens so far


class RunningBatch:
    """Rows that are written together; it belongs to one thread."""

    def __init__(self, model: GPT, stop: Collection[int] = ()) -> None:
        """Starts empty.

        Args:
            model: the model; for speed, one that ``pack_weights`` has prepared.
            stop: token ids that end their row; they are not part of the text.
        """
        self.model, self.stop = model, frozenset(stop)
        self.rows: list[Row] = []
        self._context: Context | None = None  # its rows are ``self.rows``; None if there are none

    @torch.inference_mode()
    def join(self, tickets: Sequence[Ticket]) -> None:
        """Adds rows. Nothing is computed yet: the next step reads their prompts."""
        if not tickets:
            return
        prompts = [ticket.request.prompt for ticket in tickets]
        if self._context is None:
            self._context = Context(self.model, prompts)
        else:
            add_rows(self._context, prompts)
        self.rows += [Row(ticket, Dice(ticket.request.seed, 1)) for ticket in tickets]

    def leave(self) -> list[Ticket]:
        """Removes the rows that were cancelled; returns their tickets."""
        gone = [row.ticket for row in self.rows if row.ticket.cancelled]
        self._keep([i for i, row in enumerate(self.rows) if not row.ticket.cancelled])
        return gone

    def clear(self) -> list[Ticket]:
        """Removes all rows; returns their tickets."""
        gone = [row.ticket for row in self.rows]
        self._keep([])
        return gone

    @torch.inference_mode()
    def step(self) -> list[tuple[Ticket, Event]]:
        """Writes one token in each row; rows that are done leave.

        Returns:
            What happened, in order: a token for each row, ``Ended`` behind a row's last.
        """
        assert self._context is not None
        tokens = choose_each(self._context.scores()[:, -1], self.rows)
        events: list[tuple[Ticket, Event]] = []
        going = []
        for place, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            if token in self.stop:
                events.append((row.ticket, Ended("stop")))
                continue
            row.written += 1
            events.append((row.ticket, token))
            if row.written == row.ticket.request.max_new:
                events.append((row.ticket, Ended("length")))
            else:
                going.append(place)
        self._keep(going)
        if self._context is not None:
            self._context.append([tokens[place] for place in going])
        return events

    @torch.inference_mode()
    def _keep(self, places: list[int]) -> None:
        """Keeps these rows only."""
        if len(places) < len(self.rows):
            self.rows = [self.rows[place] for place in places]
            if not places:
                self._context = None
            elif self._context is not None:
                self._context.select(places)


def add_rows(context: Context, prompts: Sequence[Sequence[int]]) -> None:
    """Lets new prompts join rows that are being continued.

    A cache grows by repeating a row; the copies then forget what they hold. What a row has not
    encoded yet the context encodes before it scores, so a prompt of any length may join.

    Args:
        context: it has a cache and at least one row.
        prompts: token ids of each new row, checked.
    """
    assert context.cache is not None
    old = len(context.rows)
    context.select([*range(old), *[0] * len(prompts)])
    for row, prompt in enumerate(prompts, start=old):
        context.rows[row], context.starts[row] = list(prompt), 0
    context.cache.trim([*context.cache.lengths[:old], *[0] * len(prompts)])


def choose_each(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """Chooses the next token of each row in that row's way; equal ways are done together.

    Args:
        logits: (B, V).
        rows: B rows.
    """
    places: dict[Sampling, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.ticket.request.sampling, []).append(place)
    chosen = [0] * len(rows)
    for sampling, group in places.items():
        dice = Dice(0, 0)
        dice.generators = [rows[place].dice.generators[0] for place in group]
        for place, token in zip(
            group, choose(logits[group], sampling, dice, range(len(group))), strict=True
        ):
            chosen[place] = token
    return chosen
