"""The training as one would write it down: a loss, autograd, a step against the gradient.

Every step makes a gradient as large as the two matrices, although a few thousand rows of it differ
from zero. That is why it is slow, and why ``fast_steps`` exists, which does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from cbow.cbow_model import CBOW
from cbow.step_data import Batch


def readable_step(model: CBOW, batches: Sequence[Batch], rate: float) -> float:
    """Makes one step of stochastic gradient descent on the sum of all losses.

    The sum, not the mean: word2vec makes a step of this rate for every single target. Frequent
    words take smaller ones (``cbow.paces``).

    Args:
        model: its two matrices are changed.
        batches: one of each lane.
        rate: the learning rate.

    Returns:
        The mean loss of the targets that have a context, nats.
    """
    model.zero_grad()
    losses = torch.cat([model(batch)[batch.has_context] for batch in batches])  # (targets,)
    losses.sum().backward()
    with torch.no_grad():
        for matrix, pace in ((model.input, model.input_pace), (model.output, model.output_pace)):
            if matrix.grad is not None:  # None: no target had a context
                matrix.sub_(rate * pace * matrix.grad)
    return losses.mean().item()


def readable_round(
    model: CBOW,
    draw: Callable[[int], Batch | None],
    rate: Callable[[float], float],
    lanes: int,
    size: int,
) -> tuple[int, int]:
    """Trains on one stretch for each lane; what ``FastRounds.run`` does, for every objective.

    Args:
        model: its two matrices are changed.
        draw: lane -> its stretch, or None.
        rate: share of the round that is done, 0 to 1 -> learning rate.
        lanes: parts of a step.
        size: targets of a part.

    Returns:
        Steps made, and targets seen.
    """
    stretches = [stretch for lane in range(lanes) if (stretch := draw(lane)) is not None]
    steps = -(-max(map(len, stretches)) // size)
    for step in range(steps):
        begin = step * size
        parts = [stretch.part(begin, size) for stretch in stretches if begin < len(stretch)]
        readable_step(model, [part.to(model.input.device) for part in parts], rate(step / steps))
    return steps, sum(map(len, stretches))
