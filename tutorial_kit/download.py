"""Fetching one file of known size and SHA-256 over a network that breaks.

The bytes go to ``<name>.part``. A break (stall, cut, server error) is answered by asking for the
rest after a growing pause. The file gets its name only once size and hash are right; with a wrong
hash it is deleted. The addresses, a mirror first, come from `data_sources`. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tutorial_kit.console import progress
from tutorial_kit.data_sources import SourceError, open_source, receive, source_addresses
from tutorial_kit.files import explained, folder_lock

CHUNK = 1 << 16  # bytes asked for at a time
REMEDY = "Set LLM_TUTORIAL_CACHE to a folder with room that you may write to"


@dataclass(frozen=True)
class Patience:
    """How long to put up with a bad network; all times in seconds."""

    timeout: float = 20.0  # longest silence within a connection
    attempts: int = 5  # connections per address before it is given up
    backoff: float = 1.0  # pause before the second attempt; doubles before each further one
    lock_wait: float = 600.0  # longest wait for another process that fetches into the same folder


PATIENCE = Patience()


def download(
    url: str, path: Path, *, bytes: int, sha256: str, patience: Patience | None = None
) -> bool:
    """Makes sure that `path` holds the file with this size and hash, fetching it if it does not.

    Safe to call from several processes at once: one fetches, the others wait for it.

    Args:
        url: the public address; the mirror, if one is set, is asked for the same path first.
        path: where the file goes; folders are created.
        bytes: its size.
        sha256: its hash, hexadecimal.
        patience: timeouts and retries; None means `PATIENCE`.

    Returns:
        True if the file was fetched, False if it was already there.

    Raises:
        OSError: no address delivers the file, or it cannot be written. One line; nothing stays
            behind but a ``.part`` file that the next call continues.
        ValueError: LLM_TUTORIAL_MIRROR is neither a folder's name nor an http address.
    """
    patience = patience or PATIENCE
    addresses = source_addresses(url)
    notice = f"waiting for another process that writes to {path.parent}"
    with folder_lock(path.parent, patience.lock_wait, notice, REMEDY) as held:
        # Without the lock, a private file keeps two writers apart, at the price of no resuming.
        part = path.with_name(path.name + (".part" if held else f".part-{os.getpid()}"))
        try:
            if path.is_file():
                if path.stat().st_size == bytes and file_sha256(path) == sha256:
                    return False  # another process was faster
                path.unlink()
                print(f"{_label(part)} was damaged; deleted, fetching it again", file=sys.stderr)
            _fetch_from_any(addresses, part, bytes, sha256, patience)
            part.replace(path)
        except OSError as error:
            if error.filename is None:  # its text is ours already
                raise
            raise explained(error, "write", path, REMEDY) from error
        finally:
            if not held:
                part.unlink(missing_ok=True)
    return True


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch_from_any(
    addresses: list[str], part: Path, size: int, sha256: str, patience: Patience
) -> None:
    """Fills `part` from the first address that has the right file."""
    failures = []
    for address in addresses:
        try:
            _fetch(address, part, size, sha256, patience)
        except SourceError as error:
            failures.append(f"{address}: {error}")
            continue
        if failures:
            print(f"note: {failures[0]}; took {address} instead", file=sys.stderr)
        return
    kept = part.stat().st_size if part.is_file() else 0
    again = f"; it continues after the {kept:,} bytes that came" if kept else ""
    raise OSError(
        f"cannot download {_label(part)} ({size / 1e6:.1f} MB) from "
        f"{'; nor from '.join(failures)}. Check the network, or set LLM_TUTORIAL_MIRROR to a copy "
        f"of the data, and start again{again}."
    )


def _fetch(address: str, part: Path, size: int, sha256: str, patience: Patience) -> None:
    """Fills `part` from one address, in as many attempts as patience allows."""
    for attempt in range(1, patience.attempts + 1):
        try:
            resumed = _continue_part(address, part, size, patience.timeout)
            _verify(part, sha256, resumed)
            return
        except SourceError as error:
            if not error.may_pass or attempt == patience.attempts:
                raise
            pause = patience.backoff * 2 ** (attempt - 1)
            counted = f"attempt {attempt} of {patience.attempts}"
            print(f"{_label(part)}: {error} ({counted}); again in {pause:g} s", file=sys.stderr)
            time.sleep(pause)


def _continue_part(address: str, part: Path, size: int, timeout: float) -> bool:
    """Adds the missing bytes to `part` over one connection; returns whether it had some before."""
    offset = part.stat().st_size if part.is_file() else 0
    if offset >= size:  # a killed process had it all, or this is something else: the hash will tell
        return True
    reader, start = open_source(address, offset, size, timeout)
    try:
        with (
            reader,
            part.open("ab" if start else "wb", buffering=0) as file,
            progress(size, _label(part), "B") as bar,
        ):
            bar.update(start)
            done = start
            while done < size:
                chunk = receive(reader, min(CHUNK, size - done))
                if not chunk:
                    raise SourceError(f"broke off after {done:,} of {size:,} bytes", may_pass=True)
                done += len(chunk)
                bar.update(len(chunk))
                while chunk:  # an unbuffered write may take only a part
                    chunk = chunk[file.write(chunk) :]
            os.fsync(file.fileno())
    except OSError as error:  # the network's errors are SourceError, so this one is the disk's
        with suppress(OSError):
            part.unlink()
        raise explained(error, "write", part, REMEDY) from error
    return start > 0


def _verify(part: Path, sha256: str, resumed: bool) -> None:
    """Deletes `part` and fails if its hash is wrong; after a resume, a fresh start may help."""
    found = file_sha256(part)
    if found != sha256:
        part.unlink()
        raise SourceError(
            f"damaged (SHA-256 {found[:12]}... instead of {sha256[:12]}...) and deleted", resumed
        )


def _label(part: Path) -> str:
    """Returns the name that a user knows the file by, such as "wikitext2/train"."""
    return f"{part.parent.name}/{part.stem}"
