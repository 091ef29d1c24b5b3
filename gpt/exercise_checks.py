"""What the exercises on language models are checked with: by hand, and by the chapter's code."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt import gpt_components, sampling
from gpt.kv_cache import KVCache
from tutorial_kit.exercise_cases import Case, Exercise


def causal_mask_cases() -> Iterator[Case]:
    """One token, then three."""
    yield Case((1,), torch.tensor([[True]]), "itself")
    yield Case((3,), torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool(), "rows")


def bits_per_byte_cases() -> Iterator[Case]:
    """A model that has learned nothing, 4 bytes a token; then a better one."""
    yield Case((math.log(4096), 1000, 4000), 3.0, "units")
    yield Case((2.0 * math.log(2), 300, 1200), 0.5, "units")


def perplexity_cases() -> Iterator[Case]:
    """One window; then two of different lengths."""
    yield Case((torch.tensor([math.log(10)]), torch.tensor([5])), 10.0, "exp")
    losses = torch.tensor([2.0, 8.0]).log()
    yield Case((losses, torch.tensor([1, 3])), 2**2.5, "weights")  # (1 log 2 + 3 log 8) / 4


def token_losses_cases() -> Iterator[Case]:
    """By hand; against F.cross_entropy; with logits that overflow."""
    thirds = torch.tensor([[[0.0, math.log(3)]]])
    yield Case((thirds, torch.tensor([[1]])), torch.tensor([[math.log(4 / 3)]]), "equation")
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 7, generator=rng)
    targets = torch.randint(7, (2, 4), generator=rng)
    expected = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    yield Case((logits, targets), expected, "shift")
    large = torch.tensor([[[1000.0, 0.0], [0.0, 1000.0]]])
    yield Case((large, torch.tensor([[0, 0]])), torch.tensor([[0.0, 1000.0]]), "overflow")


def attention_weights_cases() -> Iterator[Case]:
    """Every query sees every key; then the chapter's three tokens; then several heads."""

    def expected(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
        return gpt_components.attend_written_out(q, k, k, mask)[1]

    rng = torch.Generator().manual_seed(0)
    q, k = 2 * torch.randn(2, 3, 4, generator=rng)
    everything = torch.ones(3, 3, dtype=torch.bool)
    yield Case((q, k, everything), expected(q, k, everything), "scale")
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])  # the, cat, sat
    k = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 0.5]])
    yield Case((q, k, everything.tril()), expected(q, k, everything.tril()), "mask")
    q, k = torch.randn(2, 2, 3, 3, 4, generator=rng)  # (B, H, T, K) each
    yield Case((q, k, everything.tril()), expected(q, k, everything.tril()), "batch")


def keep_top_p_cases() -> Iterator[Case]:
    """Sorted probabilities, shuffled ones, and a p below the first of them."""
    for shares, p, clue in (
        ([0.5, 0.3, 0.15, 0.05], 0.7, "crossing"),
        ([0.05, 0.5, 0.15, 0.3], 0.9, "order"),
        ([0.2, 0.7, 0.1], 0.1, "first"),
    ):
        logits = torch.tensor(shares).log()
        yield Case((logits, p), sampling.keep_top_p(logits[None], p)[0], clue)


def cached_mask_cases() -> Iterator[Case]:
    """No past; a past; one new token."""
    for past, clue in ((0, "empty"), (2, "past")):
        cache = KVCache(1, 1, 1, 8, 2, torch.device("cpu"))
        cache.advance(past)
        yield Case((past, 3), cache.mask(3), clue)
    yield Case((4, 1), torch.ones(1, 5, dtype=torch.bool), "past")


def rotate_cases() -> Iterator[Case]:
    """One pair by hand; two pairs; more."""
    turned = torch.tensor([[math.cos(1), math.sin(1)]])
    yield Case((torch.tensor([[1.0, 0.0]]), torch.tensor([1]), 100.0), turned, "direction")
    rng = torch.Generator().manual_seed(0)
    for first, width, clue in ((0, 4, "pairs"), (7, 8, "speed")):
        x, positions = torch.randn(3, width, generator=rng), torch.arange(first, first + 3)
        turns = gpt_components.rotary_table(first + 3, width, 100.0)[positions]
        yield Case((x, positions, 100.0), gpt_components.rotate(x[None, None], turns)[0, 0], clue)


EXERCISES = (
    Exercise(1, "easy", "causal_mask", causal_mask_cases),
    Exercise(2, "easy", "bits_per_byte", bits_per_byte_cases),
    Exercise(3, "easy", "perplexity", perplexity_cases),
    Exercise(4, "medium", "token_losses", token_losses_cases),
    Exercise(5, "medium", "attention_weights", attention_weights_cases),
    Exercise(6, "medium", "keep_top_p", keep_top_p_cases),
    Exercise(7, "hard", "cached_mask", cached_mask_cases),
    Exercise(8, "hard", "rotate", rotate_cases),
)
