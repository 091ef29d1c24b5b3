"""A whole model in int8, to run and to store; PyTorch's own dynamic quantization beside it.

``gpt/int8_weights.py`` has the layer and its error bound. Here the embedding is rounded too, one
scale for each token's row, so that nothing large stays in float32; and a model is written in any
number format with safetensors and read back.
"""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from gpt.int8_weights import Int8Linear, quantize_rows
from gpt.packed_weights import pack_weights
from tutorial_kit.config import config_from_dict, config_to_dict

Format = Literal["float32", "bfloat16", "float16", "int8"]
FORMATS: tuple[Format, ...] = get_args(Format)
INTEGERS, SCALES = ".integers", ".scales"  # endings of the two tensors of a rounded matrix


class Int8Embedding(nn.Module):
    """``nn.Embedding`` with int8 rows: only the rows that are looked up are turned into floats."""

    def __init__(self, integers: Tensor, scales: Tensor) -> None:
        """Takes the rows: integers (V, D), int8, and scales (V,), from ``quantize_rows``."""
        super().__init__()
        self.integers, self.scales = integers, scales
        self.weight = scales  # a model asks its embedding's weight for device and type alone

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, D)."""
        return self.integers[tokens] * self.scales[tokens][..., None]


def quantize_model(model: GPT) -> GPT:
    """Returns the model for inference with int8 matrices: linear layers and token embedding.

    Norms and learned positions, less than a hundredth of the numbers, stay in float32.

    Args:
        model: stays as it is.
    """
    rounded = pack_weights(model, "int8")
    head = rounded.head
    if model.config.tie_weights and isinstance(head, Int8Linear):
        integers, scales = head.quantized, head.scales  # one matrix, stored once
    else:
        integers, scales = quantize_rows(model.token_embedding.weight.detach())
    rounded.token_embedding = Int8Embedding(integers, scales)  # type: ignore[assignment]
    return rounded


def dynamic_model(model: GPT) -> GPT:
    """Returns the model as PyTorch's dynamic quantization makes it: int8 in linear layers alone.

    Its default has one scale for a whole matrix, and the scale of the input is measured at each
    call ("dynamic").

    Raises:
        ValueError: this build of torch has no dynamic quantization.
    """
    try:
        with warnings.catch_warnings():  # torch announces that this will move to another package
            warnings.simplefilter("ignore")
            return torch.ao.quantization.quantize_dynamic(
                copy.deepcopy(model).eval(), {nn.Linear}, dtype=torch.qint8
            )
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        raise ValueError(
            f"torch {torch.__version__} has no dynamic quantization on this processor "
            f"({str(error).splitlines()[0]}). Use quantize_model, which needs no kernels."
        ) from None


def stored_tensors(model: GPT, number_format: Format) -> dict[str, Tensor]:
    """Returns what a file of this format holds: name -> tensor.

    In "int8" each matrix becomes two tensors, its integers and the scales of its rows; vectors stay
    as they are. A tied matrix is there once.
    """
    if number_format not in FORMATS:
        raise ValueError(
            f"number format {number_format!r} is unknown. Use one of: {', '.join(FORMATS)}."
        )
    weights = {name: w.detach() for name, w in model.named_parameters()}  # tied: once
    if number_format != "int8":
        dtype = getattr(torch, number_format)
        return {name: weight.to(dtype).contiguous() for name, weight in weights.items()}
    tensors = {}
    for name, weight in weights.items():
        if weight.ndim == 2:
            tensors[name + INTEGERS], tensors[name + SCALES] = quantize_rows(weight)
        else:
            tensors[name] = weight.contiguous()
    return tensors


def stored_bytes(model: GPT, number_format: Format) -> int:
    """Returns the bytes of the tensors of a file, without its header."""
    return sum(t.numel() * t.element_size() for t in stored_tensors(model, number_format).values())


def save_model(path: Path, model: GPT, number_format: Format) -> int:
    """Writes a model with safetensors; returns the size of the file in bytes.

    Args:
        path: the file; its folder is made if it is missing.
        model: a float32 GPT.
        number_format: of the numbers in the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    config = json.dumps(config_to_dict(model.config))
    tensors = stored_tensors(model, number_format)
    save_file(tensors, path, {"config": config, "number_format": number_format})
    return path.stat().st_size


def load_stored(path: Path) -> GPT:
    """Reads a file of ``save_model`` into a float32 model, in evaluation mode.

    The numbers are those of the file: rounded ones stay rounded. ``quantize_model`` of a model that
    was stored in int8 finds the same integers again.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or ``save_model`` has not written it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Write it with save_model first.")
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as safetensors ({error}): it is truncated or another kind of "
            "file. Write it again with save_model."
        ) from None
    if "config" not in facts:
        raise ValueError(
            f"{path} does not say which shape the model has: another program wrote it. Published "
            "weights are read by gpt/pretrained.py."
        )
    model = GPT(config_from_dict(GPTConfig, json.loads(facts["config"])))
    weights = {}
    for name, tensor in tensors.items():
        if name.endswith(INTEGERS):
            plain = name.removesuffix(INTEGERS)
            weights[plain] = tensor * tensors[plain + SCALES][:, None]
        elif not name.endswith(SCALES):
            weights[name] = tensor.float()
    if model.config.tie_weights:
        weights["head.weight"] = weights["token_embedding.weight"]
    model.load_state_dict(weights)
    return model.eval()
