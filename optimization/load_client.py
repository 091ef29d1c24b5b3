"""A client that asks a server for streams, many at once, and writes down when each token came.

It is a program of its own on purpose: it speaks HTTP through the standard library's client, shares
no code with the server, and in a process of its own it takes no time from the model's interpreter.
Standard library only.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any

TIMEOUT = 60.0  # seconds without a byte; more is an error
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Asked:
    """One request and what came of it."""

    sent: float  # seconds, perf_counter's clock
    arrivals: Sequence[float]  # when each token came
    error: str = ""  # one line; empty if the whole answer came

    @property
    def first_token(self) -> float:
        """Seconds from the request to its first token."""
        return self.arrivals[0] - self.sent

    @property
    def gaps(self) -> list[float]:
        """Seconds from each token to the next one."""
        return [after - before for before, after in itertools.pairwise(self.arrivals)]


@dataclass
class Load:
    """What all streams saw."""

    started: float
    seconds: float  # for which new requests were sent
    asked: list[Asked] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """What went wrong, a line each."""
        return [one.error for one in self.asked if one.error]

    @property
    def tokens(self) -> int:
        """Tokens that came while requests were sent: what is behind that is not under full load."""
        end = self.started + self.seconds
        return sum(arrival <= end for one in self.asked for arrival in one.arrivals)

    @property
    def tokens_per_second(self) -> float:
        """Throughput of all streams together."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Wish:
    """What the streams ask for; a request's number decides about it, whoever sends it."""

    prompts: Sequence[str] = ("Returns the", "The array", "If the input", "Raises")
    min_new: int = 16  # tokens of the shortest answer
    max_new: int = 96  # tokens of the longest: unequal, as people's are

    def content(self, number: int) -> dict[str, Any]:
        """Returns the JSON of a request."""
        chance = random.Random(number)
        return {
            "prompt": chance.choice(self.prompts),
            "max_new": chance.randint(self.min_new, self.max_new),
            "temperature": 0.8,
            "seed": number,
            "stream": True,
        }


def ask(host: str, port: int, content: dict[str, Any]) -> Asked:
    """Sends one request and reads its stream to the end; never raises."""
    connection = HTTPConnection(host, port, timeout=TIMEOUT)
    arrivals: list[float] = []
    sent = time.perf_counter()
    try:
        connection.request("POST", "/generate", json.dumps(content), JSON)
        response = connection.getresponse()
        if response.status != 200:
            return Asked(sent, arrivals, f"status {response.status}: {response.read().decode()}")
        last: dict[str, Any] = {}
        while line := response.readline():
            if line.startswith(b"data: "):
                last = json.loads(line[6:])
                if "token" in last:
                    arrivals.append(time.perf_counter())
        return Asked(sent, arrivals, _judge(last, len(arrivals), content["max_new"]))
    except (OSError, HTTPException, ValueError) as error:
        return Asked(sent, arrivals, f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def _judge(last: dict[str, Any], came: int, wanted: int) -> str:
    """Returns what is wrong with a stream that ended, "" if nothing is."""
    if "ended_by" not in last:
        return str(last.get("error", "the stream ended without saying why"))
    if last["tokens"] != came or (last["ended_by"] == "length" and came != wanted):
        return f"{came} tokens came, the server says {last['tokens']}, {wanted} were asked for"
    return ""


def run_load(
    host: str,
    port: int,
    streams: int,
    seconds: float,
    wish: Wish | None = None,
) -> Load:
    """Keeps so many streams busy: each asks anew as soon as its answer is complete.

    Args:
        host: the server's address.
        port: the server's port.
        streams: clients at once; each has a thread.
        seconds: for how long new requests are sent, one by each stream at least; answers that have
            begun are read to their end.
        wish: what to ask for.
    """
    wish, lock, count = wish or Wish(), threading.Lock(), itertools.count()
    load = Load(time.perf_counter(), seconds)

    def stream() -> None:
        while True:
            with lock:
                number = next(count)
            found = ask(host, port, wish.content(number))
            with lock:
                load.asked.append(found)
            if time.perf_counter() > load.started + seconds:
                return
            if found.error:
                time.sleep(0.1)  # a dead server is not asked a thousand times a second

    threads = [threading.Thread(target=stream) for _ in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the value that ``share`` of all do not exceed (the nearest rank; no averaging).

    Raises:
        ValueError: there are no values.

    >>> percentile([10, 20, 30, 40], 0.5), percentile([10, 20, 30, 40], 0.99)
    (20, 40)
    """
    if not values:
        raise ValueError("no latency was measured: no token came. Look at the errors above.")
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]
