"""Where a file's bytes come from: a mirror folder, a mirror server or the public address.

`open_source` hides the differences: it returns a reader and the position in the file at which the
reader starts, or raises `SourceError`, which says in words what is wrong and whether it may pass.
Standard library only.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

PASSING_STATUS = {408, 425, 429}  # "later": all other 4xx say "never", all 5xx may pass
HOPELESS = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED}  # nobody there


class SourceError(Exception):
    """An address did not deliver.

    Attributes:
        may_pass: whether another attempt on the same address can succeed.
    """

    def __init__(self, reason: str, may_pass: bool) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


def source_addresses(url: str) -> list[str]:
    """Returns where to look for a file: below the mirror if one is set, then at its public address.

    Args:
        url: the public address; a mirror is laid out as the path in it is.

    Raises:
        ValueError: LLM_TUTORIAL_MIRROR is neither a folder's name nor an http address.
    """
    mirror = os.environ.get("LLM_TUTORIAL_MIRROR", "").strip().rstrip("/")
    path = urlsplit(url).path
    if not mirror:
        return [url]
    if mirror.startswith(("http://", "https://")):
        return [mirror + path, url]
    if "://" in mirror:
        raise ValueError(
            f"LLM_TUTORIAL_MIRROR={mirror} is neither a folder nor an http address: no data can be "
            "read from there. Name a folder or an http address that holds "
            "<owner>/<repo>/<commit>/<path>."
        )
    return [str(Path(mirror).expanduser() / unquote(path).lstrip("/")), url]


def open_source(address: str, offset: int, size: int, timeout: float) -> tuple[Any, int]:
    """Opens an address for reading from `offset` on.

    Args:
        address: an http address or a file's name, from `source_addresses`.
        offset: how many bytes are there already.
        size: bytes in the whole file.
        timeout: longest silence of a server, in seconds.

    Returns:
        The reader, to be closed by the caller, and its position in the file: `offset`, or 0 where a
        server cannot start in the middle.

    Raises:
        SourceError: there is no such file, no answer, or a file of another size.
    """
    if "://" in address:
        return _open_http(address, offset, size, timeout)
    try:
        file = Path(address).open("rb")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise SourceError(_reason(error), may_pass=False) from error
    found = os.fstat(file.fileno()).st_size
    if found != size:
        file.close()
        raise SourceError(f"holds {found:,} bytes instead of {size:,}", may_pass=False)
    file.seek(offset)
    return file, offset


def receive(reader: Any, count: int) -> bytes:
    """Returns up to `count` bytes as soon as some are there, ``b""`` at the end.

    Raises:
        SourceError: the connection broke or fell silent.
    """
    try:
        return reader.read1(count)  # read() would wait for all, and lose what came before a break
    except (OSError, HTTPException) as error:
        raise SourceError(_reason(error), may_pass=True) from error


def _open_http(address: str, offset: int, size: int, timeout: float) -> tuple[Any, int]:
    """Asks a server for the bytes from `offset` on; see `open_source`."""
    headers = {"User-Agent": "llm-tutorial"} | ({"Range": f"bytes={offset}-"} if offset else {})
    try:
        response = urlopen(Request(address, headers=headers), timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code == 416 and offset:  # its file ends before ours does: start over
            return _open_http(address, 0, size, timeout)
        passing = error.code >= 500 or error.code in PASSING_STATUS
        raise SourceError(f"HTTP {error.code} {error.reason}".strip(), passing) from error
    except (OSError, HTTPException, ValueError) as error:
        raise SourceError(_reason(error), may_pass=not _is_hopeless(error)) from error
    if response.status == 206:
        if response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            return response, offset
        response.close()  # not the part that was asked for
        return _open_http(address, 0, size, timeout)
    if response.length not in (None, size):
        response.close()
        raise SourceError(
            f"offers {response.length or 0:,} bytes instead of {size:,} (a login page?)", False
        )
    return response, 0  # also a server that ignores ranges and sends everything again


def _reason(error: Exception) -> str:
    """Returns why an address failed, in words."""
    cause = _cause(error)
    if isinstance(cause, socket.gaierror):
        return "the host's name is not found (is there a network?)"
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__).lower()


def _is_hopeless(error: Exception) -> bool:
    """Tells whether another attempt would fail the same way."""
    cause = _cause(error)
    if isinstance(cause, (socket.gaierror, ssl.SSLCertVerificationError, ValueError)):
        return True
    return isinstance(cause, OSError) and cause.errno in HOPELESS


def _cause(error: Exception) -> object:
    """Returns what urllib wrapped, or the error itself."""
    return error.reason if isinstance(error, URLError) else error
