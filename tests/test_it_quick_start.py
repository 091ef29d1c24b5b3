"""The demo and the stages behind it: the story is told, kept, repeated in part, told anew."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from instruction_tuning import quick_start as module
from instruction_tuning import stages as stages_module
from instruction_tuning.quick_start import main
from instruction_tuning.recipes import (
    STAGES,
    Recipe,
    experiment_place,
    make_recipe,
    name_of,
    named_place,
)
from instruction_tuning.saved_model import load_policy
from instruction_tuning.scores import evaluate
from instruction_tuning.stages import Stages
from tutorial_kit.training import run_folder

BASE = "base-1234"  # stands for a base model's folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(cache))
    stages_module.load_base.cache_clear()


def refuse(*_args: object, **_options: object) -> None:
    raise AssertionError("a finished stage is repeated")


def test_the_story_is_told_and_one_stage_repeated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = main(["--preset", "smoke", "--device", "cpu", "--seed", "1"])
    shown = capsys.readouterr().out
    for number in range(1, 10):
        assert f"\n{number}. " in f"\n{shown}", number
    for word in ("[", "DPO", "PPO", "GRPO", "best-of-n", "verifier", "parameters; training on"):
        assert word in shown, word
    assert result.family == "instruction_tuning" and 0 <= result.value <= 100
    assert f"{result.value:.1f}%" in result.headline
    for file in result.files:
        assert Path(file).stat().st_size > 1000, file
    assert Path(result.files[0]).name == "story.png"

    # The numbers are the saved models', on requests that are never trained on.
    stages = Stages(make_recipe("smoke", 1, base_seed=1), named_place("smoke"), "cpu")
    kept = {stage: stages.kept(stage) for stage in STAGES}
    assert all(numbers is not None for numbers in kept.values())
    policy, tokenizer = load_policy("smoke_grpo")
    reference, _ = load_policy("smoke_sft")
    scores = evaluate(policy, tokenizer, stages.test_requests, 1, reference=reference).numbers()
    assert scores == {name: kept["grpo"][name] for name in scores}  # type: ignore[index]

    for trainer in ("sft", "reward", "ppo", "grpo"):
        monkeypatch.setattr(getattr(stages_module, f"{trainer}_trainer"), "train", refuse)
    again = main(["--preset", "smoke", "--device", "cpu", "--seed", "1", "--stage", "dpo"])
    assert again.value == result.value
    told = capsys.readouterr().out
    assert "5. DPO" in told and "6. PPO" not in told and "8. All of them" in told
    assert stages.kept("dpo") is not None
    with pytest.raises(AssertionError, match="repeated"):
        main(["--preset", "smoke", "--device", "cpu", "--seed", "1", "--stage", "sft"])
    assert stages.kept("sft") is None  # what was being replaced is not taken for finished


def test_every_text_of_the_demo_is_used_and_can_be_said() -> None:
    source = Path(module.__file__).read_text(encoding="utf-8")
    folder = Path(module.__file__).parent
    texts = json.loads((folder / "texts" / "en.json").read_text(encoding="utf-8"))
    for key in texts:
        if key.startswith("quick."):
            assert f'"{key}"' in source, key
    for key in re.findall(r'"((?:quick|stage|demo)\.\w+)"', source):
        assert key in texts, key
    for stage in (*STAGES, "best_of_n"):
        assert f"stage.{stage}" in texts


def test_a_stage_depends_on_its_settings_and_on_the_stages_before_it_alone() -> None:
    first = make_recipe("quick")

    def changed(recipe: Recipe) -> set[str]:
        return {s for s in STAGES if recipe.fingerprint(s, BASE) != first.fingerprint(s, BASE)}

    assert changed(make_recipe("quick")) == set()
    assert changed(make_recipe("quick", 0, {"dpo": {"beta": 0.1}})) == {"dpo"}
    assert changed(make_recipe("quick", 0, {"reward": {"requests": 77}})) == {"reward", "ppo"}
    assert changed(make_recipe("quick", 0, {"sft": {"slips": 0.0}})) == set(STAGES) - {"base"}
    assert changed(make_recipe("quick", seed=1)) == set(STAGES) - {"base"}
    assert changed(make_recipe("quick", 0, {"ppo": {"threads": 2}})) == set()
    other = make_recipe("quick", 0, {"reward": {"requests": 77}, "ppo": {"reward": "verifier"}})
    assert other.parents("ppo") == ("sft",) and first.parents("ppo") == ("sft", "reward")
    judged = make_recipe("quick", 0, {"ppo": {"reward": "judge"}})
    prints = {recipe.fingerprint("ppo", BASE) for recipe in (first, other, judged)}
    assert len(prints) == 3
    same_reward = replace(other, reward=first.reward)  # a verifier does not ask the reward model
    assert same_reward.fingerprint("ppo", BASE) == other.fingerprint("ppo", BASE)
    assert first.fingerprint("sft", BASE) != first.fingerprint("sft", "another")


def test_a_recipe_changes_what_is_named_and_seeds_every_stage() -> None:
    recipe = make_recipe("quick", 3, {"grpo": {"group": 4}}, base_seed=2)
    assert recipe.grpo.group == 4 and recipe.sft.base == "quick:2"
    assert {recipe.config(stage).seed for stage in STAGES[1:]} == {3}
    plain = make_recipe("quick", 3, base_seed=2)
    for field in fields(Recipe):
        if field.name != "grpo":
            assert getattr(recipe, field.name) == getattr(plain, field.name)


def test_runs_are_named_so_that_the_trainers_find_them() -> None:
    named = named_place("quick")("sft", "any")
    assert named == run_folder("instruction_tuning", "quick_sft") and name_of(named) == "quick_sft"
    hashed = experiment_place("sft", "0123")
    assert name_of(hashed) == str(hashed) and hashed.name == "sft_0123"


def test_preferences_are_drawn_once_and_stages_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    really = stages_module.preferences_of

    def counted(config: object, policy: object, tokenizer: object, split: str) -> object:
        drawn.append(split)
        return really(config, policy, tokenizer, split)  # type: ignore[arg-type]

    monkeypatch.setattr(stages_module, "preferences_of", counted)
    stages = Stages(make_recipe("smoke"), device="cpu")
    numbers = stages.outcome("reward")
    stages.outcome("dpo")
    assert sorted(drawn) == ["train", "validation"]
    assert numbers["seconds"] > 0 and numbers["last.step"] == stages.recipe.reward.max_steps
    # Another recipe with the same SFT: only what differs is trained.
    monkeypatch.setattr(stages_module.sft_trainer, "train", refuse)
    other = Stages(make_recipe("smoke", 0, {"dpo": {"beta": 1.0}}), device="cpu")
    assert other.outcome("dpo") != stages.outcome("dpo")
    assert other.outcome("sft") == stages.outcome("sft")
    assert other.folder("dpo") != stages.folder("dpo")
