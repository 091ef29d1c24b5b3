"""The demo, the experiments, the figures and the benchmark of the optimization chapter, small."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from benchmarks import optimization_quality
from gpt.gpt_config import GPTConfig
from gpt.verify_structure import small_model
from optimization import quality_experiments, quick_start, run_examples, speed_experiments
from optimization.experiments import ALONE, SIZES, STUDENTS, TAUGHT
from optimization.optimization_config import PRESETS
from optimization.optimization_figures import (
    Point,
    bits_figure,
    pruning_figure,
    ratios_figure,
    students_figure,
    techniques_figure,
)
from optimization.quantized_model import quantize_model
from optimization.techniques import Row, perplexity, rise, written_loss, written_rise
from optimization.verify_optimization import CHECKS, forward_once, trace
from optimization.verify_optimization import main as verify
from tutorial_kit import experiments
from tutorial_kit.results import Result
from tutorial_kit.texts import Texts

TINY = GPTConfig(50, 128, d_model=32, n_heads=2, n_kv_heads=2, n_layers=1, d_ff=64)


def title(figure: Figure) -> str:
    text = figure._suptitle.get_text() if figure._suptitle else figure.axes[0].get_title(loc="left")  # type: ignore[attr-defined]
    return " ".join(text.split())


def test_the_story_is_told_and_its_numbers_are_those_of_the_models(
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = Texts(Path(quick_start.__file__).parent)
    numbers = quick_start.tell("smoke", 1, "cpu", texts)
    shown = capsys.readouterr().out
    for word in ("1. ", "2. ", "3. ", "4. ", "5. ", "6. ", "the same.", "int8, torch dynamic"):
        assert word in shown, word
    assert "{" not in shown
    base = numbers.rows[0]
    assert numbers.size_share < 0.3 and numbers.row("int8").megabytes < 0.3 * base.megabytes
    assert numbers.rise == pytest.approx(
        100 * (numbers.row("int8").perplexity / base.perplexity - 1)
    )
    assert numbers.row("no cache").perplexity == base.perplexity
    assert numbers.row("student alone").perplexity != numbers.row("student, taught").perplexity
    assert all(row.tokens_per_s > 0 for row in numbers.rows)
    for file in numbers.files:
        assert file.stat().st_size > 500


def test_the_demo_returns_its_result_and_its_picture_is_published() -> None:
    result = quick_start.main(["--preset", "smoke", "--device", "cpu"])
    assert run_examples.main(["--preset", "smoke", "--only", "pictures"]) == []
    folder = experiments.experiment_figures("optimization")
    assert (folder / "techniques.png").read_bytes() == Path(result.files[0]).read_bytes()
    assert result.family == "optimization" and result.unit == "x" and 0.2 < result.value < 0.3
    assert f"{result.value:.2f} of the bytes" in result.headline


def test_every_text_that_the_demo_says_is_there_and_used() -> None:
    source = Path(quick_start.__file__).read_text(encoding="utf-8")
    texts = json.loads((Path(quick_start.__file__).parent / "texts" / "en.json").read_text("utf-8"))
    for key in texts:
        if key.startswith(("quick.", "demo.")):
            assert f'"{key}"' in source, key


def test_perplexity_by_hand() -> None:
    model = small_model("modern", torch.float32)
    with torch.no_grad():
        model.head.weight.zero_()  # every token is equally likely
    tokens = torch.randint(50, (70,))
    assert perplexity(model, tokens) == pytest.approx(50.0, rel=1e-4)
    assert rise(model, 40.0, tokens) == pytest.approx(25.0, rel=1e-3)


@pytest.mark.parametrize("recipe", ["gpt2", "modern"])
def test_token_by_token_is_the_same_loss_unless_inputs_are_rounded(recipe: str) -> None:
    model, tokens = small_model(recipe, torch.float32), torch.randint(50, (16 * 4 + 1,))
    assert math.exp(written_loss(model, tokens)) == pytest.approx(
        perplexity(model, tokens), rel=1e-4
    )
    assert written_rise(model, model, tokens) == 0
    assert written_rise(quantize_model(model), model, tokens) != 0
    with pytest.raises(ValueError, match="16 tokens hold no window of 16.*Give 17 or more"):
        written_loss(model, tokens[:16])


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that take no time, under the names of the large ones."""
    for module in (speed_experiments, optimization_quality):
        monkeypatch.setattr(module, "SIZES", dict.fromkeys(SIZES, TINY))


@pytest.mark.parametrize("name", [name for name in run_examples.RUNNERS if name != "pictures"])
def test_every_experiment_runs(
    name: str,
    small_sizes: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(experiments, "record", None)  # nothing is recorded of a smoke test
    results = run_examples.main(["--preset", "smoke", "--only", name])
    assert {result.name for result in results} <= set(run_examples.MEASURES)
    assert name == "compile" or results
    figure = experiments.experiment_figures("optimization") / f"{name}.png"
    assert figure.is_file() is (name != "compile")
    assert "times as fast" in (table := capsys.readouterr().out) or "spread" in table


def test_qualities_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_examples.main(["--preset", "smoke", "--only", "bits"])
    monkeypatch.setattr(quality_experiments, "round_model", None)
    monkeypatch.setattr(quality_experiments, "perplexity", None)
    again = run_examples.main(["--preset", "smoke", "--only", "bits"])
    assert [result.value for result in again] == [result.value for result in first]


def test_students_differ_in_the_named_settings_alone() -> None:
    study = experiments.Study((3,))
    base = replace(PRESETS["quick"], seed=3, teacher_seed=3)
    assert quality_experiments.student_config(study, TAUGHT, 3) == base
    for label, settings in STUDENTS.items():
        config = quality_experiments.student_config(study, label, 3)
        steps = base.max_steps * settings.get("max_steps", 1)
        assert config.max_steps == config.eval_every == config.checkpoint_every == steps
        same = {k: v for k, v in settings.items() if k != "max_steps"}
        assert config == replace(
            base, **same, max_steps=steps, eval_every=steps, checkpoint_every=steps
        )
    assert quality_experiments.student_config(study, ALONE, 3).soft_weight == 0


def test_names_of_results_are_valid() -> None:
    for name in (*run_examples.MEASURES, *optimization_quality.MEASURES):
        assert Result(name, 1.0).name == name
    assert not set(run_examples.MEASURES) & set(optimization_quality.MEASURES)


def test_the_benchmark_measures_what_it_names(
    small_sizes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimization_quality, "WRITTEN", 200)
    quality = optimization_quality.measure_quality("smoke", (0, 1))
    speed = optimization_quality.measure_decoding(new=2, rounds=1)
    assert [r.name for r in quality + speed] == list(optimization_quality.MEASURES)
    values = {r.name.rpartition(".")[2]: r for r in quality}
    gain = values["alone_loss"].value - values["taught_loss"].value
    assert values["gain"].value == pytest.approx(gain)
    spread = max(values[name].spread or 0 for name in ("alone_loss", "taught_loss"))
    assert values["gain_beyond_spread"].value == pytest.approx(gain / spread)
    goals = {r.name.rpartition(".")[2]: (r.at_least, r.aim) for r in quality + speed}
    assert goals["int8_rise"][0] == 1.0 and goals["int8_size"][0] == 0.3
    assert goals["124m_int8"] == (1.5, 2.5)
    shape = SIZES["12x768"]
    assert (shape.d_model, shape.n_layers, shape.vocab_size) == (768, 12, 50257)


def test_titles_are_computed() -> None:
    rows = [
        Row("base", 4.0, 20.0, 100.0, 1.0), Row("int8", 1.0, 20.1, 150.0, 1.5),
        Row("tiny", 0.5, 30.0, 300.0, 3.0),
    ]  # fmt: skip
    assert title(techniques_figure(rows)) == (
        "At the same quality, int8 needs 0.25 of the bytes; tiny writes 3.0 times as fast as base"
    )
    curves = {
        "each row": [Point(8.2, 0.05), Point(4.2, 3.0)],
        "each 32": [Point(9, 0.04), Point(5, 0.9)],
    }
    assert "within 1 % down to 5 bits a weight, with one scale for each 32" in title(
        bits_figure(curves)
    )
    worse = {"each row": [Point(8, 2.0)]}
    assert title(bits_figure(worse)).startswith("No rounding keeps")
    pruned = {
        "weights": [Point(0, 0), Point(50, 40), Point(90, 900)],
        "weights, 40 steps after": [Point(0, -2), Point(50, 5), Point(90, 80)],
    }
    assert "Without 50 % of the blocks' weights the perplexity rises by 40 %" in title(
        pruning_figure(pruned)
    )
    assert title(pruning_figure(pruned)).endswith("after a short training by 5 %")
    students = {"alone": Point(0, 3.5, 0.01), "taught": Point(0, 3.4, 0.02)}
    assert "Best: taught, 0.100 nats below the student alone (spread 0.020)" in title(
        students_figure(students, "alone")
    )
    assert title(ratios_figure({"a": [Point(1, 1.0)]}, "one finding", "size")) == "one finding"


def test_every_claim_is_proven(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify([]) == 0
    shown = capsys.readouterr().out
    assert shown.count("PASS") == len(CHECKS) and "FAIL" not in shown
    assert forward_once() == "logits (2, 16, 50)"
    assert trace().startswith("tensor") and "bound" in trace()
