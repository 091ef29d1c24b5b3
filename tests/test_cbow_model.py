"""The model, what a step sees, and the step in two ways."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cbow import lane_processes
from cbow.cbow_config import CBOWConfig, TrainConfig
from cbow.cbow_data import drop_frequent, window_extents
from cbow.cbow_model import CBOW
from cbow.fast_rounds import FastRounds
from cbow.fast_steps import context_weights, seen_from_words
from cbow.readable_steps import readable_step
from cbow.step_data import Batch, StretchDrawer
from cbow.toy_text import SMALL, designs, toy_batch, toy_corpus, toy_data, toy_model
from cbow.train_state import TrainState
from cbow.verify_embedding_updates import fast_step, gradients_of
from cbow.windows import shuffle_sentences
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.config import override


def test_the_start_is_gensims() -> None:
    torch.manual_seed(0)
    model = CBOW(CBOWConfig(d_model=10), [9, 5, 5, 2])
    assert 0.05 < model.input.abs().max() <= 0.1 and model.input.unique().numel() == 40
    assert not model.output.any()
    shapes = torch.tensor([[True, False, True]])
    batch = Batch(torch.tensor([0, 1, 2]), torch.tensor([0]), shapes, torch.tensor([1]),
                  torch.tensor([[0, 2, 3, 0, 2]]), 1)  # fmt: skip
    assert model(batch).item() == pytest.approx(6 * math.log(2))  # every score is 0


def test_one_word_has_nothing_to_be_told_from() -> None:
    with pytest.raises(ValueError, match="a vocabulary of 1 words leaves nothing"):
        CBOW(CBOWConfig(), [3])


@pytest.mark.parametrize("objective", ["softmax", "hierarchical"])
def test_the_other_objectives_are_probabilities(objective: str) -> None:
    model = toy_model(override(SMALL, {"objective": objective}))
    batch, words = toy_batch(n=4), len(toy_corpus().vocabulary)
    with torch.no_grad():
        each = [model(replace(batch, targets=torch.full((4,), w))) for w in range(words)]
    torch.testing.assert_close((-torch.stack(each)).exp().sum(dim=0), torch.ones(4))


@pytest.mark.parametrize("objective", ["negative", "softmax", "hierarchical"])
def test_every_objective_learns_a_batch_by_heart(objective: str) -> None:
    config = override(SMALL, {"objective": objective, "shared_by": 1})
    model, batch = toy_model(config), toy_batch(config)
    losses = [readable_step(model, [batch], 0.05) for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("shuffle", [True, False])
def test_examples_are_those_of_the_text(shuffle: bool) -> None:
    """Each target's context holds the words around it in its sentence, and no other."""
    corpus, config = toy_corpus(), replace(SMALL, sample=1e-2, window=3, shuffle=shuffle)
    drawer = StretchDrawer(corpus, config)
    stretch = drawer.draw(0, 0)
    generator = np.random.default_rng([config.seed, 0, 0])
    tokens, starts = corpus.stretch(drawer.slices[0])
    if shuffle:
        tokens, starts = shuffle_sentences(tokens, starts, generator)
    tokens, starts = drop_frequent(tokens, starts, drawer.keep, generator)
    left, right, _ = window_extents(starts, 3, generator)
    assert len(tokens) < drawer.words(0)
    batch = stretch.part(0, len(stretch))
    assert torch.equal(batch.targets, torch.from_numpy(tokens).long())
    contexts = batch.contexts()
    for i in range(len(tokens)):
        expected = [*tokens[i - left[i] : i], *tokens[i + 1 : i + 1 + right[i]]]
        assert contexts[i][batch.inside[i]].tolist() == expected


def test_skip_gram_takes_the_same_windows_apart() -> None:
    cbow = StretchDrawer(toy_corpus(), SMALL).draw(0, 0)
    pairs = StretchDrawer(toy_corpus(), override(SMALL, {"architecture": "skipgram"})).draw(0, 0)
    whole = cbow.part(0, len(cbow))
    expected = [
        (target, word)
        for target, words, inside in zip(whole.targets, whole.contexts(), whole.inside, strict=True)
        for word in words[inside]
    ]
    assert len(pairs) == len(expected) and pairs.inside.all()
    assert torch.equal(torch.tensor(expected), torch.stack([pairs.targets, pairs.text], dim=1))


def test_draws_depend_on_seed_epoch_and_stretch_alone() -> None:
    def noise(config=SMALL, number: int = 0, epoch: int = 0) -> list[int]:
        torch.rand(3), np.random.rand(3)
        return StretchDrawer(toy_corpus(), config).draw(number, epoch).noise.flatten().tolist()

    assert noise() == noise()
    others = [noise(replace(SMALL, seed=1)), noise(number=1), noise(epoch=1)]
    assert all(other != noise() for other in others)


def test_stretches_hold_the_whole_text_in_equal_numbers_for_each_lane() -> None:
    corpus = toy_corpus(4000)
    for words_per_stretch, lanes in ((300, 2), (300, 3), (10**6, 2)):
        drawer = StretchDrawer(
            corpus, replace(SMALL, lanes=lanes, words_per_step=24), words_per_stretch
        )
        assert len(drawer.slices) % lanes == 0
        assert sum(map(drawer.words, range(len(drawer.slices)))) == len(corpus.tokens)


def test_batches_are_a_stretch_cut_into_parts() -> None:
    stretch = StretchDrawer(toy_corpus(), SMALL).draw(0, 0)
    parts = list(stretch.parts(16))
    assert torch.equal(torch.cat([p.targets for p in parts]), stretch.targets)
    assert torch.equal(torch.cat([p.noise for p in parts]), stretch.noise)
    whole = stretch.part(0, len(stretch)).contexts()
    assert torch.equal(torch.cat([p.contexts() for p in parts]), whole)


def test_weights_by_word_are_weights_by_target_along_diagonals() -> None:
    weights = torch.rand(7, 5)
    by_word = seen_from_words(weights)
    for word in range(11):
        for column in range(5):
            target = word - 4 + column
            expected = weights[target, word - target] if 0 <= target < 7 else 0.0
            assert by_word[word, column] == expected


@pytest.mark.parametrize("config", list(designs()), ids=lambda c: (
    f"{c.model.architecture}-{c.model.combine}-{c.model.gradient}-{c.shared_by}"))  # fmt: skip
def test_the_fast_gradient_is_autograds(config) -> None:
    model, batch = toy_model(config), toy_batch(config)
    model(batch).sum().backward()
    with torch.no_grad():
        rows = gradients_of(model, batch)
    dense = [torch.zeros_like(matrix) for matrix in (model.input, model.output)]
    dense[0].index_add_(0, rows.text, rows.d_input)
    dense[1].index_add_(0, rows.words, rows.d_output)
    for ours, matrix in zip(dense, (model.input, model.output), strict=True):
        torch.testing.assert_close(ours, matrix.grad, rtol=1e-5, atol=1e-5)
        assert ours.abs().max() > 0.01


def test_a_lonely_word_changes_nothing() -> None:
    shapes = torch.zeros(1, 3, dtype=torch.bool)
    batch = Batch(torch.tensor([0, 1, 0]), torch.tensor([0]), shapes, torch.tensor([1]),
                  torch.tensor([[2, 3]]), 1)  # fmt: skip
    config = override(SMALL, {"negatives": 2})
    model = toy_model(config)
    before = [matrix.detach().clone() for matrix in model.parameters()]
    fast_step(model, batch, 0.5)
    assert not batch.has_context.any()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def test_what_a_word_receives() -> None:
    inside = torch.tensor([[True, False, True], [False, False, True]])
    half = torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])
    ones = inside.float()
    for settings, there, back in (
        ({"gradient": "exact"}, half, half), ({}, half, ones), ({"combine": "sum"}, ones, ones)
    ):  # fmt: skip
        found = context_weights(inside, CBOWConfig(**settings))  # type: ignore[arg-type]
        assert torch.equal(found[0], there) and torch.equal(found[1], back)


def toy_state(config: TrainConfig = SMALL) -> TrainState:
    return TrainState(config, toy_data(), torch.device("cpu"))


def test_lanes_of_unequal_length_and_without_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane whose stretch ends earlier, or that has none, simply stops taking part."""
    config = replace(SMALL, lanes=3, words_per_step=24)
    state = toy_state(config)
    long = StretchDrawer(toy_corpus(), replace(SMALL, lanes=1)).draw(0, 0)
    short = Batch(
        long.text[:24], long.shape[:20], long.shapes, long.targets[:20], long.noise[:5], 4
    )
    rates: list[float] = []
    monkeypatch.setattr(state, "draw", [long, None, short].__getitem__)
    monkeypatch.setattr(state, "rate", lambda share: rates.append(share) or 0.01)
    found = []
    for threads in (1, 2, 3):
        state.model = toy_model()
        with closing(FastRounds(state, threads)) as rounds:
            assert rounds.run() == (-(-len(long) // 8), len(long) + 20)
        found.append([matrix.detach().clone() for matrix in state.model.parameters()])
    assert rates[0] == 0 and max(rates) < 1
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_an_error_in_one_process_ends_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    for broken in (0, 1):
        state = toy_state()

        def draw(lane: int, broken: int = broken) -> Batch:
            if lane == broken:
                raise ValueError("the disk is gone")
            return StretchDrawer(toy_corpus(), SMALL).draw(0, 0)

        monkeypatch.setattr(state, "draw", draw)
        with closing(FastRounds(state, 2)) as rounds, pytest.raises(ValueError, match="disk is go"):
            rounds.run()


@pytest.mark.skipif(not lane_processes.can_fork(), reason="one process")
def test_a_process_that_is_killed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    state = toy_state()
    parent = os.getpid()

    def draw(lane: int) -> Batch:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return StretchDrawer(toy_corpus(), SMALL).draw(0, 0)

    monkeypatch.setattr(state, "draw", draw)
    with closing(FastRounds(state, 2)) as rounds:
        (child,) = rounds.processes.children
        with pytest.raises(ValueError, match=r"has ended \(exit code -9\).*--resume.*--threads 1"):
            rounds.run()
        with pytest.raises(ValueError, match="has ended"):  # and again, before it begins
            rounds.run()
    assert not child.is_alive()


@pytest.mark.skipif(not lane_processes.can_fork(), reason="one process")
def test_no_process_outlives_its_training() -> None:
    state = toy_state()
    with closing(FastRounds(state, 2)) as rounds:
        rounds.run()
        rounds.run()
        (child,) = rounds.processes.children
        assert child.is_alive()
    assert not child.is_alive()


KILLED = """
from contextlib import closing
import torch
from cbow.fast_rounds import FastRounds
from cbow.toy_text import SMALL, toy_data
from cbow.train_state import TrainState
state = TrainState(SMALL, toy_data(), torch.device("cpu"))
with closing(FastRounds(state, 2)) as rounds:
    rounds.run()
    print(rounds.processes.children[0].pid, flush=True)
    while {busy}:
        rounds.run()
    input()
"""


@pytest.mark.slow
@pytest.mark.skipif(not lane_processes.can_fork(), reason="one process")
@pytest.mark.parametrize("busy", [True, False])
def test_a_child_does_not_outlive_a_parent_that_is_killed(busy: bool) -> None:
    command = [sys.executable, "-c", KILLED.format(busy=busy)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=PROJECT_ROOT, **pipes) as parent:  # type: ignore[call-overload]
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        time.sleep(0.2)
        parent.kill()
    deadline = time.monotonic() + 10
    while _lives(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    """Tells whether a process computes; one that nobody has asked for its end is a zombie."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text(encoding="utf-8")


def test_one_thread_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not FastRounds(toy_state(), 1).processes.children
    monkeypatch.setattr("cbow.fast_rounds.can_fork", lambda: False)
    assert not FastRounds(toy_state(), 2).processes.children


def test_torchs_own_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one process, torch shares out operations as large as these."""
    monkeypatch.setattr("cbow.fast_rounds.can_fork", lambda: False)
    config = override(SMALL, {"words_per_step": 4096, "d_model": 64})
    found, before = [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            state = TrainState(config, toy_data(20_000), torch.device("cpu"))
            rounds = FastRounds(state, threads)
            while not state.is_finished:
                state.end_round(*rounds.run())
        finally:
            torch.set_num_threads(before)
        found.append([matrix.detach() for matrix in state.model.parameters()])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("objective", ["softmax", "hierarchical"])
def test_only_negative_sampling_is_fast(objective: str) -> None:
    state = toy_state(override(SMALL, {"objective": objective}))
    with pytest.raises(ValueError, match=f"objective={objective} has no fast training.*--readable"):
        FastRounds(state, 1)


def test_shuffling_moves_whole_sentences() -> None:
    corpus = toy_corpus(4000)
    tokens, starts = corpus.stretch()
    starts = np.sort(np.concatenate([starts, [3, 8, 8]]))  # of unequal lengths, some empty
    moved, places = shuffle_sentences(tokens, starts, np.random.default_rng(0))

    def sentences(words: np.ndarray, begins: np.ndarray) -> list[tuple[int, ...]]:
        return [tuple(part.tolist()) for part in np.split(words, begins[1:-1])]

    assert len(moved) == len(tokens) and places[0] == 0 and places[-1] == len(tokens)
    before, after = sentences(tokens, starts), sentences(moved, places)
    assert sorted(before) == sorted(after) and before != after
