"""What a tuning saved comes back as it was, LoRA merged; everything else is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from gpt.generation import load_model
from gpt.train_gpt import main as train_gpt
from instruction_tuning.base_model import base_model
from instruction_tuning.demonstrations import demonstrate
from instruction_tuning.instruction_data import sft_rows
from instruction_tuning.preference_data import compare
from instruction_tuning.preferences import label_pairs
from instruction_tuning.reward_model import RewardModel, score_replies
from instruction_tuning.reward_trainer import RewardData
from instruction_tuning.reward_trainer import train as train_reward
from instruction_tuning.saved_model import (
    check_same_tokenizer,
    load_policy,
    load_reward_model,
    weights_fingerprint,
)
from instruction_tuning.sft_trainer import SFTData
from instruction_tuning.sft_trainer import train as train_sft
from instruction_tuning.tuning_config import RewardConfig, SFTConfig
from instruction_tuning.tuning_state import TrainResult
from instruction_tuning.word_world import draw_requests
from tutorial_kit.training import run_folder
from tutorial_kit.word_tokenizer import WordTokenizer

STEPS = {"base": "smoke", "batch_size": 8, "max_steps": 3, "lr": 1e-2, "max_new": 4, "threads": 1}
LORA = {"lora_rank": 2, "lora_layers": "qkv,contract"}


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """One cache for all tests here, with the smoke base model in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        base_model("smoke", device="cpu")
        yield


def tuned(name: str, **changes: object) -> TrainResult:
    """Trains a policy for three steps as the run ``name``."""
    base = str(changes.get("base", "smoke"))
    policy, tokenizer = load_policy(base)
    requests = draw_requests(24, "train", 0)
    rows = sft_rows(demonstrate(requests), tokenizer, policy.config.max_len)
    config = SFTConfig(**{**STEPS, **changes})  # type: ignore[arg-type]
    folder = run_folder("instruction_tuning", name)
    return train_sft(config, policy, tokenizer, SFTData(rows, rows, []), folder, device="cpu")


def rewarded(name: str, **changes: object) -> TrainResult:
    """Trains a reward model for three steps as the run ``name``."""
    policy, tokenizer = load_policy("smoke")
    requests = draw_requests(12, "train", 0)
    pairs = label_pairs(requests, [[r.answer, f"well {r.answer}"] for r in requests], 0.0)
    groups = compare(pairs, tokenizer, policy.config.max_len)
    config = RewardConfig(**{**STEPS, **changes})  # type: ignore[arg-type]
    folder = run_folder("instruction_tuning", name)
    return train_reward(config, policy, tokenizer, RewardData(groups, groups), folder, device="cpu")


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


@pytest.mark.parametrize("changes", [{}, LORA], ids=["all weights", "lora"])
def test_a_policy_comes_back(changes: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    result = tuned("mine", **changes)
    base, base_tokenizer = load_policy("smoke")
    assert weights_fingerprint(result.model) != weights_fingerprint(base)
    for name in ("mine", result.folder, result.folder / "checkpoints" / "last.pt"):
        model, tokenizer = load_policy(name)
        assert_equal(model, result.model)
        assert tokenizer == base_tokenizer and not model.training
        assert all(weight.requires_grad for weight in model.parameters()), "it can be tuned on"


@pytest.mark.parametrize("changes", [{}, LORA], ids=["all weights", "lora"])
def test_a_reward_model_comes_back(changes: dict[str, object]) -> None:
    result = rewarded("mine", **changes)
    model, tokenizer = load_reward_model("mine")
    assert isinstance(model, RewardModel)
    assert_equal(model, result.model)
    assert model.own_likelihood == result.model.own_likelihood > 0
    asked = [tokenizer.encode("spell kapi backwards")], [[tokenizer.encode("ipak")]]
    assert torch.equal(score_replies(model, *asked), score_replies(result.model, *asked))
    assert score_replies(model, *asked).item() != 0.0


def test_lora_on_lora(capsys: pytest.CaptureFixture[str]) -> None:
    """A LoRA run that began with a LoRA run loads both, one after the other."""
    first = tuned("first", **LORA)
    second = tuned("second", base="first", **LORA)
    assert_equal(load_policy("second")[0], second.model)
    assert weights_fingerprint(first.model) != weights_fingerprint(second.model)


def test_lora_on_a_base_that_has_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned("first")
    tuned("second", base="first", **LORA)
    tuned("first", seed=1)  # trained anew
    with pytest.raises(ValueError, match="was trained with LoRA on 'first' .*Train the run again"):
        load_policy("second")


def test_a_base_model_is_found_by_its_name() -> None:
    model, tokenizer, folder = base_model("smoke")
    assert_equal(load_policy("smoke")[0], model)
    assert_equal(load_policy(folder)[0], model)
    assert_equal(load_model(folder)[0], model)


def test_a_model_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("no request was ever written here. " * 300, encoding="utf-8")
    result = train_gpt(["--preset", "smoke", "--dataset", str(text), "--tokenizer", "characters",
                        "--max-steps", "1", "--device", "cpu"])  # fmt: skip
    with pytest.raises(ValueError) as refused:
        load_policy(result.folder)
    assert "a tokenizer that lacks <pad>, <user>, <assistant>, <end>" in str(refused.value)
    assert "base_model.py" in str(refused.value)


def test_two_models_that_read_other_tokens() -> None:
    one, other = WordTokenizer(["spell"]), WordTokenizer(["spell", " it"])
    check_same_tokenizer(one, WordTokenizer(["spell"]), "a", "b")
    with pytest.raises(ValueError, match="a and b were trained with different tokenizers"):
        check_same_tokenizer(one, other, "a", "b")


def test_a_reward_model_is_no_policy_and_a_policy_no_reward_model() -> None:
    tuned("policy")
    rewarded("scorer")
    with pytest.raises(ValueError, match="is a reward model: it gives scores and writes nothing"):
        load_policy("scorer")
    for name in ("policy", base_model("smoke")[2]):
        with pytest.raises(ValueError, match="is no reward model: .*reward_trainer.py"):
            load_reward_model(name)


def test_nothing_there() -> None:
    for load in (load_policy, load_reward_model):
        with pytest.raises(FileNotFoundError, match="missing.*does not exist. Train first"):
            load("missing")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    result = tuned("mine", **LORA)
    last = result.folder / "checkpoints" / "last.pt"
    content = torch.load(last, weights_only=True)
    name = next(iter(content["state"]["model"]))
    del content["state"]["model"][name]
    torch.save(content, last)
    with pytest.raises(ValueError, match=f"{name} is on one side only"):
        load_policy(last)


def test_the_fingerprint_sees_every_weight() -> None:
    model, _, _ = base_model("smoke")
    before = weights_fingerprint(model)
    assert before == weights_fingerprint(model)
    with torch.no_grad():
        model.final_norm.weight[3] += 1e-6
    assert weights_fingerprint(model) != before
