"""The chapter's experiments of tuning: they run, resume, share stages, compare fairly."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from instruction_tuning import run_examples
from instruction_tuning import stages as stages_module
from instruction_tuning.experiments import (
    BASELINE,
    EXPERIMENTS,
    MEASURED,
    SHARPENED,
    variant_recipe,
)
from instruction_tuning.recipes import POLICIES, STAGES, make_recipe
from tutorial_kit import experiments
from tutorial_kit.results import Result

FAST = ("dpo",)  # the others take some seconds more
TRAINERS = ("sft", "reward", "dpo", "ppo", "grpo")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    stages_module.load_base.cache_clear()


def refuse(*_args: object, **_options: object) -> None:
    raise AssertionError("a finished training is repeated")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
        for name in run_examples.RUNNERS
        if name != "pictures"
    ],
)
def test_every_experiment_runs_and_resumes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiments, "record", None)  # nothing is recorded of a smoke test
    first = run_examples.main(["--preset", "smoke", "--only", name])
    assert first and {result.name for result in first} <= set(run_examples.MEASURES)
    assert (run_examples.figures_folder() / f"{name}.png").is_file()
    drawn = {path.name for path in run_examples.figures_folder().glob("*.png")}
    assert ("over_optimization.png" in drawn) == (name == "hacking")
    shown = capsys.readouterr().out
    for trainer in TRAINERS:
        monkeypatch.setattr(getattr(stages_module, f"{trainer}_trainer"), "train", refuse)
    again = run_examples.main(["--preset", "smoke", "--only", first[0].name])
    assert [result.value for result in again] == [result.value for result in first]
    table = capsys.readouterr().out
    assert table.strip() and table.strip() in shown


@pytest.mark.slow
def test_the_pictures_are_drawn() -> None:
    assert run_examples.main(["--preset", "smoke", "--only", "pictures"]) == []
    drawn = {path.name for path in run_examples.figures_folder().glob("*.png")}
    assert {"stages.png", "tasks.png", "table.png"} <= drawn
    assert not {f"{name}.png" for name in EXPERIMENTS} & drawn  # one would replace the other


def test_an_unknown_experiment_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no such experiment. Use one of prompt_mask, "):
        run_examples.main(["--only", "instruction_tuning.nonsense.x"])


def test_names_of_results_are_distinct_and_valid() -> None:
    count = sum(len(e.variants) * len(e.measured) for e in EXPERIMENTS.values())
    assert len(run_examples.MEASURES) == count + 2 * len(SHARPENED)
    for name in run_examples.MEASURES:
        assert Result(name, 1.0, "x").name == name
    assert set(SHARPENED.values()) <= set(POLICIES)
    used = {what for experiment in EXPERIMENTS.values() for what in experiment.measured}
    assert used == set(MEASURED)


def different(left: Any, right: Any) -> set[str]:
    """Returns the settings in which two recipes differ, as "stage.name"."""
    found = set()
    for stage in STAGES[1:]:
        one, other = left.config(stage), right.config(stage)
        names = (field.name for field in fields(one))
        found |= {f"{stage}.{n}" for n in names if getattr(one, n) != getattr(other, n)}
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_variants_differ_from_the_baseline_in_the_named_settings_alone(name: str) -> None:
    experiment, baseline = EXPERIMENTS[name], variant_recipe({}, seed=2)
    assert experiment.stage in STAGES
    prints = set()
    for changes in experiment.variants.values():
        recipe = variant_recipe(changes, seed=2)
        named = {f"{stage}.{key}" for stage, settings in changes.items() for key in settings}
        assert different(baseline, recipe) <= named
        assert {recipe.config(stage).seed for stage in STAGES[1:]} == {2}
        assert recipe.sft.base == baseline.sft.base == "quick"  # one base model for all
        prints.add(recipe.fingerprint(experiment.stage, "base"))
        variant_recipe(changes, seed=2, smoke=True)  # can be cut
    assert len(prints) == len(experiment.variants)  # no two variants are the same training


def test_what_a_variant_does_not_touch_is_not_trained_again() -> None:
    baseline = variant_recipe({}, seed=0)

    def before(stage: str) -> set[str]:
        """A stage and all that it starts from."""
        return {stage}.union(*map(before, baseline.parents(stage)))

    for experiment in EXPERIMENTS.values():
        for changes in experiment.variants.values():
            recipe = variant_recipe(changes, seed=0)
            for stage in STAGES:
                if not before(stage) & set(changes):
                    assert recipe.fingerprint(stage, "b") == baseline.fingerprint(stage, "b")
    with_it = [
        name
        for name, experiment in EXPERIMENTS.items()
        if any(variant_recipe(changes, 0) == baseline for changes in experiment.variants.values())
    ]
    assert set(EXPERIMENTS) - set(with_it) == {"hacking"}  # which learns faster, to go wrong


def test_the_baseline_is_the_quick_start_made_shorter() -> None:
    assert different(variant_recipe({}, 1), make_recipe("quick", 1)) == {
        f"{stage}.{name}" for stage, settings in BASELINE.items() for name in settings
    }
