"""Requests that no server should serve, and the status that each must get.

Each is sent as bytes over a socket of its own, because a proper client would not send most of them.
Standard library only.
"""

from __future__ import annotations

import json
import socket
from http.client import HTTPException, HTTPResponse
from typing import NamedTuple

TIMEOUT = 30.0  # seconds
MEGABYTE = 1 << 20


class Bad(NamedTuple):
    """A bad request."""

    what: str
    status: int  # that it must get
    sent: bytes


class Seen(NamedTuple):
    """How a bad request was answered."""

    bad: Bad
    status: int  # 0: not at all
    error: str  # the one line that came

    @property
    def right(self) -> bool:
        """Whether the status is the wanted one, with one line that says why."""
        return self.status == self.bad.status and bool(self.error) and "\n" not in self.error


def post(body: bytes, *, length: int | None = None, kind: str = "application/json") -> bytes:
    """Returns POST /generate as bytes.

    Args:
        body: as it is.
        length: what Content-Length says; None means the truth.
        kind: Content-Type.
    """
    length = len(body) if length is None else length
    head = f"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {length}\r\n\r\n".encode() + body


GOOD = b'{"prompt": "a", "max_new": 1}'
BAD = (
    Bad("half a JSON object", 400, post(b'{"prompt": "a"')),
    Bad("a list", 400, post(b"[1, 2]")),
    Bad("no prompt", 400, post(b'{"max_new": 3}')),
    Bad("a prompt that is a number", 400, post(b'{"prompt": 7}')),
    Bad("a misspelled field", 400, post(b'{"prompt": "a", "max_nwe": 3}')),
    Bad("not a number", 400, post(b'{"prompt": "a", "temperature": NaN}')),
    Bad("bytes that are no UTF-8", 400, post(b'{"prompt": "\xff"}')),
    Bad("brackets 50,000 deep", 400, post(b"[" * 50_000)),
    Bad("no HTTP", 400, b"\x16\x03\x01\x02\r\n\r\n"),
    Bad("an unknown path", 404, post(GOOD).replace(b"/generate", b"/generat")),
    Bad("the wrong method", 405, b"GET /generate HTTP/1.1\r\nHost: x\r\n\r\n"),
    Bad("no length", 411, post(GOOD).replace(b"Content-Length", b"X-Length")),
    Bad("five megabytes", 413, post(b"x" * 5 * MEGABYTE)),
    Bad("a length that is a lie", 413, post(b"", length=10**12)),
    Bad("a form", 415, post(b"prompt=a", kind="application/x-www-form-urlencoded")),
    Bad("an empty prompt", 422, post(b'{"prompt": ""}')),
    Bad("a prompt that is too long", 422, post(json.dumps({"prompt": "ab " * 9000}).encode())),
    Bad("a million tokens", 422, post(b'{"prompt": "a", "max_new": 1000000}')),
    Bad("a temperature below 0", 422, post(b'{"prompt": "a", "temperature": -1}')),
    Bad("an endless header", 431, b"GET /health HTTP/1.1\r\nX: " + b"x" * MEGABYTE + b"\r\n\r\n"),
)


def send_bad(host: str, port: int, bad: Bad) -> Seen:
    """Sends a bad request and reads the answer; never raises."""
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT) as client:
            client.sendall(bad.sent)
            response = HTTPResponse(client)
            response.begin()
            content = json.loads(response.read())
            return Seen(bad, response.status, str(content.get("error", "")))
    except (OSError, HTTPException, ValueError) as error:
        return Seen(bad, 0, f"{type(error).__name__}: {error}")


def send_all_bad(host: str, port: int) -> list[Seen]:
    """Sends every bad request, one after the other."""
    return [send_bad(host, port, bad) for bad in BAD]
