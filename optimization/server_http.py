"""HTTP/1.1 in as many lines as a model server needs (RFC 9112): read a request, write an answer.

What a stranger sends is bounded in size and in time before it is looked at. A body needs its length
beforehand (a chunked one is refused): so an oversized one is known before a byte of it is read.
Answers are JSON in one piece, or **server-sent events** in chunks: a line ``data: {...}`` and an
empty line for each token, which any client can read as they come.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from optimization.server_requests import Refusal

LINGER_SECONDS = 2.0  # a refused body is read and thrown away for so long: see ``linger``
TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Connection(asyncio.StreamReader):
    """What a client sends; tells at once when it has gone."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)
        self.when_gone: Callable[[], None] | None = None  # called once the client sends no more

    def feed_eof(self) -> None:
        """Called by asyncio when the client closes its side.

        A client may close its sending side alone and still wait for its answer. Hardly any does;
        one that has gone looks the same, and its place in the batch is worth more.
        """
        super().feed_eof()
        if self.when_gone is not None:
            self.when_gone()

    def set_exception(self, exc: BaseException) -> None:
        """Called by asyncio when the connection breaks."""
        super().set_exception(exc)  # type: ignore[arg-type]
        if self.when_gone is not None:
            self.when_gone()


@dataclass(frozen=True)
class Head:
    """The first line and the fields of a request."""

    method: str
    path: str  # without what follows a "?"
    version: str  # "HTTP/1.1" or "HTTP/1.0"
    fields: Mapping[str, str]  # lower-case name -> value

    @property
    def keeps_open(self) -> bool:
        """Whether the client wants to send another request on this connection."""
        wish = self.fields.get("connection", "").lower()
        return "keep-alive" in wish if self.version == "HTTP/1.0" else "close" not in wish


def parse_head(raw: bytes) -> Head:
    """Reads a request's first line and fields.

    Raises:
        Refusal: 400, it is no HTTP; 505, it is another version of it.
    """
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[0] or not set(parts[0]) <= TOKEN or parts[1][:1] != "/":
        raise Refusal(400, "the first line is no HTTP request: it must read POST /generate "
                      "HTTP/1.1.")  # fmt: skip
    if parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        kind = 505 if parts[2].startswith("HTTP/") else 400
        raise Refusal(kind, "only HTTP/1.1 and HTTP/1.0 are spoken here.")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or not set(name) <= TOKEN:
            raise Refusal(400, "a header field is malformed: it must read Name: value.")
        if name.lower() in fields and name.lower() in ("content-length", "host"):
            raise Refusal(400, f"the header field {name.lower()} is there twice: send it once.")
        fields[name.lower()] = value.strip(" \t")
    return Head(parts[0], parts[1].partition("?")[0], parts[2], fields)


async def read_head(reader: asyncio.StreamReader, first: bytes, most: int) -> Head:
    """Reads up to the empty line that ends a head.

    Args:
        reader: the connection; its limit is ``most``.
        first: the byte that was read already.
        most: bytes that a head may have.

    Raises:
        Refusal: 431, it is too long; 400 and 505 as ``parse_head``.
        asyncio.IncompleteReadError: the client went away.
    """
    try:
        return parse_head(first + await reader.readuntil(b"\r\n\r\n"))
    except asyncio.LimitOverrunError:
        raise Refusal(431, f"the header is longer than {most} bytes: send fewer fields.") from None


def body_length(head: Head, most: int) -> int:
    """Returns the bytes of the body, known before it is read; a GET may have none.

    Raises:
        Refusal: 411 without a length, 400 with a senseless one, 413 above ``most``.
    """
    chunked, known = "transfer-encoding" in head.fields, "content-length" in head.fields
    if head.method == "GET" and not chunked and not known:
        return 0
    if chunked or not known:
        raise Refusal(411, "the length of the body is missing: send Content-Length.")
    length = head.fields["content-length"]
    if not (length.isascii() and length.isdigit()):
        raise Refusal(400, "Content-Length is no number: send the bytes of the body.")
    if len(length) > 15 or int(length) > most:  # int() of a long text takes long
        raise Refusal(413, f"the body is longer than {most} bytes: send a shorter prompt.")
    return int(length)


def answer(
    status: int, content: Any, *, keep: bool, headers: Mapping[str, str] | None = None
) -> bytes:
    r"""Returns a whole answer: a status, and a JSON value as its body.

    >>> print(answer(404, {"error": "no"}, keep=False).decode().replace("\r", ""), end="")
    HTTP/1.1 404 Not Found
    Content-Type: application/json
    Content-Length: 16
    Connection: close
    <BLANKLINE>
    {"error": "no"}
    """
    body = json.dumps(content).encode() + b"\n"
    fields = {
        "Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})
    }  # fmt: skip
    return _head(status, fields, keep) + body


def stream_head(*, chunked: bool, keep: bool) -> bytes:
    """Returns what comes before the first event of a stream."""
    fields = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    if chunked:
        fields["Transfer-Encoding"] = "chunked"
    return _head(200, fields, keep)


def event(content: Any, *, chunked: bool) -> bytes:
    r"""Returns one server-sent event, as a chunk of its own if the answer is chunked.

    >>> event({"text": "a"}, chunked=True)
    b'15\r\ndata: {"text": "a"}\n\n\r\n'
    """
    data = b"data: " + json.dumps(content).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data) if chunked else data


LAST_CHUNK = b"0\r\n\r\n"


def _head(status: int, fields: Mapping[str, str], keep: bool) -> bytes:
    """Returns the status line and the fields."""
    fields = {**fields, "Connection": "keep-alive" if keep else "close"}
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


async def linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes a connection on which the client may still be sending.

    A socket that is closed with bytes unread is reset, and the client may lose the answer that
    says why. So we stop sending, and throw away what comes, for a moment (RFC 9112, section 9.6).
    """
    if writer.can_write_eof():
        writer.write_eof()

    async def discard() -> None:
        while await reader.read(65536):
            pass

    await asyncio.wait_for(discard(), LINGER_SECONDS)
