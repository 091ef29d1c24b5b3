"""Checkpoints: tensors and plain types in one file that is either whole or not there.

Written to a temporary file, flushed, renamed; read with ``weights_only=True``, so that a file from
a stranger cannot run code. A checkpoint holds everything a run needs to go on bit for bit: config,
weights, optimizer, step, random states, position in the data, history.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutorial_kit.files import atomic_write

FORMAT = "llm-tutorial checkpoint"
VERSION = 1


def save_checkpoint(
    path: Path, *, family: str, config: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Writes a checkpoint; a reader never sees half of one.

    Args:
        path: where; the folder is made if it is missing.
        family: the package that can read it, such as "gpt".
        config: plain types, from ``config_to_dict``.
        state: tensors and plain types: "model", and for training whatever the trainer needs.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "family": family,
        "config": dict(config),
        "state": dict(state),
    }
    with atomic_write(path, "wb") as file:
        torch.save(content, file)


def load_checkpoint(path: Path, *, family: str) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU.

    Args:
        path: the file, or a run's folder, whose ``checkpoints/last.pt`` is then meant.
        family: the package that wants it.

    Returns:
        {"config": dict, "state": dict}.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, not a checkpoint, refused as unsafe, of another family,
            or written by a newer version.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "checkpoints" / "last.pt"
    if not path.is_file():
        raise FileNotFoundError(
            f"checkpoint {path} does not exist. Train first, or name another file or run folder."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} is not read: it holds Python objects, and loading those could run code that "
            "somebody put there. A checkpoint of this project holds only tensors and plain types."
        ) from None
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({path.stat().st_size:,} bytes; {reason}): it "
            "is truncated or another kind of file. Use best.pt or last.pt of a run that ended well."
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{path} holds tensors, but it is not a checkpoint of this project: its format mark is "
            "missing. Weights in the Hugging Face format are loaded by the family's pretrained "
            "module."
        )
    if content["version"] > VERSION:
        raise ValueError(
            f"{path} was written by a newer version of this project (checkpoint format "
            f"{content['version']}, this version reads up to {VERSION}). Update the project."
        )
    if content["family"] != family:
        raise ValueError(
            f"{path} is a checkpoint of {content['family']}, not of {family}. "
            f"Name a checkpoint that {family} has written."
        )
    return {"config": content["config"], "state": content["state"]}


def random_states() -> dict[str, Any]:
    """Returns the state of every global random generator as tensors and plain types."""
    _, words_array, position, has_gauss, gauss = np.random.get_state(legacy=True)
    numpy_words = np.asarray(words_array)
    version, words, gauss_next = random.getstate()
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [numpy_words.tolist(), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(words), gauss_next],
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Puts every global random generator back to ``random_states()``."""
    torch.set_rng_state(states["torch"])
    words, position, has_gauss, gauss = states["numpy"]
    np.random.set_state(("MT19937", np.array(words, dtype=np.uint32), position, has_gauss, gauss))
    version, python_words, gauss_next = states["python"]
    random.setstate((version, tuple(python_words), gauss_next))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
