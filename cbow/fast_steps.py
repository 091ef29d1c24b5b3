"""The same training, fast: no autograd, only the rows that a step needs, matrix products for noise.

1. A batch holds consecutive targets, so the contexts of n targets are n + 2W words: their vectors
   are gathered once, and a context's vector is a weighted sum of neighboring rows
   (``embedding_bag``, whose weights are 0 outside the window). The way back is such a sum, too: a
   word receives from the targets around it what they would have received from it.
2. G targets share their noise, so its scores are products of (G, D) and (D, K) matrices
   (``cbow_components.negative_sampling_gradients``).
3. Three ``index_add_`` change the rows that took part, and no other.

A step takes equal parts, **lanes**, from different places of the text. Each lane may have a thread
of its own: all compute their gradients, wait for each other, and then one thread changes the input
vectors and another the output vectors, lane after lane. So the result is the same, bit for bit,
with one thread or two. word2vec.c lets its threads run free instead (Recht et al. 2011,
"Hogwild!"), and no two runs of it are alike.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cbow.cbow_components import (
    context_counts,
    negative_sampling_gradients,
)
from cbow.cbow_config import CBOWConfig
from cbow.cbow_model import CBOW
from cbow.step_data import Batch


class RowGradients(NamedTuple):
    """The gradient of a batch, or a multiple of it: rows of the two matrices."""

    text: Tensor  # (m,) words, some of them several times
    d_input: Tensor  # (m, D) by their input vectors
    targets: Tensor  # (n,) words
    d_target: Tensor  # (n, D) by their output vectors
    noise: Tensor  # (groups Q,) words
    d_noise: Tensor  # (groups Q, D) by their output vectors


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
        weights: (..., n, C), a row for each target, a column for each place.

    Returns:
        (..., n + C - 1, C): in row p and column j the weight of word p in the context of target
        p - C + 1 + j; 0 where there is no such target. It is the same memory read along diagonals.

    >>> seen_from_words(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[0.0, 1.0], [2.0, 3.0], [4.0, 0.0]]
    """
    *lead, n, span = weights.shape
    padded = F.pad(weights, (0, 0, span - 1, span - 1))  # (..., n + 2C - 2, C)
    diagonals = padded.as_strided(
        (*lead, n + span - 1, span), (*padded.stride()[:-2], span, span - 1), span - 1
    )
    return diagonals.contiguous()


class StepWeights(NamedTuple):
    """What the words of a batch of n targets count."""

    context: Tensor  # (n, C) in the hidden vector of each target
    by_word: Tensor  # (n + C - 1, C) of each gradient of h for the word it comes back to


def step_weights(stretch: Batch, size: int, config: CBOWConfig) -> list[StepWeights]:
    """Computes the weights of a stretch at once, which takes less time than step by step.

    Args:
        stretch: all its examples.
        size: of the batches that it is cut into.
        config: how a context becomes one vector.

    Returns:
        The weights of each batch.
    """
    n, span = len(stretch), stretch.span
    there, back = context_weights(stretch.shapes, config)  # (shapes, C) each
    shape = F.pad(stretch.shape, (0, -n % size))  # the last batch filled up; cut again below
    context, back = (table.index_select(0, shape).view(-1, size, span) for table in (there, back))
    by_word = seen_from_words(back)  # (batches, size + C - 1, C)
    lengths = [min(size, n - begin) for begin in range(0, n, size)]
    return [
        StepWeights(context[i, :length], by_word[i, : length + span - 1])
        for i, length in enumerate(lengths)
    ]


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
    noise = batch.noise.view(-1)  # (groups Q,)

    rows = model.input.index_select(0, batch.text)  # (n + C - 1, D)
    gradients = negative_sampling_gradients(
        around_target.sums(rows, weights.context),  # (n, D) hidden vectors
        model.output.index_select(0, batch.targets),  # (n, D)
        model.output.index_select(0, noise).view(*batch.noise.shape, -1),  # (groups, Q, D)
        model.negatives,
        batch.shared_by,
        scale,
    )
    d_rows = around_word.sums(gradients.hidden, weights.by_word)  # (n + C - 1, D)
    return RowGradients(
        batch.text, d_rows.mul_(model.input_pace[batch.text]),
        batch.targets, gradients.target.mul_(model.output_pace[batch.targets]),
        noise, gradients.noise.flatten(0, 1).mul_(model.output_pace[noise]),
    )  # fmt: skip


def change_input(model: CBOW, steps: RowGradients) -> None:
    """Makes the step in the input vectors; a word that occurs often moves as often."""
    model.input.index_add_(0, steps.text, steps.d_input)


def change_output(model: CBOW, steps: RowGradients) -> None:
    """Makes the step in the output vectors."""
    model.output.index_add_(0, steps.targets, steps.d_target)
    model.output.index_add_(0, steps.noise, steps.d_noise)


class FastRounds:
    """Trains on one stretch for each lane at a time, with as many threads as are allowed."""

    def __init__(self, model: CBOW, lanes: int, size: int, threads: int) -> None:
        """Keeps what all rounds have in common.

        Args:
            model: with negative sampling; its matrices are changed.
            lanes: parts of a step, each from a stretch of its own.
            size: targets of a part.
            threads: at most one for each lane is used.

        Raises:
            ValueError: the model has another objective.
        """
        if model.config.objective != "negative":
            raise ValueError(
                f"objective={model.config.objective} has no fast training: its gradient reaches "
                "all words, or the way to a word. Use --readable, or objective=negative."
            )
        self.model, self.lanes, self.size = model, lanes, size
        self.workers = max(1, min(lanes, threads))
        self.device = model.input.device

    def run(
        self, draw: Callable[[int], Batch | None], rate: Callable[[float], float]
    ) -> tuple[int, int]:
        """Trains on a round.

        Args:
            draw: lane -> its stretch, or None; called in the lane's thread.
            rate: share of the round that is done, 0 to 1 -> learning rate.

        Returns:
            Steps made, and targets seen.
        """
        stretches: list[Batch | None] = [None] * self.lanes
        parts: list[RowGradients | None] = [None] * self.lanes
        meet = threading.Barrier(self.workers)

        @torch.inference_mode()  # no autograd, and less work around each operation than no_grad
        def work(worker: int) -> int:
            mine = range(worker, self.lanes, self.workers)
            weights: dict[int, list[StepWeights]] = {}
            for lane in mine:
                drawn = draw(lane)
                if drawn is not None:
                    drawn = stretches[lane] = drawn.to(self.device)
                    weights[lane] = step_weights(drawn, self.size, self.model.config)
            meet.wait()
            steps = -(-max(map(len, filter(None, stretches))) // self.size)
            for step in range(steps):
                scale = -rate(step / steps)
                for lane in mine:
                    stretch, parts[lane] = stretches[lane], None
                    if stretch is not None and step * self.size < len(stretch):
                        batch = stretch.part(step * self.size, self.size)
                        parts[lane] = row_gradients(self.model, batch, weights[lane][step], scale)
                meet.wait()  # until all gradients are there
                for part in filter(None, parts):
                    if worker == 0:
                        change_input(self.model, part)
                    if worker == self.workers - 1:
                        change_output(self.model, part)
                meet.wait()  # until all rows are changed
            return steps

        steps = self._in_threads(work, meet)
        return steps, sum(map(len, filter(None, stretches)))

    def _in_threads(self, work: Callable[[int], int], meet: threading.Barrier) -> int:
        """Runs ``work`` once for each worker; an error in one ends all and is raised here."""

        def guarded(worker: int) -> int:
            torch.set_num_threads(1)  # of this thread alone: the lanes are what runs side by side
            try:
                return work(worker)
            except BaseException:
                meet.abort()
                raise

        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(guarded, worker) for worker in range(self.workers)]
        errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None and not isinstance(error, threading.BrokenBarrierError):
                raise error
        return futures[0].result()
