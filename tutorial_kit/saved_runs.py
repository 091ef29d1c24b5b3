"""From what a user names, a run, to its checkpoint's weights and the place of its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from tutorial_kit.training import run_folder


def find_run(family: str, path: Path | str) -> Path:
    """Returns the place that a user means: a path, or a run's name under outputs/<family>/."""
    path = Path(path)
    if not path.exists() and len(path.parts) == 1:
        return run_folder(family, path.name)
    return path


def figures_of(family: str, path: Path | str) -> Path:
    """Returns the folder for the pictures of a run: ``figures`` beside ``checkpoints``.

    Args:
        family: the package, such as "gpt".
        path: a checkpoint file, a run's folder, or a run's name.
    """
    place = find_run(family, path)
    folder = place.parent if place.is_file() or place.suffix == ".pt" else place
    return (folder.parent if folder.name == "checkpoints" else folder) / "figures"


def load_weights(model: nn.Module, weights: Mapping[str, Any], path: Path) -> None:
    """Puts a checkpoint's weights into the model that its own settings describe.

    Raises:
        ValueError: they do not fit, so somebody changed the file; the text names ``path``.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{path} holds weights that do not fit its own settings "
            f"({str(error).splitlines()[-1].strip()}): the file was changed. Train again."
        ) from None


def missing_checkpoint(purpose: str, trainer: str) -> ValueError:
    """Returns the error of a script that needs ``--checkpoint`` and got none.

    >>> raise missing_checkpoint("to write with", "gpt/train_gpt.py")
    Traceback (most recent call last):
    ValueError: --checkpoint is missing: there is no model to write with. Train one with python \
gpt/train_gpt.py, then name its run.
    """
    return ValueError(
        f"--checkpoint is missing: there is no model {purpose}. "
        f"Train one with python {trainer}, then name its run."
    )
