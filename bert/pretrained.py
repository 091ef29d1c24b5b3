"""BERT's published weights: a Hugging Face folder, read and written without transformers.

The folder holds ``config.json`` (sizes), ``model.safetensors`` (weights) and ``vocab.txt`` (pieces
of words). `transformers` reads what ``save_pretrained`` writes, with equal vectors. What the
entries mean stands in published_format.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from bert.bert_heads import BertForPreTraining
from bert.bert_model import BertModel
from bert.published_format import (
    IGNORED,
    OTHER_HEADS,
    PARTS_THAT_MAY_BE_MISSING,
    config_from_file,
    config_to_file,
    modern_name,
    tensor_names,
)
from bert.wordpiece import WordPiece
from tutorial_kit.files import atomic_write
from tutorial_kit.published_folder import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    open_weights,
    read_json_object,
)
from tutorial_kit.training import write_json

NEEDED = (
    "a checkpoint folder holds config.json, model.safetensors and vocab.txt. Name the folder that "
    "holds all three."
)


def load_pretrained(
    folder: Path | str, say: Callable[[str], None] = print
) -> tuple[BertForPreTraining, WordPiece]:
    """Reads a BERT checkpoint folder.

    Args:
        folder: a downloaded or saved checkpoint of BERT's architecture, of any size.
        say: is given a line about heads that the folder lacks or has beyond ours.

    Returns:
        The model on the CPU, in evaluation mode, and its tokenizer. Half precision becomes float32.
        A part that the folder lacks is drawn freshly.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: a file is damaged, the architecture is another one, or sizes disagree.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    config = config_from_file(read_json_object(path, NEEDED), path)
    wordpiece = WordPiece.load(folder)
    if wordpiece.vocab_size != config.vocab_size:
        raise ValueError(
            f"{folder}: vocab.txt has {wordpiece.vocab_size:,} tokens, config.json says "
            f"vocab_size={config.vocab_size:,}: ids would get the vectors of other tokens. Use "
            "files that belong together."
        )
    model = BertForPreTraining(BertModel(config))
    load_weights(model, folder / WEIGHTS_FILE, say)
    return model.eval(), wordpiece


def save_pretrained(folder: Path | str, model: BertForPreTraining, wordpiece: WordPiece) -> Path:
    """Writes a folder that `transformers` loads as ``BertForPreTraining`` and ``BertTokenizer``.

    Args:
        folder: made if it is missing.
        model: post-norm; its weights are written as they are, in their precision.
        wordpiece: the model's tokenizer.

    Returns:
        ``folder``.

    Raises:
        ValueError: the model is pre-norm, or the vocabulary is another model's.
        OSError: the disk is full or the folder cannot be written.
    """
    folder, config = Path(folder), model.bert.config
    content = config_to_file(config, wordpiece.special_tokens["[PAD]"])
    if wordpiece.vocab_size != config.vocab_size:
        raise ValueError(
            f"a vocabulary of {wordpiece.vocab_size:,} tokens does not belong to a model with "
            f"vocab_size={config.vocab_size:,}: the folder could not be opened again. Save each "
            "model with its own tokenizer."
        )
    state, tensors = model.state_dict(), {}
    for ours, theirs in tensor_names(state).items():
        tensor = state[ours].detach().cpu()  # qkv: (3 D, D), cut into three of (D, D)
        for name, part in zip(theirs, tensor.chunk(len(theirs)), strict=True):
            tensors[name] = part.contiguous()
    with atomic_write(folder / WEIGHTS_FILE, "wb") as file:
        file.write(save(tensors, metadata={"format": "pt"}))
    write_json(folder / CONFIG_FILE, content)
    wordpiece.save(folder)
    path = folder / "tokenizer_config.json"
    write_json(path, read_json_object(path, NEEDED) | {"model_max_length": config.max_len})
    return folder


@torch.no_grad()
def load_weights(model: BertForPreTraining, path: Path, say: Callable[[str], None] = print) -> None:
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
        stored = {modern_name(name): name for name in file.keys()}  # noqa: SIM118
        names = tensor_names(model.state_dict())
        fresh = _check_names(
            {name for parts in names.values() for name in parts}, stored, path, say
        )
        words = stored["bert.embeddings.word_embeddings.weight"]
        if file.get_slice(words).get_dtype() == "F64":
            model.double()
        state = model.state_dict()
        for ours, theirs in names.items():
            if theirs[0].startswith(fresh):
                continue
            tensor = torch.cat([file.get_tensor(stored[name]) for name in theirs])
            _check_shape(tensor, state[ours], theirs[0], path)
            state[ours].copy_(tensor)


def _check_names(
    wanted: set[str], stored: dict[str, str], path: Path, say: Callable[[str], None]
) -> tuple[str, ...]:
    """Returns how the names of the parts begin that the file lacks, and says which they are.

    Raises:
        ValueError: the file lacks something else, or has a tensor whose effect would be lost.
    """
    fresh = tuple(
        start
        for start in PARTS_THAT_MAY_BE_MISSING
        if not any(name.startswith(start) and name not in IGNORED for name in stored)
    )
    extra = sorted(name for name in stored if name.startswith(OTHER_HEADS))
    for what, names in (
        ("lacks the tensor", {name for name in wanted - set(stored) if not name.startswith(fresh)}),
        ("has an unknown tensor", set(stored) - wanted - set(IGNORED) - set(extra)),
    ):
        if names:
            raise ValueError(
                f"{path} {what} {min(names)!r} ({len(names)} such): it is not the model that "
                "config.json describes. Use files that belong together."
            )
    if fresh:
        parts = ", ".join(PARTS_THAT_MAY_BE_MISSING[start] for start in fresh)
        say(f"{path.parent} has no weights of {parts}: drawn freshly.")
    if extra:
        say(f"{path.parent} has a head that pre-training does not know ({extra[0]}): left out.")
    return fresh


def _check_shape(tensor: Tensor, ours: Tensor, name: str, path: Path) -> None:
    """Refuses a tensor of another shape."""
    if tensor.shape != ours.shape:
        raise ValueError(
            f"{path}: {name} has the shape {tuple(tensor.shape)} where config.json makes it "
            f"{tuple(ours.shape)}. Use files that belong together."
        )
