"""The user's own pictures: a folder that holds one folder of PNG and JPEG files for each class.

Which split a picture belongs to follows from a hash of its pixels, not from its name or the order
of the files: to rename or copy files changes nothing. Copies of one picture would let the model
learn a test picture by heart, so each is kept once. Pictures that are nearly equal, such as frames
of one film, are not recognized: leave out all but one.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch
from torch import Tensor

from tutorial_kit.console import progress
from vit.image_files import LARGEST, SMALLEST, SUFFIXES, channels_of, open_picture, to_tensor

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.15  # of each class; one picture at least
LEAST = 3  # different pictures of a class: one for each split
MAX_BYTES = 4 * 2**30  # pictures of more memory are refused

Labeled = tuple[Tensor, Tensor]
"""(N, C, S, S) uint8 and (N,) long."""


def read_class_folders(
    folder: Path, image_size: int, seed: int
) -> tuple[tuple[str, ...], dict[str, Labeled]]:
    """Reads all pictures and splits each class: 20 % test, 15 % validation, the rest training.

    If any picture has colors, all must; see ``image_files`` for what is done to a picture.

    Args:
        folder: its folders' names are the classes, in alphabetical order.
        image_size: height and width S of the result, pixels; 0 takes the shorter side of the first
            picture.
        seed: of the choice of the validation pictures.

    Returns:
        The classes, and "train", "validation", "test" -> pictures and labels.

    Raises:
        ValueError: fewer than two classes, a class with fewer than three different pictures, the
            same picture in two classes, a file that cannot be read, or too many pixels in all.
    """
    files = _files_by_class(folder)
    paths = [path for group in files.values() for path in group]
    channels = max(channels_of(path) for path in paths)
    size = image_size or min(open_picture(paths[0], channels).size)
    _check_size(folder, len(paths), channels, size)

    parts: dict[str, list[tuple[Tensor, int]]] = {"train": [], "validation": [], "test": []}
    owner: dict[str, Path] = {}  # hash of the pixels -> the first file with them
    with progress(len(paths), f"reading {folder}", "picture") as bar:
        for label, (name, group) in enumerate(files.items()):
            pictures: dict[str, Tensor] = {}
            for path in group:
                picture = open_picture(path, channels)
                key = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
                first = owner.setdefault(key, path)
                if first.parent != path.parent:
                    raise ValueError(
                        f"{first} and {path} are the same picture in two classes: no model can "
                        "name it rightly twice. Remove one of them."
                    )
                pictures.setdefault(key, to_tensor(picture, size))
                bar.update()
            _check_count(folder / name, len(pictures))
            for key, split in _assigned(list(pictures), seed).items():
                parts[split].append((pictures[key], label))
    if len(owner) < len(paths):
        print(f"{folder}: {len(paths) - len(owner):,} copies were left out.", file=sys.stderr)
    return tuple(files), {split: _stacked(rows) for split, rows in parts.items()}


def _files_by_class(folder: Path) -> dict[str, list[Path]]:
    """Returns class -> its picture files, both in alphabetical order."""
    folders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        raise ValueError(
            f"{folder} holds {len(folders)} folder(s): a class is a folder of pictures, and there "
            "must be two or more to tell apart. Sort the pictures into folders."
        )
    files = {}
    for one in folders:
        found = sorted(
            p for p in one.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
        )
        if not found:
            raise ValueError(
                f"{one} holds no {', '.join(SUFFIXES)} file: its class would be empty. Put "
                "pictures into it or remove the folder."
            )
        files[one.name] = found
    return files


def _assigned(keys: list[str], seed: int) -> dict[str, str]:
    """Returns hash -> split: the lowest hashes are the test, whatever the seed."""
    ordered = sorted(keys)
    n_test = max(1, round(TEST_SHARE * len(keys)))
    n_validation = max(1, round(VALIDATION_SHARE * len(keys)))
    rest = sorted(
        ordered[n_test:], key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest()
    )
    return {
        **dict.fromkeys(ordered[:n_test], "test"),
        **dict.fromkeys(rest[:n_validation], "validation"),
        **dict.fromkeys(rest[n_validation:], "train"),
    }


def _stacked(rows: list[tuple[Tensor, int]]) -> Labeled:
    return torch.stack([row[0] for row in rows]), torch.tensor([row[1] for row in rows])


def _check_count(folder: Path, count: int) -> None:
    if count < LEAST:
        raise ValueError(
            f"{folder} holds {count} different picture(s): {LEAST} are the least, one each for "
            "training, validation and test. Add some, or remove the folder."
        )


def _check_size(folder: Path, count: int, channels: int, size: int) -> None:
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"--image-size {size} is not possible. Use {SMALLEST} to {LARGEST}.")
    needed = count * channels * size * size
    if needed > MAX_BYTES:
        raise ValueError(
            f"{count:,} pictures of {folder} at {size} x {size} pixels take {needed / 1e9:.1f} GB "
            f"of memory: more than {MAX_BYTES / 1e9:.1f} GB. Use a smaller --image-size."
        )
