"""The Hugging Face format of GPT-2, described: what its config and its tensors mean in our GPT.

Two things differ. Names: ``h.0.attn.c_attn`` is ``blocks.0.attention.qkv``. Layout: GPT-2 keeps the
matrices of its blocks as (inputs, outputs), ``nn.Linear`` as (outputs, inputs), so they are
transposed. Only the recipe "gpt2" fits: the format has no place for another norm or activation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt.gpt_components import LAYER_NORM_EPS
from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT
from tutorial_kit.byte_bpe import END_OF_TEXT, ByteBPE

# What our GPT computes; a config that says otherwise would load and then give wrong numbers.
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),  # two names of one formula
    "layer_norm_epsilon": (LAYER_NORM_EPS,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "quantization_config": (None,),
}
# Ours -> GPT-2's. Shapes are ours; matrices marked T are stored transposed.
OUTER_NAMES = {
    "token_embedding": "wte",  # (V, D)
    "position_embedding": "wpe",  # (max_len, D)
    "final_norm": "ln_f",  # (D,)
    "head": "lm_head",  # (V, D); not in the file when tied to wte
}
BLOCK_NAMES = {
    "attention_norm": "ln_1",  # (D,)
    "attention.qkv": "attn.c_attn",  # T (3D, D)
    "attention.output": "attn.c_proj",  # T (D, D)
    "feed_forward_norm": "ln_2",  # (D,)
    "feed_forward.expand": "mlp.c_fc",  # T (F, D)
    "feed_forward.contract": "mlp.c_proj",  # T (D, F)
}
BUFFERS = (".attn.bias", ".attn.masked_bias")  # the causal mask, in older files; ours is computed


def config_from_gpt2(values: Mapping[str, Any], path: Path) -> GPTConfig:
    """Translates the contents of ``config.json``.

    Raises:
        ValueError: a size is missing, or the architecture is not the one we compute.
    """
    for name, possible in SUPPORTED.items():
        value = values.get(name, None if name == "model_type" else possible[0])
        if value not in possible:
            raise ValueError(
                f"{path} says {name}={value!r}, but this GPT computes {possible[0]!r} only: the "
                "weights would load and give wrong text. Use a checkpoint of GPT-2's own design."
            )
    for name in ("vocab_size", "n_positions", "n_embd", "n_head", "n_layer"):
        if not isinstance(values.get(name), int):
            raise ValueError(
                f"{path} says {name}={values.get(name)!r}, which is no whole number: without it "
                "the shapes are unknown. Fetch or save the folder again."
            )
    return GPTConfig(
        vocab_size=values["vocab_size"],
        max_len=values["n_positions"],
        d_model=values["n_embd"],
        n_heads=values["n_head"],
        n_kv_heads=values["n_head"],
        n_layers=values["n_layer"],
        d_ff=values.get("n_inner") or 4 * values["n_embd"],
        dropout=values.get("resid_pdrop", 0.1),
        **(RECIPES["gpt2"] | {"tie_weights": values.get("tie_word_embeddings", True)}),
    )


def config_to_gpt2(config: GPTConfig, tokenizer: ByteBPE) -> dict[str, Any]:
    """Returns what ``config.json`` holds for a model of ours.

    Raises:
        ValueError: a part of the recipe has no place in the format.
    """
    needed = RECIPES["gpt2"] | {"n_kv_heads": config.n_heads}
    for name in ("norm", "positions", "activation", "qk_norm", "bias", "n_kv_heads"):
        if getattr(config, name) != needed[name]:
            raise ValueError(
                f"a model with {name}={getattr(config, name)!r} cannot be saved in GPT-2's format, "
                f"which means {needed[name]!r} without saying so. Train with the gpt2 recipe, or "
                "keep the checkpoint in this project's own format."
            )
    end = tokenizer.special_tokens.get(END_OF_TEXT)
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.max_len,
        "n_embd": config.d_model,
        "n_head": config.n_heads,
        "n_layer": config.n_layers,
        "n_inner": config.d_ff,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": LAYER_NORM_EPS,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "attn_pdrop": 0.0,  # ours drops no attention weights
        "tie_word_embeddings": config.tie_weights,
        "bos_token_id": end,
        "eos_token_id": end,
    }


def tensor_names(model: GPT) -> dict[str, tuple[str, bool]]:
    """Returns, for each tensor of ours, its name in the file and whether it is transposed there.

    A tied output projection is the token embedding and does not occur a second time.
    """
    names = {}
    for ours in model.state_dict():
        module, kind = ours.rsplit(".", 1)  # "blocks.0.attention.qkv", "weight"
        if module.startswith("blocks."):
            _, layer, part = module.split(".", 2)
            matrix = kind == "weight" and not part.endswith("norm")
            names[ours] = (f"h.{layer}.{BLOCK_NAMES[part]}.{kind}", matrix)
        elif module != "head" or not model.config.tie_weights:
            names[ours] = (f"{OUTER_NAMES[module]}.{kind}", False)
    return names
