"""The standard data sets by name: fetched once, checked, kept in a cache folder.

>>> sorted(DATASETS)[:3]
['fashion_mnist', 'instructions', 'multi30k']

``dataset_files("wikitext2")["train"]`` is the path of a file that is there and whole.
`datasets.json` says where each file is, pinned to a commit, with its size and SHA-256. The demos
need none of this: they work offline.
"""

from __future__ import annotations

import difflib
import gzip
import json
import os
import sys
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tutorial_kit.download import Patience, download, file_sha256
from tutorial_kit.files import atomic_write

PUBLIC_ADDRESS = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class DataFile:
    """One file of a data set."""

    key: str  # its name within the data set and in the cache: "train.en"
    path: str  # <owner>/<repo>/<commit>/<path>, below the public address or a mirror
    bytes: int  # size of the file
    split: str  # "train", "validation", "test", or "none" where the authors made no split
    sha256: str  # of the whole file, hexadecimal

    @property
    def url(self) -> str:
        """The public address."""
        return f"{PUBLIC_ADDRESS}/{self.path}"


@dataclass(frozen=True)
class Dataset:
    """A data set: its files, and what to know before using them."""

    name: str  # the name on command lines
    files: tuple[DataFile, ...]
    licence: str  # the terms under which the data may be used
    citation: str  # authors, year, title, place of publication
    homepage: str  # where to read more
    note: str  # format, counts and traps


def _read_registry() -> dict[str, Dataset]:
    """Reads `datasets.json`."""
    text = Path(__file__).with_name("datasets.json").read_text(encoding="utf-8")
    registry = {}
    for name, entry in json.loads(text).items():
        commit = entry.pop("commit")
        rows = [{**row, "path": f"{commit}/{row['path']}"} for row in entry.pop("files")]
        registry[name] = Dataset(name, tuple(DataFile(**row) for row in rows), **entry)
    return registry


DATASETS: dict[str, Dataset] = _read_registry()
"""Every registered data set by its name."""


def dataset_files(name: str, patience: Patience | None = None) -> dict[str, Path]:
    """Returns where a data set's files are, after fetching what is missing or damaged.

    The licence and the citation are printed when something is fetched.

    Args:
        name: a key of `DATASETS`.
        patience: timeouts and retries of the download.

    Returns:
        Key, such as ``"train.en"``, to path.

    Raises:
        ValueError: there is no such data set, or LLM_TUTORIAL_MIRROR is malformed.
        OSError: a file cannot be fetched or stored.
    """
    dataset = _dataset(name)
    folder = cache_folder() / "datasets" / name
    fetched = False
    for file in dataset.files:
        path = folder / file.key
        if not _is_whole(path, file):
            fetched |= download(
                file.url, path, bytes=file.bytes, sha256=file.sha256, patience=patience
            )
            _remember(path, file)
    if fetched:
        print(
            f"{name}: {dataset.note}\n  License: {dataset.licence}\n  Please cite: "
            f"{dataset.citation}\n  {dataset.homepage}\n  Stored in {folder}",
            file=sys.stderr,
        )
    return {file.key: folder / file.key for file in dataset.files}


def cache_folder() -> Path:
    """Returns the folder for what is fetched or built once; it may not exist yet.

    ``LLM_TUTORIAL_CACHE``, or ``llm-tutorial`` in the user's cache directory.
    """
    chosen = os.environ.get("LLM_TUTORIAL_CACHE", "").strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or "")
        if not base.is_absolute():  # also the standard's rule for a relative one: ignore it
            base = Path.home() / ".cache"
    return base / "llm-tutorial"


def verify_cache() -> list[tuple[str, str, str]]:
    """Hashes every cached file, for the doctor; changes nothing.

    Returns:
        (data set, key, status) of every registered file; the status is ``"ok"``, ``"missing"``,
        ``"partial"`` (a download that can be continued), ``"damaged"`` or ``"unreadable"``.
    """
    result = []
    for name, dataset in DATASETS.items():
        for file in dataset.files:
            path = cache_folder() / "datasets" / name / file.key
            try:
                if path.is_file():
                    whole = path.stat().st_size == file.bytes and file_sha256(path) == file.sha256
                    status = "ok" if whole else "damaged"
                else:
                    status = "partial" if Path(f"{path}.part").exists() else "missing"
            except OSError:
                status = "unreadable"
            result.append((name, file.key, status))
    return result


def read_text_lines(path: Path, member: str | None = None) -> list[str]:
    r"""Reads the lines of a UTF-8 text file: plain, gzip, or a member of a zip, read in place.

    Lines end at ``\n`` only. `str.splitlines` would also split at rare characters such as U+2028,
    and the two sides of a translation would no longer match.

    Args:
        path: the file; gzip is recognized by its first bytes.
        member: a name in the zip, with or without its folder.

    Returns:
        The lines without their ends; a byte-order mark is dropped.

    Raises:
        ValueError: the file is damaged, is no UTF-8 text, or has no such member.
    """
    try:
        if member is not None:
            with zipfile.ZipFile(path) as archive:
                names = [n for n in archive.namelist() if n == member or n.endswith("/" + member)]
                if len(names) != 1:
                    raise ValueError(
                        f"{path} was asked for {member!r}, of which it holds {len(names)}: its "
                        f"members are {', '.join(archive.namelist())}. Choose one of them."
                    )
                content = archive.read(names[0])
        else:
            content = path.read_bytes()
            if content.startswith(b"\x1f\x8b"):
                content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except (
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
        zipfile.BadZipFile,
        UnicodeDecodeError,
    ) as error:
        raise ValueError(
            f"{path} cannot be read as text: {error}. It is damaged or of another format; "
            "delete it and fetch it again."
        ) from error
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _dataset(name: str) -> Dataset:
    """Returns a registered data set, or says which there are."""
    if name not in DATASETS:
        close = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ValueError(f"there is no data set {name!r}. Use one of {', '.join(DATASETS)}.{hint}")
    return DATASETS[name]


def _is_whole(path: Path, file: DataFile) -> bool:
    """Checks the size each time, and the hash once for each (size, time of change)."""
    try:
        if not path.is_file() or path.stat().st_size != file.bytes:
            return False
        with suppress(OSError):
            if _marker(path).read_text(encoding="utf-8") == f"{_stamp(path)} {file.sha256}":
                return True
        if file_sha256(path) != file.sha256:
            return False
    except OSError:  # not ours to read: the download will say so
        return False
    _remember(path, file)
    return True


def _remember(path: Path, file: DataFile) -> None:
    """Notes that the file as it is now has the right hash, unless the cache is read-only."""
    with suppress(OSError), atomic_write(_marker(path), "w") as marker:
        marker.write(f"{_stamp(path)} {file.sha256}")


def _marker(path: Path) -> Path:
    """Returns the file that remembers a check of `path`."""
    return path.with_name(f".{path.name}.verified")


def _stamp(path: Path) -> str:
    """Returns what changes when a file is written to: size and time."""
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"
