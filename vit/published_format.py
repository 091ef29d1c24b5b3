"""The Hugging Face format of ViT, described: what its config and its tensors mean in our ViT.

Two things differ. Names: ``vit.encoder.layer.0.output.dense`` is
``encoder.0.feed_forward.contract``. Shapes: the format keeps queries, keys and values in three
matrices, we in one; its patch embedding is a convolution's kernel, ours the same numbers as a
matrix; its class token and positions have axes of length 1 in front.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vit.vit_config import ViTConfig

# What our ViT computes; a config that says otherwise would load and then give wrong numbers.
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "model_type": ("vit",),
    "hidden_act": ("gelu",),  # the exact one; "gelu_new" is the approximation by tanh
    "qkv_bias": (True,),
    "quantization_config": (None,),
}
SIZES_IN_FILE = {  # ours -> the format's
    "image_size": "image_size",
    "patch_size": "patch_size",
    "channels": "num_channels",
    "d_model": "hidden_size",
    "n_heads": "num_attention_heads",
    "n_layers": "num_hidden_layers",
    "d_ff": "intermediate_size",
}
DESIGN = {"positions": "learned", "pooling": "cls", "stem": "patches"}  # what the format means
OUTER_NAMES = {  # ours -> the format's
    "stem.linear.weight": "vit.embeddings.patch_embeddings.projection.weight",  # (D, C, P, P)
    "stem.linear.bias": "vit.embeddings.patch_embeddings.projection.bias",  # (D,)
    "class_token": "vit.embeddings.cls_token",  # (1, 1, D)
    "positions.weight": "vit.embeddings.position_embeddings",  # (1, T, D)
    "norm.weight": "vit.layernorm.weight",  # (D,)
    "norm.bias": "vit.layernorm.bias",  # (D,)
    "head.weight": "classifier.weight",  # (classes, D)
    "head.bias": "classifier.bias",  # (classes,)
}
LAYER_NAMES = {
    "attention_norm": ("layernorm_before",),  # (D,)
    "attention.qkv": tuple(f"attention.attention.{part}" for part in ("query", "key", "value")),
    "attention.output": ("attention.output.dense",),  # (D, D)
    "feed_forward_norm": ("layernorm_after",),  # (D,)
    "feed_forward.expand": ("intermediate.dense",),  # (F, D)
    "feed_forward.contract": ("output.dense",),  # (D, F)
}
HEAD = "classifier."
UNUSED = ("vit.pooler.", "vit.embeddings.mask_token", "decoder.")  # a classifier has no use for
INSIDE = ("embeddings.", "encoder.", "layernorm.", "pooler.")  # names of a file without its head


def config_from_file(values: Mapping[str, Any], path: Path) -> ViTConfig:
    """Translates the contents of ``config.json``.

    Raises:
        ValueError: a size is missing, or the architecture is not the one we compute.
    """
    for name, possible in SUPPORTED.items():
        value = values.get(name, possible[0])
        if value not in possible:
            raise ValueError(
                f"{path} says {name}={value!r}, but this ViT computes {possible[0]!r} only: the "
                "weights would load and give wrong scores. Use a checkpoint of ViT's own design."
            )
    sizes: dict[str, Any] = {ours: values.get(theirs) for ours, theirs in SIZES_IN_FILE.items()}
    for ours, size in sizes.items():
        if not isinstance(size, int):
            raise ValueError(
                f"{path} says {SIZES_IN_FILE[ours]}={size!r}, which is no whole number: without it "
                "the shapes are unknown. Fetch or save the folder again."
            )
    return ViTConfig(
        n_classes=len(class_names(values, path)),
        dropout=values.get("hidden_dropout_prob", 0.0),
        norm_eps=values.get("layer_norm_eps", 1e-12),
        **sizes,
    )


def class_names(values: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Returns the classes in the order of the logits; "LABEL_0", .. if the config names none.

    Raises:
        ValueError: the classes are not counted from 0 without a gap.

    >>> class_names({"id2label": {"1": "dog", "0": "cat"}}, Path("config.json"))
    ('cat', 'dog')
    """
    names = values.get("id2label")
    if names is None:
        return tuple(f"LABEL_{i}" for i in range(values.get("num_labels", 2)))  # the format's own
    wanted = [str(i) for i in range(len(names))] if isinstance(names, dict) else []
    if not wanted or set(names) != set(wanted):
        raise ValueError(
            f"{path} says id2label={str(names)[:60]}: that is not one name for each class from 0 "
            "on. Fetch or save the folder again."
        )
    return tuple(str(names[i]) for i in wanted)


def config_to_file(config: ViTConfig, classes: Sequence[str]) -> dict[str, Any]:
    """Returns what ``config.json`` holds for a model of ours.

    Raises:
        ValueError: the model has a design without a place in the format, or another number of
            classes.
    """
    for name, value in DESIGN.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"a model with {name}={getattr(config, name)!r} cannot be saved in ViT's format, "
                f"which means {value!r} without saying so. Train with {name}={value}, or keep the "
                "checkpoint in this project's own format."
            )
    if len(classes) != config.n_classes:
        raise ValueError(
            f"{len(classes)} class names do not belong to a model with {config.n_classes} classes. "
            "Save each model with the names of its own data."
        )
    sizes = {theirs: getattr(config, ours) for ours, theirs in SIZES_IN_FILE.items()}
    return sizes | {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": 0.0,  # ours drops no attention weights
        "layer_norm_eps": config.norm_eps,
        "qkv_bias": True,
        "id2label": {str(i): name for i, name in enumerate(classes)},
        "label2id": {name: i for i, name in enumerate(classes)},
    }


def processor_to_file(
    config: ViTConfig, mean: Sequence[float], std: Sequence[float]
) -> dict[str, Any]:
    """Returns what ``preprocessor_config.json`` holds: how an image becomes the model's numbers.

    Args:
        config: of the model.
        mean: of each channel, of pixels between 0 and 1.
        std: likewise.
    """
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": config.image_size, "width": config.image_size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }


def tensor_names(ours: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Returns, for each tensor of ours, its names in the file: three for qkv, else one.

    >>> tensor_names(["encoder.1.attention.output.bias"])
    {'encoder.1.attention.output.bias': ('vit.encoder.layer.1.attention.output.dense.bias',)}
    """
    names: dict[str, tuple[str, ...]] = {}
    for name in ours:
        if name in OUTER_NAMES:
            names[name] = (OUTER_NAMES[name],)
            continue
        _, layer, rest = name.split(".", 2)  # "encoder", "0", "attention.qkv.weight"
        part, kind = rest.rsplit(".", 1)
        names[name] = tuple(f"vit.encoder.layer.{layer}.{at}.{kind}" for at in LAYER_NAMES[part])
    return names


def full_name(name: str) -> str:
    """Returns a tensor's name as it is in a file with a head.

    >>> full_name("embeddings.cls_token")
    'vit.embeddings.cls_token'
    """
    return f"vit.{name}" if name.startswith(INSIDE) else name


def shape_in_file(ours: str, shape: Sequence[int], config: ViTConfig) -> tuple[int, ...]:
    """Returns the shape that the file gives a tensor of ours (a third of qkv's, for each part)."""
    if ours == "stem.linear.weight":
        return (config.d_model, config.channels, config.patch_size, config.patch_size)
    if ours in ("class_token", "positions.weight"):
        return (1,) * (3 - len(shape)) + tuple(shape)
    if ".qkv." in ours:
        return (shape[0] // 3, *shape[1:])
    return tuple(shape)
