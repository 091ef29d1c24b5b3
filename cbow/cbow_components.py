"""The parts of the model as plain functions: a context's vector, three losses, their gradients.

Symbols: h (D,) the hidden vector of a context, u_w the output vector of a word or of a node of the
tree, s(x) the sigmoid. Each loss is a function that autograd can differentiate; beside it stand its
gradients, derived by hand in the chapter. All of them have one shape, (prediction - truth) times a
vector, and the fast training uses the first as it stands here.

Mikolov et al. 2013b ("Distributed Representations of Words and Phrases and their
Compositionality"), section 2.1 (hierarchical softmax, eq. 3) and 2.2 (negative sampling, eq. 4),
write the losses for skip-gram. Here many targets may share their noise, as in Ji et al. 2016
("Parallelizing Word2Vec in Shared and Distributed Memory"): its scores become matrix products.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cbow.cbow_config import CBOWConfig


def combine_context(vectors: Tensor, inside: Tensor, config: CBOWConfig) -> Tensor:
    """Makes one vector of a context (Mikolov et al. 2013a, section 3.1).

    Args:
        vectors: (n, C, D) input vectors of the words in reach.
        inside: (n, C) bool, which of them belong to the context.
        config: ``combine``, and ``gradient``: "word2vec" returns the mean, too, but hands every
            word the whole gradient instead of its share, 1 / count, as word2vec.c and gensim do.

    Returns:
        (n, D) hidden vectors h; zeros for an empty context.
    """
    total = (vectors * inside[..., None]).sum(dim=1)  # (n, D)
    if config.combine == "sum":
        return total
    mean = total / context_counts(inside)  # (n, D)
    if config.gradient == "word2vec":
        return total + (mean - total).detach()  # the value of the mean, the gradient of the sum
    return mean


def context_counts(inside: Tensor) -> Tensor:
    """Returns the words of each context, (n, 1) float; 1 for an empty one."""
    return inside.float().sum(dim=1, keepdim=True).clamp_(min=1)


def by_group(examples: Tensor, size: int) -> Tensor:
    """Cuts examples into groups that share their noise; zeros fill up the last one.

    A hidden vector of zeros changes nothing: the gradients of its noise are multiples of it.

    Args:
        examples: (n, D).
        size: examples in a group, G.

    Returns:
        (groups, G, D).
    """
    missing = -len(examples) % size
    padded = F.pad(examples, (0, 0, 0, missing)) if missing else examples
    return padded.view(-1, size, examples.shape[1])


def negative_sampling_losses(
    hidden: Tensor, target: Tensor, noise: Tensor, negatives: float, shared_by: int
) -> Tensor:
    """Tells the target from noise (Mikolov et al. 2013b, eq. 4).

    -log s(h . u_target) - K / Q sum over the Q words of noise of log s(-h . u_noise)

    Where the target itself was drawn as noise, it counts as noise, as in the equation; word2vec.c
    and gensim pass over it.

    Args:
        hidden: (n, D) hidden vectors h.
        target: (n, D) output vectors of the targets.
        noise: (groups, Q, D) output vectors of the noise of each group.
        negatives: what all noise of a target weighs together, K.
        shared_by: targets in a group, G.

    Returns:
        (n,) losses, nats.
    """
    attracted = F.logsigmoid((hidden * target).sum(dim=1))  # (n,)
    scores = by_group(hidden, shared_by) @ noise.transpose(1, 2)  # (groups, G, Q)
    repelled = negatives * F.logsigmoid(-scores).mean(dim=2)  # (groups, G)
    return -attracted - repelled.flatten()[: len(hidden)]


class NegativeGradients(NamedTuple):
    """Derivatives of the sum of ``negative_sampling_losses``."""

    hidden: Tensor  # (n, D)
    target: Tensor  # (n, D)
    noise: Tensor  # (groups, Q, D)


def negative_sampling_gradients(
    hidden: Tensor,
    target: Tensor,
    noise: Tensor,
    negatives: float,
    shared_by: int,
    scale: float = 1.0,
    pace: Tensor | None = None,
) -> NegativeGradients:
    """Returns the gradients of negative sampling, by hand.

    With e = s(h . u) - 1 for the target and e = K / Q s(h . u) for noise, the derivative by u is
    e h, and the derivative by h the sum of all e u.

    Args:
        hidden: here and below as for ``negative_sampling_losses``.
        target: (n, D).
        noise: (groups, Q, D).
        negatives: K.
        shared_by: G.
        scale: what all gradients are multiplied by; -rate makes the steps of a training of them.
        pace: (n + groups Q, 1) what the gradient of each target and then of each word of noise is
            multiplied by. With it they are written over ``target`` and ``noise``: that memory is in
            the cache.
    """
    scores = torch.linalg.vecdot(hidden, target)[:, None]  # (n, 1)
    miss = scores.sigmoid_().sub_(1).mul_(scale)  # e of the targets
    grouped = by_group(hidden, shared_by)  # (groups, G, D)
    scores = torch.bmm(grouped, noise.transpose(1, 2))  # (groups, G, Q)
    false_alarm = scores.sigmoid_().mul_(scale * negatives / noise.shape[1])  # e of the noise
    d_hidden = torch.bmm(false_alarm, noise).view(-1, hidden.shape[1])[: len(hidden)]
    d_hidden.addcmul_(miss, target)
    if pace is not None:
        miss.mul_(pace[: len(target)])
        false_alarm.mul_(pace[len(target) :].view(len(noise), 1, -1))
    return NegativeGradients(
        d_hidden,
        torch.mul(miss, hidden, out=None if pace is None else target),
        torch.bmm(false_alarm.transpose(1, 2), grouped, out=None if pace is None else noise),
    )


def softmax_losses(hidden: Tensor, output: Tensor, targets: Tensor) -> Tensor:
    """-log of the target's probability among all words: log sum_w exp(h . u_w) - h . u_target.

    Args:
        hidden: (n, D).
        output: (V, D) output vectors of all words.
        targets: (n,) words.

    Returns:
        (n,) losses, nats.
    """
    return F.cross_entropy(hidden @ output.T, targets, reduction="none")


def softmax_gradients(hidden: Tensor, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the gradients of the summed softmax losses: e = p - 1 for the target, else p.

    Returns:
        By hidden (n, D) and by output (V, D).
    """
    error = torch.softmax(hidden @ output.T, dim=1)  # (n, V)
    error[torch.arange(len(targets)), targets] -= 1
    return error @ output, error.T @ hidden


def hierarchical_losses(
    hidden: Tensor, nodes: Tensor, turns_left: Tensor, on_path: Tensor
) -> Tensor:
    """-log of the probability to turn rightly at each node from the root to the target's leaf.

    The probability to turn left at a node is s(h . u_node) (Mikolov et al. 2013b, eq. 3).

    Args:
        hidden: (n, D).
        nodes: (n, L, D) vectors of the nodes on the way.
        turns_left: (n, L) bool, which way the target lies.
        on_path: (n, L) bool; False where a way is shorter than L.

    Returns:
        (n,) losses, nats.
    """
    scores = (nodes @ hidden[:, :, None]).squeeze(2)  # (n, L)
    right_way = F.logsigmoid(torch.where(turns_left, scores, -scores))
    return -(right_way * on_path).sum(dim=1)


def hierarchical_gradients(
    hidden: Tensor, nodes: Tensor, turns_left: Tensor, on_path: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the gradients of the summed hierarchical losses: e = s(h . u) - turns_left.

    Returns:
        By hidden (n, D) and by nodes (n, L, D).
    """
    scores = (nodes @ hidden[:, :, None]).squeeze(2)  # (n, L)
    error = (torch.sigmoid(scores) - turns_left.to(scores.dtype)) * on_path  # (n, L)
    return (error[:, None] @ nodes).squeeze(1), error[:, :, None] * hidden[:, None]
