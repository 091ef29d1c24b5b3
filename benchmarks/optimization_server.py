"""Measures the server of ``optimization`` under load, and this machine's roofline.

The goal comes first: 8 streams for 60 seconds without an error, while every kind of bad request is
sent in between; then the server is told to stop while it is busy. Then the ways of serving are
loaded in turns. Servers are processes of their own, as is this client. The model is the chapter's
teacher, trained if it is not there yet.

The roofline is that of GPT-2's smallest shape, 124M parameters.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.seed_measures import print_and_record
from benchmarks.timing import prepare, ratio, spread
from optimization.load_checks import stop_while_busy, sustain
from optimization.load_client import Load
from optimization.load_process import ServerProcess
from optimization.load_report import HEADERS, Report, load_figure, report
from optimization.load_test import PRESETS, WAYS, LoadConfig, load_in_turns, start_servers
from optimization.roofline import PRESETS as ROOFLINES
from optimization.roofline import RooflineConfig, points_table
from optimization.roofline import measure as measure_roofline
from optimization.roofline_figure import roofline_figure
from optimization.roofline_points import Point
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.plotting import save_figure
from tutorial_kit.results import Result

MEASURES = {
    "optimization.server.errors": "errors of 8 streams in 60 s, bad requests in between",
    "optimization.server.refusals": "bad requests that get the status they must get, %",
    "optimization.server.lost_when_stopped": "answers lost when the busy server is stopped",
    "optimization.server.stop_seconds": "from SIGTERM to the end of the busy server",
    "optimization.server.requests": "requests answered to 8 streams in 60 s",
    "optimization.server.tokens_per_second": "tokens/s, 8 streams together",
    "optimization.server.first_token_p50": "time to the first token, 8 streams, median",
    "optimization.server.first_token_p99": "time to the first token, 8 streams, 99th percentile",
    "optimization.server.next_token_p50": "time between two tokens, 8 streams, median",
    "optimization.server.next_token_p99": "time between two tokens, 8 streams, 99th percentile",
    "optimization.server.batching": "tokens/s of continuous batching against one at a time",
    "optimization.server.continuous": "tokens/s of continuous batching against whole batches",
    "optimization.server.first_token_gain": "median time to the first token, one at a time against "
    "continuous batching",
    "optimization.roofline.bandwidth": "memory bandwidth, the best of read, copy, triad",
    "optimization.roofline.weights_bandwidth": "reading an array as large as the float32 weights",
    "optimization.roofline.arithmetic": "float32 arithmetic, products of large matrices",
    "optimization.roofline.arithmetic_int8": "int8 arithmetic, products of large matrices",
    "optimization.roofline.ridge": "operations a byte above which arithmetic is the limit",
    "optimization.roofline.prompt": "reading a prompt of 128 tokens, share of its roof",
    "optimization.roofline.decode_1": "writing 1 stream, share of its roof",
    "optimization.roofline.decode_8": "writing 8 streams, share of their roof",
    "optimization.roofline.decode_64": "writing 64 streams, share of their roof",
    "optimization.roofline.decode_1_int8": "writing 1 stream in int8, share of its roof",
    "optimization.roofline.decode_8_int8": "writing 8 streams in int8, share of their roof",
    "optimization.roofline.speculative": "speculative decoding, draft always right, share of its "
    "roof",
    "optimization.roofline.decode_1_rate": "tokens/s of 1 stream, 124M",
    "optimization.roofline.decode_8_rate": "tokens/s of 8 streams, 124M",
    "optimization.roofline.decode_64_rate": "tokens/s of 64 streams, 124M",
}
POINTS = {  # point -> the end of its result's name
    "prompt": "prompt",
    "1 stream": "decode_1",
    "8 streams": "decode_8",
    "64 streams": "decode_64",
    "1 stream, int8": "decode_1_int8",
    "8 streams, int8": "decode_8_int8",
    "speculative": "speculative",
}
FIGURES = PROJECT_ROOT / "docs" / "figures" / "optimization"  # drawn from the recorded numbers
STREAMS, SECONDS = 8, 60.0
BUSY_SECONDS = 3.0  # of load before a busy server is stopped


def measure_goal(config: LoadConfig, flags: Sequence[str] = ()) -> list[Result]:
    """Loads one server for the whole time, disturbs it, stops it while it is busy.

    Args:
        config: streams, seconds and what is asked for.
        flags: of server.py.
    """
    with ServerProcess(["--preset", config.served, *flags]) as server:
        found = sustain(server.host, server.port, config.streams, config.seconds, config.wish)
        stopped = stop_while_busy(
            server, config.streams, min(BUSY_SECONDS, config.seconds), config.wish
        )
    for seen in (one for one in found.bad if not one.right):
        print(f"{seen.bad.what}: wanted {seen.bad.status}, seen {seen.status} {seen.error}")
    for error in sorted(set(found.load.errors)):
        print(f"error of a stream: {error}")
    one = report("continuous batching", [found.load])
    print(format_table(HEADERS, [one.row()]), flush=True)
    right = 100 * sum(seen.right for seen in found.bad) / len(found.bad)
    lost = stopped.lost + (stopped.exit_code != 0)  # a server that must be killed loses, too
    zero: dict[str, Any] = {"at_least": 0.0, "better": "lower"}
    return [
        Result("optimization.server.errors", one.errors, "errors", **zero),
        Result("optimization.server.refusals", right, "%", at_least=100.0),
        Result("optimization.server.lost_when_stopped", lost, "answers", **zero),
        Result("optimization.server.stop_seconds", stopped.seconds, "s", better="lower"),
        Result("optimization.server.requests", one.requests, "requests"),
        Result("optimization.server.tokens_per_second", one.rate, "tokens/s"),
        *latencies(one),
    ]  # fmt: skip


def latencies(one: Report) -> list[Result]:
    """Returns the percentiles of both latencies."""
    return [
        Result(f"optimization.server.{name}_p{round(100 * share)}", measure(share), "ms",
               better="lower")
        for name, measure in (("first_token", one.first_ms), ("next_token", one.gap_ms))
        for share in (0.5, 0.99)
    ]  # fmt: skip


def compare_ways(
    config: LoadConfig, figures: Path = FIGURES, flags: Sequence[str] = ()
) -> list[Result]:
    """Loads the ways of serving in turns, draws them; every round gives one ratio.

    Args:
        config: the load.
        figures: folder of the figure.
        flags: of server.py.
    """
    with ExitStack() as stack:
        loads = load_in_turns(start_servers(config, flags, stack), config)
    reports = [report(name, rounds) for name, rounds in loads.items()]
    print(format_table(HEADERS, [one.row() for one in reports]), flush=True)
    save_figure(load_figure(reports, config.streams), figures / "server_load.png")
    best, whole, single = WAYS

    def gain(name: str, other: str, cost: Callable[[Load], float]) -> Result:
        value, half_range = ratio(*([cost(load) for load in loads[way]] for way in (other, best)))
        return Result(f"optimization.server.{name}", value, "x", spread=half_range)

    return [
        gain("batching", single, lambda load: 1 / load.tokens_per_second),
        gain("continuous", whole, lambda load: 1 / load.tokens_per_second),
        gain("first_token_gain", single, lambda load: report("", [load]).first_ms(0.5)),
    ]


def measure_roof(config: RooflineConfig, figures: Path = FIGURES) -> list[Result]:
    """Measures the machine, places the ways of writing below its roof, draws both."""
    machine, points = measure_roofline(config)
    print(points_table(points), flush=True)
    save_figure(roofline_figure(machine, points), figures / "roofline.png")
    named = {one.name: one for one in points}
    results = [
        Result("optimization.roofline.bandwidth", machine.bandwidth / 1e9, "GB/s"),
        Result("optimization.roofline.weights_bandwidth",
               machine.read[max(machine.read)] / 1e9, "GB/s"),
        Result("optimization.roofline.arithmetic", machine.arithmetic["float32"] / 1e9, "Gop/s"),
        Result("optimization.roofline.arithmetic_int8", machine.arithmetic["int8"] / 1e9, "Gop/s"),
        Result("optimization.roofline.ridge", machine.roof().ridge, "op/byte"),
    ]  # fmt: skip
    results += [share_of(named[point], end) for point, end in POINTS.items()]
    results += [
        Result(f"optimization.roofline.{POINTS[name]}_rate", named[name].rate, "tokens/s",
               spread=spread(named[name].rates))
        for name in ("1 stream", "8 streams", "64 streams")
    ]  # fmt: skip
    return results


def share_of(point: Point, end: str) -> Result:
    """Returns how much of its roof a way of writing reaches."""
    shares = [100 * rate / point.possible for rate in point.rates]
    return Result(f"optimization.roofline.{end}", point.share, "%", spread=spread(shares))


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.optimization_server",
        description="Load the server, and measure the roofline.",
    )
    parser.add_argument("--only", choices=list(MEASURES), help="measure this one and its group")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints and records, each group as soon as it is done."""
    only = build_parser().parse_args(argv).only or ""
    machine = prepare()
    load = replace(PRESETS["standard"], streams=STREAMS, seconds=SECONDS)
    compared = {"batching", "continuous", "first_token_gain"}
    end = only.rpartition(".")[2]
    roof = ".roofline." in only
    groups: list[tuple[bool, Callable[[], list[Result]]]] = [
        (not roof and end not in compared, lambda: measure_goal(load)),
        (end in compared, lambda: compare_ways(load)),
        (roof, lambda: measure_roof(ROOFLINES["standard"])),
    ]
    results: list[Result] = []
    for wanted, measure in groups:
        if wanted or not only:
            started = time.perf_counter()
            found = measure()
            seconds = time.perf_counter() - started
            found = [
                replace(
                    one, note=MEASURES[one.name], seconds=seconds,
                    command=f"python -m benchmarks {one.name}",
                )
                for one in found
            ]  # fmt: skip
            results += print_and_record("optimization_server", found, machine)
    return results


if __name__ == "__main__":
    run_entry(main)
