"""A server in a thread, with a tiny model, for the tests of ``optimization``'s server."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import torch

from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from optimization.server import serve
from optimization.server_config import ServerConfig
from tutorial_kit.tokenizers import CharTokenizer

TOKENIZER = CharTokenizer.from_text("abcdefghijklmnopqrstuvwxyz .,")
CONFIG = ServerConfig(
    port=0, max_batch=4, max_waiting=8, max_new=200, read_seconds=30, send_seconds=30,
    drain_seconds=30,
)  # fmt: skip
SECONDS = 60.0  # nothing here may take longer, not even on a busy machine


def tiny_model(max_len: int = 32) -> GPT:
    """An untrained model in float64: no rounding turns a choice around."""
    torch.manual_seed(0)
    shape = GPTConfig(TOKENIZER.vocab_size, max_len=max_len, d_model=16, n_heads=2, n_kv_heads=2,
                      n_layers=2, d_ff=32)  # fmt: skip
    model = GPT(shape).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4)  # a varied text, not one letter again and again
    return model


MODEL = tiny_model()


@dataclass
class Running:
    """A server that listens."""

    port: int
    stop: Callable[[], None]
    thread: threading.Thread
    metrics_at_end: dict[str, float] = field(default_factory=dict)

    def open(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def post(self, content: Any, connection: HTTPConnection | None = None) -> HTTPResponse:
        """Sends POST /generate; ``content`` is JSON, or bytes as they are."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        connection = connection or self.open()
        connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
        return connection.getresponse()

    def ask(self, content: Any) -> tuple[int, Any]:
        """Returns the status and the JSON of an answer."""
        response = self.post(content)
        return response.status, json.loads(response.read())

    def get(self, path: str) -> tuple[int, Any]:
        connection = self.open()
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def raw(self, sent: bytes) -> tuple[int, dict[str, str], Any]:
        """Sends bytes as they are; returns the status, the fields and the JSON that come back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as client:
            client.sendall(sent)
            response = HTTPResponse(client)
            response.begin()
            content = json.loads(response.read())
            return response.status, dict(response.getheaders()), content

    def wait_for(self, **wanted: float) -> None:
        """Waits until /metrics says so."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            seen = self.get("/metrics")[1]
            if all(seen[name] == value for name, value in wanted.items()):
                return
            time.sleep(0.01)
        raise AssertionError(f"waited for {wanted}, last seen {seen}")


def events(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yields the server-sent events of an answer as they come."""
    while line := response.readline():
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))


@contextmanager
def running(model: GPT = MODEL, **changes: Any) -> Iterator[Running]:
    """Runs a server; afterwards it is stopped, and its threads have ended."""
    before, ready = set(threading.enumerate()), threading.Event()
    started: list[Running] = []

    def on_ready(port: int, stop: Callable[[], None]) -> None:
        started.append(Running(port, stop, thread))
        ready.set()

    def run() -> None:
        metrics = asyncio.run(serve(model, TOKENIZER, replace(CONFIG, **changes), on_ready))
        started[0].metrics_at_end.update(metrics)

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(SECONDS)
    try:
        yield started[0]
    finally:
        if thread.is_alive():
            started[0].stop()
        thread.join(SECONDS)
        assert not thread.is_alive(), "the server does not stop"
        assert set(threading.enumerate()) <= before, "threads are left"
