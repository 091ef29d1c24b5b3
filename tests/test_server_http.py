"""The server over real sockets: texts, streams, every refusal, clients that vanish, stopping."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse

import pytest
from running_server import CONFIG, MODEL, SECONDS, TOKENIZER, Running, events, running

from gpt.generation import generate_text
from gpt.sampling import GREEDY, Sampling
from optimization import server_http
from optimization.server import main
from optimization.server_config import ServerConfig
from optimization.server_requests import Limits, parse_request
from optimization.server_service import Service
from tutorial_kit import PROJECT_ROOT

PROMPTS = ["the quick brown fox", "a", "jumps over", "lazy dogs, and so on."]
HEAD = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
FOREVER = {"prompt": "a", "max_new": 10**7, "stream": True}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as started:
        yield started


def expected(prompt: str, max_new: int, temperature: float = 0.0, seed: int = 0) -> str:
    sampling = Sampling(temperature=temperature) if temperature else GREEDY
    return generate_text(MODEL, TOKENIZER, prompt, max_new, sampling, seed=seed)


def test_the_text_is_gpts_own_alone_and_in_a_batch(server: Running) -> None:
    wanted = [
        {"prompt": PROMPTS[i % 4], "max_new": 20 + i, "temperature": 0.9 * (i % 2), "seed": i}
        for i in range(8)
    ]
    texts = [expected(**one) for one in wanted]
    for one, text in zip(wanted[:2], texts, strict=False):
        content = {"text": text, "ended_by": "length", "tokens": one["max_new"]}
        assert server.ask(one) == (200, content)
    before = server.get("/metrics")[1]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(server.ask, wanted))
    assert [answer["text"] for _, answer in answers] == texts
    after = server.get("/metrics")[1]
    assert after["tokens"] - before["tokens"] == sum(one["max_new"] for one in wanted)
    assert after["steps"] - before["steps"] < after["tokens"] - before["tokens"], "never together"


def test_a_stream_is_the_same_text_token_by_token(server: Running) -> None:
    response = server.post({"prompt": "the", "max_new": 30, "temperature": 0, "stream": True})
    assert response.status == 200
    assert response.getheader("Content-Type") == "text/event-stream"
    assert response.getheader("Transfer-Encoding") == "chunked"
    *tokens, last = events(response)
    assert len(tokens) == 30
    assert last == {"text": "", "ended_by": "length", "tokens": 30}
    assert "".join(part["text"] for part in tokens) == expected("the", 30)
    assert TOKENIZER.decode([part["token"] for part in tokens]) == expected("the", 30)


def test_the_first_token_is_sent_long_before_the_last() -> None:
    with running(max_new=10**7) as server:  # this text never ends; what comes has been streamed
        response = server.post(FOREVER)
        stream = events(response)
        text = "".join(next(stream)["text"] for _ in range(5))
        response.close()
    assert text == expected("a", 5, temperature=1.0)


def test_the_defaults_of_a_request() -> None:
    found = parse_request(b'{"prompt": "ab"}', TOKENIZER, Limits(10, 200))
    assert found.prompt == TOKENIZER.encode("ab")
    assert (found.max_new, found.seed, found.stream) == (64, 0, False)
    assert found.sampling == Sampling()
    assert parse_request(b'{"prompt": "ab"}', TOKENIZER, Limits(10, 5)).max_new == 5


def test_one_connection_serves_many_requests_good_and_bad(server: Running) -> None:
    connection = server.open()
    connection.connect()
    used = connection.sock
    for content, status in (
        ({"prompt": "the", "max_new": 3}, 200),
        (b"{", 400),
        ({"prompt": "the", "max_new": 3, "stream": True}, 200),
        ({"prompt": ""}, 422),
        ({"prompt": "a", "max_new": 1}, 200),
    ):
        response = server.post(content, connection)
        response.read()
        assert response.status == status
        assert connection.sock is used, "the connection was closed"
    connection.close()


def test_an_older_client_gets_its_stream_without_chunks(server: Running) -> None:
    body = b'{"prompt": "the", "max_new": 4, "temperature": 0, "stream": true}'
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as client:
        head = HEAD.replace(b"1.1", b"1.0") + b"Content-Length: %d\r\n\r\n" % len(body)
        client.sendall(head + body)
        response = HTTPResponse(client)
        response.begin()
        assert response.getheader("Transfer-Encoding") is None
        parts = list(events(response))
    assert "".join(part["text"] for part in parts) == expected("the", 4)


def test_curl_may_ask_before_it_sends_a_body(server: Running) -> None:
    body = b'{"prompt": "the", "max_new": 1}'
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as client:
        client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        response = HTTPResponse(client)
        response.begin()
        assert response.status == 200


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "the body is no JSON (Expecting value"),
        (b'{"prompt": "a"', 400, "the body is no JSON (Expecting"),
        (b'{"prompt": "\xff"}', 400, "the body is no JSON ('utf-8' codec can't decode"),
        (b"[" * 50000, 400, "the body is no JSON ("),
        (b'{"prompt": "a", "temperature": NaN}', 400, "NaN is no JSON number"),
        (b'["a"]', 400, "the body is a JSON list, but an object is needed"),
        (b"{}", 400, 'the field "prompt" is missing'),
        (b'{"prompt": 3}', 400, '"prompt" must be a text, but is 3.'),
        (b'{"prompt": null}', 400, '"prompt" must be a text, but is null.'),
        (b'{"prompt": "a", "max_new": "9"}', 400, '"max_new" must be a whole number, but is "9".'),
        (b'{"prompt": "a", "max_new": true}', 400, '"max_new" must be a whole number, but is tr'),
        (b'{"prompt": "a", "max_new": 2.5}', 400, '"max_new" must be a whole number, but is 2.5'),
        (b'{"prompt": "a", "temperature": "x"}', 400, '"temperature" must be a number, but is'),
        (b'{"prompt": "a", "stream": 1}', 400, '"stream" must be true or false, but is 1.'),
        (b'{"prompt": "a", "max_tokens": 5}', 400, 'the field "max_tokens" is unknown: use prompt'),
        (b'{"prompt": ""}', 422, "the prompt is empty"),
        (b'{"prompt": "A"}', 422, "the prompt cannot be read: the character 'A' (U+0041)"),
        (b'{"prompt": "\\ud800"}', 422, "the prompt cannot be read: the character"),
        (b'{"prompt": "%s"}' % (b"a" * 33), 422, "the prompt has 33 tokens, but the server reads"),
        (b'{"prompt": "a", "max_new": 0}', 422, "max_new=0 is not served: use 1 to 200 tokens."),
        (b'{"prompt": "a", "max_new": 201}', 422, "max_new=201 is not served: use 1 to 200"),
        (b'{"prompt": "a", "temperature": -1}', 422, "temperature=-1 leaves no choice"),
        (b'{"prompt": "a", "temperature": 1e-300}', 422, "temperature=1e-300 leaves no choice"),
        (b'{"prompt": "a", "temperature": 1%s}' % (b"0" * 400), 422, "temperature=1000"),
        (b'{"prompt": "a", "seed": -1}', 422, "seed=-1 is no seed: use 0 to 2^63 - 1."),
        (b'{"prompt": "a", "seed": 9223372036854775808}', 422, "seed=9223372036854775808 is no"),
    ],
    ids=range(26),
)  # fmt: skip
def test_a_body_that_cannot_be_served(server: Running, body: bytes, status: int, text: str) -> None:
    seen, content = server.ask(body)
    assert (seen, list(content)) == (status, ["error"])
    assert text in content["error"]
    assert "\n" not in content["error"] and len(content["error"]) < 300


@pytest.mark.parametrize(
    ("sent", "status", "text"),
    [
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404, "nothing at this path: use /generate, /health"),
        (b"POST /health HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 405, "/health is asked with GET"),
        (b"GET /generate HTTP/1.1\r\n\r\n", 405, "/generate is asked with POST."),
        (HEAD + b"\r\n", 411, "the length of the body is missing: send Content-Length."),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411, "the length of the body is"),
        (HEAD + b"Content-Length: -5\r\n\r\n", 400, "Content-Length is no number"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "is there twice"),
        (HEAD + b"Content-Length: 65537\r\n\r\n", 413, "the body is longer than 65536 bytes"),
        (HEAD + b"Content-Length: 1" + b"0" * 99 + b"\r\n\r\n", 413, "the body is longer than"),
        (HEAD.replace(b"application/json", b"text/plain") + b"\r\n", 415, "send Content-Type: app"),
        (b"POST /generate HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 415, "the body must be JSON"),
        (HEAD + b"X: " + b"x" * 20000 + b"\r\n\r\n", 431, "the header is longer than 16384 bytes"),
        (b"GET /health HTTP/2.0\r\n\r\n", 505, "only HTTP/1.1 and HTTP/1.0 are spoken here."),
        (b"hello\r\n\r\n", 400, "the first line is no HTTP request"),
        (b"GET /health HTTP/1.1\r\nno colon\r\n\r\n", 400, "a header field is malformed"),
        (b"GET /health HTTP/1.1\r\nA : b\r\n\r\n", 400, "a header field is malformed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400, "the first line is no HTTP request"),
    ],
    ids=range(17),
)  # fmt: skip
def test_a_request_that_cannot_be_read(
    server: Running, sent: bytes, status: int, text: str
) -> None:
    seen, fields, content = server.raw(sent)
    assert seen == status and text in content["error"]
    assert fields["Connection"] == "close", "what follows cannot be told from a next request"
    if status == 405:
        assert fields["Allow"] in ("GET", "POST")


def test_an_oversized_body_gets_its_answer_although_it_is_still_being_sent(server: Running) -> None:
    """A server that closed at once would reset the connection, and the client see no status."""
    status, content = server.ask(b"x" * 20_000_000)
    assert status == 413 and "65536" in content["error"]
    assert server.get("/health")[0] == 200


def test_a_slow_request_is_given_up_with_408() -> None:
    with running(read_seconds=0.2) as slow:
        for sent in (b"P", HEAD, HEAD + b"Content-Length: 20\r\n\r\n{"):
            status, _, content = slow.raw(sent)
            assert (status, content["error"]) == (408, "the request did not arrive within 0.2 s.")


def test_an_idle_connection_is_closed_without_a_word() -> None:
    with (
        running(idle_seconds=0.1) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as client,
    ):
        assert client.recv(1) == b""


def test_more_connections_than_allowed_are_refused() -> None:
    with running(max_connections=2) as server:
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        status, fields, content = server.raw(b"")
        assert status == 503 and "too many connections" in content["error"]
        assert fields["Retry-After"] == "1"
        for client in held:
            client.close()
        end = time.monotonic() + SECONDS
        while server.get("/health")[0] == 503:  # until it has seen that they are gone
            assert time.monotonic() < end


def test_the_queue_is_full() -> None:
    with running(max_batch=1, max_waiting=1, max_new=10**7) as server:
        first = server.post(FOREVER)
        server.wait_for(running=1, waiting=0)
        waiting = server.open()
        waiting.request("POST", "/generate", json.dumps(FOREVER),
                        {"Content-Type": "application/json"})  # fmt: skip
        server.wait_for(waiting=1)
        response = server.post({"prompt": "a"})
        assert response.status == 503 and response.getheader("Retry-After") == "1"
        assert json.loads(response.read())["error"].startswith("1 requests are waiting already")
        first.close()  # the stream of the first client: it goes away
        next(events(waiting.getresponse()))  # and the second gets its place
        waiting.close()
        server.wait_for(running=0, waiting=0, cancelled=2, refused=1)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_place(stream: bool) -> None:
    with running(max_batch=1, max_new=10**7) as server:
        connection = server.open()
        content = json.dumps({**FOREVER, "stream": stream})
        kind = {"Content-Type": "application/json"}
        connection.request("POST", "/generate", content, kind)
        server.wait_for(running=1)
        connection.close()
        server.wait_for(running=0, cancelled=1)
        assert server.ask({"prompt": "a", "max_new": 2})[0] == 200


def test_a_client_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its buffers fill, and its row must not be written for ever."""
    monkeypatch.setattr(server_http, "event", lambda _, chunked: b"10000\r\n" + b"x" * 65538)
    with running(max_new=10**7, send_seconds=0.2) as server:
        response = server.post(FOREVER)
        server.wait_for(running=0, cancelled=1)
        response.close()


def test_health_and_metrics(server: Running) -> None:
    assert server.get("/health") == (200, {"status": "ok", "max_prompt": 32, "max_new": 200})
    assert server.get("/health?full=1")[0] == 200
    before = server.get("/metrics")[1]
    server.ask({"prompt": "the", "max_new": 7})
    after = server.get("/metrics")[1]
    grown = {name: after[name] - before[name] for name in ("accepted", "answered", "tokens")}
    assert grown == {"accepted": 1, "answered": 1, "tokens": 7}
    assert after["tokens_per_second"] > 0 and after["running"] == after["waiting"] == 0


def test_stopping_answers_what_was_accepted_and_refuses_the_rest() -> None:
    with running(max_batch=2, max_new=2000) as server:
        idle = server.open()
        idle.connect()
        wanted = {"prompt": "the", "max_new": 300, "temperature": 0}
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(server.ask, wanted) for _ in range(4)]  # two run, two wait
            server.wait_for(running=2, waiting=2)
            server.stop()
            late = None
            while late is None or late[0] == 200:  # until the signal has arrived
                late = server.get("/health")
                time.sleep(0.005)
            assert late == (503, {"status": "stopping", "max_prompt": 32, "max_new": 2000})
            status, content = server.ask({"prompt": "a"})
            assert status == 503 and "the server is stopping" in content["error"]
            found = [answer.result(SECONDS) for answer in answers]
        assert {status for status, _ in found} == {200}
        assert {content["text"] for _, content in found} == {expected("the", 300)}
        server.thread.join(SECONDS)
        assert idle.sock is not None and idle.sock.recv(1) == b""
    assert server.metrics_at_end["answered"] == 4
    with pytest.raises(ConnectionRefusedError):
        server.get("/health")


def test_a_second_signal_ends_what_runs() -> None:
    with running(max_batch=1, max_new=10**7) as server:
        stream = events(server.post(FOREVER))
        next(stream)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(server.ask, {"prompt": "a"})
            server.wait_for(waiting=1)
            server.stop()
            server.stop()
            *_, last = stream
            assert last == {"error": "the server was stopped."}
            assert waiting.result(SECONDS) == (503, {"error": "the server was stopped."})


def test_what_takes_too_long_is_ended_at_the_drain_limit() -> None:
    with running(max_new=10**7, drain_seconds=0.2) as server:
        stream = events(server.post(FOREVER))
        next(stream)
        server.stop()
        assert list(stream)[-1] == {"error": "the server was stopped."}


def test_a_failing_model_is_status_500_and_the_server_lives(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(MODEL, "project", fail)
        for stream in (False, True):
            answer = server.ask({"prompt": "a", "stream": stream})
            assert answer == (500, {"error": "the model failed: out of memory"})
    assert server.ask({"prompt": "a"})[0] == 200


def test_a_taken_port_is_one_line(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match=rf"cannot listen on 127.0.0.1 port {server.port} \(.+use"):
        main(["--preset", "smoke", "--port", str(server.port)])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"max_batch": 0}, "max_batch=0 is not possible. Use 1 or more."),
        ({"port": 70000}, "port=70000 does not exist: ports run from 0 to 65535."),
        ({"send_seconds": 0}, "send_seconds=0 leaves no client any time. Use more than 0."),
        ({"drain_seconds": -1}, "drain_seconds=-1 is below 0. Use 0 or more."),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        ServerConfig(**changes)


def test_a_prompt_limit_beyond_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="max_prompt=33 tokens do not fit into the model's cont"):
        Service(MODEL, TOKENIZER, ServerConfig(max_prompt=33))


def test_it_listens_on_this_machine_alone_by_default() -> None:
    assert ServerConfig().host == CONFIG.host == "127.0.0.1"


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)], ids=str
)
def test_a_signal_stops_the_process_with_exit_code_0(number: int) -> None:
    """As users start it: Ctrl-C while a text is being written."""
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import asyncio, dataclasses, running_server as r, optimization.server as s\n"
        "config = dataclasses.replace(r.CONFIG, max_new=2000)\n"
        "ready = lambda port, stop: print(port, flush=True)\n"
        "metrics = asyncio.run(s.serve(r.MODEL, r.TOKENIZER, config, ready))\n"
        "print(int(metrics['answered']), len(r.threading.enumerate()))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    try:
        assert process.stdout is not None
        started = Running(int(process.stdout.readline()), lambda: None, threading.current_thread())
        stream = events(started.post({**FOREVER, "max_new": 300}))
        next(stream)
        process.send_signal(number)
        *_, last = stream
        assert last == {"text": "", "ended_by": "length", "tokens": 300}
        output, problems = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert (process.returncode, output, problems) == (0, "1 1\n", "")
