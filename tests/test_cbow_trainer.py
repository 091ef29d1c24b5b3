"""The training: both ways alike, resume bit for bit, what is logged, what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cbow import cbow_trainer, train_state
from cbow.cbow_config import PRESETS, TrainConfig
from cbow.cbow_data import CBOWData, Corpus, Vocabulary, load_corpus
from cbow.cbow_trainer import TrainResult, main, train
from cbow.held_out import LossMeter
from cbow.saved_vectors import load_run
from cbow.toy_text import SMALL, toy_corpus, toy_data
from cbow.train_state import TrainState
from cbow.vector_files import load_vectors
from tutorial_kit.config import override
from tutorial_kit.training import InterruptGuard, read_metrics

CPU = torch.device("cpu")
LONGER = replace(SMALL, epochs=3, shared_by=8, words_per_step=32)


@pytest.fixture
def data() -> CBOWData:
    return toy_data(3000)


@pytest.fixture(autouse=True)
def _small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several rounds in an epoch although the text is small."""

    def small(corpus, config, words_per_stretch: int = 300):
        return drawer(corpus, config, words_per_stretch)

    drawer = train_state.StretchDrawer
    monkeypatch.setattr(train_state, "StretchDrawer", small)


def run(config: TrainConfig, data: CBOWData, folder: Path, **options) -> TrainResult:
    return train(config, data, folder, device="cpu", **options)


@pytest.mark.parametrize("architecture", ["cbow", "skipgram"])
def test_both_ways_give_the_same_vectors(architecture: str, data: CBOWData, tmp_path: Path) -> None:
    config = override(LONGER, {"architecture": architecture, "sample": 1e-2, "lr": 0.02})
    fast = run(config, data, tmp_path / "fast")
    slow = run(config, data, tmp_path / "slow", fast=False)
    assert (fast.words, fast.targets) == (slow.words, slow.targets)
    torch.testing.assert_close(fast.vectors, slow.vectors, rtol=0, atol=1e-5)
    torch.testing.assert_close(fast.output, slow.output, rtol=0, atol=1e-5)
    start = TrainState(config, data, CPU).model.input
    assert (fast.vectors - start).abs().max() > 0.1


@pytest.mark.parametrize("fast", [True, False])
def test_large_steps_of_frequent_words_stay_finite(
    fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty words, 25 of each in a step, at a high rate: without paces the vectors explode."""
    config = replace(LONGER, words_per_step=512, lr=0.5)
    found = run(config, toy_data(8000), tmp_path / "paced", fast=fast)
    assert found.validation_loss < found.history[0]["validation_loss"] - 0.2
    monkeypatch.setattr(TrainState, "_set_paces", lambda self: None)
    try:
        summed = run(config, toy_data(8000), tmp_path / "summed", fast=fast).validation_loss
    except ValueError:  # NaN
        summed = math.inf
    assert summed > found.validation_loss + 1


def test_the_number_of_threads_changes_no_bit(data: CBOWData, tmp_path: Path) -> None:
    one, two = (run(replace(LONGER, threads=n), data, tmp_path / str(n)) for n in (1, 2))
    assert torch.equal(one.vectors, two.vectors) and torch.equal(one.output, two.output)
    other = run(replace(LONGER, seed=1), data, tmp_path / "seed")
    assert not torch.equal(one.vectors, other.vectors)


@pytest.mark.parametrize("fast", [True, False])
def test_a_killed_run_resumed_is_the_uninterrupted_one(
    fast: bool, data: CBOWData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(LONGER, data, tmp_path / "whole", fast=fast)

    ended, end_round = [], TrainState.end_round

    def killed(self: TrainState, *numbers: int) -> None:
        ended.append(numbers)
        if len(ended) == 6:  # the state is lost: what counts is the last checkpoint
            raise KeyError("killed")
        end_round(self, *numbers)

    monkeypatch.setattr(TrainState, "end_round", killed)
    with pytest.raises(KeyError):
        run(LONGER, data, tmp_path / "killed", fast=fast)
    monkeypatch.setattr(TrainState, "end_round", end_round)
    again = run(LONGER, data, tmp_path / "killed", fast=fast, resume=True)
    assert torch.equal(again.vectors, whole.vectors) and torch.equal(again.output, whole.output)
    timeless = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]
        for result in (again, whole)
    ]
    assert timeless[0] == timeless[1]


def test_ctrl_c_saves(
    data: CBOWData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole = run(LONGER, data, tmp_path / "whole")
    monkeypatch.setattr(InterruptGuard, "__enter__", _already_pressed)
    with pytest.raises(KeyboardInterrupt):
        run(LONGER, data, tmp_path / "stopped")
    assert "--resume goes on" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setattr(train_state, "StretchDrawer", _of_300(train_state.StretchDrawer))
    again = run(LONGER, data, tmp_path / "stopped", resume=True)
    assert torch.equal(again.vectors, whole.vectors)


def _already_pressed(guard: InterruptGuard) -> InterruptGuard:
    guard.requested = True
    return guard


def _of_300(drawer):
    return lambda corpus, config, words=300: drawer(corpus, config, words)


def test_what_a_run_leaves(data: CBOWData, tmp_path: Path) -> None:
    result = run(replace(LONGER, evals_per_epoch=2), data, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json", "metrics.jsonl", "checkpoints", "vectors.bin"
    }  # fmt: skip
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows == result.history and len(rows) == 1 + 3 * 2
    assert rows[0]["words"] == 0 and rows[0]["lr"] == LONGER.lr
    assert rows[-1]["words"] == result.words == 3 * len(data.train.tokens)
    assert rows[-1]["lr"] == pytest.approx(LONGER.lr * LONGER.floor)
    rates = [row["lr"] for row in rows]
    assert rates == sorted(rates, reverse=True)
    assert rows[-1]["validation_loss"] < rows[0]["validation_loss"] - 0.1
    assert all(len(near) == 8 for near in rows[-1]["neighbors"].values())
    words, vectors = load_vectors(tmp_path / "vectors.bin")
    assert tuple(words) == data.vocabulary.words
    assert torch.equal(torch.from_numpy(vectors), result.vectors)
    rows_of_length_1 = result.vectors / result.vectors.norm(dim=1, keepdim=True)
    torch.testing.assert_close(load_run(tmp_path).vectors, rows_of_length_1)


def test_the_held_out_loss_has_the_same_draws_in_every_run(data: CBOWData) -> None:
    torch.manual_seed(0)
    model = TrainState(SMALL, data, CPU).model
    torch.nn.init.normal_(model.output)
    measured = []
    others = replace(SMALL, seed=7), replace(SMALL, shared_by=8, lanes=1, shuffle=False)
    for config in (SMALL, *others):
        meter = LossMeter(data, config, CPU)
        assert meter.is_held_out
        measured.append(meter.measure(model))
    assert measured[0] == measured[1] == measured[2]
    train_loss, held_out_loss = measured[0]
    assert train_loss != held_out_loss


def test_held_out_text_of_lonely_words_is_none(data: CBOWData, tmp_path: Path) -> None:
    lonely = Corpus("toy", data.vocabulary, data.train.tokens[:1], data.train.starts[:1])
    without = replace(data, validation=replace(lonely, starts=data.train.starts[:1] * 0))
    meter = LossMeter(without, SMALL, CPU)
    model = TrainState(SMALL, data, CPU).model
    assert not meter.is_held_out
    train_loss, held_out_loss = meter.measure(model)
    assert train_loss == held_out_loss and math.isfinite(train_loss)


def test_a_rate_too_large_is_said_with_step_and_remedy(data: CBOWData, tmp_path: Path) -> None:
    config = override(LONGER, {"lr": 1e30, "combine": "sum"})
    with pytest.raises(ValueError, match=r"vectors hold NaN after step \d+: .*Use a smaller --lr"):
        run(config, data, tmp_path)


def test_a_vocabulary_smaller_than_the_negatives() -> None:
    words = Vocabulary.count([["a", "b"], ["b", "c"]])
    corpus = replace(toy_corpus(), vocabulary=words)
    with pytest.raises(ValueError, match="negatives=5 are drawn from a vocabulary of 3 words"):
        TrainState(SMALL, CBOWData("tiny", corpus, corpus), CPU)


def test_resume_refuses_other_settings_and_another_text(data: CBOWData, tmp_path: Path) -> None:
    run(LONGER, data, tmp_path)
    with pytest.raises(ValueError, match="trained with window=2, this command asks for 3"):
        run(replace(LONGER, window=3), data, tmp_path, resume=True)
    tokens = data.train.tokens.copy()
    tokens[:2] = tokens[1::-1]
    other = replace(data, train=replace(data.train, tokens=tokens))
    with pytest.raises(ValueError, match="the text has changed since"):
        run(LONGER, other, tmp_path, resume=True)
    with pytest.raises(FileNotFoundError):
        run(LONGER, data, tmp_path / "nothing", resume=True)


def test_a_checkpoint_whose_parts_do_not_fit(data: CBOWData, tmp_path: Path) -> None:
    state = TrainState(SMALL, data, CPU)
    state.model.input = torch.nn.Parameter(torch.zeros(3, 8))
    state.save(tmp_path / "wrong.pt")
    with pytest.raises(ValueError, match="vectors for 3: they belong to different runs"):
        load_run(tmp_path / "wrong.pt")


def test_every_objective_trains(data: CBOWData, tmp_path: Path) -> None:
    for objective in ("softmax", "hierarchical"):
        config = override(LONGER, {"objective": objective, "epochs": 1, "lr": 0.1})
        result = run(config, data, tmp_path / objective, fast=False)
        losses = [row["validation_loss"] for row in result.history]
        assert losses[-1] < losses[0]


def test_main_trains_and_resumes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    data: CBOWData,
) -> None:  # fmt: skip
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(cbow_trainer, "load_corpus", lambda *_: data)
    flags = ["--preset", "smoke", "--name", "a", "--device", "cpu"]
    first = main(flags)
    printed = capsys.readouterr().out
    assert "parameters; training on cpu" in printed and "nats/target" in printed
    assert first.folder == tmp_path / "cbow" / "a"
    again = main([*flags, "--resume"])  # finished: nothing is left to do
    assert torch.equal(again.vectors, first.vectors)
    readable = main([*flags[:2], "--name", "b", "--readable", "--device", "cpu"])
    torch.testing.assert_close(readable.vectors, first.vectors, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_smoke_preset_learns_from_documentation(tmp_path: Path) -> None:
    config = PRESETS["smoke"]
    data = load_corpus(config.dataset, config.min_count)
    history = run(config, data, tmp_path).history
    assert history[-1]["validation_loss"] < history[0]["validation_loss"] - 0.5
