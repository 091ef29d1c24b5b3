"""What a server has to bear: full load with strangers among its clients, and an end in between.

Standard library only.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from optimization.load_client import Load, Wish, run_load
from optimization.load_hostile import BAD, Seen, send_bad
from optimization.load_process import ServerProcess


@dataclass(frozen=True)
class Sustained:
    """What came of a time under full load."""

    load: Load
    bad: list[Seen]  # how bad requests were answered meanwhile


@dataclass(frozen=True)
class Stopped:
    """How a server ended that was told to stop under full load."""

    lost: int  # answers that had begun and did not come to their end
    finished: int  # answers that did after the signal
    exit_code: int  # 0 if it ended by itself
    seconds: float  # from the signal to its end

    @property
    def clean(self) -> bool:
        """Whether nothing was lost and it ended by itself."""
        return self.lost == 0 and self.exit_code == 0


def sustain(host: str, port: int, streams: int, seconds: float, wish: Wish | None = None
            ) -> Sustained:  # fmt: skip
    """Loads a server and sends it every bad request meanwhile, spread over the time.

    Args:
        host: the server's address.
        port: the server's port.
        streams: good clients at once.
        seconds: how long.
        wish: what the good clients ask for.
    """
    bad: list[Seen] = []

    def disturb() -> None:
        for one in BAD:
            bad.append(send_bad(host, port, one))
            time.sleep(seconds / len(BAD))

    thread = threading.Thread(target=disturb)
    thread.start()
    load = run_load(host, port, streams, seconds, wish)
    thread.join()
    return Sustained(load, bad)


def stop_while_busy(
    server: ServerProcess, streams: int, seconds: float, wish: Wish | None = None
) -> Stopped:
    """Tells a server to stop in the middle of a load.

    A request that comes too late is refused, and that is right; an answer that has begun must come
    to its end.

    Args:
        server: it is stopped afterwards.
        streams: clients at once.
        seconds: of load before the signal, and after it.
        wish: what the clients ask for.
    """
    loads: list[Load] = []

    def load() -> None:
        loads.append(run_load(server.host, server.port, streams, 2 * seconds, wish))

    thread = threading.Thread(target=load)
    thread.start()
    time.sleep(seconds)
    signaled = time.perf_counter()
    code = server.stop()
    took = time.perf_counter() - signaled
    thread.join()
    begun = [one for one in loads[0].asked if one.arrivals and one.arrivals[-1] > signaled]
    lost = sum(bool(one.error) for one in loads[0].asked if one.arrivals)
    return Stopped(lost, len([one for one in begun if not one.error]), code, took)
