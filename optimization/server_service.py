"""The service: connections on one side, the worker on the other, and an orderly end.

All connections live in one thread, in asyncio's loop; each is a coroutine that reads a request,
waits for its tokens, writes them. The worker's thread computes. What crosses between the threads:
``Worker.submit`` and ``cancel`` one way, the events of each step the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from gpt.gpt_model import GPT
from optimization import server_http as http
from optimization.server_batch import Ended, RunningBatch, Ticket
from optimization.server_config import ServerConfig
from optimization.server_requests import Limits, Refusal, parse_request, stop_tokens
from optimization.server_worker import Events, Worker
from tutorial_kit.tokenizers import StreamDecoder, Tokenizer

ROUTES = {"/generate": "POST", "/health": "GET", "/metrics": "GET"}
GONE = (ConnectionError, asyncio.IncompleteReadError, asyncio.TimeoutError)


class Service:
    """Serves one model. ``start``, then ``stop``, both in the same running loop."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, config: ServerConfig) -> None:
        """Prepares everything; nothing listens and nothing runs yet.

        Raises:
            ValueError: a prompt may be longer than the model's context window.
        """
        window = model.config.max_len
        if config.max_prompt > window:
            raise ValueError(
                f"max_prompt={config.max_prompt} tokens do not fit into the model's context window "
                f"of {window}. Use at most {window}, or 0 for the window."
            )
        self.tokenizer, self.config = tokenizer, config
        self.limits = Limits(config.max_prompt or window, config.max_new)
        self.worker = Worker(
            RunningBatch(model, stop_tokens(tokenizer)), self._deliver,
            max_batch=config.max_batch, max_waiting=config.max_waiting,
            continuous=config.continuous,
        )  # fmt: skip
        self._open: dict[asyncio.Task[None], bool] = {}  # connection -> is it being answered?
        self._stopping = False

    async def start(self) -> int:
        """Listens; returns the port.

        Raises:
            OSError: the address is taken or not this machine's.
        """
        self._loop = asyncio.get_running_loop()

        def protocol() -> asyncio.StreamReaderProtocol:
            reader = http.Connection(self.config.max_header)
            return asyncio.StreamReaderProtocol(reader, self._connected)

        try:
            self._listener = await self._loop.create_server(
                protocol, self.config.host, self.config.port
            )
        except OSError as error:
            raise OSError(
                f"cannot listen on {self.config.host} port {self.config.port} "
                f"({error.strerror or error}). Stop what uses it, or use --port 0."
            ) from None
        self.worker.start()
        return int(self._listener.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Refuses new requests, answers the accepted ones, closes everything; no thread is left.

        After ``drain_seconds``, or when ``cut_short`` is called, what still runs ends at once.
        """
        self._stopping = True
        self.worker.stop()
        self._close_idle()
        timer = self._loop.call_later(self.config.drain_seconds, self.cut_short)
        while not self.worker.join(0):
            await asyncio.sleep(0.01)
        timer.cancel()
        self._listener.close()
        self._close_idle()
        if self._open:  # the last tokens are on their way to clients
            await asyncio.wait(set(self._open), timeout=self.config.send_seconds)
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(set(self._open))

    def _close_idle(self) -> None:
        """Ends the connections on which no request has begun."""
        for task, answering in self._open.items():
            if not answering:
                task.cancel()

    def cut_short(self) -> None:
        """Ends what still runs before its next token."""
        self.worker.stop(drop=True)

    def _deliver(self, events: Events) -> None:
        """Called in the worker's thread."""
        self._loop.call_soon_threadsafe(self._hand_out, events)

    @staticmethod
    def _hand_out(events: Events) -> None:
        for ticket, happened in events:
            ticket.events.put_nowait(happened)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talks with one client until either of them ends it."""
        task = asyncio.current_task()
        assert task is not None and isinstance(reader, http.Connection)
        self._open[task] = False
        try:
            if len(self._open) > self.config.max_connections:
                text = "too many connections are open: try again later."
                await self._refuse(Refusal(503, text, {"Retry-After": "1"}), writer, keep=False)
                await http.linger(reader, writer)
            else:
                while await self._exchange(reader, writer, task) and not self._stopping:
                    self._open[task] = False
            writer.close()
            await asyncio.wait_for(writer.wait_closed(), self.config.send_seconds)
        except (*GONE, asyncio.CancelledError):
            pass  # the client went away or is too slow; or it was idle when the server stopped
        finally:
            del self._open[task]
            writer.transport.abort()

    async def _exchange(
        self, reader: http.Connection, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> bool:
        """Answers one request; returns whether the connection stays open."""
        first = await asyncio.wait_for(reader.read(1), self.config.idle_seconds)
        if not first:
            return False
        self._open[task] = True
        keep, unread = False, True
        try:
            head, body = await self._read(reader, writer, first)
            keep, unread = head.keeps_open and not self._stopping, False
            return await self._route(head, body, reader, writer, keep)
        except Refusal as refusal:
            await self._refuse(refusal, writer, keep)
            if unread:
                await http.linger(reader, writer)
            return keep

    async def _read(
        self, reader: http.Connection, writer: asyncio.StreamWriter, first: bytes
    ) -> tuple[http.Head, bytes]:
        """Reads a request whose first byte has come.

        Raises:
            Refusal: as ``server_http``; 404, 405, 415; 408 if it takes too long.
        """

        async def read_all() -> tuple[http.Head, bytes]:
            head = await http.read_head(reader, first, self.config.max_header)
            _check_route(head)
            length = http.body_length(head, self.config.max_body)
            if head.fields.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return head, await reader.readexactly(length)

        try:
            return await asyncio.wait_for(read_all(), self.config.read_seconds)
        except asyncio.TimeoutError:
            seconds = self.config.read_seconds
            raise Refusal(408, f"the request did not arrive within {seconds:g} s.") from None

    async def _route(
        self, head: http.Head, body: bytes, reader: http.Connection, writer: asyncio.StreamWriter,
        keep: bool,
    ) -> bool:  # fmt: skip
        """Answers a request that was read; returns whether the connection stays open."""
        if head.path == "/health":
            health = {"status": "stopping" if self._stopping else "ok", **vars(self.limits)}
            status = 503 if self._stopping else 200
            await self._send(writer, http.answer(status, health, keep=keep))
            return keep
        if head.path == "/metrics":
            await self._send(writer, http.answer(200, self.worker.metrics(), keep=keep))
            return keep
        request = parse_request(body, self.tokenizer, self.limits)
        ticket = self.worker.submit(request)
        reader.when_gone = lambda: self._give_up(ticket)
        try:
            if reader.at_eof():
                raise ConnectionResetError
            if request.stream:
                chunked = head.version == "HTTP/1.1"
                keep = keep and chunked
                await self._answer_stream(ticket, writer, chunked, keep)
            else:
                await self._send(writer, http.answer(200, await self._whole(ticket), keep=keep))
        finally:
            reader.when_gone = None
            self.worker.cancel(ticket)
        return keep

    def _give_up(self, ticket: Ticket) -> None:
        """The client has gone: frees its place, and wakes the coroutine that waits for tokens."""
        self.worker.cancel(ticket)
        ticket.events.put_nowait(Ended("gone"))

    async def _whole(self, ticket: Ticket) -> dict[str, Any]:
        """Waits for the end; returns the content of an answer in one piece."""
        parts = [part async for part in self._parts(ticket)]
        return {**parts[-1], "text": "".join(part["text"] for part in parts)}

    async def _answer_stream(
        self, ticket: Ticket, writer: asyncio.StreamWriter, chunked: bool, keep: bool
    ) -> None:
        """Sends each token as an event when it is written.

        A failure before the first token is an ordinary answer with its status; a later one is an
        event, for the status has been sent.
        """
        begun = False
        try:
            async for part in self._parts(ticket):
                start = b"" if begun else http.stream_head(chunked=chunked, keep=keep)
                begun = True
                await self._send(writer, start + http.event(part, chunked=chunked))
        except Refusal as refusal:
            if not begun:
                raise
            await self._send(writer, http.event({"error": refusal.text}, chunked=chunked))
        if chunked:
            await self._send(writer, http.LAST_CHUNK)

    async def _parts(self, ticket: Ticket) -> AsyncIterator[dict[str, Any]]:
        """Yields {"token", "text"} for each token, then {"text", "ended_by", "tokens"}.

        Raises:
            Refusal: 500 or 503, the model failed or the server was stopped.
            ConnectionResetError: the client has gone.
        """
        decoder, count = StreamDecoder(self.tokenizer), 0
        while not isinstance(happened := await ticket.events.get(), Ended):
            count += 1
            yield {"token": happened, "text": decoder.push(happened)}
        if happened.reason == "gone":
            raise ConnectionResetError
        if happened.reason == "error":
            raise Refusal(503 if self._stopping else 500, happened.problem)
        yield {"text": decoder.finish(), "ended_by": happened.reason, "tokens": count}

    async def _refuse(self, refusal: Refusal, writer: asyncio.StreamWriter, keep: bool) -> None:
        """Sends a refusal."""
        content = {"error": refusal.text}
        await self._send(
            writer, http.answer(refusal.status, content, keep=keep, headers=refusal.headers)
        )

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Writes, and waits while the client is slow to take it; gives it up in the end."""
        writer.write(data)
        if writer.transport.get_write_buffer_size():
            await asyncio.wait_for(writer.drain(), self.config.send_seconds)


def _check_route(head: http.Head) -> None:
    """Refuses what there is no answer for, before its body is read.

    Raises:
        Refusal: 404, 405, 415.
    """
    if head.path not in ROUTES:
        raise Refusal(404, f"there is nothing at this path: use {', '.join(ROUTES)}.")
    if head.method != ROUTES[head.path]:
        method = ROUTES[head.path]
        raise Refusal(405, f"{head.path} is asked with {method}.", {"Allow": method})
    kind = head.fields.get("content-type", "").partition(";")[0].strip().lower()
    if head.method == "POST" and kind != "application/json":
        raise Refusal(415, "the body must be JSON: send Content-Type: application/json.")
