"""Optimizers: AdamW with the right parameter groups, and Muon for weight matrices.

Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks") replaces the
momentum matrix M = U S V' of a weight by nearly U V': every direction of the update gets the same
length. U V' comes from a few matrix products (Newton-Schulz iteration), no SVD. It is for matrices
inside the network; embeddings, output heads, gains and biases stay with AdamW.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (
    3.4445,
    -4.7750,
    2.0315,
)  # coefficients a, b, c of the quintic (Jordan et al. 2024)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Splits parameters into matrices, which decay, and vectors (gains, biases), which do not.

    Decaying a LayerNorm gain towards zero would shrink what the layer lets through, which is not
    what weight decay is for (Brown et al. 2020, appendix B, decay all weights; GPT-2's successors
    do not).
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def fused_adamw(
    groups: Iterable[dict[str, Any]],
    lr: float,
    betas: tuple[float, float],
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) whose whole update is one pass over each tensor.

    torch's default loops over the parameters with a dozen small operations each; ``fused=True`` has
    a CPU kernel too, which is seldom used. MPS and old builds without it fall back to the default.
    """
    groups = list(groups)
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=devices <= {"cpu", "cuda"})


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Moves every singular value of each matrix towards 1 (Newton-Schulz, quintic).

    Args:
        matrices: (N, R, C), all of one shape.
        iterations: 5 bring singular values between 0.001 and 1 to between 0.7 and 1.2.

    Returns:
        (N, R, C), nearly U V' of each matrix; zero stays zero.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices  # (N, r, c) with r <= c: the products below stay small
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(iterations):
        gram = x @ x.mT  # (N, r, r)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized (Jordan et al. 2024).

    For each weight of shape (R, C): ``m = momentum m + g``; ``u = orthogonalize(g + momentum m)``
    (Nesterov); ``w -= lr sqrt(max(1, R / C)) u``. Weights of one shape are orthogonalized together,
    as one batch of matrix products. A parameter with the attribute ``muon_splits``, a tuple of row
    counts, holds that many matrices stacked by rows (a fused query-key-value projection).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        iterations: int = 5,
    ) -> None:
        """Takes matrices only.

        Args:
            parameters: two-dimensional weights.
            lr: length of the update; 0.02 to 0.05 is usual, whatever the width.
            momentum: share of the old momentum that is kept.
            weight_decay: decoupled, as in AdamW.
            iterations: Newton-Schulz steps.

        Raises:
            ValueError: a parameter is not a matrix.
        """
        parameters = list(parameters)
        for parameter in parameters:
            if parameter.ndim != 2:
                raise ValueError(
                    f"Muon takes matrices, not a tensor of shape {tuple(parameter.shape)}: "
                    "orthogonalizing needs two dimensions. Give it to AdamW."
                )
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "iterations": iterations,
        }
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates every weight that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].mul_(group["momentum"]).add_(parameter.grad)
                update = parameter.grad.add(momentum, alpha=group["momentum"])
                splits = getattr(parameter, "muon_splits", (parameter.shape[0],))
                for weight, part in zip(parameter.split(splits), update.split(splits), strict=True):
                    by_shape[weight.shape[0], weight.shape[1]].append((weight, part))
            for (rows, columns), pairs in by_shape.items():
                updates = orthogonalize(
                    torch.stack([part for _, part in pairs]), group["iterations"]
                )
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                weights = [weight for weight, _ in pairs]
                if group["weight_decay"]:
                    torch._foreach_mul_(weights, 1.0 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(weights, list(updates), alpha=-scale)
