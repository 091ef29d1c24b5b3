"""Rounds of the fast training: its steps, taken by several processes at a time.

A step takes equal parts, **lanes**, from different places of the text, and each lane may have a
process of its own (``lane_processes``). All compute the gradients of their lanes. Then they change
the rows in turns: while the first lane changes the input vectors, the last one changes the output
vectors, and so on, from the first to the last and back. So a row changes in the same order, and the
result is the same, bit for bit, with one process or two. word2vec.c lets its threads run free
instead (Recht et al. 2011, "Hogwild!"), and no two runs of it are alike.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cbow.fast_steps import (
    RowGradients,
    change_input,
    change_output,
    context_weights,
    row_gradients,
    step_weights,
)
from cbow.lane_processes import LaneProcesses, can_fork, shared_copy
from cbow.step_data import Batch
from cbow.train_state import TrainState


class FastRounds:
    """Trains on one stretch for each lane at a time, with as many processes as are allowed."""

    def __init__(self, state: TrainState, threads: int) -> None:
        """Keeps what all rounds have in common; moves the vectors to where all processes see them.

        Args:
            state: a run with negative sampling; its matrices are changed.
            threads: processes, at most one for each lane.

        Raises:
            ValueError: the model has another objective.
        """
        config, model = state.config, state.model
        if config.model.objective != "negative":
            raise ValueError(
                f"objective={config.model.objective} has no fast training: its gradient reaches "
                "all words, or the way to a word. Use --readable, or objective=negative."
            )
        self.state, self.model, self.lanes = state, model, config.lanes
        self.size = config.words_per_step // config.lanes  # targets of a lane in a step
        on_cpu = model.input.device.type == "cpu"
        self.workers = max(1, min(config.lanes, threads)) if on_cpu and can_fork() else 1
        self.targets = shared_copy(torch.zeros(config.lanes, dtype=torch.int64))  # of the round
        if self.workers > 1:
            for matrix in (model.input, model.output):
                matrix.data = shared_copy(matrix)
        self.processes = LaneProcesses(self.workers)
        self.processes.start(self._follow)  # last: a child begins with what is here by now

    def close(self) -> None:
        """Ends the other processes."""
        self.processes.close()

    def run(self) -> tuple[int, int]:
        """Trains on the coming round.

        Returns:
            Steps made, and targets seen.
        """
        threads = torch.get_num_threads()
        if self.workers > 1:
            torch.set_num_threads(1)  # the lanes are what runs side by side
        try:
            self.processes.begin(self.state.counters())
            steps = self._work(0)
        finally:
            torch.set_num_threads(threads)
        return steps, int(self.targets.sum())

    def _follow(self, worker: int, counters: dict[str, Any]) -> None:
        """Does a child's part of a round: its copy of the run goes to where the parent's is."""
        self.state.restore_counters(counters)
        self._work(worker)

    @torch.inference_mode()  # no autograd, and less work around each operation than no_grad
    def _work(self, worker: int) -> int:
        """Trains the lanes of one worker; all workers go through the same steps and turns."""
        model, meet, size = self.model, self.processes.meet, self.size
        mine = range(worker, self.lanes, self.workers)
        stretches: dict[int, Batch] = {}
        tables: dict[int, tuple[Tensor, Tensor]] = {}  # what the words of a context count
        parts: dict[int, RowGradients | None] = {}
        for lane in mine:
            drawn = self.state.draw(lane)
            self.targets[lane] = 0 if drawn is None else len(drawn)
            if drawn is not None:
                stretches[lane] = stretch = drawn.to(model.input.device)
                tables[lane] = context_weights(stretch.shapes, model.config)
        meet()
        steps = -(-int(self.targets.max()) // size)
        for step in range(steps):
            scale, begin = -self.state.rate(step / steps), step * size
            for lane in mine:
                parts[lane] = None  # the coming gradient takes its memory, which is in the cache
                if begin < int(self.targets[lane]):
                    batch = stretches[lane].part(begin, size)
                    weights = step_weights(batch, tables[lane], model.input_pace)
                    parts[lane] = row_gradients(model, batch, weights, scale)
            for turn in range(self.lanes):  # from the first lane on, and from the last one back
                meet()
                if turn in mine:
                    change_input(model, parts[turn])
                if (back := self.lanes - 1 - turn) in mine:
                    change_output(model, parts[back])
            meet()  # until all rows are changed
        return steps
