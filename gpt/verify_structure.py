"""Prove the structure of GPT: parameter count, shapes, masks, and equality with torch's own layers.

``python gpt/verify_structure.py`` prints a PASS or FAIL line for each claim of the chapter;
``--trace`` prints the shape ledger, every tensor of one forward pass.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.gpt_components import (
    LAYER_NORM_EPS,
    Block,
    attend_fused,
    attend_written_out,
    rotary_table,
)
from gpt.gpt_config import RECIPES, GPTConfig, parameter_count
from gpt.gpt_model import GPT, next_token_loss
from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import verify_parser
from tutorial_kit.verify import Check, Origin, largest, run_checks, shape_ledger

MEANINGS = {
    "tokens": "(B, T) token ids",
    "embedding": "(B, T, D) what each token is, and where (learned positions)",
    "attention": "(B, H, T, T) row t: how position t spreads its attention over 0 .. t",
    "block": "(B, T, D) residual stream after the block",
    "final_norm": "(B, T, D) normalized stream",
    "logits": "(B, T, V) a score for every possible next token",
}

ORIGINS = {
    "tokens": Origin(GPT.intermediates),
    "embedding": Origin(GPT, "", "self.position_embedding.weight[positions]"),
    "attention": Origin(attend_written_out, "2", "scores.softmax"),
    "block": Origin(Block, "3", "self.feed_forward(self.feed_forward_norm(x))"),
    "final_norm": Origin(GPT, "", "self.final_norm(x))"),
    "logits": Origin(GPT, "", "return self.head("),
}


def small_model(recipe: str, dtype: torch.dtype = torch.float64) -> GPT:
    """Returns a small random model of a recipe whose weights are all far from zero."""
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=50, max_len=16, d_model=32, n_heads=4, n_layers=2, d_ff=64, **RECIPES[recipe],
        n_kv_heads=2 if recipe == "modern" else 4,
    )  # fmt: skip
    model = GPT(config).to(dtype).eval()
    if config.positions == "rotary":
        model.turns = rotary_table(config.max_len, config.d_head).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2)
    return model


def check_parameter_count() -> float:
    """The model has as many parameters as the closed formula says."""
    models = [small_model(recipe) for recipe in RECIPES]
    return max(
        abs(sum(p.numel() for p in model.parameters()) - parameter_count(model.config))
        for model in models
    )


def check_initial_loss() -> float:
    """A modern model starts with the loss of a uniform guess, ln V (its head starts at zero)."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50, **RECIPES["modern"]))
    tokens = torch.randint(50, (4, 33))
    loss = next_token_loss(model(tokens[:, :-1]), tokens[:, 1:]).item()
    return abs(loss - math.log(50))


def check_causality() -> float:
    """Changing tokens 8 and later changes no logit before position 8."""
    worst = 0.0
    for recipe in RECIPES:
        model, tokens = small_model(recipe), torch.randint(50, (3, 16))
        changed = tokens.clone()
        changed[:, 8:] = (changed[:, 8:] + 1) % 50
        difference = model(tokens) - model(changed)
        if largest(difference[:, 8:]) == 0:
            return math.inf  # the model does not look at its input at all
        worst = max(worst, largest(difference[:, :8]))
    return worst


def check_attention_modes() -> float:
    """The written-out attention and the fused one agree, and the weights of each row sum to 1."""
    q, k, v = torch.randn(3, 2, 4, 7, 8, dtype=torch.float64)
    mask = torch.ones(7, 7, dtype=torch.bool).tril()
    mixed, weights = attend_written_out(q, k, v, mask)
    fused = attend_fused(q, k, v, mask, causal=True)
    return max(largest(mixed - fused), largest(weights.sum(-1) - 1))


def check_cache() -> float:
    """Feeding tokens in pieces through the cache gives the logits of feeding them at once."""
    worst = 0.0
    for recipe in RECIPES:
        model, tokens = small_model(recipe), torch.randint(50, (3, 16))
        cache = model.new_cache(3)
        pieces = [model(part, cache) for part in tokens.split([5, 1, 1, 9], dim=1)]
        worst = max(worst, largest(torch.cat(pieces, dim=1) - model(tokens)))
    return worst


def check_torch_layer() -> float:
    """A block of the gpt2 recipe equals nn.TransformerEncoderLayer with the same weights."""
    block, config = small_model("gpt2").blocks[0], small_model("gpt2").config
    reference = nn.TransformerEncoderLayer(
        config.d_model, config.n_heads, config.d_ff, dropout=0.0, norm_first=True, batch_first=True,
        activation=lambda x: F.gelu(x, approximate="tanh"), layer_norm_eps=LAYER_NORM_EPS,
        dtype=torch.float64,
    )  # fmt: skip
    names = {
        "self_attn.in_proj_": "attention.qkv.",
        "self_attn.out_proj.": "attention.output.",
        "linear1.": "feed_forward.expand.",
        "linear2.": "feed_forward.contract.",
        "norm1.": "attention_norm.",
        "norm2.": "feed_forward_norm.",
    }
    weights = block.state_dict()
    reference.load_state_dict(
        {theirs + kind: weights[ours + kind] for theirs, ours in names.items() for kind in
        ("weight", "bias")}
    )  # fmt: skip
    x, causal = (
        torch.randn(2, 9, config.d_model, dtype=torch.float64),
        torch.ones(9, 9).tril().bool(),
    )
    expected = reference(x, src_mask=~causal)  # torch's masks mean the opposite: True is forbidden
    return largest(block(x, causal)[0] - expected)


def check_tied_weights() -> float:
    """In the gpt2 recipe the output projection is the embedding itself, not a copy."""
    model = small_model("gpt2")
    return float(model.head.weight.data_ptr() != model.token_embedding.weight.data_ptr())


def check_rotary_shift() -> float:
    """With rotary positions the attention weights do not change when all positions shift."""
    model, tokens = small_model("modern"), torch.randint(50, (1, 6))
    plain = model.intermediates(tokens)["attention.0"]
    model.turns = model.turns.roll(-5, dims=0)  # position t now has the angle of position t + 5
    return largest(model.intermediates(tokens)["attention.0"] - plain)


CHECKS: list[Check] = [
    (check_parameter_count, 0.0),
    (check_tied_weights, 0.0),
    (check_initial_loss, 1e-6),
    (check_causality, 0.0),
    (check_attention_modes, 1e-12),
    (check_cache, 1e-12),
    (check_rotary_shift, 1e-12),
    (check_torch_layer, 1e-12),
]


def trace(recipe: str) -> str:
    """Returns the shape ledger: every tensor of one forward pass of a small model."""
    model = small_model(recipe, torch.float32)
    named: dict[str, Tensor] = model.intermediates(torch.randint(50, (2, 16)))
    return shape_ledger(named, MEANINGS, ORIGINS)


def forward_once() -> str:
    """Runs one small forward pass; returns its logits' shape in words."""
    return f"logits {tuple(small_model('modern')(torch.randint(50, (2, 16))).shape)}"


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = verify_parser("Prove the structure of GPT, claim by claim.")
    parser.add_argument("--recipe", choices=list(RECIPES), default="gpt2", help="for --trace")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per check; returns 1 if any failed, else 0."""
    args = build_parser().parse_args(argv)
    if args.trace:
        print(trace(args.recipe))
        return 0
    return run_checks(CHECKS)


if __name__ == "__main__":
    run_entry(main)
