"""The chapter's experiments of ViT: they run, resume, share trainings, compare what they say."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from tutorial_kit import experiments
from tutorial_kit.results import Result
from vit import experiment_runs, run_examples
from vit.experiment_figures import Row, cost_figure, dots_figure, finding, shares_figure
from vit.experiments import (
    BASELINE,
    BATCH,
    CONTESTANTS,
    EXPERIMENTS,
    SHARE,
    STEPS,
    Variant,
    variant_config,
)


def refuse(*_args: object, **_options: object) -> None:
    raise AssertionError("a finished training is repeated")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_and_resumes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiments, "record", None)  # nothing is recorded of a smoke test
    first = run_examples.main(["--preset", "smoke", "--only", name])
    assert first and {result.name for result in first} <= set(run_examples.MEASURES)
    assert all(result.value >= 0 for result in first)
    assert (run_examples.figures_folder() / f"{name}.png").is_file()
    shown = capsys.readouterr().out
    monkeypatch.setattr(experiment_runs, "train", refuse)
    again = run_examples.main(["--preset", "smoke", "--only", first[0].name])
    assert [result.value for result in again] == [result.value for result in first]
    table = capsys.readouterr().out
    assert table.strip() and table.strip() in shown


def test_every_variant_can_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """One minibatch of each, at the sizes of a smoke test."""
    trained = {
        variant_config(variant, seed=0, smoke=True)
        for experiment in EXPERIMENTS.values()
        for variant in experiment.variants.values()
    }
    for config in sorted(trained, key=repr):
        outcome = experiment_runs.run_variant(config, share=1.0)
        assert 0.0 <= outcome["accuracy"] <= 100.0 and outcome["parameters"] > 0


def test_a_training_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The baseline of two experiments is trained once; other pictures are another training."""
    trained = []

    def counted(*args: Any, **options: Any) -> Any:
        trained.append(args)
        return train(*args, **options)

    train = experiment_runs.train
    monkeypatch.setattr(experiment_runs, "train", counted)
    config = variant_config(Variant(), seed=3, smoke=True)
    outcomes = [experiment_runs.run_variant(config, share) for share in (0.5, 0.5, 1.0)]
    assert len(trained) == 2 and outcomes[0] == outcomes[1]
    few, every = (len(args[1].train.labels) for args in trained)
    assert few == pytest.approx(every / 2, abs=10)
    held_out = {(len(args[1].validation.labels), len(args[1].test.labels)) for args in trained}
    assert len(held_out) == 1


@pytest.mark.slow
def test_the_pictures_are_drawn() -> None:
    assert run_examples.main(["--preset", "smoke", "--only", "pictures"]) == []
    drawn = {path.name for path in run_examples.figures_folder().glob("*.png")}
    assert not {f"{name}.png" for name in EXPERIMENTS} & drawn  # one would replace the other
    assert {"structure.png", "filters.png", "positions.png", "confusion.png"} <= drawn


def test_an_unknown_experiment_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no such experiment. Use one of data, patch"):
        run_examples.main(["--only", "vit.nonsense.x"])


def test_names_of_results_are_distinct_and_valid() -> None:
    count = sum(len(e.variants) * len(e.measured) for e in EXPERIMENTS.values())
    assert len(run_examples.MEASURES) == count
    for name in run_examples.MEASURES:
        assert Result(name, 1.0, "x").name == name


def different(left: Any, right: Any) -> set[str]:
    """Returns the settings in which two configs differ, a nested model's included."""
    names = {f.name for f in fields(left) if f.name != "model"}
    found = {name for name in names if getattr(left, name) != getattr(right, name)}
    return found | (different(left.model, right.model) if hasattr(left, "model") else set())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_variants_differ_from_their_base_in_the_named_settings_alone(name: str) -> None:
    for variant in EXPERIMENTS[name].variants.values():
        config = variant_config(variant, seed=2)
        assert different(BASELINE, config) <= {*variant.settings, "seed"}
        assert (config.seed, config.max_steps, config.batch_size) == (2, STEPS, BATCH)
        assert config.eval_every == STEPS and variant.share == SHARE or name == "data"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_has_the_baseline_among_its_rows(name: str) -> None:
    variants = EXPERIMENTS[name].variants.values()
    assert any(not variant.settings and variant.share == SHARE for variant in variants) or (
        any(variant_config(variant, seed=0) == BASELINE for variant in variants)
    )
    assert len(variants) >= 2


def test_all_contestants_get_the_same_pictures() -> None:
    variants = list(EXPERIMENTS["data"].variants.values())
    assert len(variants) == 3 * len(CONTESTANTS)
    shares = {line: [v.share for v in variants if v.line == line] for line in CONTESTANTS}
    assert {tuple(found) for found in shares.values()} == {(0.01, 0.1, 1.0)}


def test_a_smoke_is_small_and_keeps_what_is_compared() -> None:
    variants = EXPERIMENTS["patch"].variants
    configs = [variant_config(variant, seed=1, smoke=True) for variant in variants.values()]
    assert [config.model.patch_size for config in configs] == [8, 4, 2, 1]
    assert {(config.dataset, config.max_steps, config.seed) for config in configs} == {
        ("digits-small", 2, 1)
    }


ROWS = [
    Row("7 pixels", 80.0, 1.0, 4000.0, 16.0, 1000),
    Row("4 pixels", 85.0, 2.0, 1000.0, 64.0, 1000),
    Row("14 pixels", 84.0, 0.5, 9000.0, 7.0, 1000),
]


def title_of(figure: Any) -> str:
    return " ".join((figure.get_suptitle() or figure.axes[0].get_title(loc="left")).split())


def test_titles_name_the_best_and_what_cannot_be_told_apart() -> None:
    best = "Most accurate: 4 pixels, 85.0 ± 2.0 %"
    assert finding(ROWS) == f"{best}; within the spread: 14 pixels"
    assert finding(ROWS[:2]) == best
    assert title_of(dots_figure("Which?", ROWS[:2])) == f"Which? {best}"
    costly = f"Which? {best}; 7 pixels learns 4.0 times as fast, 80.0 %"
    assert title_of(cost_figure("Which?", ROWS[:2])) == costly


def test_the_fastest_may_be_the_best() -> None:
    assert "times as fast" not in title_of(cost_figure("Which?", [ROWS[0], ROWS[2]]))


def test_the_data_figure_compares_the_first_line_with_the_last() -> None:
    rows = [
        ROWS[0]._replace(line=line, share=share, accuracy=accuracy)
        for line, share, accuracy in (
            ("ViT", 0.01, 50.0), ("ViT", 1.0, 80.0), ("CNN", 0.01, 60.0), ("CNN", 1.0, 79.0),
        )
    ]  # fmt: skip
    figure = shares_figure("Who?", rows)
    assert title_of(figure) == (
        "Who? CNN against ViT: +10.0 ± 1.4 points at 1 %, -1.0 ± 1.4 points at 100 %"
    )
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["ViT", "CNN"]
