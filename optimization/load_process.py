"""A server in a process of its own, for whoever loads it: started, asked for its port, stopped.

Standard library only.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType

from tutorial_kit import PROJECT_ROOT

LISTENING = re.compile(r"http://([\w.:]+):(\d+)")
STOP_SECONDS = 60.0


class ServerProcess:
    """``python -m optimization.server`` with some flags, from ``with`` to its end."""

    def __init__(self, flags: Sequence[str]) -> None:
        """Starts it and waits until it listens.

        Args:
            flags: of ``optimization/server.py``; ``--port 0`` is added.

        Raises:
            ValueError: it ended before that; what it printed says why.
        """
        command = [sys.executable, "-m", "optimization.server", *flags, "--port", "0"]
        self._process = subprocess.Popen(
            command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := LISTENING.search(line):
                self.host, self.port = found[1], int(found[2])
                return
            print(line, end="", flush=True)  # it may be training the model it will serve
        raise ValueError(
            f"the server ended with code {self._process.wait()} before it listened. "
            f"Start it alone to see why: {' '.join(command[1:])}"
        )

    def stop(self) -> int:
        """Sends SIGTERM; returns the exit code, -9 if it had to be killed."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        return self._process.returncode

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
