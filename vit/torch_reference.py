"""ViT's encoder put together from torch's own layers, to compare with (verify_vit_structure.py).

torch has the pre-norm layer and the convolution, but neither class token nor positions of images.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from vit.patch_embedding import ConvPatchEmbedding, PatchEmbedding
from vit.vit_model import ViT

NAMES = {  # torch's name for each of ours inside a layer
    "attention_norm.": "norm1.",
    "attention.qkv.": "self_attn.in_proj_",
    "attention.output.": "self_attn.out_proj.",
    "feed_forward_norm.": "norm2.",
    "feed_forward.expand.": "linear1.",
    "feed_forward.contract.": "linear2.",
}


def convolution_of(stem: PatchEmbedding, channels: int) -> ConvPatchEmbedding:
    """Returns the convolution that computes what a patch embedding does."""
    weight, p = stem.linear.weight, stem.patch_size
    made = ConvPatchEmbedding(channels, p, len(weight)).to(weight)
    with torch.no_grad():
        made.conv.weight.copy_(weight.unflatten(1, (channels, p, p)))  # (D, C P P) -> (D, C, P, P)
        made.conv.bias.copy_(stem.linear.bias)  # type: ignore[union-attr]
    return made


def torch_hidden(model: ViT, embedding: Tensor) -> Tensor:
    """Returns what nn.TransformerEncoder makes of embedded tokens with our weights.

    It stays in training mode, with dropout 0: torch's inference takes another path.

    Args:
        model: without rotary positions, in float64.
        embedding: (B, T, D), what ``model.embed`` returned.

    Returns:
        (B, T, D), behind the last norm.
    """
    c = model.config
    layer = nn.TransformerEncoderLayer(
        c.d_model, c.n_heads, c.d_ff, dropout=0.0, activation="gelu", batch_first=True,
        layer_norm_eps=c.norm_eps, norm_first=True, dtype=torch.float64,
    )  # fmt: skip
    final = nn.LayerNorm(c.d_model, c.norm_eps, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "enable_nested_tensor")  # of no use in training mode
        reference = nn.TransformerEncoder(layer, c.n_layers, final)
    weights = {}
    for name, tensor in model.state_dict().items():
        stack, _, rest = name.partition(".")
        if stack == "encoder":
            number, _, part = rest.partition(".")
            ours = next(start for start in NAMES if part.startswith(start))
            weights[f"layers.{number}.{NAMES[ours]}{part.removeprefix(ours)}"] = tensor
        elif stack == "norm":
            weights[f"norm.{rest}"] = tensor
    reference.load_state_dict(weights)
    hidden: Tensor = reference(embedding)
    return hidden
