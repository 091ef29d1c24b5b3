"""The loss of hidden tokens, computed together with the projection onto the vocabulary.

Cross-entropy of logits z = h W' + b against a label y (Devlin et al. 2019, section 3.1):

    loss = log sum_k exp z_k - z_y,    d loss / d z = p - [k = y],    p = softmax(z)

A minibatch hides some 600 tokens, and 600 rows of 6,000 logits are 15 MB; autograd keeps two copies
and makes a third for the gradient. Here a chunk of rows is projected, its loss and its gradients
are worked out at once, in place, and it is forgotten.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100  # the label of a token that was not hidden
CHUNK = 128  # rows projected at once: 128 rows of 6,000 logits are 3 MB


def projected_loss(
    hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the mean cross-entropy of ``hidden @ weight.T + bias`` and the number of hits.

    Args:
        hidden: (N, D); N may be 0, which gives the loss 0.
        weight: (V, D).
        bias: (V,).
        labels: (N,), none of them ``IGNORE``.

    Returns:
        The loss in nats, a scalar in at least float32, and how many labels have the highest score
        of their row, a whole number.
    """
    loss, correct = ProjectedLoss.apply(hidden, weight, bias, labels, torch.is_grad_enabled())
    return loss, correct


class ProjectedLoss(torch.autograd.Function):
    """The loss and, in the same pass, its gradients."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, train: bool
    ) -> tuple[Tensor, Tensor]:
        """Adds up the loss of (N, D) rows; with ``train`` their gradients too."""
        wide = torch.promote_types(weight.dtype, torch.float32)
        total = torch.zeros((), dtype=wide, device=weight.device)
        correct = torch.zeros((), dtype=torch.long, device=weight.device)
        d_hidden = torch.empty_like(hidden) if train else hidden
        d_weight = torch.zeros_like(weight) if train else weight
        d_bias = torch.zeros_like(bias) if train else bias
        count = max(1, len(hidden))
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            h, y = hidden[part], labels[part, None]  # (n, D), (n, 1)
            z = F.linear(h, weight, bias).to(wide)  # (n, V)
            of_label, highest = z.gather(1, y), z.amax(1, keepdim=True)  # (n, 1)
            correct += (of_label == highest).sum()
            z = z.sub_(highest).exp_()  # (n, V)
            mass = z.sum(1, keepdim=True)  # (n, 1)
            total += (mass.log() + highest - of_label).sum()
            if train:  # the gradient of the mean: (p - [k = y]) / N
                z = z.div_(mass * count)
                z = z.scatter_add_(1, y, torch.full_like(of_label, -1.0 / count)).to(h.dtype)
                d_hidden[part] = z @ weight.to(h.dtype)
                d_weight.addmm_(z.T.to(weight.dtype), h.to(weight.dtype))
                d_bias += z.sum(0)
        if train:
            ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.mark_non_differentiable(correct)
        return total / count, correct

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Scales what ``forward`` has worked out."""
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        scale = gradients[0]
        return scale * d_hidden, scale * d_weight, scale * d_bias, None, None
