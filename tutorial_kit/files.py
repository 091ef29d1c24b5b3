"""Writing files so that a crash, a full disk or Ctrl-C never leaves half a file behind.

`atomic_write` writes to a temporary file in the same folder, flushes it to the disk and renames it:
a reader sees the old file or the new one, never a mixture. `folder_lock` keeps two processes from
doing the same work at once. What the operating system refuses is said in one line that names the
file, what stands in the way and what to do. Standard library only.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

STALE_SECONDS = 600.0  # a temporary file left alone for so long belongs to a dead process

_DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_EXPLAINED = _DISK_FULL | _FORBIDDEN | {errno.EROFS, errno.EIO}


@contextmanager
def atomic_write(path: Path | str, mode: str = "wb") -> Iterator[IO[Any]]:
    """Opens a file for writing that appears under its name only once it is complete.

    Missing folders are created. If the block raises anything, Ctrl-C included, the temporary file
    is removed and the file that stood there before is untouched. A symbolic link is followed.

    Args:
        path: the file to write or to replace.
        mode: ``"wb"`` for bytes, ``"w"`` for text (UTF-8, line ends as written).

    Yields:
        The open temporary file.

    Raises:
        OSError: the disk is full, permission is missing, the folder is read-only, or the path is
            no regular file; one line that says which and what to do.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with atomic_write(Path(folder) / "note.txt", "w") as file:
    ...     _ = file.write("all or nothing")
    >>> (Path(folder) / "note.txt").read_text(encoding="utf-8")
    'all or nothing'
    """
    if mode not in ("wb", "w"):
        raise ValueError(
            f"atomic_write was asked for mode {mode!r}: it always writes a whole new file. "
            'Use "wb" for bytes or "w" for text.'
        )
    target = Path(os.path.realpath(path))
    temporary, file = _open_temporary(target, mode)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except Exception as error:
        refusal = _refusal(error, temporary)
        if refusal is None:
            raise
        raise explained(refusal, "write", target) from error
    finally:
        with suppress(OSError):  # after the rename there is nothing left under this name
            temporary.unlink()


@contextmanager
def folder_lock(
    folder: Path, wait_s: float, notice: str | None = None, remedy: str | None = None
) -> Iterator[bool]:
    """Holds the lock of a folder, so that one process at a time does the work in it.

    The lock is the system's own on the empty file ``.lock``: it ends with its process, however that
    ends.

    Args:
        folder: created if it is missing.
        wait_s: seconds to wait while another process holds the lock.
        notice: printed once if there is a wait.
        remedy: as in `explained`.

    Yields:
        Whether the lock is held; False after ``wait_s``, or where the file system has no locks.

    Raises:
        OSError: the folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("ab")
    except OSError as error:
        raise explained(error, "write in", folder, remedy) from error
    with file:
        deadline = time.monotonic() + wait_s
        held = _lock(file)
        if held is False and notice:
            print(notice, file=sys.stderr, flush=True)
        while held is False and time.monotonic() < deadline:
            time.sleep(0.05)
            held = _lock(file)
        try:
            yield bool(held)
        finally:
            if held:
                _unlock(file)


def explained(error: OSError, action: str, path: Path, remedy: str | None = None) -> OSError:
    """Returns an exception of the same type whose text a user can act on.

    Args:
        error: what the operating system said.
        action: the verb, such as ``"write"``; the text begins "cannot write <path>".
        path: the file or folder concerned.
        remedy: what to do, if the caller knows better than "choose another folder".

    Returns:
        The exception to raise; its ``errno`` is that of ``error``.
    """
    folder = _existing_folder(path)
    if error.errno in _DISK_FULL:
        free = shutil.disk_usage(folder).free
        why = f"the disk or your quota is full ({free / 1e6:.1f} MB free in {folder})"
        what_to_do = "Free some space or choose a folder on another disk"
    elif error.errno == errno.EROFS:
        why, what_to_do = f"{folder} is on a read-only file system", "Choose another folder"
    elif error.errno in _FORBIDDEN:
        why = f"this user has no permission to change it or {folder}"
        what_to_do = "Choose another folder or change its permissions"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        why = "a file stands where a folder is needed, or a folder where a file is"
        what_to_do = "Choose another name, or move what is there out of the way"
    else:
        why = (error.strerror or type(error).__name__).lower()
        what_to_do = "Choose another name or another folder"
    result = type(error)(
        f"cannot {action} {path}: {why}. {remedy or what_to_do}; nothing was changed."
    )
    result.errno = error.errno
    return result


def _open_temporary(target: Path, mode: str) -> tuple[Path, IO[Any]]:
    """Creates a temporary file beside `target`, or says why that cannot be before work begins."""
    prefix = f".{target.name[:40]}."
    temporary = target.parent / f"{prefix}{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        if target.exists():
            if not target.is_file():  # a folder, or a device such as /dev/null
                raise IsADirectoryError(errno.EISDIR, "not a regular file", str(target))
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, "write-protected", str(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target.parent, prefix)
        # "x" fails if the name is taken, and gives the permissions that the user's umask asks for.
        if mode == "w":
            return temporary, temporary.open("x", encoding="utf-8", newline="")
        return temporary, temporary.open("xb")
    except OSError as error:
        raise explained(error, "write", target) from error


def _refusal(error: BaseException | None, temporary: Path) -> OSError | None:
    """Finds what the system refused, also beneath a library's error (torch.save raises its own)."""
    while error is not None:
        # An error that names another file is the block's own business.
        ours = isinstance(error, OSError) and error.filename in (None, str(temporary))
        if isinstance(error, OSError) and ours and error.errno in _EXPLAINED:
            return error
        error = error.__context__
    return None


def _remove_stale(folder: Path, prefix: str) -> None:
    """Removes what killed processes left, so that repeated kills do not fill the disk."""
    for leftover in folder.glob(f"{glob.escape(prefix)}*.tmp"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
                leftover.unlink()


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself survive a power cut, where the system offers that."""
    if os.name != "posix":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(file: IO[Any]) -> bool | None:
    """Tries to lock an open file: True, False (another process has it) or None (no locks here)."""
    try:
        if sys.platform == "win32":
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _unlock(file: IO[Any]) -> None:
    """Unlocks aloud: closing alone would not, while a forked child holds the file open too."""
    if sys.platform == "win32":
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_UN)


def _existing_folder(path: Path) -> Path:
    """Returns the nearest folder at or above `path` that exists and can be seen."""
    for folder in (path, *path.parents):
        with suppress(OSError):  # before Python 3.12, is_dir raises where looking is forbidden
            if folder.is_dir():
                return folder
    return Path()
