"""Settings of the server: where it listens, how it batches, and everything it refuses beyond."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from gpt.packed_weights import WEIGHTS
from tutorial_kit.config import config_parser
from tutorial_kit.config_checks import check_counts, check_not_negative
from tutorial_kit.entry_parsers import add_device


@dataclass(frozen=True)
class ServerConfig:
    """What the server does and what it bears; a limit bounds everything that others send."""

    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 lets in whoever reaches this machine
    port: int = 8000  # 0 takes any free port
    max_batch: int = 8  # requests that are written at once
    continuous: bool = True  # requests join between two tokens; else when the batch is done
    max_waiting: int = 64  # requests in the queue; the next one is told to come back
    max_connections: int = 256  # open at once, idle ones included
    max_header: int = 16384  # bytes of a request's head
    max_body: int = 65536  # bytes of a request's body
    max_prompt: int = 0  # tokens of a prompt; 0 means the model's context window
    max_new: int = 256  # tokens that a request may ask for
    read_seconds: float = 10.0  # a request must have arrived so soon after its first byte
    idle_seconds: float = 60.0  # a connection may stay open without a request for so long
    send_seconds: float = 10.0  # a client that takes none of its answer for so long is given up
    drain_seconds: float = 30.0  # after the signal to stop, what is accepted may take so long

    def __post_init__(self) -> None:
        """Checks what no server could work with."""
        check_counts(
            self, "max_batch", "max_waiting", "max_connections", "max_header", "max_body", "max_new"
        )
        check_not_negative(self, "max_prompt", "drain_seconds")
        for name in ("read_seconds", "idle_seconds", "send_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(
                    f"{name}={getattr(self, name)} leaves no client any time. Use more than 0."
                )
        if not 0 <= self.port <= 65535:
            raise ValueError(
                f"port={self.port} does not exist: ports run from 0 to 65535. "
                "Use 8000, or 0 for any that is free."
            )


UNTRAINED = ("smoke", "untrained")  # presets that need no trained model
PRESETS = {
    # An untrained model; answers one request of its own and stops.
    "smoke": ServerConfig(port=0, max_new=32),
    "standard": ServerConfig(),
    # The same untrained model, served until it is stopped: to try clients with.
    "untrained": ServerConfig(),
    # One request at a time, to see what batching is worth.
    "one_by_one": ServerConfig(max_batch=1),
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of ``server.py``."""
    parser = config_parser(ServerConfig, PRESETS, "standard", "Serve a GPT over HTTP.")
    parser.add_argument(
        "--checkpoint", metavar="RUN",
        help="run of gpt: file, folder or name; without one the chapter's teacher",
    )  # fmt: skip
    parser.add_argument(
        "--weights", choices=list(WEIGHTS), default="float32", help="number format while writing"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    add_device(parser, "where to compute")
    return parser
