"""The benchmarks of instruction tuning: both sides do the same work, and goals are judged right."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import instruction_peers as peers
from benchmarks import instruction_quality as quality
from benchmarks import instruction_training as training
from benchmarks import startup
from benchmarks.instruction_lockstep import Lockstep, pausing
from benchmarks.side_processes import Memory, Race, race
from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from instruction_tuning import dpo_trainer, sft_trainer
from instruction_tuning.instruction_data import build_tokenizer
from instruction_tuning.pair_data import PairData, Pairs
from instruction_tuning.tuning_batches import RowSampler
from instruction_tuning.tuning_config import DPOConfig, SFTConfig

ROWS, STEPS = 4, 3
PREFIX = "instruction_tuning.training."


def tiny() -> GPTConfig:
    return replace(peers.shape(), d_model=32, n_heads=2, n_kv_heads=2, n_layers=1, d_ff=64)


def start() -> GPT:
    torch.manual_seed(0)
    return GPT(tiny())


def test_the_shape_is_that_of_the_goals() -> None:
    c, plan = peers.shape(), training.Plan("dpo")
    assert (c.d_model, c.n_layers, c.norm, c.positions, c.tie_weights, c.dropout) == (
        128, 4, "layernorm", "learned", True, 0.0,
    )  # fmt: skip
    assert (plan.rows, plan.threads, plan.rounds) == (32, 2, 9)
    longest = max(len(ids) for ids, _ in peers.demonstration_rows(500))
    assert longest <= c.max_len


def test_ids_become_text_and_the_same_ids_again() -> None:
    """No id's name is found within another's: "<3>" is not in "<13>", as "3" would be in "13"."""
    pytest.importorskip("transformers")
    tokenizer = peers.id_tokenizer(200)
    ids = [13, 3, 131, 0, 33, 199, 3]
    assert tokenizer(peers.as_text(ids))["input_ids"] == ids
    special = build_tokenizer().special_tokens
    assert tokenizer.eos_token_id == special["<end>"] != tokenizer.pad_token_id == special["<pad>"]


def test_sorted_or_not_eight_minibatches_hold_the_same_rows() -> None:
    lengths = [len(ids) for ids, _ in peers.demonstration_rows(16 * ROWS)]
    orders = [peers.in_order(lengths, ROWS, by_length=by_length) for by_length in (True, False)]
    padded = []
    for order in orders:
        assert sorted(order) == list(range(16 * ROWS))
        batches = [order[i : i + ROWS] for i in range(0, len(order), ROWS)]
        padded.append(sum(max(lengths[row] for row in batch) for batch in batches))
    half = 8 * ROWS
    assert set(orders[0][:half]) == set(orders[1][:half]) and orders[0] != orders[1]
    assert padded[0] < padded[1]


def test_both_models_give_the_same_logits() -> None:
    pytest.importorskip("transformers")
    ours = start()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(0.0, 0.2)
    theirs, ours = peers.peer_model(ours).double().eval(), ours.double()
    tokens = torch.randint(tiny().vocab_size, (2, 9), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(tokens), theirs(tokens).logits, atol=1e-10)
    counts = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert counts[0] == counts[1]


def settings(**changes: Any) -> dict[str, Any]:
    plan = training.Plan("sft", tiny(), rows=ROWS, threads=1)
    return {**training.settings(plan), "max_steps": STEPS, "schedule": "constant", **changes}


def assert_same_weights(ours: GPT, theirs: Any) -> None:
    expected = peers.peer_model(ours).state_dict()
    for name, weight in theirs.state_dict().items():
        assert torch.allclose(weight, expected[name], atol=2e-5), name


@pytest.fixture
def constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets TRL's learning rate stay: theirs and ours fall from slightly different starts."""
    told = peers.trainer_settings

    def keep(folder: str, size: int) -> dict[str, Any]:
        return {**told(folder, size), "lr_scheduler_type": "constant"}

    monkeypatch.setattr(peers, "trainer_settings", keep)


@pytest.mark.slow
def test_sft_of_both_sides_is_the_same_training(tmp_path: Path, constant: None) -> None:
    """Same weights and minibatches: after three steps the weights are the same again."""
    pytest.importorskip("trl")
    rows, model = peers.demonstration_rows(STEPS * ROWS), start()
    data = sft_trainer.SFTData(rows, rows[:ROWS], [])
    ours = sft_trainer.train(
        SFTConfig(**settings()), model, build_tokenizer(), data, tmp_path / "ours", device="cpu"
    )
    order = peers.in_order([len(ids) for ids, _ in rows], ROWS)
    trainer = peers.sft_trainer(model, [rows[i] for i in order], ROWS, str(tmp_path / "theirs"))
    trainer.train()
    assert trainer.state.global_step == ours.steps == STEPS
    assert_same_weights(ours.model, trainer.model)
    with pytest.raises(AssertionError):  # and they have moved
        assert_same_weights(model, trainer.model)


@pytest.mark.slow
@pytest.mark.parametrize("precompute", [False, True])
def test_dpo_of_both_sides_is_the_same_training(
    tmp_path: Path, constant: None, precompute: bool
) -> None:
    pytest.importorskip("trl")
    rows, model = peers.preference_rows(STEPS * ROWS), start()
    pairs = Pairs.of(rows, tiny().max_len)
    config = DPOConfig(**settings(beta=peers.BETA, likelihood=0.0))
    ours = dpo_trainer.train(
        config, model, build_tokenizer(), PairData(pairs, pairs, []), tmp_path / "ours",
        device="cpu",
    )  # fmt: skip
    order = peers.in_order(pairs.lengths, ROWS)
    trainer = peers.dpo_trainer(
        model, [rows[i] for i in order], ROWS, str(tmp_path / "theirs"), precompute=precompute
    )
    trainer.train()
    assert_same_weights(ours.model, trainer.model)
    with pytest.raises(AssertionError):
        assert_same_weights(model, trainer.model)


def test_a_training_in_lockstep_does_one_step_at_a_time() -> None:
    done: list[list[int]] = []
    lockstep = Lockstep()
    assert Path(lockstep.folder).is_dir()

    def train() -> None:
        sampler = RowSampler([3, 1, 2, 4], 2, seed=0)
        for _ in range(3):
            done.append(sampler.next_rows())

    lockstep.start(pausing(train, lockstep))
    assert not done  # nothing runs before it is wanted
    lockstep.step()
    assert len(done) == 1
    lockstep.step()
    assert len(done) == 2
    with pytest.raises(ValueError, match="has ended, so there is no further step"):
        lockstep.step()
    assert len(done) == 3
    expected = RowSampler([3, 1, 2, 4], 2, seed=0)
    assert done == [expected.next_rows() for _ in range(3)]
    lockstep.finish()
    assert not Path(lockstep.folder).exists()


def test_a_training_in_lockstep_can_be_left() -> None:
    went_on = []
    lockstep = Lockstep()

    def train() -> None:
        lockstep.pause()
        went_on.append(True)

    lockstep.start(train)
    lockstep.step()
    lockstep.finish()
    assert not went_on


def test_an_error_in_a_training_reaches_whoever_waits_for_it() -> None:
    lockstep = Lockstep()

    def train() -> None:
        raise ValueError("the disk is full")

    lockstep.start(train)
    for _ in range(2):  # the second time nobody waits for a thread that is gone
        with pytest.raises(ValueError, match="the disk is full"):
            lockstep.step()
    lockstep.finish()


@pytest.mark.parametrize("side", ["ours", "ours_counted"])
def test_our_dpo_goes_step_by_step_and_counts_the_reference_if_asked(
    side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []

    def count(model: GPT, pairs: Pairs) -> None:
        passes.append(len(pairs))

    lockstep = Lockstep()
    monkeypatch.setattr(training, "Lockstep", lambda: lockstep)
    monkeypatch.setattr(training, "pair_log_probs", count)
    plan = training.Plan("dpo", tiny(), rows=ROWS, steps=2, rounds=1, threads=1)
    step = plan.start(side)
    for number in plan.turns()[0]:
        step(number)
    assert passes == ([2 * ROWS] if side == "ours_counted" else [])
    lockstep.finish()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sft", "dpo"])
def test_all_sides_take_turns_in_processes_of_their_own(task: str) -> None:
    pytest.importorskip("trl")
    plan = training.Plan(task, tiny(), rows=ROWS, steps=2, rounds=2, threads=1)
    found = race(plan)
    assert set(found.seconds) == set(training.SIDES[task]) and found.amounts == [2, 2]
    rows = training.results_of(found, task)
    wanted = {name for name in training.MEASURES if name.startswith(f"{PREFIX}{task}_")}
    assert {row.name for row in rows} == wanted and all(row.value > 0 for row in rows)


def test_speed_is_judged_by_its_goals() -> None:
    seconds = {"ours": [1.0], "trl": [1.5], "trl_tuned": [1.25], "trl_shuffled": [2.0]}
    memory = dict.fromkeys(seconds, Memory(0, 1))
    rows = training.results_of(Race(seconds, [8], memory), "sft")
    found = {row.name.removeprefix(PREFIX): row for row in rows}
    speed = found["sft_vs_trl"]
    assert (speed.value, speed.at_least, speed.aim) == (1.5, 1.2, 2.0)
    assert found["sft_vs_trl_tuned"].value == 1.25 and found["sft_vs_trl_tuned"].aim is None
    assert found["sft_vs_trl_shuffled"].value == 2.0
    assert found["sft_steps_per_second"].value == 8.0
    seconds |= {"ours_counted": [1.5], "trl_precomputed": [2.5], "trl": [3.0]}
    rows = training.results_of(Race(seconds, [8], dict.fromkeys(seconds, Memory(0, 1))), "dpo")
    found = {row.name.removeprefix(PREFIX): row for row in rows}
    speed = found["dpo_vs_trl"]
    assert (speed.value, speed.at_least, speed.aim) == (3.0, 2.0, 3.0)
    assert found["dpo_vs_trl_counted"].value == 2.0 and found["dpo_vs_trl_counted"].aim is None
    assert found["dpo_vs_trl_precomputed"].value == 2.5


TOLD: dict[str, dict[str, float]] = {
    "base": {"exact": 0.01},
    "sft": {"exact": 0.7, "exact_sampled": 0.5, "chatter": 0.2, "task.add": 0.5, "task.sort": 0.9},
    "reward": {"accuracy": 0.9, "accuracy_all": 0.8, "best_of.1": 0.5, "best_of.4": 0.6,
               "best_of.16": 0.7, "pass.4": 0.7, "pass.16": 0.8},
    "dpo": {"exact": 0.8, "exact_sampled": 0.7, "chatter": 0.0, "kl": 1.0},
    "likelihood": {"exact": 0.75, "exact_sampled": 0.6, "chatter": 0.1, "kl": 0.5},
    "ppo": {"exact": 0.7, "exact_sampled": 0.65, "chatter": 0.0, "kl": 1.2},
    "grpo": {"exact": 0.75, "exact_sampled": 0.7, "chatter": 0.0, "kl": 1.4, "task.add": 0.8,
             "task.sort": 0.8},
}  # fmt: skip


class FakeAssistant:
    """An assistant that was trained elsewhere: seed 1 is a little better in one task."""

    def __init__(self, preset: str, seed: int) -> None:
        self.seed, self.told = seed, {}

    def __call__(self, stage: str) -> dict[str, float]:
        numbers = {**TOLD[stage], "wall_seconds": 10.0}
        if stage == "grpo" and self.seed == 1:
            numbers |= {"exact": 0.77, "task.sort": 0.95, "task.add": 0.55}
        self.told[stage] = numbers
        return numbers


def test_every_quality_goal_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "Assistant", FakeAssistant)
    rows = {row.name.rpartition(".")[2]: row for row in quality.measure(list(quality.QUANTITIES))}
    goals = {
        "sft_exact": (70.0, 90.0), "reward_accuracy": (88.0, 95.0),
        "best_of_16_above_4": (0.0, None), "best_of_16_share": (None, 80.0),
        "dpo_gain": (5.0, 15.0), "dpo_sampled_gain": (15.0, 30.0),
        "dpo_above_likelihood": (0.0, None), "dpo_sampled_above_likelihood": (0.0, None),
        "ppo_gain": (0.0, 5.0), "ppo_sampled_gain": (10.0, 20.0), "ppo_kl": (1.5, None),
        "grpo_gain": (3.0, 10.0), "grpo_sampled_gain": (20.0, 35.0),
        "grpo_worst_task": (None, 0.0),
    }  # fmt: skip
    for key, row in rows.items():
        assert (row.at_least, row.aim) == goals.get(key, (None, None)), key
        assert row.seeds == (0, 1, 2) and row.preset == "quick"
    assert rows["ppo_kl"].better == "lower" and rows["ppo_kl"].value == pytest.approx(1.2)
    assert rows["sft_exact"].value == pytest.approx(70.0) and rows["sft_exact"].unit == "%"
    assert rows["best_of_16_share"].value == pytest.approx(87.5)
    assert rows["dpo_above_likelihood"].value == pytest.approx(5.0)
    assert rows["dpo_gain"].unit == "points" and rows["dpo_gain"].value == pytest.approx(10.0)
    assert rows["grpo_gain"].spread == pytest.approx(2 / 3**0.5)
    # add: +30, +5, +30; sort: -10, +5, -10 points. The worst of each seed would be -10, +5, -10.
    assert rows["grpo_worst_task"].value == pytest.approx(-5.0)


def test_one_number_trains_only_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[FakeAssistant] = []

    def keep(preset: str, seed: int) -> FakeAssistant:
        made.append(FakeAssistant(preset, seed))
        return made[-1]

    monkeypatch.setattr(quality, "Assistant", keep)
    (row,) = quality.measure(["sft_exact"], seeds=(0, 1))
    assert [set(told.told) for told in made] == [{"sft"}, {"sft"}] and row.seconds == 20.0


def test_an_assistant_asks_each_stage_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, int, int]] = []

    class FakeStages:
        def __init__(self, recipe: Any, device: str) -> None:
            self.recipe = recipe

        def outcome(self, stage: str) -> dict[str, float]:
            config = self.recipe.config(stage) if stage != "base" else self.recipe.sft
            asked.append((stage, getattr(config, "loss", ""), config.seed, config.threads))
            return {"exact": 0.5}

    monkeypatch.setattr(quality, "Stages", FakeStages)
    told = quality.Assistant("quick", 2)
    for stage in ("dpo", "likelihood", "dpo", "sft"):
        assert told(stage) == {"exact": 0.5}
    assert asked == [("dpo", "dpo", 2, 1), ("dpo", "likelihood", 2, 1), ("sft", "", 2, 1)]
    assert told.stages.recipe.sft.base == "quick:2"


def test_names_say_what_is_measured() -> None:
    for module in (training, quality):
        for name, meaning in module.MEASURES.items():
            assert re.fullmatch(r"instruction_tuning\.[a-z0-9_]+\.[a-z0-9_]+", name) and meaning
            assert module.build_parser().parse_args(["--only", name]).only == name


@pytest.mark.parametrize("empty", [True, False])
def test_a_demo_is_timed_with_an_empty_cache_or_with_what_was_made_before(
    empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[list[str], str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        cache = options.get("env", {}).get("LLM_TUTORIAL_CACHE", "")
        assert not empty or not any(Path(cache).iterdir())
        calls.append((command, cache))
        return subprocess.CompletedProcess(command, 0, "told\nseconds: 12.5\n", "")

    monkeypatch.setenv("LLM_TUTORIAL_CACHE", "the usual one")
    monkeypatch.setattr(startup.subprocess, "run", run)
    before = () if empty else startup.BASE_MODEL
    assert startup.demo_seconds("instruction_tuning", before, empty) == [12.5]
    (command, cache) = calls[-1]
    assert command[0] == sys.executable and "'instruction_tuning'" in command[2]
    if empty:
        assert len(calls) == 1 and not Path(cache).exists()
    else:
        assert calls[0][0][1:] == list(startup.BASE_MODEL) and cache == "the usual one"


def test_a_demo_that_fails_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "there is no base model 'quick'")

    monkeypatch.setattr(startup.subprocess, "run", run)
    with pytest.raises(ValueError, match="demo of instruction_tuning failed: there is no base"):
        startup.demo_seconds("instruction_tuning", startup.BASE_MODEL)


@pytest.mark.slow
def test_every_number_is_among_those_that_the_stages_give() -> None:
    keys = [key for key in quality.QUANTITIES if "16" not in key]  # the smoke preset samples four
    rows = quality.measure(keys, seeds=(0,), preset="smoke")
    assert [row.name for row in rows] == [f"{quality.NAME}.{key}" for key in keys]
    assert all(row.spread is None and row.seconds and row.seconds > 0 for row in rows)
