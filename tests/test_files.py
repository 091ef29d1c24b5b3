"""Atomic writing: all of the new file or all of the old one, and errors a user can act on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.files import STALE_SECONDS, atomic_write, folder_lock

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions, limits or signals")


@contextlib.contextmanager
def size_limit(limit: int) -> Iterator[None]:
    """Lets no file grow beyond `limit` bytes, which is how a full disk looks to a writer."""
    import resource

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@contextlib.contextmanager
def forbidden_folder() -> Iterator[Path]:
    """A folder that this process may read but not write, also when the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    (folder / "old.txt").write_text("old", encoding="utf-8")
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def test_text_and_bytes_arrive_as_written(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "new" / "a.txt", "w") as file:
        file.write("é\r\n嗨\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "é\r\n嗨\n".encode()
    with atomic_write(tmp_path / "b") as file:
        file.write(b"\x00\xff")
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "new"]


def test_other_modes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mode 'a'.*Use \"wb\""), atomic_write(tmp_path / "a", "a"):
        pass


def test_the_old_file_is_seen_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with atomic_write(path, "w") as file:
        file.write("new")
        file.flush()
        assert path.read_text(encoding="utf-8") == "old"
    assert path.read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("failure", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failing_block_changes_nothing(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(type(failure)), atomic_write(path, "w") as file:
        file.write("half of the new")
        raise failure
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text(encoding="utf-8") == "old"


def test_an_error_about_another_file_keeps_its_own_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_write(tmp_path / "a"):
        (tmp_path / "elsewhere").read_bytes()
    with pytest.raises(ValueError, match="my own words"), atomic_write(tmp_path / "a"):
        try:
            raise PermissionError(13, "Permission denied", "elsewhere")
        except OSError:
            raise ValueError("my own words")  # noqa: B904 - the context is the point
    assert not list(tmp_path.iterdir())


@posix
def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with size_limit(50_000), pytest.raises(OSError) as caught, atomic_write(path) as file:
        file.write(bytes(200_000))
    text = one_line(caught.value)
    assert text.startswith(f"cannot write {path}: the disk or your quota is full (")
    assert text.endswith("Free some space or choose a folder on another disk; nothing was changed.")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@posix
def test_a_full_disk_is_found_beneath_the_error_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    weights = {"weight": torch.zeros(100_000)}
    path = tmp_path / "a.pt"
    full = pytest.raises(OSError, match="quota is full")
    with size_limit(50_000), full, atomic_write(path) as file:
        torch.save(weights, file)
    assert not list(tmp_path.iterdir())


@posix
def test_missing_permission_is_one_clear_line() -> None:
    with forbidden_folder() as folder:
        for target in (folder / "new.txt", folder / "deeper" / "new.txt", folder / "old.txt"):
            with pytest.raises(PermissionError) as caught, atomic_write(target, "w") as file:
                file.write("new")
            text = one_line(caught.value)
            assert text.startswith(f"cannot write {target}: this user has no permission")
            assert "Choose another folder or change its permissions" in text
        assert [p.name for p in folder.iterdir()] == ["old.txt"]
        assert (folder / "old.txt").read_text(encoding="utf-8") == "old"


def test_a_target_that_is_no_file_is_refused_before_work_begins(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    targets = [tmp_path, tmp_path / "file" / "below"] + [Path(os.devnull)] * (os.name == "posix")
    for target in targets:
        with pytest.raises(OSError, match="Choose another name"), atomic_write(target):
            pytest.fail("the block must not run")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert not Path(os.devnull).is_file()


def test_a_name_of_the_longest_length_fits(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    with atomic_write(path, "w") as file:
        file.write("x")
    assert path.is_file()
    with pytest.raises(OSError, match="name too long"), atomic_write(tmp_path / ("n" * 300)):
        pass


@posix
def test_a_link_and_the_usual_permissions_are_kept(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_write(tmp_path / "link", "w") as file:
        file.write("x")
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "plain").write_text("x", encoding="utf-8")
    assert (tmp_path / "real").stat().st_mode == (tmp_path / "plain").stat().st_mode


@posix
def test_a_killed_writer_leaves_the_old_file_and_is_cleaned_up_after(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    code = (
        "import sys, time; from tutorial_kit.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as f:\n"
        "    f.write(b'half'); f.flush(); print('writing', flush=True); time.sleep(60)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=PROJECT_ROOT
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert path.read_text(encoding="utf-8") == "old"
    (leftover,) = tmp_path.glob(".*.tmp")
    young = tmp_path / ".a.txt.1-00000000.tmp"  # may belong to a writer that is alive
    young.write_bytes(b"")
    os.utime(leftover, (0, time.time() - STALE_SECONDS - 1))
    with atomic_write(path, "w") as file:
        file.write("new")
    assert sorted(p.name for p in tmp_path.iterdir()) == [young.name, "a.txt"]


def test_many_writers_of_one_file_leave_one_whole_version(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def write(byte: int) -> None:
        for _ in range(5):
            with atomic_write(path) as file:
                for _ in range(10):
                    file.write(bytes([byte]) * 1000)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = path.read_bytes()
    assert len(content) == 10_000
    assert len(set(content)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_is_locked_by_one_at_a_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        folder_lock(tmp_path / "new", wait_s=0) as first,
        folder_lock(tmp_path / "new", wait_s=0.1, notice="waiting") as second,
    ):
        assert (first, second) == (True, False)
    assert capsys.readouterr().err == "waiting\n"
    with folder_lock(tmp_path / "new", wait_s=0) as third:
        assert third


@posix
def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    with folder_lock(tmp_path, wait_s=0):
        child = os.fork()
        if child == 0:  # a data loader's worker, say, which inherits every open file
            time.sleep(30)
            os._exit(0)
    try:
        with folder_lock(tmp_path, wait_s=0) as held:
            assert held
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
