"""GPT-2's published weights: a Hugging Face folder, read and written without transformers.

The folder holds ``config.json`` (sizes), ``model.safetensors`` (weights), ``vocab.json`` and
``merges.txt`` (tokenizer). `transformers` reads what `save_gpt2_folder` writes, with equal logits.
What the entries mean stands in `gpt.gpt2_format`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from gpt.gpt2_format import BUFFERS, config_from_gpt2, config_to_gpt2, tensor_names
from gpt.gpt_model import GPT
from tutorial_kit.byte_bpe import END_OF_TEXT, ByteBPE
from tutorial_kit.files import atomic_write
from tutorial_kit.published_folder import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    open_weights,
    read_json_object,
)
from tutorial_kit.tokenizers import Tokenizer
from tutorial_kit.training import write_json

FOLDER_HOLDS = (
    "a checkpoint folder holds config.json, model.safetensors, vocab.json and merges.txt. Name the "
    "folder that holds all four."
)


def load_gpt2_folder(folder: Path | str) -> tuple[GPT, ByteBPE]:
    """Reads a GPT-2 checkpoint folder.

    Args:
        folder: a downloaded or saved checkpoint of GPT-2's architecture, of any size.

    Returns:
        The model on the CPU, in evaluation mode, and its tokenizer. Half precision becomes float32.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: a file is damaged, the architecture is another one, or sizes disagree.
    """
    folder = Path(folder)
    config = config_from_gpt2(
        read_json_object(folder / CONFIG_FILE, FOLDER_HOLDS), folder / CONFIG_FILE
    )
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size:,} tokens, the model's vocab_size "
            f"is {config.vocab_size:,}: some ids would have no embedding. Use files that belong "
            "together."
        )
    model = GPT(config)
    load_weights(model, folder / WEIGHTS_FILE)
    return model.eval(), tokenizer


def save_gpt2_folder(model: GPT, tokenizer: Tokenizer, folder: Path | str) -> Path:
    """Writes a folder that `transformers` loads as ``GPT2LMHeadModel`` and ``GPT2Tokenizer``.

    Args:
        model: of the "gpt2" recipe; its weights are written as they are, in their precision.
        tokenizer: a ``ByteBPE``, the only kind the format knows.
        folder: made if it is missing.

    Returns:
        ``folder``.

    Raises:
        ValueError: the recipe or the tokenizer does not fit into the format.
        OSError: the disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    if not isinstance(tokenizer, ByteBPE):
        raise ValueError(
            f"a {type(tokenizer).__name__} cannot be saved in GPT-2's format: vocab.json and "
            "merges.txt describe byte-level BPE only. Train the model with a ByteBPE tokenizer."
        )
    config = config_to_gpt2(model.config, tokenizer)
    state, tensors = model.state_dict(), {}
    for ours, (theirs, transposed) in tensor_names(model).items():
        tensor = state[ours].detach().cpu()
        prefix = "" if theirs == "lm_head.weight" else "transformer."
        tensors[prefix + theirs] = (tensor.T if transposed else tensor).contiguous()
    with atomic_write(folder / WEIGHTS_FILE, "wb") as file:
        file.write(save(tensors, metadata={"format": "pt"}))
    write_json(folder / CONFIG_FILE, config)
    tokenizer.save(folder)
    write_json(folder / "tokenizer_config.json", _tokenizer_config(model, tokenizer))
    return folder


@torch.no_grad()
def load_weights(model: GPT, path: Path) -> None:
    """Copies the weights of a ``model.safetensors`` into the model.

    A file in float64 makes the model float64; any other precision becomes float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or foreign, or a tensor is missing, unknown or misshapen.
    """
    with open_weights(path) as file:
        # Published files name "wte.weight", later ones "transformer.wte.weight".
        stored = {name.removeprefix("transformer."): name for name in file.keys()}  # noqa: SIM118
        names = tensor_names(model)
        _check_names({theirs for theirs, _ in names.values()}, set(stored), path)
        if file.get_slice(stored["wte.weight"]).get_dtype() == "F64":
            model.double()
        state = model.state_dict()
        for ours, (theirs, transposed) in names.items():
            tensor = file.get_tensor(stored[theirs])
            tensor = tensor.T if transposed else tensor
            if tensor.shape != state[ours].shape:
                raise ValueError(
                    f"{path}: {theirs} has the shape {tuple(tensor.shape)} where config.json "
                    f"makes it {tuple(state[ours].shape)}. Use files that belong together."
                )
            state[ours].copy_(tensor)


def _check_names(wanted: set[str], stored: set[str], path: Path) -> None:
    """Refuses a file that lacks a tensor, or has one whose effect would be lost."""
    ignored = {name for name in stored if name.endswith(BUFFERS)} | {"lm_head.weight"}
    for what, names in (
        ("lacks the tensor", wanted - stored),
        ("has an unknown tensor", stored - wanted - ignored),
    ):
        if names:
            raise ValueError(
                f"{path} {what} {min(names)!r} ({len(names)} such): it is not the model that "
                "config.json describes. Use files that belong together."
            )


def load_tokenizer(folder: Path) -> ByteBPE:
    """Reads ``vocab.json`` and ``merges.txt``, or the ``tokenizer.json`` of newer folders.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: a file is damaged, or describes another kind of tokenizer.
    """
    path = folder / "tokenizer.json"
    if (folder / "vocab.json").exists() or not path.exists():
        return ByteBPE.load(folder)
    content = read_json_object(path, FOLDER_HOLDS)
    try:
        before = content["pre_tokenizer"]
        if content["model"]["type"] != "BPE" or before["type"] != "ByteLevel":
            raise KeyError(content["model"]["type"])
        if before["add_prefix_space"] or not before.get("use_regex", True):
            raise KeyError("add_prefix_space or use_regex")
        added = {token["content"]: token["id"] for token in content["added_tokens"]}
        vocab, merges = content["model"]["vocab"] | added, content["model"]["merges"]
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not describe GPT-2's byte-level BPE ({error} is missing or different): "
            "the ids would not be those the model was trained with. Use a GPT-2 checkpoint."
        ) from None
    return ByteBPE(vocab, merges, list(added))


def _tokenizer_config(model: GPT, tokenizer: ByteBPE) -> dict[str, Any]:
    """What `transformers` cannot see in vocab.json: which tokens are special."""
    end = END_OF_TEXT if END_OF_TEXT in tokenizer.special_tokens else None
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": model.config.max_len,
        "bos_token": end,
        "eos_token": end,
        "unk_token": end,
        "additional_special_tokens": [t for t in tokenizer.special_tokens if t != end],
    }
