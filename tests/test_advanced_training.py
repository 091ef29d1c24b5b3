"""The small decoder, its data, its trainer: bad input, resume, what a run leaves behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from advanced_topics import advanced_trainer
from advanced_topics.advanced_config import PRESETS, AdvancedConfig, DecoderConfig
from advanced_topics.evaluation import (
    expert_loads,
    losses_by_position,
    recall_accuracy,
)
from advanced_topics.recall_task import IGNORED, RecallSampler, recall_batch
from advanced_topics.small_decoder import SmallDecoder, parameter_counts
from advanced_topics.train_state import fit_to_data, load_data, load_trained
from gpt.gpt_config import GPTConfig, parameter_count
from gpt.gpt_model import next_token_loss
from tutorial_kit.config import override

SMOKE = PRESETS["smoke"]
SMALL = DecoderConfig(vocab_size=20, max_len=16, d_model=16, n_layers=1, d_ff=24)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_kv_heads": 3}, "n_heads=4 is not divisible by n_kv_heads=3"),
        ({"d_model": 12, "positions": "rotary"}, "heads of 3 numbers cannot be rotated"),
        ({"d_model": 18}, "d_model=18 is not divisible by n_heads=4"),
        ({"positions": "alibi", "mixer": "linear"}, "positions=alibi and mixer=linear do not fit"),
        ({"n_experts": 2, "top_k": 3}, "top_k=3 of n_experts=2 cannot be chosen"),
        ({"init": 0.0}, "init=0.0 learns nothing"),
        ({"conv": -1}, "conv=-1 is below 0"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecoderConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 300}, "window=300 is longer than max_len=256"),
        ({"task": "recall", "pairs": 70}, "pairs=70 needs as many different keys"),
        ({"lr": 0.0}, "lr=0.0 learns nothing"),
        ({"warmup": 1.5}, "warmup=1.5 is no share"),
        ({"balance": -1.0}, "balance=-1.0 is below 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdvancedConfig(**settings)  # type: ignore[arg-type]


def test_a_model_without_a_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size=0 gives no token to predict"):
        SmallDecoder(DecoderConfig())


def test_too_many_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="17 tokens are more than max_len=16"):
        SmallDecoder(SMALL)(torch.zeros(1, 17, dtype=torch.long))


def test_parameters_are_gpts_and_experts_are_idle_but_for_one() -> None:
    model = SmallDecoder(SMALL)
    gpt = GPTConfig(vocab_size=20, max_len=16, d_model=16, n_heads=4, n_kv_heads=4, n_layers=1,
                    d_ff=24, positions="rotary")  # fmt: skip
    assert parameter_counts(model) == (parameter_count(gpt),) * 2
    every, active = parameter_counts(SmallDecoder(replace(SMALL, n_experts=5)))
    expert = 16 * 24 + 24 + 24 * 16 + 16
    assert active == parameter_count(gpt) + 16 * 5 and every == active + 4 * expert


# Recall


def test_every_second_value_is_asked_for_and_can_be_known() -> None:
    tokens, targets = recall_batch(5, 9, 4, torch.Generator().manual_seed(0))
    assert tokens.shape == targets.shape == (4, 19)
    for row, answers in zip(tokens.tolist(), targets.tolist(), strict=True):
        shown = dict(zip(row[0:10:2], row[1:10:2], strict=True))
        assert len(shown) == 5 and all(key < 9 <= value < 18 for key, value in shown.items())
        asked = {row[t]: answers[t] for t in range(10, 19, 2)}
        assert asked == shown
        assert all(answers[t] == IGNORED for t in (*range(10), *range(11, 19, 2)))
        assert [row[t + 1] for t in range(10, 18, 2)] == [answers[t] for t in range(10, 18, 2)]


def test_more_pairs_than_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs=5 needs as many different keys"):
        recall_batch(5, 4, 1, torch.Generator())


def test_a_recall_sampler_can_be_put_back() -> None:
    sampler = RecallSampler(8, 16, 2, seed=3)
    for _ in range(3):
        sampler.next_batch()
    state, batches = sampler.state(), [sampler.next_batch() for _ in range(4)]
    again = RecallSampler(8, 16, 2, seed=3)
    again.restore(state)
    for x, y in batches:
        new_x, new_y = again.next_batch()
        assert torch.equal(x, new_x) and torch.equal(y, new_y)
    assert {y.shape[1] for _, y in batches} <= {4 * n - 1 for n in (1, 2, 4, 8)}
    assert not torch.equal(RecallSampler(8, 16, 2, seed=4).next_batch()[0][0, :2],
                           RecallSampler(8, 16, 2, seed=3).next_batch()[0][0, :2])  # fmt: skip


def test_an_untrained_model_recalls_by_chance() -> None:
    config = replace(SMALL, vocab_size=32, max_len=64)
    assert recall_accuracy(SmallDecoder(config), 8, 16, sequences=32) < 0.3


# Evaluation


def test_losses_by_position_are_the_windows_mean() -> None:
    torch.manual_seed(0)
    model, tokens = SmallDecoder(SMALL), torch.randint(20, (49,))
    losses = losses_by_position(model, tokens, 16)
    windows = tokens[:48].view(3, 16)
    expected = next_token_loss(model(windows), tokens[1:49].view(3, 16))
    assert float(losses.mean()) == pytest.approx(expected.item(), abs=1e-6)
    first = next_token_loss(model(windows)[:, :1], tokens[1:49].view(3, 16)[:, :1])
    assert float(losses[0]) == pytest.approx(first.item(), abs=1e-6)
    assert model.training


def test_with_a_stride_positions_see_the_same_text() -> None:
    """A model that looks at the last token alone has the same loss wherever the window starts."""
    torch.manual_seed(0)
    model, tokens = SmallDecoder(replace(SMALL, positions="none")), torch.randint(20, (4096,))
    for block in model.blocks:
        torch.nn.init.zeros_(block.attention.output.weight)  # type: ignore[union-attr,arg-type]
    blocks = losses_by_position(model, tokens, 16, stride=4, most_windows=1000).view(4, 4).mean(1)
    assert float(blocks.max() - blocks.min()) < 1e-3
    apart = losses_by_position(model, tokens, 16).view(4, 4).mean(1)
    assert float(apart.max() - apart.min()) > 1e-3


def test_a_text_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="the held-out text has 16 tokens"):
        losses_by_position(SmallDecoder(SMALL), torch.zeros(16, dtype=torch.long), 16)


def test_loads_are_shares_of_the_tokens() -> None:
    model = SmallDecoder(replace(SMALL, n_experts=3, n_layers=2))
    loads = expert_loads(model, torch.randint(20, (100,)), 16)
    assert loads.shape == (2, 3) and loads.sum(1).tolist() == pytest.approx([1.0, 1.0])


# Training


@pytest.fixture(params=[{"n_experts": 2, "balance": 0.1}, {"task": "recall", "mixer": "delta"}])
def config(request: pytest.FixtureRequest) -> Iterator[AdvancedConfig]:
    yield override(SMOKE, {**request.param, "max_steps": 6, "eval_every": 3,
                           "checkpoint_every": 3})  # fmt: skip


class Stopped(Exception):
    """Takes the place of a kill."""


def test_a_killed_run_resumed_is_the_run_that_was_not(
    config: AdvancedConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(config)
    whole = advanced_trainer.train(config, data, tmp_path / "whole", device="cpu")

    def die(loss: float, step: int, last: Path) -> None:
        if step == 5:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(advanced_trainer, "check_loss", die)
        with pytest.raises(Stopped):
            advanced_trainer.train(config, data, tmp_path / "killed", device="cpu")
    again = advanced_trainer.train(config, data, tmp_path / "killed", resume=True, device="cpu")
    for (name, one), (_, other) in zip(
        whole.model.state_dict().items(), again.model.state_dict().items(), strict=True
    ):
        assert torch.equal(one, other), name
    assert whole.validation == again.validation
    rows = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in
         (tmp_path / run / "metrics.jsonl").read_text("utf-8").splitlines()]
        for run in ("whole", "killed")
    ]  # fmt: skip
    assert rows[0] == rows[1] and [row["step"] for row in rows[0]] == [3, 6]
    loaded = load_trained(tmp_path / "whole")
    assert torch.equal(loaded.head.weight, whole.model.head.weight)


def test_other_settings_are_not_resumed(tmp_path: Path) -> None:
    advanced_trainer.train(override(SMOKE, {"task": "recall"}), None, tmp_path, device="cpu")
    with pytest.raises(ValueError, match="it was trained with pairs=4, this command asks for 2"):
        advanced_trainer.train(
            override(SMOKE, {"task": "recall", "pairs": 2}), None, tmp_path, resume=True,
            device="cpu",
        )  # fmt: skip


def test_a_missing_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist. Train first"):
        advanced_trainer.train(SMOKE, load_data(SMOKE), tmp_path, resume=True, device="cpu")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_trained(tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    config = override(SMOKE, {"task": "recall", "lr": 1e30, "max_steps": 20, "clip": 0.0})
    with pytest.raises(ValueError, match="the loss is (nan|inf) at step"):
        advanced_trainer.train(config, None, tmp_path, device="cpu")


def test_the_command_line_trains(capsys: pytest.CaptureFixture[str]) -> None:
    result = advanced_trainer.main(["--preset", "smoke", "--positions", "alibi", "--name", "mine"])
    shown = capsys.readouterr().out
    assert result.folder.name == "mine" and result.config.model.positions == "alibi"
    assert "test: " in shown and "sample: " in shown
    assert (result.folder / "checkpoints" / "last.pt").is_file()


def test_the_balancing_loss_is_part_of_the_objective(tmp_path: Path) -> None:
    """With the same seed and data another weight of it gives another model."""
    base = override(SMOKE, {"n_experts": 4, "max_steps": 3})
    data = load_data(base)
    weights = [
        advanced_trainer.train(
            replace(base, balance=balance), data, tmp_path / str(balance), device="cpu"
        ).model.mixtures()[0].router.weight
        for balance in (0.0, 10.0)
    ]  # fmt: skip
    assert not torch.equal(*weights)


@pytest.mark.slow
def test_a_delta_layer_learns_to_recall(tmp_path: Path) -> None:
    config = override(PRESETS["recall"], {"pairs": 8, "keys": 16, "mixer": "delta"})
    result = advanced_trainer.train(config, None, tmp_path, device="cpu")
    assert recall_accuracy(result.model, 8, 16) > 0.9
    assert fit_to_data(config, None).model.vocab_size == 32
