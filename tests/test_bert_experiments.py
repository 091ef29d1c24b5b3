"""The chapter's experiments: they run, resume, share pre-trainings, and compare what they say."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from bert import experiment_runs, run_examples
from bert.experiment_figures import Row, curve_figure, dots_figure
from bert.experiments import (
    BASELINE,
    EXPERIMENTS,
    FINETUNING,
    RIVALS,
    SMOKE_FINETUNING,
    SMOKE_PRETRAINING,
    STEPS,
    Variant,
    place_of,
    variant_configs,
)
from tutorial_kit import experiments
from tutorial_kit.results import Result


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tests of this file share one cache: the corpus of a smoke is read once."""
    folder = tmp_path_factory.getbasetemp() / "bert_experiments_cache"
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(folder))


def refuse(*_args: object, **_options: object) -> None:
    raise AssertionError("a finished training is repeated")


@pytest.mark.parametrize("name", [name for name in run_examples.RUNNERS if name != "pictures"])
def test_every_experiment_runs_and_resumes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_examples.main(["--preset", "smoke", "--only", name])
    assert first and {result.name for result in first} <= set(run_examples.MEASURES)
    assert (run_examples.figures_folder() / f"{name}.png").is_file()
    shown = capsys.readouterr().out
    monkeypatch.setattr(experiment_runs, "train", refuse)
    monkeypatch.setattr(experiment_runs, "fine_tune", refuse)
    again = run_examples.main(["--preset", "smoke", "--only", first[0].name])
    assert [result.value for result in again] == [result.value for result in first]
    table = capsys.readouterr().out
    assert table.strip() and table.strip() in shown


def test_a_pretraining_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two poolings of one pre-training read the same checkpoint; nothing is recorded."""
    monkeypatch.setattr(experiments, "record", None)
    trained = []

    def counted(*args: Any, **options: Any) -> Any:
        trained.append(args[0])
        return train(*args, **options)

    train = experiment_runs.train
    monkeypatch.setattr(experiment_runs, "train", counted)
    results = run_examples.main(["--preset", "smoke", "--only", "pooling"])
    assert len(trained) == 1 and len(results) == 2
    assert all(0.0 <= result.value <= 100.0 and result.unit == "%" for result in results)


def test_the_pictures_are_drawn() -> None:
    assert run_examples.main(["--preset", "smoke", "--only", "pictures"]) == []
    drawn = {path.name for path in run_examples.figures_folder().glob("*.png")}
    assert {"attention.png", "heads.png", "structure.png", "sentence_map.png"} <= drawn


def test_an_unknown_experiment_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no such experiment. Use one of recipe, "):
        run_examples.main(["--only", "bert.nonsense.x"])


def test_names_of_results_are_distinct_and_valid() -> None:
    count = sum(
        len(run_examples.measured_of(variant))
        for name in EXPERIMENTS
        for variant in run_examples.rows_of(name).values()
    )
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
        before, after = variant_configs(variant, seed=2)
        assert different(BASELINE, before) <= {*(variant.pretraining or {}), "seed"}
        assert different(FINETUNING, after) <= {*variant.finetuning, "seed"}
        assert before.seed == after.seed == 2
        assert before.max_steps <= 2 * STEPS and before.eval_every == before.max_steps


def test_each_experiment_has_the_baseline_among_its_rows() -> None:
    for name, experiment in EXPERIMENTS.items():
        configs = [variant_configs(variant, seed=0)[0] for variant in experiment.variants.values()]
        assert variant_configs(Variant(), seed=0)[0] in configs, name
        assert len(experiment.variants) >= 2


def test_the_batches_read_the_same_number_of_sequences() -> None:
    configs = [variant_configs(v, seed=0)[0] for v in EXPERIMENTS["batch"].variants.values()]
    assert {c.batch_size * c.max_steps for c in configs} == {BASELINE.batch_size * STEPS}


def test_a_smoke_is_small_and_keeps_what_is_compared() -> None:
    variant = EXPERIMENTS["mask_rate"].variants["40 %"]
    before, after = variant_configs(variant, seed=1, smoke=True)
    assert (before.mask_rate, before.seed, before.max_steps) == (0.4, 1, 2)
    assert before.dataset == SMOKE_PRETRAINING["dataset"]
    assert after.labels == SMOKE_FINETUNING["labels"]


def test_rivals_are_rows_of_their_own() -> None:
    assert list(run_examples.rows_of("length"))[: len(RIVALS["length"])] == list(RIVALS["length"])
    assert run_examples.measured_of(None) == ["accuracy"]
    assert run_examples.measured_of(Variant(None)) == ["accuracy"]
    assert run_examples.measured_of(Variant()) == ["accuracy", "mlm_gain"]
    assert run_examples.measured_of(Variant({}, {"freeze": 1})) == ["accuracy"]


ROWS = [Row("20 %", 50.0, 1.0, 0.6, 0.1, 9.0, 1000, 20.0), Row("40 %", 55.0, 2.0, 0.5, 0.1, 9.0,
        1000, 40.0)]  # fmt: skip


def title_of(figure: Any) -> str:
    return " ".join(figure.get_suptitle().split())


def test_titles_name_the_best_rows() -> None:
    best = "Most accurate: 40 %, 55.0 ± 2.0 %; largest gain: none beyond the spread"
    assert title_of(dots_figure("Which?", ROWS)) == f"Which? {best}"
    rival = Row("TF-IDF", 60.0, 1.0, None, 0.0, 0.0, 0)
    title = title_of(curve_figure("Which?", [rival, *ROWS], "rate (%)"))
    assert title.startswith("Which? Most accurate: TF-IDF, 60.0")
    learned = [ROWS[0]._replace(gain=0.9), ROWS[1]]
    assert "largest gain: 20 %, 0.90 ± 0.10 nats" in title_of(dots_figure("Which?", learned))


def test_equal_gains_are_not_drawn() -> None:
    same = [row._replace(gain=0.6) for row in ROWS]
    figure = dots_figure("Which?", same)
    assert len(figure.axes) == 1 and "gain" not in title_of(figure)
    assert len(dots_figure("Which?", ROWS).axes) == 2


def test_places_on_the_axis() -> None:
    assert [place_of(label) for label in ("50 %", "150 steps", "TF-IDF")] == [50.0, 150.0, None]
