"""Mixture of experts: many feed-forwards, of which each token uses one or two.

A **router** scores the experts for each token, the best ``top_k`` compute, and their outputs are
added, weighted by the router's probability (Shazeer et al. 2017, section 2; with one expert a
token: Fedus et al. 2021, section 2.1). Parameters grow with the number of experts, operations do
not.

Differences from the papers: no capacity limit, so no token is dropped (``overflow`` says how many
would be); no noise in the router; a loop over the experts instead of a shuffle between devices.

Shapes: batch B, length T, tokens N = B T, width D, experts E.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gpt.gpt_components import FeedForward


class MixtureOfExperts(nn.Module):
    """E feed-forwards and a router in the place of one feed-forward."""

    def __init__(self, d_model: int, d_ff: int, n_experts: int, top_k: int) -> None:
        """Builds the layer.

        Args:
            d_model: width of the stream, D.
            d_ff: width inside each expert, F.
            n_experts: experts, E.
            top_k: experts that each token is sent to.
        """
        super().__init__()
        self.n_experts, self.top_k = n_experts, top_k
        self.router = nn.Linear(d_model, n_experts, bias=False)  # D -> E
        self.experts = nn.ModuleList(
            FeedForward(d_model, d_ff, "gelu", bias=True) for _ in range(n_experts)
        )
        self.balance_loss = torch.zeros(())  # of the last forward; 1 if the loads are equal
        self.loads = torch.zeros(n_experts)  # (E,), shares of the last forward's tokens, sum 1

    def forward(self, x: Tensor) -> Tensor:
        """Sends each token to its experts; remembers the loads and the balancing loss.

        Args:
            x: (B, T, D).

        Returns:
            (B, T, D).
        """
        tokens = x.flatten(0, -2)  # (N, D)
        probabilities = self.router(tokens).softmax(dim=-1)  # (N, E)
        weights, chosen = probabilities.topk(self.top_k, dim=-1)  # (N, top_k) twice
        if self.top_k > 1:  # with one expert the probability stays: it is how the router learns
            weights = weights / weights.sum(dim=-1, keepdim=True)
        output = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            rows, place = (chosen == number).nonzero(as_tuple=True)  # which tokens, which choice
            mixed = expert(tokens[rows]) * weights[rows, place, None]  # (tokens of it, D)
            output = output.index_add(0, rows, mixed)
        self.loads = loads_of(chosen, self.n_experts)
        self.balance_loss = balance_loss(self.loads, probabilities)
        return output.view_as(x)


def loads_of(chosen: Tensor, n_experts: int) -> Tensor:
    """Returns the share of all choices that went to each expert, (E,); they sum to 1.

    Args:
        chosen: (N, top_k), numbers of experts.
        n_experts: E.
    """
    counts = torch.bincount(chosen.flatten(), minlength=n_experts)  # (E,)
    return counts / chosen.numel()


def balance_loss(loads: Tensor, probabilities: Tensor) -> Tensor:
    """E sum_e f_e p_e (Fedus et al. 2021, eq. 4): 1 with equal loads, E with one expert for all.

    f_e, the share of tokens, has no gradient; p_e, the mean probability, has: an expert with many
    tokens is made less probable in proportion to its load.

    Args:
        loads: (E,), f.
        probabilities: (N, E), the router's.
    """
    return len(loads) * (loads * probabilities.mean(dim=0)).sum()


def overflow(loads: Tensor, capacity: float = 1.25) -> float:
    """Share of the tokens that experts with room for ``capacity`` times the mean would drop.

    Args:
        loads: (..., E), shares that sum to 1; the mean over the leading dimensions is returned.
        capacity: room of each expert in equal shares (Fedus et al. 2021, eq. 3).

    >>> round(overflow(torch.tensor([0.7, 0.1, 0.1, 0.1])), 4)
    0.3875
    """
    room = capacity / loads.shape[-1]
    return float((loads - room).clamp_min(0.0).sum(dim=-1).mean())
