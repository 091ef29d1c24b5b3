"""What several replies to one request tell: pass@k, best-of-n, win rate. Pure functions.

Symbols: N requests, G sampled replies to each. Best-of-n and pass@k are means over *all* subsets of
the G replies, not over one: the same samples then serve every n, and the noise is smaller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def pass_at_k(right: Tensor, k: int) -> float:
    """The chance that at least one of k replies is right: 1 - C(G - c, k) / C(G, k), c right ones.

    The unbiased estimator of Chen et al. 2021 ("Evaluating Large Language Models Trained on Code"),
    section 2.1, eq. 1. (1 - (1 - c/G)^k would be too high.)

    Args:
        right: (N, G), whether each reply is right.
        k: how many replies one may look at, 1 to G.

    Raises:
        ValueError: k is not in that range.

    >>> pass_at_k(torch.tensor([[True, False, False, False]]), 2)
    0.5
    """
    samples = right.shape[1]
    check_subset(k, samples)
    wrong = (samples - right.sum(dim=1)).tolist()  # N numbers
    missed = [math.comb(count, k) / math.comb(samples, k) for count in wrong]
    return 1.0 - sum(missed) / len(missed)


def best_of_n(rewards: Tensor, values: Tensor, n: int) -> float:
    """What the reply with the highest reward of n is worth, on average over requests and subsets.

    Of G replies sorted by reward, the i-th (from 1) is the best of C(i - 1, n - 1) of the C(G, n)
    subsets: those that take the other n - 1 from below it. Of equal rewards the later reply wins.

    Args:
        rewards: (N, G), what the choice is made by, such as a reward model's scores.
        values: (N, G), what the chosen reply is worth, such as 1 for a right one.
        n: replies one chooses among, 1 to G.

    Raises:
        ValueError: n is not in that range.

    >>> round(best_of_n(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]]), 2), 3)
    0.667
    """
    samples = rewards.shape[1]
    check_subset(n, samples)
    order = rewards.argsort(dim=1, stable=True)  # (N, G), the best last
    chances = [math.comb(i, n - 1) / math.comb(samples, n) for i in range(samples)]
    ranked = values.double().gather(1, order)  # (N, G)
    return float((ranked @ torch.tensor(chances, dtype=torch.float64)).mean())


def best_of_n_kl(n: int) -> float:
    """KL of the best of n from the policy sampled: log n - (n - 1) / n nats (Gao et al. 2023, 3.1).

    It holds where no two replies have the same reward; with ties it is an upper bound.

    >>> best_of_n_kl(1), round(best_of_n_kl(4), 3)
    (0.0, 0.636)
    """
    return math.log(n) - (n - 1) / n


def win_rate(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How often our reply to a request beats theirs by the judge's scores; a tie counts half.

    >>> win_rate([1.0, 0.6, 0.2, 1.0], [0.5, 0.6, 0.4, 0.0])
    0.625
    """
    pairs = list(zip(ours, theirs, strict=True))
    return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)


def check_subset(count: int, samples: int) -> None:
    """Refuses to choose among more replies than there are.

    Raises:
        ValueError: ``count`` is not 1 to ``samples``.
    """
    if not 1 <= count <= samples:
        raise ValueError(
            f"{count} of {samples} replies cannot be chosen: pass@k and best-of-n look at subsets. "
            f"Use 1 to {samples}, or sample more replies to each request."
        )
