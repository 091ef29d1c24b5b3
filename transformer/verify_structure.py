"""Prove the structure of the Transformer: parameters, masks, cache, equality with torch's own.

``python transformer/verify_structure.py`` prints a PASS or FAIL line for each claim of the chapter;
``--trace`` prints the shape ledger, every tensor of one forward pass.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from transformer.positional_encoding import shift_matrix, sinusoidal_table
from transformer.transformer_components import (
    DecoderLayer,
    EncoderLayer,
    attend_fused,
    attend_written_out,
    causal_mask,
)
from transformer.transformer_config import TransformerConfig, parameter_count
from transformer.transformer_model import Transformer
from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import verify_parser
from tutorial_kit.verify import Check, Origin, largest, run_checks, shape_ledger

VOCAB, SOURCE_LEN, TARGET_LEN = 50, 9, 7
MEANINGS = {
    "source_embedding": "(B, S, D) what each source token is, and where",
    "encoder.attention": "(B, H, S, S) row s: how position s spreads its attention over the source",
    "encoder": "(B, S, D) residual stream after the layer",
    "memory": "(B, S, D) what the decoder reads",
    "target_embedding": "(B, T, D) what each target token is, and where",
    "decoder.attention": "(B, H, T, T) row t: attention over the target's positions 0 .. t",
    "cross.attention": "(B, H, T, S) row t: attention over the source",
    "decoder": "(B, T, D) residual stream after the layer",
    "hidden": "(B, T, D) what is projected onto the vocabulary",
    "logits": "(B, T, V) a score for every possible next token",
}
ORIGINS = {
    "source_embedding": Origin(Transformer, "5", "self._embed(self.source_embedding"),
    "encoder.attention": Origin(attend_written_out, "2", "scores.softmax"),
    "encoder": Origin(EncoderLayer, "", "return self.around_feed_forward"),
    "memory": Origin(Transformer, "", "x = self.encoder_norm(x)"),
    "target_embedding": Origin(Transformer, "5", "self._embed(self.target_embedding"),
    "decoder.attention": Origin(attend_written_out, "2", "scores.softmax"),
    "cross.attention": Origin(attend_written_out, "2", "scores.softmax"),
    "decoder": Origin(DecoderLayer, "", "return self.around_feed_forward"),
    "hidden": Origin(Transformer, "", "x = self.decoder_norm(x)"),
    "logits": Origin(Transformer, "", "return self.head("),
}
NAMES = {  # torch's name for each of ours inside a layer; the feed-forward's norm differs
    "attention.qkv.": "self_attn.in_proj_",
    "attention.output.": "self_attn.out_proj.",
    "around_attention.norm.": "norm1.",
    "cross_attention.qkv.": "multihead_attn.in_proj_",
    "cross_attention.output.": "multihead_attn.out_proj.",
    "around_cross_attention.norm.": "norm2.",
    "feed_forward.expand.": "linear1.",
    "feed_forward.contract.": "linear2.",
}


def small_model(
    norm: str = "post", dtype: torch.dtype = torch.float64, **changes: Any
) -> Transformer:
    """Returns a small random model whose weights are all far from zero, ready for inference."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": VOCAB, "max_len": 16, "d_model": 32, "n_heads": 4, "n_layers": 2,
        "n_decoder_layers": 3, "d_ff": 64, "norm": norm,
    }  # fmt: skip
    model = Transformer(TransformerConfig(**settings | changes)).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2)
    return model


def small_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Returns source ids (3, S), target ids (3, T) and a source mask (3, S) with padding."""
    torch.manual_seed(1)
    source, target = torch.randint(VOCAB, (3, SOURCE_LEN)), torch.randint(VOCAB, (3, TARGET_LEN))
    lengths = torch.tensor([[SOURCE_LEN], [4], [1]])
    return source, target, torch.arange(SOURCE_LEN) < lengths


def torch_name(name: str) -> str:
    """Returns what torch.nn.Transformer calls a parameter of ours, "" if it has none like it."""
    stack, _, rest = name.partition(".")
    if stack in ("encoder_norm", "decoder_norm"):
        return f"{stack.removesuffix('_norm')}.norm.{rest}"
    if stack not in ("encoder", "decoder"):
        return ""  # embeddings, positions and head
    layer, _, part = rest.partition(".")
    module, _, kind = part.rpartition(".")
    last = {"around_feed_forward.norm.": "norm2." if stack == "encoder" else "norm3."}
    return f"{stack}.layers.{layer}.{(NAMES | last)[module + '.']}{kind}"


def torch_transformer(model: Transformer) -> nn.Transformer:
    """Returns torch.nn.Transformer with the model's weights; torch leaves embeddings to its user.

    It stays in training mode, with dropout 0: torch's inference takes another path.
    """
    c = model.config
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "enable_nested_tensor")  # of no use in training mode
        reference = nn.Transformer(
            c.d_model, c.n_heads, c.n_layers, c.n_decoder_layers, c.d_ff, dropout=0.0,
            batch_first=True, norm_first=c.norm == "pre", dtype=model.source_embedding.weight.dtype,
        )  # fmt: skip
    if c.norm == "post":  # torch adds a final norm in both designs, the paper in none
        reference.encoder.norm = reference.decoder.norm = None
    weights = {torch_name(name): tensor for name, tensor in model.state_dict().items()}
    reference.load_state_dict({name: weights[name] for name in reference.state_dict()})
    return reference


def torch_logits(model: Transformer, source: Tensor, target: Tensor, source_mask: Tensor) -> Tensor:
    """Returns what torch.nn.Transformer computes from the model's weights, (B, T, V)."""
    reference, c = torch_transformer(model), model.config
    table = sinusoidal_table(c.max_len, c.d_model).float().to(model.source_embedding.weight.dtype)
    source_x = model.source_embedding(source) * math.sqrt(c.d_model) + table[: source.shape[1]]
    target_x = model.target_embedding(target) * math.sqrt(c.d_model) + table[: target.shape[1]]
    hidden = reference(
        source_x, target_x, tgt_mask=~causal_mask(target.shape[1]),
        src_key_padding_mask=~source_mask, memory_key_padding_mask=~source_mask,
    )  # fmt: skip
    return hidden @ model.head.weight.T


def check_parameter_count() -> float:
    """The model has as many parameters as the closed formula says, in all 12 designs."""
    designs = itertools.product(
        ("post", "pre"), ("sinusoidal", "learned", "none"), (True, False)
    )  # norm, positions, tied
    models = [small_model(norm, positions=where, tie_weights=tie) for norm, where, tie in designs]
    return max(
        abs(sum(p.numel() for p in model.parameters()) - parameter_count(model.config))
        for model in models
    )


def check_tied_weights() -> float:
    """Both embeddings and the output projection are one matrix, not copies."""
    model = small_model()
    tied = (model.source_embedding.weight, model.target_embedding.weight, model.head.weight)
    return float(len({weight.data_ptr() for weight in tied}) - 1)


def check_post_norm_equals_torch() -> float:
    """Post-norm: the logits are torch.nn.Transformer's with the same weights."""
    model, (source, target, mask) = small_model("post"), small_batch()
    return largest(model(source, target, mask) - torch_logits(model, source, target, mask))


def check_pre_norm_equals_torch() -> float:
    """Pre-norm: the logits are torch.nn.Transformer's with the same weights."""
    model, (source, target, mask) = small_model("pre"), small_batch()
    return largest(model(source, target, mask) - torch_logits(model, source, target, mask))


def check_attention_modes() -> float:
    """The written-out attention and the fused one agree, and the weights of each row sum to 1."""
    q = torch.randn(3, 4, TARGET_LEN, 8, dtype=torch.float64)
    k, v = torch.randn(2, 3, 4, SOURCE_LEN, 8, dtype=torch.float64)
    mask = small_batch()[2][:, None, None]  # (B, 1, 1, S)
    mixed, weights = attend_written_out(q, k, v, mask)
    return max(largest(mixed - attend_fused(q, k, v, mask)), largest(weights.sum(-1) - 1))


def check_causality() -> float:
    """Changing target tokens 4 and later changes no logit before position 4."""
    worst = 0.0
    for norm in ("post", "pre"):
        model, (source, target, mask) = small_model(norm), small_batch()
        changed = target.clone()
        changed[:, 4:] = (changed[:, 4:] + 1) % VOCAB
        difference = model(source, target, mask) - model(source, changed, mask)
        if largest(difference[:, 4:]) == 0:
            return math.inf  # the model does not look at its target at all
        worst = max(worst, largest(difference[:, :4]))
    return worst


def check_source_padding() -> float:
    """Six more padding tokens behind the source change no logit, whatever stands there."""
    model, (source, target, mask) = small_model(), small_batch()
    longer = torch.cat([source, torch.randint(VOCAB, (3, 6))], dim=1)
    longer_mask = torch.cat([mask, torch.zeros(3, 6, dtype=torch.bool)], dim=1)
    return largest(model(source, target, mask) - model(longer, target, longer_mask))


def check_cache() -> float:
    """Token by token through the cache the logits are those of the whole target at once."""
    worst = 0.0
    for norm in ("post", "pre"):
        model, (source, target, mask) = small_model(norm), small_batch()
        cache = model.start_cache(model.encode(source, mask), mask, TARGET_LEN)
        steps = torch.cat([model.step(tokens[:, None], cache) for tokens in target.T], dim=1)
        worst = max(worst, largest(steps - model(source, target, mask)))
    return worst


def check_shift() -> float:
    """PE(t + k) = R(k) PE(t): one matrix moves every position k further, for k = -20 .. 20."""
    table = sinusoidal_table(100, 32)
    return max(
        largest(table[20 + k : 80 + k] - table[20:80] @ shift_matrix(k, 32).T)
        for k in range(-20, 21)
    )


def check_nothing_to_see() -> float:
    """A source that is all padding makes no NaN."""
    model, (source, target, mask) = small_model(), small_batch()
    logits = model(source, target, torch.zeros_like(mask))
    return float((~logits.isfinite()).sum())


CHECKS: list[Check] = [
    (check_parameter_count, 0.0),
    (check_tied_weights, 0.0),
    (check_post_norm_equals_torch, 1e-12),
    (check_pre_norm_equals_torch, 1e-12),
    (check_attention_modes, 1e-12),
    (check_causality, 0.0),
    (check_source_padding, 1e-12),
    (check_cache, 1e-12),
    (check_shift, 1e-12),
    (check_nothing_to_see, 0.0),
]


@torch.no_grad()
def trace(norm: str) -> str:
    """Returns the shape ledger: every tensor of one forward pass of a small model."""
    model, (source, target, mask) = small_model(norm, torch.float32), small_batch()
    _, named = cast(
        "tuple[Tensor, dict[str, Tensor]]", model(source, target, mask, return_intermediates=True)
    )
    return shape_ledger(named, MEANINGS, ORIGINS)


def forward_once() -> str:
    """Runs one small forward pass; returns its logits' shape in words."""
    return f"logits {tuple(small_model()(*small_batch()).shape)}"


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = verify_parser("Prove the structure of the Transformer, claim by claim.")
    parser.add_argument("--norm", choices=["post", "pre"], default="post", help="for --trace")
    return parser


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per check; returns 1 if any failed, else 0."""
    args = build_parser().parse_args(argv)
    if args.trace:
        print(trace(args.norm))
        return 0
    return run_checks(CHECKS)


if __name__ == "__main__":
    run_entry(main)
