r"""The idx format of MNIST (LeCun, Cortes and Burges 1998): a short header, then the numbers.

A file begins with two zero bytes, a byte for the type (8: whole numbers 0 to 255) and a byte for
the number of dimensions; the size of each follows in four bytes, the highest first; then the bytes
of the array, the last dimension fastest. The four files of a set are called
``{train,t10k}-{images-idx3,labels-idx1}-ubyte``, with or without ``.gz``.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_TYPE = 0x08  # unsigned bytes; no set of pictures uses the others
_NAMES = {
    "train.images": "train-images",
    "train.labels": "train-labels",
    "test.images": "t10k-images",
    "test.labels": "t10k-labels",
}


def holds_idx_files(folder: Path) -> bool:
    """Tells whether a folder has any of the four files."""
    return any(_candidates(folder, start) for start in _NAMES.values())


def find_idx_files(folder: Path) -> dict[str, Path]:
    """Returns "train.images", "train.labels", "test.images", "test.labels" -> path.

    Raises:
        FileNotFoundError: one of the four is not there.
    """
    found = {}
    for key, start in _NAMES.items():
        candidates = _candidates(folder, start)
        if not candidates:
            kind = "idx3" if key.endswith("images") else "idx1"
            raise FileNotFoundError(
                f"{folder} has no {start}-{kind}-ubyte or {start}-{kind}-ubyte.gz: a set in the "
                "format of MNIST is four files. Put the missing one there."
            )
        found[key] = candidates[0]
    return found


def read_idx(path: Path, n_dimensions: int) -> Tensor:
    """Reads one file, packed by gzip or not.

    Args:
        path: the file.
        n_dimensions: 3 for pictures (N, H, W), 1 for labels (N,).

    Returns:
        The array, uint8.

    Raises:
        ValueError: a damaged gzip file, another magic number, no numbers, more or fewer bytes
            than announced.
    """
    content = _unpacked(path)
    magic, expected = content[:4].hex(), bytes([0, 0, _TYPE, n_dimensions]).hex()
    if magic != expected:
        raise ValueError(
            f"{path} begins with the bytes {magic or 'of an empty file'}, an idx file of "
            f"{n_dimensions} dimension(s) with {expected}: it is another file or damaged. Name the "
            "right one, or fetch it again."
        )
    start = 4 + 4 * n_dimensions
    if len(content) < start:
        raise ValueError(
            f"{path} ends within its header, after {len(content)} bytes. Fetch it again."
        )
    shape = struct.unpack(f">{n_dimensions}I", content[4:start])
    if 0 in shape:
        raise ValueError(
            f"{path} announces {' x '.join(map(str, shape))} numbers: it is empty. Use another "
            "file."
        )
    if len(content) - start != math.prod(shape):
        raise ValueError(
            f"{path} announces {' x '.join(map(str, shape))} = {math.prod(shape):,} numbers and "
            f"holds {len(content) - start:,}: it was cut off or changed. Fetch it again."
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def read_labeled_images(images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    """Reads pictures and their labels.

    Returns:
        (N, 1, H, W) uint8 and (N,) long.

    Raises:
        ValueError: a file is damaged, or there are not as many labels as pictures.
    """
    pixels, classes = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(classes):
        raise ValueError(
            f"{images} holds {len(pixels):,} pictures and {labels.name} {len(classes):,} labels: "
            "they do not belong together. Use two files of one set."
        )
    return pixels.unsqueeze(1), classes.long()


def _candidates(folder: Path, start: str) -> list[Path]:
    """Returns the files with such a name; some copies have a dot for the second hyphen."""
    return sorted(folder.glob(f"{start}[-.]idx[13]-ubyte*"))


def _unpacked(path: Path) -> bytes:
    """Returns the bytes of a file, unpacked if they are packed."""
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} cannot be unpacked: {error}. It was cut off or changed; fetch it again."
        ) from error
