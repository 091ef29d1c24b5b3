"""ViT's published weights: a Hugging Face folder, read and written without transformers.

The folder holds ``config.json`` (sizes, class names), ``model.safetensors`` (weights) and, if it is
known, ``preprocessor_config.json`` (how images are normalized). `transformers` reads what
``save_pretrained`` writes, with equal logits. What the entries mean stands in published_format.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from tutorial_kit.files import atomic_write
from tutorial_kit.published_folder import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    open_weights,
    read_json_object,
)
from tutorial_kit.training import write_json
from vit.published_format import (
    HEAD,
    UNUSED,
    class_names,
    config_from_file,
    config_to_file,
    full_name,
    processor_to_file,
    shape_in_file,
    tensor_names,
)
from vit.vit_model import ViT

PROCESSOR_FILE = "preprocessor_config.json"
NEEDED = (
    "a checkpoint folder holds config.json and model.safetensors. Name the folder that holds both."
)


def load_pretrained(
    folder: Path | str, say: Callable[[str], None] = print
) -> tuple[ViT, tuple[str, ...]]:
    """Reads a ViT checkpoint folder.

    Args:
        folder: a downloaded or saved checkpoint of ViT's architecture, of any size.
        say: is given a line about a head that the folder lacks, and about parts that ours lacks.

    Returns:
        The model on the CPU, in evaluation mode, and the names of its classes. Half precision
        becomes float32. A head that the folder lacks begins at zero.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: a file is damaged, the architecture is another one, or sizes disagree.
    """
    path = Path(folder) / CONFIG_FILE
    values = read_json_object(path, NEEDED)
    model = ViT(config_from_file(values, path))
    load_weights(model, Path(folder) / WEIGHTS_FILE, say)
    return model.eval(), class_names(values, path)


def save_pretrained(
    folder: Path | str,
    model: ViT,
    classes: Sequence[str],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Path:
    """Writes a folder that `transformers` loads as ``ViTForImageClassification``.

    Args:
        folder: made if it is missing.
        model: of the paper's design; its weights are written as they are, in their precision.
        classes: the names, in the order of the logits.
        mean: of each channel in the training data, of pixels between 0 and 1; None leaves out how
            images are normalized.
        std: likewise.

    Returns:
        ``folder``.

    Raises:
        ValueError: the design has no place in the format, or the names are another model's.
        OSError: the disk is full or the folder cannot be written.
    """
    folder, config = Path(folder), model.config
    content = config_to_file(config, classes)
    state, tensors = model.state_dict(), {}
    for ours, theirs in tensor_names(state).items():
        tensor = state[ours].detach().cpu()  # qkv: (3 D, D), cut into three of (D, D)
        shape = shape_in_file(ours, tensor.shape, config)
        for name, part in zip(theirs, tensor.chunk(len(theirs)), strict=True):
            tensors[name] = part.reshape(shape).contiguous()
    with atomic_write(folder / WEIGHTS_FILE, "wb") as file:
        file.write(save(tensors, metadata={"format": "pt"}))
    write_json(folder / CONFIG_FILE, content)
    if mean is not None and std is not None:
        write_json(folder / PROCESSOR_FILE, processor_to_file(config, mean, std))
    return folder


@torch.no_grad()
def load_weights(model: ViT, path: Path, say: Callable[[str], None] = print) -> None:
    """Copies the weights of a ``model.safetensors`` into the model.

    A file in float64 makes the model float64; any other precision becomes float32.

    Args:
        model: of the shape that the folder's config.json describes.
        path: the file.
        say: as in ``load_pretrained``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or foreign, or a tensor is missing, unknown or misshapen.
    """
    with open_weights(path) as file:
        stored = {full_name(name): name for name in file.keys()}  # noqa: SIM118
        names = tensor_names(model.state_dict())
        wanted_names = {name for parts in names.values() for name in parts}
        has_head = check_names(wanted_names, stored, path, say)
        if file.get_slice(stored[names["norm.weight"][0]]).get_dtype() == "F64":
            model.double()
        state = model.state_dict()
        for ours, theirs in names.items():
            if theirs[0].startswith(HEAD) and not has_head:
                continue
            parts = [file.get_tensor(stored[name]) for name in theirs]
            wanted = shape_in_file(ours, state[ours].shape, model.config)
            for name, part in zip(theirs, parts, strict=True):
                if part.shape != wanted:
                    raise ValueError(
                        f"{path}: {name} has the shape {tuple(part.shape)} where config.json makes "
                        f"it {wanted}. Use files that belong together."
                    )
            state[ours].copy_(torch.cat(parts).reshape(state[ours].shape))


def check_names(
    wanted: set[str], stored: dict[str, str], path: Path, say: Callable[[str], None]
) -> bool:
    """Returns whether the file has a head; says if not, and what the file has in addition.

    Raises:
        ValueError: the file lacks something else, or has a tensor whose effect would be lost.
    """
    has_head = any(name.startswith(HEAD) for name in stored)
    unused = sorted(name for name in stored if name.startswith(UNUSED))
    needed = {name for name in wanted if has_head or not name.startswith(HEAD)}
    for what, names in (
        ("lacks the tensor", needed - set(stored)),
        ("has an unknown tensor", set(stored) - wanted - set(unused)),
    ):
        if names:
            raise ValueError(
                f"{path} {what} {min(names)!r} ({len(names)} such): it is not the model that "
                "config.json describes. Use files that belong together."
            )
    if not has_head:
        say(f"{path.parent} has no head: it begins at zero, so train it before you ask it.")
    if unused:
        say(f"{path.parent} has parts that a classifier does not use ({unused[0]}): left out.")
    return has_head
