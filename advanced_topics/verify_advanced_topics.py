"""Prove what the chapter says of its parts: equal to gpt, equal to their second form, causal.

``python advanced_topics/verify_advanced_topics.py`` prints a PASS or FAIL line for each claim;
``--trace`` prints the shape ledger, every tensor of one forward pass.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advanced_topics.advanced_config import DecoderConfig
from advanced_topics.grouped_attention import cache_numbers_per_token, measured_cache_bytes
from advanced_topics.linear_attention import (
    delta_parallel,
    delta_recurrent,
    linear_parallel,
    linear_recurrent,
    positive_features,
)
from advanced_topics.mixture_of_experts import MixtureOfExperts
from advanced_topics.online_softmax import plain_attention, tiled_attention
from advanced_topics.positions import alibi_bias, rescaled_rotary_table
from advanced_topics.small_decoder import DecoderBlock, MixingLayer, SmallDecoder
from gpt.gpt_components import rotary_table, rotate
from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import verify_parser
from tutorial_kit.verify import Check, Origin, largest, run_checks, shape_ledger

SMALL = DecoderConfig(vocab_size=31, max_len=24, d_model=32, n_layers=2, d_ff=48)
MEANINGS = {
    "tokens": "(B, T) token ids",
    "token_embedding": "(B, T, D) a vector for each token",
    "qkv": "(B, T, D + 2 G K) queries, keys and values, side by side",
    "attention": "(B, T, D) what the tokens before have to say",
    "router": "(N, E) scores of the experts, N = B T",
    "expert": "(n, D) the busiest expert, for the n tokens that are sent to it",
    "feed_forward": "(B, T, D) of the chosen experts, added",
    "block": "(B, T, D) residual stream after the layer",
    "final_norm": "(B, T, D) the stream, normalized",
    "logits": "(B, T, V) a score for each next token",
}

ORIGINS = {
    "tokens": Origin(SmallDecoder.forward),
    "token_embedding": Origin(SmallDecoder.forward, "", "self.token_embedding(tokens)"),
    "qkv": Origin(MixingLayer, "", "qkv = self.qkv(x)"),
    "attention": Origin(MixingLayer, "", "return self.output("),
    "router": Origin(MixtureOfExperts, "4", "self.router(tokens)"),
    "expert": Origin(MixtureOfExperts, "4", "mixed = expert("),
    "feed_forward": Origin(MixtureOfExperts, "4", "return output.view_as(x)"),
    "block": Origin(DecoderBlock, "", "self.feed_forward(self.feed_forward_norm(x))"),
    "final_norm": Origin(SmallDecoder.forward, "", "self.final_norm(x))"),
    "logits": Origin(SmallDecoder.forward, "", "return self.head("),
}


def small_model(dtype: torch.dtype = torch.float64, **changes: Any) -> SmallDecoder:
    """Returns a small random model whose weights are all far from zero."""
    torch.manual_seed(0)
    model = SmallDecoder(replace(SMALL, **changes)).to(dtype).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def small_batch() -> Tensor:
    """Returns tokens, (3, 20)."""
    return torch.randint(SMALL.vocab_size, (3, 20), generator=torch.Generator().manual_seed(1))


def heads(count: int) -> list[Tensor]:
    """Returns tensors of (2, 3, 20, 8) in float64."""
    generator = torch.Generator().manual_seed(2)
    shape = (2, 3, 20, 8)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(count)]


def designs() -> Iterator[SmallDecoder]:
    """Yields a small model of every kind of part."""
    for positions in ("learned", "sine", "rotary", "alibi", "none"):
        yield small_model(positions=positions)
    for mixer in ("linear", "delta"):
        yield small_model(mixer=mixer, conv=3, positions="none")
    yield small_model(n_kv_heads=2)
    yield small_model(n_experts=4, top_k=2)


@torch.no_grad()
def check_equals_gpt() -> float:
    """Configured as gpt's model, it gives gpt's logits with gpt's weights, whatever the heads."""
    worst = 0.0
    for positions in ("learned", "rotary"):
        for groups in (1, 2, 4):
            model = small_model(positions=positions, n_kv_heads=groups)
            gpt = GPT(
                GPTConfig(
                    vocab_size=31, max_len=24, d_model=32, n_heads=4, n_kv_heads=groups,
                    n_layers=2, d_ff=48, positions=positions,
                )
            ).double()  # fmt: skip
            gpt.load_state_dict(model.state_dict())
            if positions == "rotary":
                gpt.turns = rotary_table(SMALL.max_len, SMALL.d_head)  # its own is of float32
            worst = max(worst, largest(model(small_batch()) - gpt(small_batch())))
    return worst


@torch.no_grad()
def check_causal() -> float:
    """No design lets a future token change a past logit."""
    worst = 0.0
    for model in designs():
        changed = small_batch()
        changed[:, 12:] = (changed[:, 12:] + 1) % SMALL.vocab_size
        worst = max(worst, largest((model(small_batch()) - model(changed))[:, :12]))
    return worst


@torch.no_grad()
def check_linear_forms() -> float:
    """Linear attention as matrix products is the loop over its state."""
    q, k, v = heads(3)
    q, k = positive_features(q), positive_features(k)
    return largest(linear_parallel(q, k, v) - linear_recurrent(q, k, v))


@torch.no_grad()
def check_delta_forms() -> float:
    """The delta rule as one triangular system is the loop over its state."""
    q, k, v = heads(3)
    beta = heads(1)[0][..., 0].sigmoid()
    k = F.normalize(k, dim=-1)
    return largest(delta_parallel(q, k, v, beta) - delta_recurrent(q, k, v, beta))


def check_tiles() -> float:
    """Attention in tiles: outputs and gradients of the plain one, also where tiles do not fit."""
    q, k, v, slope = heads(4)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    plain = plain_attention(q, k, v)
    expected = torch.autograd.grad((plain * slope).sum(), leaves)
    worst = 0.0
    for tile in (1, 7, 20, 64):
        tiled = tiled_attention(q, k, v, tile)
        found = torch.autograd.grad((tiled * slope).sum(), leaves)
        pairs = [(plain, tiled), *zip(expected, found, strict=True)]
        worst = max(worst, *(largest((a - b).detach()) for a, b in pairs))
    return worst


def check_rotary_rescaled() -> float:
    """Interpolated positions turn by no new angle: position s t turns as t did in training."""
    known = rescaled_rotary_table(10, 8, 10)
    return largest(rescaled_rotary_table(40, 8, 10, "interpolate")[::4] - known)


def check_ntk() -> float:
    """NTK-aware positions: the fastest pair turns as in training, the slowest slower by s."""
    known, long = rescaled_rotary_table(40, 8, 40), rescaled_rotary_table(40, 8, 10, "ntk")
    fast = largest(long[:, 0] - known[:, 0])
    return max(fast, largest(long[::4, -1] - known[:10, -1]))


def check_alibi() -> float:
    """ALiBi: moved to later positions, all scores change by the same, so no weight changes."""
    bias = alibi_bias(20, 4)
    return largest(bias[:, 5:, 5:].softmax(-1) - bias[:, :15, :15].softmax(-1))


def check_rotary_is_relative() -> float:
    """Rotary positions: a score depends on the distance of two tokens alone."""
    turns = rescaled_rotary_table(20, 8, 20)
    q, k = (x[:, :, :1].expand(-1, -1, 20, -1) for x in heads(2))
    scores = rotate(q, turns) @ rotate(k, turns).mT  # (B, H, T, T)
    return largest(scores[..., 5:, 5:] - scores[..., :15, :15])


def check_cache() -> float:
    """The cache of keys and values has the bytes of the formula."""
    return float(
        max(abs(measured_cache_bytes(2, g, 8, 100) - 400 * cache_numbers_per_token(2, g, 8))
            for g in (1, 2, 4))
    )  # fmt: skip


@torch.no_grad()
def check_experts() -> float:
    """A mixture is the sum over its experts by the router's weights, of which top_k are not 0."""
    torch.manual_seed(0)
    layer = MixtureOfExperts(8, 12, n_experts=5, top_k=2).double()
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    scores = layer.router(x).softmax(-1)  # (B, T, E)
    kept = torch.where(scores >= scores.topk(2).values[..., -1:], scores, 0.0)
    weights = kept / kept.sum(-1, keepdim=True)
    every = torch.stack([expert(x) for expert in layer.experts], dim=-1)  # (B, T, D, E)
    return largest(layer(x) - (every * weights[..., None, :]).sum(-1))


CHECKS: list[Check] = [
    (check_equals_gpt, 1e-12),
    (check_causal, 0.0),
    (check_rotary_is_relative, 1e-12),
    (check_rotary_rescaled, 1e-12),
    (check_ntk, 1e-12),
    (check_alibi, 1e-6),
    (check_cache, 0.0),
    (check_experts, 1e-12),
    (check_tiles, 1e-12),
    (check_linear_forms, 1e-12),
    (check_delta_forms, 1e-12),
]


@torch.no_grad()
def trace() -> str:
    """Returns the shape ledger: every tensor of one forward pass of a small model with experts."""
    model = small_model(torch.float32, n_kv_heads=2, n_experts=4)
    named: dict[str, Tensor] = {"tokens": small_batch()}
    model(small_batch())  # says which experts are the busiest

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: named.__setitem__(name, output)

    parts: dict[str, nn.Module] = {"token_embedding": model.token_embedding}
    for number, (block, mixture) in enumerate(zip(model.blocks, model.mixtures(), strict=True)):
        assert isinstance(block, DecoderBlock)
        busiest = mixture.experts[int(mixture.loads.argmax())]
        parts |= {
            f"qkv.{number}": block.attention.qkv, f"attention.{number}": block.attention,
            f"router.{number}": mixture.router, f"expert.{number}": busiest,
            f"feed_forward.{number}": mixture, f"block.{number}": block,
        }  # fmt: skip
    parts |= {"final_norm": model.final_norm, "logits": model.head}
    for name, part in parts.items():
        part.register_forward_hook(keep(name))
    model(small_batch())
    return shape_ledger(named, MEANINGS, ORIGINS)


def forward_once() -> str:
    """Runs one small forward pass; returns its logits' shape in words."""
    return f"logits {tuple(small_model()(small_batch()).shape)}"


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return verify_parser("Prove what the chapter says of its parts, claim by claim.")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per check; returns 1 if any failed, else 0."""
    args = build_parser().parse_args(argv)
    if args.trace:
        print(trace())
        return 0
    return run_checks(CHECKS)


if __name__ == "__main__":
    run_entry(main)
