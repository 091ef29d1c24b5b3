"""Loads the server with many streams at once: errors, throughput, latencies; batching on and off.

    python optimization/load_test.py --streams 8 --seconds 60
    python optimization/load_test.py --url http://127.0.0.1:8000

The first starts servers of its own, one for each way of serving, loads them in turns and compares
them; the second loads a server that runs. At the end it sends requests that must be refused, and
stops a server while it is busy.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from optimization.load_checks import stop_while_busy
from optimization.load_client import Load, Wish, run_load
from optimization.load_hostile import send_all_bad
from optimization.load_process import ServerProcess
from optimization.load_report import HEADERS, Report, load_figure, report
from tutorial_kit.config import config_parser, read_config
from tutorial_kit.config_checks import check_counts
from tutorial_kit.console import format_table, progress, run_entry
from tutorial_kit.plotting import save_figure
from tutorial_kit.texts import Texts
from tutorial_kit.training import run_folder

__all__ = ["LoadConfig", "build_parser", "load_in_turns", "main", "start_servers"]

WAYS = {  # the best first, what it is compared with last
    "continuous batching": ("--max-batch", "{streams}"),
    "whole batches": ("--max-batch", "{streams}", "--no-continuous"),
    "one at a time": ("--max-batch", "1"),
}


@dataclass(frozen=True)
class LoadConfig:
    """How a server is loaded."""

    streams: int = 8  # clients at once
    seconds: float = 60.0  # of load for each way of serving, over all rounds
    rounds: int = 4  # turns that each way gets; more for a machine that is not idle
    min_new: int = 16  # tokens of the shortest answer
    max_new: int = 96  # tokens of the longest answer
    whole_batches: bool = True  # also load a server that fills only an empty batch
    served: str = "standard"  # preset of server.py

    def __post_init__(self) -> None:
        """Checks what a load needs."""
        check_counts(self, "streams", "rounds", "min_new")
        if self.seconds <= 0:
            raise ValueError(f"seconds={self.seconds} is no time to load in. Use more than 0.")
        if self.max_new < self.min_new:
            raise ValueError(
                f"max_new={self.max_new} is less than min_new={self.min_new}: no answer has so "
                "many tokens. Use the larger number for max_new."
            )

    @property
    def wish(self) -> Wish:
        """What the streams ask for."""
        return Wish(min_new=self.min_new, max_new=self.max_new)


PRESETS = {
    "smoke": LoadConfig(
        streams=3, seconds=0.6, rounds=1, min_new=2, max_new=8, whole_batches=False,
        served="untrained",
    ),
    "quick": LoadConfig(seconds=8, rounds=2),
    "standard": LoadConfig(),
}  # fmt: skip


def start_servers(
    config: LoadConfig, flags: Sequence[str], stack: ExitStack
) -> dict[str, ServerProcess]:
    """Starts a server for each way of serving, one after the other: the first may train the model.

    Args:
        config: the load.
        flags: of server.py, for all ways.
        stack: what stops them in the end.

    Raises:
        ValueError: a server does not start.
    """
    servers = {}
    for name, own in WAYS.items():
        if "--no-continuous" in own and not config.whole_batches:
            continue
        own = tuple(flag.format(streams=config.streams) for flag in own)
        server = stack.enter_context(ServerProcess(["--preset", config.served, *flags, *own]))
        run_load(server.host, server.port, 1, 0.01, config.wish)  # its first passes are slow
        servers[name] = server
    return servers


def load_in_turns(
    servers: Mapping[str, ServerProcess], config: LoadConfig
) -> dict[str, list[Load]]:
    """Loads servers in turns, forwards and backwards; returns each one's loads, one a round."""
    loads: dict[str, list[Load]] = {name: [] for name in servers}
    order, seconds = list(servers), config.seconds / config.rounds
    with progress(len(servers) * config.rounds, "load", "load") as bar:
        for number in range(config.rounds):
            for name in order if number % 2 == 0 else order[::-1]:
                host, port = servers[name].host, servers[name].port
                loads[name].append(run_load(host, port, config.streams, seconds, config.wish))
                bar.update(1)
    return loads


def load_running(url: str, config: LoadConfig) -> tuple[Report, Load]:
    """Loads a server that runs already.

    Raises:
        ValueError: the URL has no host or no port, or no token came.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise ValueError(
            f"--url {url!r} does not name a server: it needs an address and a port. "
            "Write it as server.py prints it, such as http://127.0.0.1:8000."
        )
    load = run_load(host, port, config.streams, config.seconds, config.wish)
    return report(url, [load]), load


def say_reports(reports: Sequence[Report], loads: Iterable[Load], texts: Texts) -> None:
    """Prints the table, and the errors if there are any."""
    texts.say("load.table", table=format_table(HEADERS, [one.row() for one in reports]))
    errors = [error for load in loads for error in load.errors]
    for error in sorted(set(errors)):
        texts.say("load.error", count=errors.count(error), error=error)


def check_refusals(server: ServerProcess, config: LoadConfig, texts: Texts) -> None:
    """Sends what must be refused, then stops the server while it is busy; prints both."""
    seen = send_all_bad(server.host, server.port)
    rows = [(one.bad.what, one.bad.status, one.status, one.error[:70]) for one in seen]
    right = sum(one.right for one in seen)
    table = format_table(["sent", "wanted", "seen", "the line that came"], rows)
    texts.say("load.refused", table=table, right=right, all=len(seen))
    stopped = stop_while_busy(server, config.streams, min(2.0, config.seconds), config.wish)
    texts.say("load.stopped", **vars(stopped))


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = config_parser(LoadConfig, PRESETS, "standard", "Load the server with many streams.")
    parser.add_argument("--url", help="load this server, which runs, instead of starting some")
    parser.add_argument("--checkpoint", metavar="RUN", help="what the started servers serve")
    parser.add_argument("--weights", help="number format of the started servers' weights")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Loads, prints, draws."""
    args = build_parser().parse_args(argv)
    config = read_config(LoadConfig, PRESETS, args)
    texts = Texts(Path(__file__).parent)
    if args.url:
        found, load = load_running(args.url, config)
        say_reports([found], [load], texts)
        return
    flags = [
        part
        for name in ("checkpoint", "weights")
        if (value := getattr(args, name)) is not None
        for part in (f"--{name}", value)
    ]
    texts.say("load.begins", streams=config.streams, seconds=config.seconds)
    with ExitStack() as stack:
        servers = start_servers(config, flags, stack)
        loads = load_in_turns(servers, config)
        reports = [report(name, rounds) for name, rounds in loads.items()]
        say_reports(reports, itertools.chain(*loads.values()), texts)
        figure = load_figure(reports, config.streams)
        path = run_folder("optimization", f"load_{args.preset}") / "figures" / "server_load.png"
        texts.say("load.figure", path=save_figure(figure, path))
        check_refusals(servers[next(iter(servers))], config, texts)


if __name__ == "__main__":
    run_entry(main)
