"""Prove that training does what the chapter says: which rows change, by how much; that it learns.

``python cbow/verify_embedding_updates.py`` prints a PASS or FAIL line for each claim; ``--trace``
prints the shape ledger, every tensor of one step. A training that silently does nothing fails here:
each row that should change is checked, not only that no other does.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cbow.cbow_components import (
    combine_context,
    hierarchical_gradients,
    hierarchical_losses,
    negative_sampling_gradients,
    negative_sampling_losses,
    softmax_gradients,
    softmax_losses,
)
from cbow.cbow_config import TrainConfig
from cbow.cbow_model import CBOW
from cbow.fast_rounds import FastRounds
from cbow.fast_steps import (
    RowGradients,
    change_input,
    change_output,
    context_weights,
    row_gradients,
    step_weights,
)
from cbow.huffman import huffman_paths
from cbow.readable_steps import ReadableRounds, readable_step
from cbow.step_data import Batch, StretchDrawer
from cbow.toy_text import SMALL, designs, toy_batch, toy_corpus, toy_data, toy_model
from cbow.train_state import TrainState
from cbow.windows import window_extents
from tutorial_kit.config import override
from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import verify_parser
from tutorial_kit.verify import Check, Origin, largest, run_checks, shape_ledger

MEANINGS = {
    "text": "(n + 2W,) words: the targets and what stands around them",
    "inside": "(n, 2W + 1) True where a word belongs to the context of a target",
    "targets": "(n,) words to predict",
    "noise": "(groups, Q) words of noise, for each group of targets",
    "hidden": "(n, D) h, the mean of each context's input vectors",
    "losses": "(n,) nats",
    "d_hidden": "(n, D) derivative of the summed losses by h",
    "d_target": "(n, D) by the output vectors of the targets",
    "d_noise": "(groups, Q, D) by the output vectors of the noise",
    "d_input": "(n + 2W, D) by the input vectors of the text, word by word",
}

ORIGINS = {
    "text": Origin(StretchDrawer.draw, "", "text = np.pad("),
    "inside": Origin(window_extents),
    "targets": Origin(StretchDrawer.draw, "", "targets = text"),
    "noise": Origin(StretchDrawer.draw, "6", "noise = "),
    "hidden": Origin(combine_context, "1"),
    "losses": Origin(negative_sampling_losses, "4"),
    "d_hidden": Origin(negative_sampling_gradients, "3", "d_hidden.addcmul_("),
    "d_target": Origin(negative_sampling_gradients, "3", "torch.mul(miss, hidden"),
    "d_noise": Origin(negative_sampling_gradients, "3", "torch.bmm(false_alarm.transpose"),
    "d_input": Origin(row_gradients, "11", "d_rows = "),
}


def check_parameter_count() -> float:
    """Two matrices of V x D: 2 V D parameters; with a tree D less, for it has V - 1 nodes."""
    words, width = len(toy_corpus().vocabulary), SMALL.model.d_model
    models = [
        toy_model(override(SMALL, {"objective": name}))
        for name in ("negative", "softmax", "hierarchical")
    ]
    found = [sum(matrix.numel() for matrix in model.parameters()) for model in models]
    expected = [2 * words * width, 2 * words * width, (2 * words - 1) * width]
    return float(found != expected)


def check_three_words_by_hand() -> float:
    """Three words, h and u by hand: the step moves every number by -rate times the derivative."""
    model = CBOW(override(SMALL, {"d_model": 2}).model, [3, 2, 1], negatives=1)
    with torch.no_grad():
        model.input.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]]))
        model.output.copy_(torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.0, -1.0]]))
    # "0 1 2": predict 1 from 0 and 2, with 2 as noise. h = (0.5, 1), h . u_1 = 0.5, h . u_2 = -1.
    batch = Batch(
        torch.tensor([0, 1, 2]), torch.tensor([0]), torch.tensor([[True, False, True]]),
        torch.tensor([1]), torch.tensor([[2]]), 1,
    )  # fmt: skip
    miss, false_alarm = 1 / (1 + math.exp(-0.5)) - 1, 1 / (1 + math.exp(1))
    d_h = torch.tensor([miss * 1.0, false_alarm * -1.0])  # e_1 u_1 + e_2 u_2
    h, rate = torch.tensor([0.5, 1.0]), 0.1
    expected_input = model.input - rate * torch.stack([d_h / 2, 0 * d_h, d_h / 2])
    expected_output = model.output - rate * torch.stack([0 * h, miss * h, false_alarm * h])
    fast_step(model, batch, rate)
    return max(largest(model.input - expected_input), largest(model.output - expected_output))


def check_gradients() -> float:
    """The three losses' gradients, derived by hand, are autograd's."""
    torch.manual_seed(0)
    words = torch.randint(0, 9, (8,))
    hidden, target, noise, output = (
        torch.randn(*shape, 6, dtype=torch.float64, requires_grad=True)
        for shape in ((8,), (8,), (2, 3), (9,))
    )
    paths = huffman_paths([40, 20, 9, 9, 5, 4, 3, 2, 1])
    turns = paths.turns_left[words], paths.on_path[words]
    nodes = output[paths.nodes[words]]  # (8, L, 6)
    trio = (
        (negative_sampling_losses, negative_sampling_gradients, (hidden, target, noise),
         (5, 4)),
        (softmax_losses, softmax_gradients, (hidden, output), (words,)),
        (hierarchical_losses, hierarchical_gradients, (hidden, nodes), turns),
    )  # fmt: skip
    worst = 0.0
    for losses, gradients, inputs, given in trio:
        loss = losses(*inputs, *given).sum()
        expected = torch.autograd.grad(loss, inputs, retain_graph=True)
        with torch.no_grad():
            found: Sequence[Tensor] = gradients(*inputs, *given)
        worst = max(worst, *(largest(a - b) for a, b in zip(found, expected, strict=True)))
    return worst


def check_rows_that_stay() -> float:
    """A step leaves every row alone that is neither in a context nor target nor noise."""
    worst = 0.0
    for step in (fast_step, slow_step):
        model, batch = toy_model(), toy_batch()
        before = [matrix.detach().clone() for matrix in model.parameters()]
        step(model, batch, 0.1)
        for matrix, old, used in zip(model.parameters(), before, used_rows(batch), strict=True):
            worst = max(worst, largest((matrix - old)[~used]))
    return worst


def check_rows_that_change() -> float:
    """A step changes every row that takes part; the number of those that stay is 0."""
    still = 0
    for step in (fast_step, slow_step):
        model, batch = toy_model(), toy_batch()
        before = [matrix.detach().clone() for matrix in model.parameters()]
        step(model, batch, 0.1)
        for matrix, old, used in zip(model.parameters(), before, used_rows(batch), strict=True):
            still += int(((matrix - old)[used] == 0).all(dim=1).sum())
    return float(still)


def used_rows(batch: Batch) -> tuple[Tensor, Tensor]:
    """Returns which input and which output rows take part, (V,) bool each."""
    used_input, used_output = torch.zeros(2, len(toy_corpus().vocabulary), dtype=torch.bool)
    used_input[batch.contexts()[batch.inside]] = True
    used_output[batch.targets] = True
    used_output[batch.noise] = True
    return used_input, used_output


def check_fast_is_readable() -> float:
    """The fast training gives the readable one's vectors, on the same draws, for every design."""
    worst = 0.0
    for config in designs():
        fast, slow = train_both(config, threads=1)
        worst = max(worst, *(largest(a - b) for a, b in zip(fast, slow, strict=True)))
    return worst


def check_threads() -> float:
    """One thread and two give the same vectors, bit for bit."""
    one, two = (train_both(SMALL, threads)[0] for threads in (1, 2))
    return float(not all(torch.equal(a, b) for a, b in zip(one, two, strict=True)))


def train_both(config: TrainConfig, threads: int) -> tuple[list[Tensor], list[Tensor]]:
    """Trains on a toy text in both ways; returns the matrices of each."""
    found = []
    for fast in (True, False):
        state = TrainState(config, toy_data(), torch.device("cpu"))
        with closing(FastRounds(state, threads) if fast else ReadableRounds(state)) as rounds:
            rounds.run()
        found.append([matrix.detach() for matrix in state.model.parameters()])
    return found[0], found[1]


def check_learning() -> float:
    """Training lowers the loss on other text; the difference is what it misses of 0.2 nats."""
    config = replace(SMALL, shared_by=1, epochs=3, lr=0.1)
    data = toy_data(8000)
    state = TrainState(config, data, torch.device("cpu"))
    held_out = StretchDrawer(data.validation, config).draw(0, 0).part(0, 400)

    def loss() -> float:
        with torch.no_grad():
            return state.model(held_out)[held_out.has_context].mean().item()

    before = loss()
    rounds = FastRounds(state, 1)
    while not state.is_finished:
        state.end_round(*rounds.run())
    return max(0.0, 0.2 - (before - loss()))


def check_rate_falls() -> float:
    """The learning rate falls in a line with the words read, from its start to its floor."""
    state = TrainState(replace(SMALL, epochs=4), toy_data(), torch.device("cpu"))
    worst, share = 0.0, 0.0
    while not state.is_finished:
        worst = max(worst, abs(state.rate(0.0) - SMALL.lr * (1 - share)))
        state.end_round(steps=1, targets=1)
        share = state.words / state.total_words
    return max(worst, abs(state.rate(0.0) - SMALL.lr * SMALL.floor), abs(share - 1))


@torch.no_grad()
def fast_step(model: CBOW, batch: Batch, rate: float) -> None:
    """Makes one step without autograd."""
    steps = gradients_of(model, batch, -rate)
    change_input(model, steps)
    change_output(model, steps)


def gradients_of(model: CBOW, batch: Batch, scale: float = 1.0) -> RowGradients:
    """Returns the gradient of one batch without autograd."""
    tables = context_weights(batch.shapes, model.config)
    weights = step_weights(batch, tables, model.input_pace)
    return row_gradients(model, batch, weights, scale)


def slow_step(model: CBOW, batch: Batch, rate: float) -> None:
    """Makes one step with autograd."""
    readable_step(model, [batch], rate)


CHECKS: list[Check] = [
    (check_parameter_count, 0.0),
    (check_three_words_by_hand, 1e-6),
    (check_gradients, 1e-12),
    (check_rows_that_stay, 0.0),
    (check_rows_that_change, 0.0),
    (check_fast_is_readable, 1e-5),
    (check_threads, 0.0),
    (check_learning, 0.0),
    (check_rate_falls, 1e-9),
]


@torch.no_grad()
def named_tensors() -> dict[str, Tensor]:
    """Returns every tensor of one step of a small model, by name."""
    model, batch = toy_model(), toy_batch(n=12)
    hidden = model.hidden(batch)
    target, noise = model.output[batch.targets], model.output[batch.noise]
    by_hand = negative_sampling_gradients(hidden, target, noise, model.negatives, batch.shared_by)
    named: dict[str, Any] = {
        "text": batch.text, "inside": batch.inside, "targets": batch.targets, "noise": batch.noise,
        "hidden": hidden, "losses": model(batch), "d_hidden": by_hand.hidden,
        "d_target": by_hand.target, "d_noise": by_hand.noise,
        "d_input": gradients_of(model, batch).d_input,
    }  # fmt: skip
    return named


def trace() -> str:
    """Returns the shape ledger: every tensor of one step of a small model."""
    return shape_ledger(named_tensors(), MEANINGS, ORIGINS)


def forward_once() -> str:
    """Computes the loss of one small batch; returns its shape in words."""
    return f"losses {tuple(toy_model()(toy_batch()).shape)}"


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return verify_parser("Prove what a training step changes, claim by claim.")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per check; returns 1 if any failed, else 0."""
    args = build_parser().parse_args(argv)
    if args.trace:
        print(trace())
        return 0
    return run_checks(CHECKS)


if __name__ == "__main__":
    run_entry(main)
