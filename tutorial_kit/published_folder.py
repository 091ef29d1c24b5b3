"""Reads the files of a published checkpoint folder: config.json and model.safetensors.

What the entries mean is the families' business; here is what can go wrong with any such file, each
case said in one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def read_json_object(path: Path, remedy: str) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        path: the file.
        remedy: the end of the message if there is none: what the folder must hold, what to do.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: {remedy}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also if the bytes are not UTF-8
        content = str(error)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} is no JSON object ({str(content)[:80]}): it is truncated or another kind of "
            "file. Fetch or save it again."
        )
    return content


@contextmanager
def open_weights(path: Path) -> Iterator[Any]:
    """Opens a ``model.safetensors``; its tensors are read one by one, by name.

    Yields:
        What ``safetensors.safe_open`` opens, with ``keys``, ``get_tensor`` and ``get_slice``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or foreign.
    """
    if not path.is_file():
        raise FileNotFoundError(_missing_weights(path))
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(
            f"{path} cannot be read as safetensors ({path.stat().st_size:,} bytes; {error}): it is "
            "truncated or another kind of file. Fetch or save it again."
        ) from None


def _missing_weights(path: Path) -> str:
    """Says why the weights are not there: other formats of the same checkpoint are often beside."""
    for other, why in (
        ("model.safetensors.index.json", "is split into several files. Save it again in one"),
        ("pytorch_model.bin", "is a pickle, which could run code. Fetch the safetensors version"),
    ):
        if (path.parent / other).exists():
            return f"{path} does not exist, and the checkpoint beside it ({other}) {why}."
    return f"{path} does not exist: the folder has no weights. Fetch or save the checkpoint again."
