"""Label smoothing (Szegedy et al. 2016, section 7; Vaswani et al. 2017, section 5.4).

The target of a token with the label y is not "all of the probability on y" but

    q(k) = (1 - e) [k = y] + e / V

The paper minimizes KL(q || p) between this target and the model's p. Since KL(q || p) is the
cross-entropy H(q, p) minus the entropy of q, and the entropy of q is the same number for every
label, the cross-entropy has the same gradient and needs no (N, V) target:

    H(q, p) = -(1 - e) log p(y) - e mean_k log p(k)

``kl_to_smoothed_targets`` is the paper's form, ``smoothed_cross_entropy`` the line above, and
``projected_loss`` computes it together with the output projection, without keeping the logits.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

IGNORE = -100  # the label of a position that is not scored, such as padding
CHUNK = 512  # positions projected at once: 512 rows of 8,000 logits are 16 MB


def smoothed_targets(labels: Tensor, vocab_size: int, smoothing: float) -> Tensor:
    """Returns the target distributions q.

    Args:
        labels: (N,), token ids.
        vocab_size: V.
        smoothing: e, the share of probability that is spread over the vocabulary.

    Returns:
        (N, V); every row sums to 1.

    >>> smoothed_targets(torch.tensor([2]), vocab_size=4, smoothing=0.2).tolist()[0]
    [0.05000000074505806, 0.05000000074505806, 0.8500000238418579, 0.05000000074505806]
    """
    targets = torch.full((len(labels), vocab_size), smoothing / vocab_size, device=labels.device)
    targets[torch.arange(len(labels), device=labels.device), labels] += 1.0 - smoothing
    return targets


def smoothed_entropy(vocab_size: int, smoothing: float) -> float:
    """Returns the entropy of q in nats: what separates the cross-entropy from the KL divergence.

    It is also the lowest loss that any model can reach, and not 0: a model whose smoothed loss is
    1.3 with V = 8,000 and e = 0.1 has only 0.1 left to learn.
    """
    likely, rest = 1.0 - smoothing + smoothing / vocab_size, smoothing / vocab_size
    shares = [(likely, 1), (rest, vocab_size - 1)]  # (probability, how many tokens have it)
    return -sum(count * share * math.log(share) for share, count in shares if share > 0.0)


def kl_to_smoothed_targets(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Returns KL(q || p), the paper's form: clear, and V times as much memory as it needs.

    Args:
        logits: (..., V).
        labels: (...), -100 where nothing is scored.
        smoothing: e.

    Returns:
        A scalar: the mean over the scored positions, in nats.
    """
    scored = labels != IGNORE
    log_p = logits[scored].log_softmax(-1)  # (N, V)
    q = smoothed_targets(labels[scored], logits.shape[-1], smoothing).to(log_p.dtype)
    return (torch.special.xlogy(q, q) - q * log_p).sum(-1).mean()


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Returns H(q, p), the same but for ``smoothed_entropy``; arguments as above."""
    scored = labels != IGNORE
    log_p = logits[scored].log_softmax(-1)  # (N, V)
    of_label = log_p.gather(-1, labels[scored].unsqueeze(-1)).squeeze(-1)  # (N,)
    return -((1.0 - smoothing) * of_label + smoothing * log_p.mean(-1)).mean()


def projected_loss(hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Returns H(q, p) of the logits ``hidden @ weight.T``, which never exist as a whole.

    Padding is dropped before the projection, and the rest is projected in chunks. What the
    gradient needs of a chunk is p - q, so it is used at once and the chunk is forgotten: the
    largest tensor of the training, (B T, V), is gone, and with it two passes over it.

    Args:
        hidden: (B, T, D), the decoder's output.
        weight: (V, D), the output projection.
        labels: (B, T), -100 where nothing is scored.
        smoothing: e; 0 gives the plain cross-entropy.

    Returns:
        A scalar: the mean over the scored positions, in nats.
    """
    labels = labels.flatten()
    rows = (labels != IGNORE).nonzero().squeeze(1)  # (N,)
    loss: Tensor = _ProjectedLoss.apply(
        hidden.flatten(0, -2).index_select(0, rows), weight, labels[rows], smoothing,
        torch.is_grad_enabled(),
    )  # fmt: skip
    return loss


class _ProjectedLoss(torch.autograd.Function):
    """The loss and, in the same pass, its gradients."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float, train: bool
    ) -> Tensor:
        """Adds up the loss of (N, D) rows; with ``train`` their gradients too."""
        count, vocab_size = max(1, len(hidden)), len(weight)
        mean_weight = weight.mean(0)  # (D,): mean_k of the logits is hidden @ mean_weight
        total = torch.zeros((), dtype=torch.promote_types(weight.dtype, torch.float32),
                            device=weight.device)  # fmt: skip
        d_hidden = torch.empty_like(hidden) if train else hidden
        d_weight = torch.zeros_like(weight) if train else weight
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            h, y = hidden[part], labels[part, None]  # (n, D), (n, 1)
            logits = (h @ weight.T).to(total.dtype)  # (n, V)
            of_label = logits.gather(1, y)  # (n, 1)
            log_p = logits.log_softmax(1)  # (n, V)
            log_p_label = log_p.gather(1, y)  # (n, 1)
            log_sum = of_label - log_p_label  # (n, 1): log sum_k exp logit_k
            mean_log_p = (h @ mean_weight)[:, None] - log_sum  # (n, 1)
            total -= ((1.0 - smoothing) * log_p_label + smoothing * mean_log_p).sum()
            if train:  # d loss / d logits = p - q, with the e / V of q taken in below
                difference = log_p.exp_()
                difference.scatter_add_(1, y, torch.full_like(of_label, smoothing - 1.0))
                d_hidden[part] = difference @ weight
                d_weight += difference.T @ h
        if train:
            d_hidden -= smoothing * mean_weight
            d_weight -= smoothing / vocab_size * hidden.sum(0)
            ctx.save_for_backward(d_hidden.div_(count), d_weight.div_(count))
        return total / count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Scales what ``forward`` has worked out."""
        d_hidden, d_weight = ctx.saved_tensors
        return gradients[0] * d_hidden, gradients[0] * d_weight, None, None, None
