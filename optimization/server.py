"""A small HTTP server for a GPT: requests are batched token by token and answered as a stream.

    python optimization/server.py --checkpoint NAME
    curl -N http://127.0.0.1:8000/generate -H 'Content-Type: application/json' \
        -d '{"prompt": "Returns the", "max_new": 40, "stream": true}'

Also GET /health and GET /metrics. Ctrl-C or a SIGTERM stops it: it refuses new requests, answers
those it has accepted, and leaves; a second one ends them, too. It is made for this machine and
people one trusts: no encryption, no accounts. The standard library speaks the HTTP.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import asyncio
import json
import signal
import string
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import torch

from gpt.generation import load_model
from gpt.generation_config import SMOKE_TEXT
from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from gpt.packed_weights import pack_weights
from optimization.optimization_config import TEACHERS
from optimization.server_config import PRESETS, UNTRAINED, ServerConfig, build_parser
from optimization.server_service import Service
from optimization.teacher import load_data, train_teacher
from tutorial_kit.config import read_config
from tutorial_kit.console import run_entry
from tutorial_kit.device import pick_device
from tutorial_kit.texts import Texts
from tutorial_kit.tokenizers import CharTokenizer, Tokenizer

__all__ = ["ask", "build_parser", "main", "serve", "served_model"]

Ready = Callable[[int, Callable[[], None]], None]


def served_model(checkpoint: str | None, preset: str) -> tuple[GPT, Tokenizer]:
    """Returns a model and its tokenizer.

    Args:
        checkpoint: a run of gpt; None means the chapter's teacher, trained now if it is not there.
        preset: one of ``UNTRAINED`` without a checkpoint gives an untrained model.

    Raises:
        FileNotFoundError: there is no such run.
    """
    if checkpoint is not None:
        return load_model(checkpoint)
    if preset in UNTRAINED:
        tokenizer = CharTokenizer.from_text(string.printable)
        shape = GPTConfig(tokenizer.vocab_size, max_len=64, d_model=32, n_layers=2, d_ff=64)
        return GPT(shape).eval(), tokenizer
    return load_model(train_teacher("quick", load_data(TEACHERS["quick"])))


async def serve(
    model: GPT, tokenizer: Tokenizer, config: ServerConfig, ready: Ready
) -> dict[str, float]:
    """Serves until SIGINT, SIGTERM or a call of what ``ready`` got; returns the last metrics.

    Args:
        model: prepared for writing.
        tokenizer: the model's.
        config: what to serve.
        ready: called when the server listens, with the port and a function that stops the server,
            from any thread.

    Raises:
        OSError: the address is taken or not this machine's.
    """
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    service = Service(model, tokenizer, config)

    def stop() -> None:
        if stopped.is_set():
            service.cut_short()
        stopped.set()

    def stop_from_anywhere() -> None:
        loop.call_soon_threadsafe(stop)

    port = await service.start()
    try:
        with signals_call(stop_from_anywhere):
            ready(port, stop_from_anywhere)
            await stopped.wait()
            await service.stop()
    except BaseException:
        service.cut_short()
        await service.stop()
        raise
    return service.worker.metrics()


@contextmanager
def signals_call(stop: Callable[[], None]) -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM call ``stop`` instead of ending the process.

    Only the main thread of a process may do so; elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: stop())
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, handler)


def ask(host: str, port: int, prompt: str, max_new: int) -> str:
    """Asks a running server for one answer; returns its text.

    Raises:
        ValueError: it answers with another status than 200.
        OSError: it cannot be reached.
    """
    connection = HTTPConnection(host, port, timeout=60)
    body = json.dumps({"prompt": prompt, "max_new": max_new})
    connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    if response.status != 200:
        raise ValueError(f"the server answers {response.status}: {content['error']}")
    return str(content["text"])


def main(argv: Sequence[str] | None = None) -> None:
    """Serves until it is told to stop; with ``--preset smoke`` it asks itself once and stops."""
    args = build_parser().parse_args(argv)
    config = read_config(ServerConfig, PRESETS, args)
    texts = Texts(Path(__file__).parent)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    model, tokenizer = served_model(args.checkpoint, args.preset)
    answers: list[Future[str]] = []

    with ThreadPoolExecutor(1) as pool:  # its thread begins with the first task

        def ask_once(port: int, stop: Callable[[], None]) -> str:
            try:
                return ask(config.host, port, SMOKE_TEXT[:10], 16)
            finally:
                stop()

        def ready(port: int, stop: Callable[[], None]) -> None:
            texts.say("server.listening", host=config.host, port=port)
            if args.preset == "smoke":
                answers.append(pool.submit(ask_once, port, stop))

        model = pack_weights(model.to(device), args.weights)
        metrics = asyncio.run(serve(model, tokenizer, config, ready))
    for answer in answers:
        texts.say("server.asked", prompt=SMOKE_TEXT[:10], text=answer.result())
    texts.say("server.stopped", **metrics)


if __name__ == "__main__":
    run_entry(main)
