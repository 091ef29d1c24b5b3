"""Demo, experiments and benchmark: they run at smoke size, from the numbers that they saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import multimodal_quality
from multimodal import quick_start, run_examples
from multimodal.experiment_figures import Row, dots_figure, finding
from multimodal.experiments import BASELINES, EXPERIMENTS, STEPS, variant_config
from multimodal.verify_multimodal import CHECKS, forward_once, main, trace
from tutorial_kit import experiments
from tutorial_kit.results import Result


def test_the_story_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    result = quick_start.main(["--preset", "smoke", "--device", "cpu", "--seed", "1"])
    output = capsys.readouterr().out
    assert result.family == "multimodal" and 0 <= result.value <= 100
    for word in ("1. ", "2. ", "3. ", "4. ", "5. ", "6. ", "never seen", "picture blanked"):
        assert word in output, word
    assert "{" not in output and "Traceback" not in output
    assert len(result.files) == len(set(result.files)) == 6
    for file in result.files:
        assert Path(file).stat().st_size > 500, file


def test_every_text_that_the_demo_says_is_there_and_used() -> None:
    folder = Path(quick_start.__file__).parent
    source = (folder / "quick_start.py").read_text("utf-8")
    for key in json.loads((folder / "texts" / "en.json").read_text("utf-8")):
        if key.startswith("quick."):
            name = key.removeprefix("quick.").removeprefix("bridge_")
            assert f'"{key}"' in source or f'"{name}"' in source, key


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_and_resumes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "record", None)  # nothing is recorded of a smoke test
    first = run_examples.main(["--preset", "smoke", "--only", name])
    assert first and {result.name for result in first} <= set(run_examples.MEASURES)
    assert (experiments.experiment_figures("multimodal") / f"{name}.png").is_file()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a finished training is repeated")

    monkeypatch.setattr(run_examples, "train", refuse)
    again = run_examples.main(["--preset", "smoke", "--only", first[0].name])
    assert [result.value for result in again] == [result.value for result in first]


def test_variants_differ_in_the_named_settings_alone() -> None:
    for experiment in EXPERIMENTS.values():
        base = BASELINES[experiment.task]
        labels = list(experiment.variants.values())
        assert {} in labels and len(labels) >= 2
        for settings in labels:
            config = variant_config(experiment.task, settings, seed=2)
            differing = {
                name for name in vars(base) if getattr(base, name) != getattr(config, name)
            }
            assert differing <= {*settings, "seed"}
            shown = config.max_steps * config.batch_size
            assert shown == STEPS[experiment.task] * base.batch_size  # equally many pictures


def test_names_of_results_are_valid_and_findings_honest() -> None:
    for name in run_examples.MEASURES:
        assert Result(name, 1.0, "%").name == name
    rows = [Row("a", 80.0, 1.0), Row("b", 90.0, 2.0), Row("c", 89.0, 1.0)]
    assert finding(rows) == "Best: b, 90.0 ± 2.0 %; within the spread: c"
    assert finding(rows[:2]) == "Best: b, 90.0 ± 2.0 %"
    assert "Which? Best: b" in dots_figure("Which?", "share", rows).get_suptitle()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check[0].__name__)
def test_claims_hold(check) -> None:  # type: ignore[no-untyped-def]
    function, tolerance = check
    assert function() <= tolerance


def test_the_ledger_names_every_tensor() -> None:
    assert main(["--trace"]) == 0
    text = trace()
    assert all(name in text for name in ("prefix", "attention.1", "block.0", "logits"))
    assert forward_once().startswith("logits (3, 7, ")


def test_the_benchmark_measures_what_it_names() -> None:
    rows = multimodal_quality.measure_story([0], preset="smoke")
    rows += multimodal_quality.measure_digits([0], steps=2, dataset="digits-small")
    assert {row.name for row in rows} == set(multimodal_quality.MEASURES)
    goals = {row.name: (row.at_least, row.aim) for row in rows}
    assert goals["multimodal.quick_start.unseen"] == (80.0, 95.0)
    assert goals["multimodal.quick_start.answers"] == (80.0, 95.0)
    blank = next(row for row in rows if row.name == "multimodal.quick_start.blank")
    assert blank.better == "lower" and blank.at_least == 60.0
