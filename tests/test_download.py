"""Downloading from a server that misbehaves: the right file, or one clear line and no file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.download import Patience, download
from tutorial_kit.files import folder_lock

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "/owner/repo/commit/data.bin"
QUICK = Patience(timeout=0.3, attempts=3, backoff=0.0, lock_wait=5.0)
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals or limits")


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the next behavior of the server's plan, at its end correctly."""

    server: Server

    def do_GET(self) -> None:
        given = self.headers.get("Range")
        self.start = int(re.fullmatch(r"bytes=(\d+)-", given)[1]) if given else 0  # type: ignore[index]
        with self.server.counting:
            number = len(self.server.requests)
            self.server.requests.append((self.path, self.start))
        plan = self.server.plan
        with contextlib.suppress(ConnectionError):  # the client has hung up
            (plan[number] if number < len(plan) else good)(self)

    def head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def begin(self, start: int) -> bytes:
        """Sends the head of a right answer from `start` on; returns the body that belongs to it."""
        span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        headers = {"Content_Range": span} if start else {}
        self.head(206 if start else 200, len(CONTENT) - start, **headers)
        return CONTENT[start:]

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A server on loopback with a plan of behaviors."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: list[Behavior] = []
        self.requests: list[tuple[str, int]] = []  # path and first byte asked for
        self.counting = threading.Lock()
        self.closing = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"


Behavior = Callable[[Handler], None]


def good(handler: Handler) -> None:
    handler.wfile.write(handler.begin(handler.start))


def truncate(handler: Handler) -> None:
    handler.wfile.write(handler.begin(handler.start)[:70_000])


def stall(handler: Handler) -> None:
    handler.wfile.write(handler.begin(handler.start)[:70_000])
    handler.wfile.flush()
    handler.server.closing.wait(5)


def silent(handler: Handler) -> None:
    handler.server.closing.wait(5)


def hang_up(handler: Handler) -> None:
    handler.connection.close()


def nonsense(handler: Handler) -> None:
    handler.wfile.write(b"this is not HTTP\r\n\r\n")


def corrupt(handler: Handler) -> None:
    body = handler.begin(handler.start)
    handler.wfile.write(body[:-1] + bytes([body[-1] ^ 1]))


def ignore_range(handler: Handler) -> None:
    handler.wfile.write(handler.begin(0))


def wrong_range(handler: Handler) -> None:
    handler.head(206, 10, Content_Range=f"bytes 0-9/{len(CONTENT)}")
    handler.wfile.write(CONTENT[:10])


def no_length(handler: Handler) -> None:
    handler.head(200, None)
    handler.wfile.write(CONTENT)


def endless(handler: Handler) -> None:
    handler.head(200, None)
    while not handler.server.closing.is_set():
        handler.wfile.write(bytes(CONTENT[:100_000]))


def login_page(handler: Handler) -> None:
    handler.head(200, 5)
    handler.wfile.write(b"hello")


def status(code: int) -> Behavior:
    def behave(handler: Handler) -> None:
        handler.head(code, 0)

    behave.__name__ = f"status_{code}"
    return behave


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("LLM_TUTORIAL_MIRROR", raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.closing.set()
        running.shutdown()
        thread.join()


def fetch(server: Server, path: Path, patience: Patience = QUICK) -> bool:
    url = server.address + PATH
    return download(url, path, bytes=len(CONTENT), sha256=SHA256, patience=patience)


def starts(server: Server) -> list[int]:
    return [start for _, start in server.requests]


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name != ".lock")


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "new" / "data"
    assert fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert not fetch(server, path)
    assert starts(server) == [0]
    assert names(path.parent) == ["data"]


# What the server does, then the first byte of every request that is expected.
@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ([truncate], [0, 70_000]),
        ([truncate, truncate], [0, 70_000, 140_000]),
        ([stall], [0, 70_000]),
        ([silent], [0, 0]),
        ([hang_up], [0, 0]),
        ([nonsense], [0, 0]),
        ([status(500), status(503)], [0, 0, 0]),
        ([status(429)], [0, 0]),
        ([truncate, status(500)], [0, 70_000, 70_000]),
        ([truncate, ignore_range], [0, 70_000]),
        ([truncate, wrong_range], [0, 70_000, 0]),
        ([truncate, status(416)], [0, 70_000, 0]),
        ([truncate, corrupt], [0, 70_000, 0]),
        ([no_length], [0]),
    ],
    ids=lambda value: "-".join(getattr(item, "__name__", str(item)) for item in value),
)
def test_a_passing_trouble_is_survived(
    server: Server, tmp_path: Path, plan: list[Behavior], expected: list[int]
) -> None:
    server.plan = plan
    assert fetch(server, tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert starts(server) == expected
    assert names(tmp_path) == ["data"]


@pytest.mark.parametrize(
    ("behavior", "requests", "reason", "left"),
    [
        (status(404), 1, "HTTP 404", []),
        (status(403), 1, "HTTP 403", []),
        (status(500), 3, "HTTP 500", []),
        (silent, 3, "no answer in time", []),
        (hang_up, 3, "closed|reset", []),
        (corrupt, 1, r"damaged \(SHA-256 \w{12}\.\.\. instead of \w{12}\.\.\.\) and deleted", []),
        (endless, 1, "damaged", []),
        (login_page, 1, "offers 5 bytes instead of 300,000", []),
        (truncate, 3, "broke off after 210,000 of 300,000 bytes", ["data.part"]),
    ],
)
def test_a_lasting_trouble_is_one_clear_line(
    server: Server, tmp_path: Path, behavior: Behavior, requests: int, reason: str, left: list[str]
) -> None:
    server.plan = [behavior] * 9
    with pytest.raises(OSError, match=reason) as caught:
        fetch(server, tmp_path / "data")
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"cannot download {tmp_path.name}/data (0.3 MB) from {server.address}")
    assert "set LLM_TUTORIAL_MIRROR to a copy of the data, and start again" in text
    assert len(server.requests) == requests
    assert names(tmp_path) == left


def test_the_next_call_continues_where_the_last_one_gave_up(server: Server, tmp_path: Path) -> None:
    server.plan = [truncate] * 3
    with pytest.raises(OSError, match="continues after the 210,000 bytes that came"):
        fetch(server, tmp_path / "data")
    assert fetch(server, tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert starts(server) == [0, 70_000, 140_000, 210_000]


@pytest.mark.parametrize(
    "part",
    [CONTENT, b"x" * 1000, b"x" * len(CONTENT), b"x" * 400_000],
    ids=["whole", "short", "wrong", "long"],
)
def test_whatever_an_old_part_holds_the_file_is_right(
    server: Server, tmp_path: Path, part: bytes
) -> None:
    (tmp_path / "data.part").write_bytes(part)
    assert fetch(server, tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert len(server.requests) == (0 if part == CONTENT else 2 if len(part) == 1000 else 1)


def test_a_damaged_file_is_replaced_and_said(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").write_bytes(CONTENT[:-1] + b"?")
    assert fetch(server, tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert "data was damaged; deleted, fetching it again" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(15))
def test_any_mixture_of_troubles_ends_with_the_right_file_or_none(
    server: Server, tmp_path: Path, seed: int
) -> None:
    troubles = [truncate, hang_up, nonsense, corrupt, ignore_range, wrong_range, no_length, good]
    troubles += [status(500), status(404), status(416), login_page]
    server.plan = random.Random(seed).choices(troubles, k=8)
    for _ in range(4):
        with contextlib.suppress(OSError):
            fetch(server, tmp_path / "data")
        if (tmp_path / "data").exists():
            assert (tmp_path / "data").read_bytes() == CONTENT
    assert fetch(server, tmp_path / "data") or (tmp_path / "data").read_bytes() == CONTENT
    assert names(tmp_path) == ["data"]


def test_no_network_is_said_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("LLM_TUTORIAL_MIRROR", raising=False)

    def refused(*_: object) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    patient = Patience(timeout=5.0, attempts=5, backoff=60.0)
    for fail, reason in ((refused, "connection refused"), (unknown, "name is not found")):
        monkeypatch.setattr(socket, "getaddrinfo", fail)
        started = time.monotonic()
        with pytest.raises(OSError, match=reason):
            download(
                "https://nowhere.invalid/x",
                tmp_path / "data",
                bytes=5,
                sha256=SHA256,
                patience=patient,
            )
        assert time.monotonic() - started < 5
    assert names(tmp_path) == []


def test_each_pause_is_twice_the_one_before(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan = [status(500)] * 3
    started = time.monotonic()
    fetch(server, tmp_path / "data", Patience(attempts=4, backoff=0.05))
    assert time.monotonic() - started >= 0.05 + 0.1 + 0.2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("again in ")[2] for line in lines] == ["0.05 s", "0.1 s", "0.2 s"]


def mirror_file(folder: Path, content: bytes = CONTENT) -> None:
    path = folder / PATH.lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_a_mirror_folder_is_tried_first(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mirror_file(tmp_path / "my mirror")
    monkeypatch.setenv("LLM_TUTORIAL_MIRROR", f" {tmp_path / 'my mirror'}/ ")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "data.part").write_bytes(CONTENT[:1000])
    assert fetch(server, tmp_path / "cache" / "data")
    assert (tmp_path / "cache" / "data").read_bytes() == CONTENT
    assert server.requests == []
    assert capsys.readouterr().err == ""  # the part was continued, not fetched anew


def test_a_mirror_server_is_tried_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_MIRROR", f"{server.address}/copies/")
    url = "http://no-such-host.invalid" + PATH
    assert download(url, tmp_path / "data", bytes=len(CONTENT), sha256=SHA256, patience=QUICK)
    assert server.requests == [("/copies" + PATH, 0)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        (CONTENT[:9], "holds 9 bytes instead of 300,000"),
        (CONTENT[:-1] + b"?", "damaged"),
    ],
    ids=["missing", "short", "damaged"],
)
def test_a_bad_mirror_is_said_and_the_public_address_used(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    reason: str,
) -> None:
    if content is not None:
        mirror_file(tmp_path / "mirror", content)
    monkeypatch.setenv("LLM_TUTORIAL_MIRROR", str(tmp_path / "mirror"))
    assert fetch(server, tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert re.search(f"note: .*mirror.*{reason}.*took http", capsys.readouterr().err)
    server.plan = [status(404)] * 9
    (tmp_path / "data").unlink()
    with pytest.raises(OSError, match=f"{reason}.*; nor from http.*: HTTP 404"):
        fetch(server, tmp_path / "data")


def test_a_mirror_of_another_kind_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_MIRROR", "ftp://127.0.0.1/data")
    with pytest.raises(ValueError, match="^LLM_TUTORIAL_MIRROR=ftp://127.0.0.1/data is neither"):
        fetch(server, tmp_path / "data")


@posix
def test_a_full_disk_leaves_nothing(server: Server, tmp_path: Path) -> None:
    import resource

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with pytest.raises(OSError, match="quota is full.*Set LLM_TUTORIAL_CACHE to") as caught:
            fetch(server, tmp_path / "data")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []
    assert len(server.requests) == 1


def test_a_folder_that_cannot_be_is_one_clear_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "data").mkdir()
    for path in (tmp_path / "file" / "data", tmp_path / "data"):
        with pytest.raises(OSError, match="^cannot write .* Set LLM_TUTORIAL_CACHE to a folder"):
            fetch(server, path)


CLIENT = (
    "import sys; from pathlib import Path; from tutorial_kit.download import download\n"
    "print('fetched', download(sys.argv[1], Path(sys.argv[2]), bytes=300_000,"
    f" sha256={SHA256!r}))"
)


def start_client(server: Server, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLIENT, server.address + PATH, str(path)]
    return subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)


def test_of_several_processes_one_fetches_and_all_have_the_file(
    server: Server, tmp_path: Path
) -> None:
    def slow(handler: Handler) -> None:
        body = handler.begin(handler.start)
        handler.wfile.write(body[:1000])
        handler.wfile.flush()
        time.sleep(0.5)
        handler.wfile.write(body[1000:])

    server.plan = [slow]
    clients = [start_client(server, tmp_path / "data") for _ in range(3)]
    outputs = sorted(client.communicate(timeout=30)[0] for client in clients)
    assert outputs == ["fetched False\n", "fetched False\n", "fetched True\n"]
    assert starts(server) == [0]
    assert (tmp_path / "data").read_bytes() == CONTENT


@posix
def test_a_killed_process_frees_the_lock_and_its_bytes_are_kept(
    server: Server, tmp_path: Path
) -> None:
    server.plan = [stall]
    client = start_client(server, tmp_path / "data")
    part = tmp_path / "data.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size == 70_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    client.send_signal(signal.SIGKILL)
    client.communicate()
    assert fetch(server, tmp_path / "data")
    assert starts(server) == [0, 70_000]
    assert (tmp_path / "data").read_bytes() == CONTENT


def test_a_process_that_holds_the_lock_for_ever_stops_nobody(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with folder_lock(tmp_path, wait_s=0):
        (tmp_path / "data.part").write_bytes(b"the other's")
        assert fetch(server, tmp_path / "data", Patience(lock_wait=0.1))
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert (tmp_path / "data.part").read_bytes() == b"the other's"
    assert "waiting for another process" in capsys.readouterr().err
    assert names(tmp_path) == ["data", "data.part"]
