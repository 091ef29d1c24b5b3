"""The same training, fast: no autograd, only the rows that a step needs, matrix products for noise.

1. A batch holds consecutive targets, so the contexts of n targets are n + 2W words: their vectors
   are gathered once, and a context's vector is a weighted sum of neighboring rows
   (``embedding_bag``, whose weights are 0 outside the window). The way back is such a sum, too: a
   word receives from the targets around it what they would have received from it.
2. G targets share their noise, so its scores are products of (G, D) and (D, Q) matrices
   (``cbow_components.negative_sampling_gradients``).
3. Two ``index_add_`` change the rows that took part, and no other.

How several processes take such steps side by side is in ``fast_rounds``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cbow.cbow_components import context_counts, negative_sampling_gradients
from cbow.cbow_config import CBOWConfig
from cbow.cbow_model import CBOW
from cbow.step_data import Batch


class RowGradients(NamedTuple):
    """The gradient of a batch, or a multiple of it: rows of the two matrices."""

    text: Tensor  # (m,) words, some of them several times
    d_input: Tensor  # (m, D) by their input vectors
    words: Tensor  # (n + groups Q,) words: the targets, then the noise of each group
    d_output: Tensor  # (n + groups Q, D) by their output vectors


class _Spread(NamedTuple):
    """Which rows each row of a result is the weighted sum of, as ``embedding_bag`` wants it."""

    rows: Tensor  # (results C,)
    starts: Tensor  # (results,) where in ``rows`` each result begins

    def sums(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """Returns the sums, (results, D), of vectors (rows, D) with weights (results, C)."""
        return torch.embedding_bag(
            vectors, self.rows, self.starts, mode=0, per_sample_weights=weights.reshape(-1)
        )[0]


@lru_cache(maxsize=16)
def _neighbors(n: int, span: int, device: torch.device) -> tuple[_Spread, _Spread]:
    """Returns who is around whom: the context of each target, and the targets around each word.

    Args:
        n: targets of the batch; word i + k of the text is place k of target i.
        span: places of a window, C.
        device: where.
    """
    places = torch.arange(span, device=device)
    of_target = torch.arange(n, device=device)[:, None] + places  # (n, C)
    words = torch.arange(n + span - 1, device=device)[:, None]
    of_word = (words - span + 1 + places).clamp(0, n - 1)  # (m, C); beyond the ends the weight is 0
    starts = torch.arange(n + span - 1, device=device) * span
    return _Spread(of_target.flatten(), starts[:n]), _Spread(of_word.flatten(), starts)


def context_weights(inside: Tensor, config: CBOWConfig) -> tuple[Tensor, Tensor]:
    """Returns what each word counts in its context, and what it receives of the gradient.

    Args:
        inside: (n, C) bool.
        config: the mean weighs each word 1 / count, there and back; ``gradient`` "word2vec"
            hands each word the whole gradient; the sum weighs 1 both ways.

    Returns:
        (n, C) and (n, C).
    """
    ones = inside.float()
    if config.combine == "sum":
        return ones, ones
    shares = ones / context_counts(inside)
    return shares, ones if config.gradient == "word2vec" else shares


def seen_from_words(weights: Tensor) -> Tensor:
    """Turns weights by target into weights by word: place k of target i is word i + k.

    Args:
        weights: (n, C), a row for each target, a column for each place.

    Returns:
        (n + C - 1, C): in row p and column j the weight of word p in the context of target
        p - C + 1 + j; 0 where there is no such target. It is the same memory read along diagonals.

    >>> seen_from_words(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[0.0, 1.0], [2.0, 3.0], [4.0, 0.0]]
    """
    n, span = weights.shape
    padded = F.pad(weights, (0, 0, span - 1, span - 1))  # (n + 2C - 2, C)
    return padded.as_strided((n + span - 1, span), (span, span - 1), span - 1).contiguous()


class StepWeights(NamedTuple):
    """What the words of a batch of n targets count."""

    context: Tensor  # (n, C) in the hidden vector of each target
    by_word: Tensor  # (n + C - 1, C) of each gradient of h for the word it comes back to


def step_weights(batch: Batch, tables: tuple[Tensor, Tensor], pace: Tensor) -> StepWeights:
    """Computes what the words of a batch count.

    Args:
        batch: n targets.
        tables: ``context_weights`` of the batch's few different contexts, (shapes, C) each.
        pace: (V, 1) of the input vectors.
    """
    there, back = tables
    by_word = seen_from_words(back.index_select(0, batch.shape))  # (n + C - 1, C)
    by_word.mul_(pace.index_select(0, batch.text))
    return StepWeights(there.index_select(0, batch.shape), by_word)


def row_gradients(
    model: CBOW, batch: Batch, weights: StepWeights, scale: float = 1.0
) -> RowGradients:
    """Computes the gradient of the summed loss of a batch without autograd, which must be off.

    Each row of it is multiplied by the pace of its word.

    Args:
        model: read, not changed.
        batch: n targets.
        weights: those of the batch.
        scale: what the gradient is multiplied by; -rate makes a step of it.
    """
    around_target, around_word = _neighbors(len(batch), batch.span, batch.text.device)
    words = torch.cat([batch.targets, batch.noise.view(-1)])  # (n + groups Q,)
    rows = model.input.index_select(0, batch.text)  # (n + C - 1, D)
    output = model.output.index_select(0, words)  # (n + groups Q, D)
    pace = model.output_pace.index_select(0, words)  # (n + groups Q, 1)
    target, noise = output.tensor_split([len(batch)])
    d_hidden = negative_sampling_gradients(
        around_target.sums(rows, weights.context),  # (n, D) hidden vectors
        target,
        noise.view(*batch.noise.shape, -1),  # (groups, Q, D)
        model.negatives,
        batch.shared_by,
        scale,
        pace,
    ).hidden
    d_rows = around_word.sums(d_hidden, weights.by_word)  # (n + C - 1, D)
    return RowGradients(batch.text, d_rows, words, output)  # the rows hold the gradients by now


def change_input(model: CBOW, steps: RowGradients | None) -> None:
    """Makes the step in the input vectors; a word that occurs often moves as often."""
    if steps is not None:
        model.input.index_add_(0, steps.text, steps.d_input)


def change_output(model: CBOW, steps: RowGradients | None) -> None:
    """Makes the step in the output vectors."""
    if steps is not None:
        model.output.index_add_(0, steps.words, steps.d_output)
