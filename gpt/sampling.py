"""From logits to the next token: the strategies, each a small pure function, and how they combine.

Every function takes logits (B, V) and returns logits (B, V), in which a token that must not be
chosen has -inf. They are applied in a fixed order: repetition penalty, temperature, top-k, top-p,
min-p. Greedy choice is temperature 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the defaults draw from the model's own distribution."""

    temperature: float = 1.0  # logits are divided by it; 0 always takes the most probable token
    top_k: int = 0  # only the k most probable tokens; 0 means all
    top_p: float = 1.0  # only the most probable tokens that together reach this share; 1 means all
    min_p: float = 0.0  # only tokens at least this probable, as a share of the most probable one
    repetition_penalty: float = 1.0  # above 1 makes tokens that occurred less probable

    def __post_init__(self) -> None:
        """Refuses what no distribution is left by."""
        for name, low, high, advice in (
            ("temperature", 0.0, math.inf, "Use 0 for greedy, or 0.5 to 1.2"),
            ("top_k", 0, math.inf, "Use 0 to keep all tokens, or 1 or more"),
            ("min_p", 0.0, 1.0, "Use a share from 0 to 1, such as 0.1"),
        ):
            value = getattr(self, name)
            if not (low <= value <= high and math.isfinite(value)):
                raise ValueError(f"{name}={value} keeps no meaningful choice. {advice}.")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(
                f"top_p={self.top_p} is no share of the probability: at least one token must "
                "remain. Use more than 0 and at most 1, such as 0.9."
            )
        if not 0.0 < self.repetition_penalty < math.inf:
            raise ValueError(
                f"repetition_penalty={self.repetition_penalty} cannot divide a logit. "
                "Use 1 for none, or 1.1 to 1.5."
            )


GREEDY = Sampling(temperature=0.0)


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divides the logits of tokens that occurred by ``penalty`` (Keskar et al. 2019, section 4.1).

    A negative logit is multiplied instead: dividing it would make the token more probable. (The
    paper's formula divides both; every implementation since corrects it.)

    Args:
        logits: (B, V).
        seen: (B, V), True where the row's text already has the token.
        penalty: above 1 discourages, below 1 encourages.
    """
    penalized = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, penalized, logits)


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """softmax(z / t) (Ackley et al. 1985): t < 1 sharpens, t > 1 flattens, t = 1 leaves it."""
    return logits / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keeps the k largest logits (Fan et al. 2018, section 5.4); ties with the k-th stay, too."""
    if k >= logits.shape[-1]:
        return logits
    smallest_kept = logits.topk(k).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < smallest_kept, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keeps the smallest set of most probable tokens with a sum >= p (Holtzman et al. 2020, eq. 2).

    A token stays if those more probable than it have a sum below p; the most probable always stays.
    """
    ordered, _ = logits.sort(descending=True)  # (B, V)
    probabilities = ordered.softmax(dim=-1)
    sum_before = probabilities.cumsum(dim=-1) - probabilities
    sum_before[:, 0] = 0.0  # exactly, so that the first token is kept for any p > 0
    last_kept = (sum_before < p).sum(dim=-1, keepdim=True) - 1  # (B, 1)
    return logits.masked_fill(logits < ordered.gather(-1, last_kept), -math.inf)


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Keeps tokens with p_i >= share * max p (Nguyen et al. 2024, section 3).

    Dividing by the maximum cancels the softmax's denominator: z_i >= max z + log(share).
    """
    lowest = logits.amax(dim=-1, keepdim=True) + math.log(share)  # (B, 1)
    return logits.masked_fill(logits < lowest, -math.inf)


def filter_logits(logits: Tensor, sampling: Sampling, seen: Tensor | None = None) -> Tensor:
    """Applies everything that ``sampling`` asks for, in the module's order.

    Args:
        logits: (B, V), the model's.
        sampling: the strategy; a temperature of 0 leaves the logits undivided.
        seen: (B, V), which tokens occurred; needed with a repetition penalty.

    Returns:
        (B, V).
    """
    if sampling.repetition_penalty != 1.0 and seen is not None:
        logits = penalize_repetition(logits, seen, sampling.repetition_penalty)
    if sampling.temperature not in (0.0, 1.0):
        logits = apply_temperature(logits, sampling.temperature)
    if sampling.top_k:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p < 1.0:
        logits = keep_top_p(logits, sampling.top_p)
    if sampling.min_p:
        logits = keep_min_p(logits, sampling.min_p)
    return logits


def distribution(logits: Tensor, sampling: Sampling, seen: Tensor | None = None) -> Tensor:
    """Returns the probabilities of the next token, (B, V); greedy choice puts 1 on one token."""
    logits = filter_logits(logits, sampling, seen)
    if sampling.temperature == 0.0:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(logits).scatter_(-1, best, 1.0)
    return logits.softmax(dim=-1)


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Draws by inverting the cumulative distribution: one uniform number decides one token.

    Args:
        probabilities: (B, V); rows need not sum to 1 exactly.
        uniforms: (B,), float64, each from [0, 1).

    Returns:
        (B,), token ids; never one of probability 0.
    """
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)  # (B, V)
    targets = uniforms[:, None] * cumulative[:, -1:]  # (B, 1)
    return torch.searchsorted(cumulative, targets, right=True)[:, 0]  # (B,)


class Dice:
    """One random generator per row, so that a row's draws do not depend on its neighbors."""

    def __init__(self, seed: int, rows: int) -> None:
        """Row i gets the seed ``seed + i``: it draws what a single prompt with that seed draws."""
        self.generators = [torch.Generator().manual_seed(seed + row) for row in range(rows)]

    def roll(self, rows: Sequence[int]) -> Tensor:
        """Returns one uniform number from [0, 1) for each of ``rows``, (len(rows),), float64."""
        draws = [torch.rand(1, generator=self.generators[row], dtype=torch.float64) for row in rows]
        return torch.cat(draws)


def choose(
    logits: Tensor, sampling: Sampling, dice: Dice, rows: Sequence[int], seen: Tensor | None = None
) -> list[int]:
    """Chooses the next token of each row.

    The draw happens on the CPU, so that a seed means the same on every device.

    Args:
        logits: (B, V).
        sampling: the strategy.
        dice: the random numbers; not touched by greedy choice.
        rows: which of the dice each row of ``logits`` rolls, B numbers.
        seen: (B, V), on the CPU; which tokens occurred.
    """
    logits = logits.to("cpu", torch.float32)
    if sampling.temperature == 0.0:
        best: list[int] = filter_logits(logits, sampling, seen).argmax(dim=-1).tolist()
        return best
    drawn: list[int] = draw(distribution(logits, sampling, seen), dice.roll(rows)).tolist()
    return drawn
