"""The Hugging Face format of BERT, described: what its config and its tensors mean in our BERT.

Two things differ. Names: ``bert.encoder.layer.0.output.dense`` is
``bert.encoder.0.feed_forward.contract``. Layout: the format keeps queries, keys and values in three
matrices, we in one. Old files call a norm's gain and bias gamma and beta.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bert.bert_config import BertConfig

# What our BERT computes; a config that says otherwise would load and then give wrong numbers.
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "model_type": ("bert",),
    "hidden_act": ("gelu",),  # the exact one; "gelu_new" is the approximation by tanh
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
    "quantization_config": (None,),
}
SIZES_IN_FILE = {  # ours -> the format's
    "vocab_size": "vocab_size",
    "max_len": "max_position_embeddings",
    "d_model": "hidden_size",
    "n_heads": "num_attention_heads",
    "n_layers": "num_hidden_layers",
    "d_ff": "intermediate_size",
    "n_segments": "type_vocab_size",
}
OUTER_NAMES = {  # ours -> the format's
    "bert.embeddings.token": "bert.embeddings.word_embeddings",  # (V, D)
    "bert.embeddings.position": "bert.embeddings.position_embeddings",  # (max_len, D)
    "bert.embeddings.segment": "bert.embeddings.token_type_embeddings",  # (segments, D)
    "bert.embeddings.norm": "bert.embeddings.LayerNorm",  # (D,)
    "bert.pooler": "bert.pooler.dense",  # (D, D)
    "masked_head.transform": "cls.predictions.transform.dense",  # (D, D)
    "masked_head.norm": "cls.predictions.transform.LayerNorm",  # (D,)
    "masked_head.decoder": "cls.predictions",  # (V,): its bias; its matrix is the embedding
    "next_head": "cls.seq_relationship",  # (2, D)
}
LAYER_NAMES = {
    "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output": ("attention.output.dense",),  # (D, D)
    "around_attention.norm": ("attention.output.LayerNorm",),  # (D,)
    "feed_forward.expand": ("intermediate.dense",),  # (F, D)
    "feed_forward.contract": ("output.dense",),  # (D, F)
    "around_feed_forward.norm": ("output.LayerNorm",),  # (D,)
}
TIED = "masked_head.decoder.weight"  # the token embedding; it is not in the file a second time
PARTS_THAT_MAY_BE_MISSING = {  # how their tensors begin -> what they are
    "bert.pooler.": "the pooler",
    "cls.predictions.": "the masked-token head",
    "cls.seq_relationship.": "the next-sentence head",
}
OTHER_HEADS = ("classifier.", "qa_outputs.")  # of fine-tuned checkpoints
IGNORED = ("bert.embeddings.position_ids", "cls.predictions.decoder.weight")  # 0 .. max_len - 1


def config_from_file(values: Mapping[str, Any], path: Path) -> BertConfig:
    """Translates the contents of ``config.json``.

    Raises:
        ValueError: a size is missing, or the architecture is not the one we compute.
    """
    for name, possible in SUPPORTED.items():
        value = values.get(name, possible[0])  # the first files did not even name their model
        if value not in possible:
            raise ValueError(
                f"{path} says {name}={value!r}, but this BERT computes {possible[0]!r} only: the "
                "weights would load and give wrong vectors. Use a checkpoint of BERT's own design."
            )
    sizes: dict[str, Any] = {ours: values.get(theirs) for ours, theirs in SIZES_IN_FILE.items()}
    for ours, size in sizes.items():
        if not isinstance(size, int):
            raise ValueError(
                f"{path} says {SIZES_IN_FILE[ours]}={size!r}, which is no whole number: without it "
                "the shapes are unknown. Fetch or save the folder again."
            )
    return BertConfig(
        dropout=values.get("hidden_dropout_prob", 0.1),
        norm_eps=values.get("layer_norm_eps", 1e-12),
        initial_std=values.get("initializer_range", 0.02),
        **sizes,
    )


def config_to_file(config: BertConfig, pad_id: int) -> dict[str, Any]:
    """Returns what ``config.json`` holds for a model of ours.

    Raises:
        ValueError: the model is pre-norm, which has no place in the format.
    """
    if config.norm != "post":
        raise ValueError(
            f"a model with norm={config.norm!r} cannot be saved in BERT's format, which means "
            "'post' without saying so. Train with norm=post, or keep the checkpoint in this "
            "project's own format."
        )
    sizes = {theirs: getattr(config, ours) for ours, theirs in SIZES_IN_FILE.items()}
    return sizes | {
        "architectures": ["BertForPreTraining"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": 0.0,  # ours drops no attention weights
        "initializer_range": config.initial_std,
        "layer_norm_eps": config.norm_eps,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "pad_token_id": pad_id,
    }


def tensor_names(ours: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Returns, for each tensor of ours, its names in the file: three for qkv, else one.

    >>> tensor_names(["bert.encoder.1.attention.output.bias"])
    {'bert.encoder.1.attention.output.bias': \
('bert.encoder.layer.1.attention.output.dense.bias',)}
    """
    names = {}
    for name in ours:
        module, kind = name.rsplit(".", 1)  # "bert.encoder.0.attention.qkv", "weight"
        if module.startswith("bert.encoder."):
            _, _, layer, part = module.split(".", 3)
            theirs = LAYER_NAMES[part]
            names[name] = tuple(f"bert.encoder.layer.{layer}.{other}.{kind}" for other in theirs)
        elif name != TIED:
            names[name] = (f"{OUTER_NAMES[module]}.{kind}",)
    return names


def modern_name(name: str) -> str:
    """Returns the name that the format uses today for a tensor of any file.

    >>> modern_name("embeddings.LayerNorm.gamma"), modern_name("cls.predictions.decoder.bias")
    ('bert.embeddings.LayerNorm.weight', 'cls.predictions.bias')
    """
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            name = name.removesuffix(old) + new
    if name.startswith(("embeddings.", "encoder.", "pooler.")):  # saved without its heads
        name = f"bert.{name}"
    return "cls.predictions.bias" if name == "cls.predictions.decoder.bias" else name
