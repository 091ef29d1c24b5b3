"""BERT's encoder put together from torch's own layers, to compare with (verify_structure.py).

torch has the layer, in both orders of norms, but neither BERT's embeddings nor its pooler.
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert.bert_model import BertModel

NAMES = {  # torch's name for each of ours inside a layer
    "attention.qkv.": "self_attn.in_proj_",
    "attention.output.": "self_attn.out_proj.",
    "around_attention.norm.": "norm1.",
    "feed_forward.expand.": "linear1.",
    "feed_forward.contract.": "linear2.",
    "around_feed_forward.norm.": "norm2.",
}


def torch_hidden(model: BertModel, tokens: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
    """Returns what nn.TransformerEncoder makes of the same embeddings and weights, (B, T, D).

    It stays in training mode, with dropout 0: torch's inference takes another path.
    """
    c = model.config
    layer = nn.TransformerEncoderLayer(
        c.d_model, c.n_heads, c.d_ff, dropout=0.0, activation="gelu", batch_first=True,
        layer_norm_eps=c.norm_eps, norm_first=c.norm == "pre", dtype=torch.float64,
    )  # fmt: skip
    final = None if c.norm == "post" else nn.LayerNorm(c.d_model, c.norm_eps, dtype=torch.float64)
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
        elif stack == "final_norm":
            weights[f"norm.{rest}"] = tensor
    reference.load_state_dict(weights)
    e = model.embeddings
    total = e.token(tokens) + e.position(torch.arange(tokens.shape[1])) + e.segment(segments)
    x = F.layer_norm(total, (c.d_model,), e.norm.weight, e.norm.bias, c.norm_eps)
    hidden: Tensor = reference(x, src_key_padding_mask=~mask)  # torch's True means "forbidden"
    return hidden
