"""The training as one would write it down: a loss, autograd, a step against the gradient.

Every step makes a gradient as large as the two matrices, although a few thousand rows of it differ
from zero. That is why it is slow, and why ``fast_steps`` exists, which does the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cbow.cbow_model import CBOW
from cbow.step_data import Batch
from cbow.train_state import TrainState


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


class ReadableRounds:
    """Trains on one stretch for each lane at a time: ``FastRounds``, for every objective."""

    def __init__(self, state: TrainState) -> None:
        """Keeps the run; its matrices are changed."""
        self.state = state

    def run(self) -> tuple[int, int]:
        """Trains on the coming round.

        Returns:
            Steps made, and targets seen.
        """
        state, config = self.state, self.state.config
        device, size = state.model.input.device, config.words_per_step // config.lanes
        drawn = [state.draw(lane) for lane in range(config.lanes)]
        stretches = [stretch for stretch in drawn if stretch is not None]
        steps = -(-max(map(len, stretches)) // size)
        for step in range(steps):
            begin = step * size
            parts = [part.part(begin, size) for part in stretches if begin < len(part)]
            rate = state.rate(step / steps)
            readable_step(state.model, [part.to(device) for part in parts], rate)
        return steps, sum(map(len, stretches))

    def close(self) -> None:
        """Does nothing: there are no other processes."""
