"""Induction heads in numbers: where heads look, which play a role, what is left without them.

Olsson et al. 2022 measure how much of its attention a head gives to what followed its token earlier
in the text ("prefix matching"), and take heads away to see what they were good for.

Shapes: sequences B, length T, heads H, layers L, width D, head width K.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.gpt_components import CausalSelfAttention
from gpt.gpt_model import GPT
from gpt.interpretation import head_patterns

ROLES = {
    "induction_heads": "their induction heads",
    "previous_heads": "their previous-token heads",
    "other_heads": "all their other heads",
}
"""Name of a role -> who plays it in a model of two layers."""


def prefix_matching(weights: Tensor, tokens: Tensor) -> Tensor:
    """Returns the share of its attention that a head gives to what followed its token earlier on.

    Olsson et al. 2022, "prefix matching": at position t, the weights on all positions s <= t whose
    predecessor is the same token as t's; averaged over the positions that have such an s.

    Args:
        weights: (B, H, T, T), attention.
        tokens: (B, T).

    Returns:
        (H,), between 0 and 1.

    Raises:
        ValueError: no token occurs twice.
    """
    same = tokens[:, :, None] == tokens[:, None, :-1]  # (B, T, T - 1): t's token is at s - 1
    matches = F.pad(same, (1, 0)).tril()  # (B, T, T): ... and s <= t
    there = matches.any(dim=-1)  # (B, T)
    if not there.any():
        raise ValueError(
            f"no token of these {len(tokens)} sequences occurs twice: there is nothing that an "
            "induction head could look at. Give longer sequences, or repeat them."
        )
    found = (weights * matches[:, None]).sum(dim=-1)  # (B, H, T)
    return found.transpose(0, 1)[:, there].mean(dim=-1)  # (H,)


@torch.no_grad()
def head_scores(model: GPT, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Returns each head's prefix-matching score and its share on the previous token, both (L, H).

    Args:
        model: any GPT.
        tokens: (B, T).
    """
    named = model.intermediates(tokens)
    weights = [named[f"attention.{layer}"] for layer in range(model.config.n_layers)]
    scores = [prefix_matching(weight, tokens) for weight in weights]
    previous = [head_patterns(weight)[..., 0].mean(dim=0) for weight in weights]
    return torch.stack(scores), torch.stack(previous)


def heads_by_role(scores: Tensor, previous: Tensor) -> dict[str, list[tuple[int, int]]]:
    """Sorts the heads of two layers into those of the two steps of induction, and the rest.

    A head has a role if it has more than half of what the best one has.

    Args:
        scores: (2, H), prefix matching.
        previous: (2, H), share on the previous token.

    Returns:
        For each of `ROLES` its heads, as (layer, head).
    """
    n_heads = scores.shape[1]
    induction = [(1, h) for h in range(n_heads) if scores[1, h] > scores[1].max() / 2]
    marking = [(0, h) for h in range(n_heads) if previous[0, h] > previous[0].max() / 2]
    every = [(layer, h) for layer in range(2) for h in range(n_heads)]
    rest = [head for head in every if head not in induction + marking]
    return dict(zip(ROLES, (induction, marking, rest), strict=True))


@contextmanager
def without_heads(model: GPT, heads: Sequence[tuple[int, int]]) -> Iterator[GPT]:
    """Takes the output of heads away for a while: their columns of the output matrix are zero.

    Args:
        model: changed, and changed back at the end.
        heads: (layer, head), counted from 0.
    """
    kept = copy.deepcopy(model.state_dict())
    attentions = [m for m in model.modules() if isinstance(m, CausalSelfAttention)]
    for layer, head in heads:
        attention = attentions[layer]
        width = attention.d_head
        attention.output.weight.data[:, head * width : (head + 1) * width] = 0.0  # (D, K)
    try:
        yield model
    finally:
        model.load_state_dict(kept)
