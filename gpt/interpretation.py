"""What can be read off a trained GPT on one text: where heads look, how a guess forms, surprise.

Shapes: text length T, width D, vocabulary V, layers L, heads H. Everything returned is on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.gpt_model import GPT

PATTERNS = ("the previous token", "itself", "the first token")
"""What `head_patterns` measures, in its order."""


@dataclass(frozen=True)
class Insides:
    """One forward pass over one text, taken apart."""

    tokens: list[int]  # the text, T ids
    weights: Tensor  # (L, H, T, T), attention
    guesses: Tensor  # (L + 1, T), the likeliest next token if the model ended after each block
    final_share: Tensor  # (L + 1, T), probability there of the token that the whole model guesses
    best: Tensor  # (T, 5), the whole model's likeliest next tokens
    best_share: Tensor  # (T, 5), their probabilities
    surprise: Tensor  # (T - 1,), bits: -log2 of the probability of the token that really came
    expected_surprise: Tensor  # (T - 1,), bits: the entropy of the model's distribution


@torch.no_grad()
def look_inside(model: GPT, tokens: Sequence[int]) -> Insides:
    """Runs the model once and keeps what the pictures show.

    The logit lens (nostalgebraist 2020, "interpreting GPT") applies the final norm and the head to
    the residual stream after every block, as if the model ended there.

    Args:
        model: any recipe.
        tokens: the text's ids, 3 to ``max_len``.

    Raises:
        ValueError: the text is too short or too long.
    """
    if not 3 <= len(tokens) <= model.config.max_len:
        wanted = "longer" if len(tokens) < 3 else "shorter"
        raise ValueError(
            f"the text has {len(tokens)} tokens: a picture needs at least 3, and the model sees "
            f"{model.config.max_len} at once. Give a {wanted} text."
        )
    was_training = model.training
    model.eval()
    row = torch.tensor([list(tokens)], device=model.token_embedding.weight.device)
    named = model.intermediates(row)
    model.train(was_training)
    layers = range(model.config.n_layers)
    shares = named["logits"][0].float().softmax(dim=-1)  # (T, V)
    final = shares.argmax(dim=-1, keepdim=True)  # (T, 1)
    guesses, final_share = [], []
    for stream in [named["embedding"], *(named[f"block.{layer}"] for layer in layers)]:
        here = model.project(stream)[0].float().softmax(dim=-1)  # (T, V)
        guesses.append(here.argmax(dim=-1))
        final_share.append(here.gather(1, final)[:, 0])
    best_share, best = shares.topk(min(5, shares.shape[-1]))
    bits = shares.clamp_min(1e-30).log2()
    return Insides(
        tokens=list(tokens),
        weights=torch.cat([named[f"attention.{layer}"] for layer in layers]).float().cpu(),
        guesses=torch.stack(guesses).cpu(),
        final_share=torch.stack(final_share).cpu(),
        best=best.cpu(),
        best_share=best_share.cpu(),
        surprise=-bits[:-1].gather(1, row[0, 1:, None])[:, 0].cpu(),
        expected_surprise=-(shares * bits).sum(dim=-1)[:-1].cpu(),
    )


def head_patterns(weights: Tensor) -> Tensor:
    """Returns the mean share of its attention that a token gives to each of `PATTERNS`.

    Counted from the third token on, where previous, same and first are three different tokens.

    Args:
        weights: (L, H, T, T), T at least 3.

    Returns:
        (L, H, 3); what is missing to 1 goes to other tokens.
    """
    previous = weights.diagonal(offset=-1, dim1=-2, dim2=-1)[..., 1:]  # (L, H, T - 2)
    same = weights.diagonal(dim1=-2, dim2=-1)[..., 2:]
    first = weights[..., 2:, 0]
    return torch.stack([part.mean(dim=-1) for part in (previous, same, first)], dim=-1)


def describe_heads(patterns: Tensor) -> str:
    """Says which head follows one of `PATTERNS` most clearly; layers and heads count from 1."""
    share, place = patterns.flatten().max(dim=0)
    head, pattern = divmod(int(place), len(PATTERNS))
    if share < 0.3:
        return "No head gives 0.30 of its weight to the previous token, itself or the first token"
    layer, head = divmod(head, patterns.shape[1])
    return (
        f"Head {head + 1} of layer {layer + 1} looks at {PATTERNS[pattern]} "
        f"({share:.2f} of its weight)"
    )


def settled_after(guesses: Tensor) -> Tensor:
    """Returns after how many blocks each position's guess is the final one and stays it.

    Args:
        guesses: (L + 1, T), see `Insides`.

    Returns:
        (T,), between 0 (the embedding alone says it) and L.
    """
    differs = guesses != guesses[-1]  # (L + 1, T)
    depth = torch.arange(1, len(guesses) + 1).unsqueeze(1)  # (L + 1, 1)
    return (differs * depth).amax(dim=0)
