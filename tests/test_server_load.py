"""The load generator: what it counts, what it notices, how it stops a server; the benchmark."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from running_server import running

from benchmarks import optimization_server
from optimization import load_test
from optimization.load_checks import stop_while_busy, sustain
from optimization.load_client import Asked, Load, Wish, ask, percentile, run_load
from optimization.load_hostile import BAD, send_all_bad
from optimization.load_process import ServerProcess
from optimization.load_report import load_figure, report
from optimization.load_test import PRESETS, WAYS, LoadConfig, load_running
from optimization.server import main as serve_main

SMALL = Wish(("the", "a"), min_new=2, max_new=9)


def test_percentiles_by_hand() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.9, 0.99, 1.0)] == [50, 90, 99, 100]
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    with pytest.raises(ValueError, match="no latency was measured: no token came"):
        percentile([], 0.5)


def test_a_load_is_summed_up_by_hand() -> None:
    """Tokens behind the end are not under full load; they count for latencies only."""
    load = Load(10.0, 2.0, [Asked(10.0, [10.5, 11.0]), Asked(11.0, [11.5, 12.5]),
                            Asked(11.0, [], "status 503: no")])  # fmt: skip
    assert (load.tokens, load.tokens_per_second) == (3, 1.5)
    one = report("served", [load])
    assert (one.requests, one.errors, one.first, one.gaps) == (3, 1, (0.5, 0.5), (0.5, 1.0))
    assert (one.first_ms(0.5), one.gap_ms(0.5), one.gap_ms(0.9)) == (500, 500, 1000)
    assert one.row()[:4] == ["served", 3, 1, 2]


def test_streams_are_kept_busy_and_wishes_repeat() -> None:
    assert SMALL.content(3) == SMALL.content(3) != SMALL.content(4)
    with running() as server:
        load = run_load("127.0.0.1", server.port, 3, 0.5, SMALL)
        assert not load.errors and len(load.asked) > 3
        counts = [SMALL.content(number)["max_new"] for number in range(len(load.asked))]
        assert sorted(len(one.arrivals) for one in load.asked) == sorted(counts)
        assert all(one.first_token > 0 and min(one.gaps) >= 0 for one in load.asked)
        server.wait_for(accepted=len(load.asked), answered=len(load.asked))


@contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """A server that says the same to everybody, then hangs up; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            client, _ = listener.accept()
            with client:
                asked = b""
                while not asked.endswith(b"}"):  # all of it: hanging up on the rest is a reset
                    asked += client.recv(65536)
                client.sendall(reply)

        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
TOKEN = b'data: {"token": 1, "text": "a"}\n\n'


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", "RemoteDisconnected: "),
        (b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", "status 503: no"),
        (STREAM + TOKEN, "the stream ended without saying why"),
        (STREAM + TOKEN + b'data: {"error": "the model failed"}\n\n', "the model failed"),
        (STREAM + TOKEN + b'data: {"ended_by": "length", "tokens": 2}\n\n', "1 tokens came, the s"),
        (STREAM + TOKEN + b'data: {"ended_by": "length", "tokens": 1}\n\n', "1 tokens came, the s"),
        (STREAM + b"data: {\n\n", "JSONDecodeError: "),
    ],
    ids=range(7),
)
def test_whatever_is_wrong_is_an_error(reply: bytes, error: str) -> None:
    with answering(reply) as port:
        found = ask("127.0.0.1", port, {"prompt": "a", "max_new": 2})
    assert found.error.startswith(error)


def test_a_server_that_is_not_there_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    load = run_load("127.0.0.1", port, 1, 0.01, SMALL)
    assert load.errors[0].startswith("ConnectionRefusedError")
    with pytest.raises(ValueError, match=r"no token came behind another \(ConnectionRefused"):
        load_running(f"http://127.0.0.1:{port}", LoadConfig(streams=1, seconds=0.01))


def test_the_errors_of_a_server_that_runs_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = Load(0.0, 1.0, [Asked(0.0, [0.1, 0.2]), Asked(0.0, [], "status 503: no")])
    monkeypatch.setattr(load_test, "run_load", lambda *_: load)
    load_test.main(["--url", "http://127.0.0.1:8000"])
    assert "1 times: status 503: no" in capsys.readouterr().out


def test_every_bad_request_gets_its_status_also_under_load() -> None:
    with running(max_body=65536) as server:
        found = sustain("127.0.0.1", server.port, 2, 0.5, SMALL)
        assert not found.load.errors and found.load.tokens
        assert [(one.bad.what, one.status) for one in found.bad] == [
            (bad.what, bad.status) for bad in BAD
        ]
        assert all(one.right for one in found.bad)
        assert all(one.right for one in send_all_bad("127.0.0.1", server.port))


def test_a_busy_process_stops_and_loses_nothing() -> None:
    with ServerProcess(["--preset", "untrained"]) as server:
        stopped = stop_while_busy(server, 3, 0.5, Wish(("the",), min_new=100, max_new=200))
    assert stopped.clean and stopped.finished >= 1


def test_a_process_that_cannot_serve_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="the server ended with code 2 before it listened"):
        ServerProcess(["--max-batch", "0"])
    assert capfd.readouterr().err.startswith("error: max_batch=0 is not possible")


def test_the_smoke_server_asks_itself_and_stops(capsys: pytest.CaptureFixture[str]) -> None:
    serve_main(["--preset", "smoke"])
    shown = capsys.readouterr().out
    assert "listening on http://127.0.0.1:" in shown and "asked itself: 'an untrain'" in shown
    assert "1 requests answered, 0 cancelled, 0 refused, 0 failed; 16 tokens in 16 passes" in shown


def test_the_figure_states_what_was_measured() -> None:
    def served(name: str, rate: int, first: float, gap: float) -> Load:
        arrivals = [first + gap * number for number in range(rate)]
        return Load(0.0, 1.0, [Asked(0.0, arrivals)])

    names = list(WAYS)
    loads = [served(names[0], 300, 0.01, 0.003), served(names[1], 200, 0.05, 0.003),
             served(names[2], 100, 0.08, 0.002)]  # fmt: skip
    reports = [report(name, [load]) for name, load in zip(names, loads, strict=True)]
    titles = [axis.get_title(loc="left") for axis in load_figure(reports, 8).axes]
    titles = [" ".join(title.split()) for title in titles]
    assert titles[0] == (
        "8 streams: continuous batching writes 3.0 times as many tokens as one at a time"
    )
    assert titles[1] == "Half of the clients see a token after 10 ms, not 80"
    assert titles[2] == "The next one follows after 3.0 ms, not 2.0: the price"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"streams": 0}, "streams=0 is not possible. Use 1 or more."),
        ({"seconds": 0}, "seconds=0 is no time to load in. Use more than 0."),
        ({"min_new": 9, "max_new": 3}, "max_new=3 is less than min_new=9"),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        LoadConfig(**changes)


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1", "http://127.0.0.1:x", "ftp://:1"])
def test_a_url_without_a_server(url: str) -> None:
    with pytest.raises(ValueError, match="does not name a server: it needs an address and a port"):
        load_running(url, LoadConfig(seconds=0.01))


@pytest.mark.slow
def test_the_benchmark_measures_what_it_promises(tmp_path: Path) -> None:
    config = replace(PRESETS["smoke"], whole_batches=True)
    found = optimization_server.measure_goal(config)
    found += optimization_server.compare_ways(config, tmp_path)
    assert (tmp_path / "server_load.png").is_file()
    by_name = {one.name: one for one in found}
    promised = {name for name in optimization_server.MEASURES if ".server." in name}
    assert set(by_name) == promised
    assert by_name["optimization.server.errors"].value == 0
    assert by_name["optimization.server.refusals"].value == 100
    assert by_name["optimization.server.lost_when_stopped"].value == 0


def test_the_goal_is_eight_streams_for_a_minute_without_an_error() -> None:
    standard = PRESETS["standard"]
    assert (optimization_server.STREAMS, optimization_server.SECONDS) == (8, 60.0)
    assert (standard.streams, standard.seconds) == (8, 60.0)
