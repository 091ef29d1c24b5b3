"""Picture files of any size as tensors of one size: the middle square, made smaller or larger.

Pillow, which matplotlib brings, decodes PNG and JPEG. What a header announces is checked before the
pixels are unpacked: a file of a few kilobytes can announce gigabytes of them.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vit.prediction import unit_range

SUFFIXES = (".png", ".jpg", ".jpeg")
SMALLEST, LARGEST = 2, 4096  # pixels of a side

_GRAY = ("1", "L", "LA", "I", "I;16", "I;16B")  # Pillow's modes without color
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # Pillow's errors


def read_image(path: Path | str, channels: int, size: int) -> Tensor:
    """Reads a picture as a model wants it.

    Of a picture that is not square the middle is used. Color becomes gray where the model reads
    gray; transparency becomes white; a photo is turned upright.

    Args:
        path: a PNG or JPEG file.
        channels: C, 1 for gray or 3 for color.
        size: height and width of the result, in pixels.

    Returns:
        (C, size, size), float from 0 to 1, not normalized.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no picture, a truncated one, one of 1 or more than 4,096 pixels a side, or gray
            where color is expected.
    """
    return unit_range(to_tensor(open_picture(Path(path), channels), size))


def open_picture(path: Path, channels: int) -> Image.Image:
    """Decodes a picture: upright, gray ("L") or color ("RGB"), in its own size.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `read_image`.
    """
    if channels not in (1, 3):
        raise ValueError(
            f"a picture cannot be read with {channels} channels: files hold gray (1) or color (3). "
            "Use a model for one of them."
        )
    with _opened(path) as picture:
        if channels == 3 and picture.mode in _GRAY:
            raise ValueError(
                f"{path} is gray and the model reads color: it would see a kind of picture that "
                "it never learned from. Use a picture in color, or a model for gray ones."
            )
        try:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
        except _DAMAGED as error:
            raise ValueError(
                f"{path} is damaged: {error}. It may be cut off; save or copy it again."
            ) from error
    return _in_mode(upright, "L" if channels == 1 else "RGB")


def channels_of(path: Path) -> int:
    """Returns 1 for a gray picture, 3 for one in color, from its header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, or too small or large.
    """
    with _opened(path) as picture:
        return 1 if picture.mode in _GRAY else 3


def to_tensor(picture: Image.Image, size: int) -> Tensor:
    """Cuts the middle square out of a picture and brings it to a size.

    Returns:
        (C, size, size) uint8.
    """
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    scaled = square.resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(scaled))  # (S, S) or (S, S, C)
    return pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def _opened(path: Path) -> Image.Image:
    """Reads the header alone, and refuses what should not be decoded."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file: there is no picture to read. Check the path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
            picture = Image.open(path, formats=("PNG", "JPEG"))
    except Image.DecompressionBombError:
        raise ValueError(_bad_size(path, "hundreds of millions of pixels")) from None
    except _DAMAGED as error:
        raise ValueError(
            f"{path} is no picture that can be read: it begins like neither PNG nor JPEG. Save it "
            "as one of them."
        ) from error
    if min(picture.size) < SMALLEST or max(picture.size) > LARGEST:
        picture.close()
        raise ValueError(_bad_size(path, f"{picture.width:,} x {picture.height:,} pixels"))
    return picture


def _bad_size(path: Path, seen: str) -> str:
    return (
        f"{path} has {seen}: a side must have {SMALLEST} to {LARGEST:,}, or there is nothing to "
        "see or no memory for it. Use another picture, or scale it."
    )


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    """Converts to gray or color; 16 bits become 8, and what is transparent becomes white."""
    if picture.mode.startswith("I"):  # Pillow would clip them at 255
        levels = np.asarray(picture).astype(np.float64) / 257
        return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        colored = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, colored)
    return picture.convert(mode)
