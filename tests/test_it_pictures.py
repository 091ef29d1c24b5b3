"""The figures of tuning: their titles say what the numbers say, and the script draws them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from instruction_tuning import reward_visualization
from instruction_tuning.experiment_figures import Bar, Panel, best_bar, finding, panels_figure
from instruction_tuning.reward_figures import (
    Point,
    Row,
    over_optimization_figure,
    over_optimization_finding,
    pass_at_k_figure,
    sharpening_finding,
    stages_figure,
    stages_finding,
    story_figure,
    table_figure,
    tasks_figure,
    tasks_finding,
)
from instruction_tuning.stage_measures import best_of_curve, training_curve
from tutorial_kit.plotting import save_figure
from tutorial_kit.training import run_folder, write_json

HACKED = [Point(0.0, 0.0, 0.6), Point(1.0, 0.5, 0.65), Point(9.0, 1.5, 0.1)]
SOUND = [Point(0.0, 0.0, 0.6), Point(1.0, 0.7, 0.7)]
VERIFIED = [Point(0.0, math.nan, 0.6), Point(1.2, math.nan, 0.4)]
ROWS = [Row("base", 0.01, 0.0, None), Row("SFT", 0.7, 0.5, 0.0), Row("DPO", 0.75, 0.6, 1.0, 0.02),
        Row("GRPO", 0.72, 0.7, 2.0)]  # fmt: skip
TASKS = {"SFT": {"sort": 0.4, "upper": 0.7, "add": 1.0}, "DPO": {"sort": 0.3, "upper": 0.9,
         "add": 1.0}}  # fmt: skip


def titles(figure: Figure) -> str:
    return " ".join(axes.get_title(loc="left") for axes in figure.axes).replace("\n", " ")


def test_over_optimization_is_found_where_the_reward_rises_and_the_judge_falls() -> None:
    text = over_optimization_finding({"sound": SOUND, "hacked": HACKED, "verified": VERIFIED})
    assert text.startswith("hacked: the reward rises from 0.50 to 1.50")
    assert text.endswith("the judge falls from 0.65 to 0.10")
    assert over_optimization_finding({"sound": SOUND}) == (
        "The judge's score never falls while the reward rises"
    )
    fallen = [Point(0, 1.0, 0.6), Point(1, 0.2, 0.1)]  # both fall: a bad training, not hacking
    assert "never falls" in over_optimization_finding({"fallen": fallen})


def test_over_optimization_figure_draws_every_point_at_its_distance() -> None:
    figure = over_optimization_figure({"hacked": HACKED, "verified": VERIFIED})
    left, right = figure.axes
    assert [list(line.get_xdata()) for line in right.lines] == [[0.0, 1.0, 9.0], [0.0, 1.2]]
    assert list(left.lines[0].get_ydata()) == [0.0, 0.5, 1.5]
    assert np.isnan(left.lines[1].get_ydata()).all()  # a verifier's reward is another measure
    assert list(right.lines[0].get_ydata()) == [0.6, 0.65, 0.1]
    scale = left.get_xaxis().get_transform()
    assert scale.transform(9.0) == pytest.approx(3.0)


def test_stages_are_compared_with_sft() -> None:
    text = stages_finding(ROWS)
    assert text == (
        "GRPO is best at temperature 1: 70.0 % exact, +20.0 points over SFT; greedy +2.0"
    )
    assert stages_finding(ROWS[1:2]).startswith("No policy is better at temperature 1 than SFT")
    figure = stages_figure(ROWS)
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [row.label for row in ROWS]
    assert [t.get_text() for t in axes.texts] == ["KL 0.00", "KL 1.00", "KL 2.00"]
    assert text in titles(figure)


def test_tasks_that_fall_are_named() -> None:
    assert tasks_finding(TASKS["SFT"], TASKS["DPO"], "DPO") == (
        "DPO raises 1 of 3 tasks; sort falls by 10 points"
    )
    assert tasks_finding(TASKS["SFT"], TASKS["SFT"], "x") == "x raises 0 of 3 tasks, and none falls"
    figure = tasks_figure(TASKS, "Greedy")
    heights = [patch.get_height() for patch in figure.axes[0].patches]
    assert heights == pytest.approx([40, 70, 100, 30, 90, 100])


def test_the_table_shows_every_number() -> None:
    figure = table_figure(TASKS, "greedy")
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown == ["40", "70", "100", "30", "90", "100"]
    assert "differ most in upper, by 20 points" in titles(figure)


def test_pass_at_k_compares_both_ends() -> None:
    curves = {"SFT": {1: 0.45, 4: 0.7, 16: 0.82}, "GRPO": {1: 0.65, 4: 0.75, 16: 0.8}}
    text = "GRPO against SFT: +20.0 points at k = 1, -2.0 at k = 16"
    assert sharpening_finding(curves) == text and text in titles(pass_at_k_figure(curves))
    assert sharpening_finding({"SFT": {1: 0.5, 2: 0.6}}) == "No policy is above SFT at k = 1"


def test_the_story_holds_all_of_it(tmp_path: Path) -> None:
    figure = story_figure(ROWS, {"best-of-n": HACKED, "DPO": SOUND[1:]})
    assert len(figure.axes) == 3 and "the judge falls" in titles(figure)
    path = save_figure(figure, tmp_path / "story.png")
    assert path.stat().st_size > 10_000


def test_panels_name_the_best_or_the_range() -> None:
    bars = [Bar("a", 70.0, 1.0), Bar("b", 70.5, 0.2), Bar("c", 60.0, 1.0)]
    assert finding(Panel("x", bars, "higher")) == "Best: b, 70.5 ± 0.2; within the spread: a"
    assert finding(Panel("x", bars, "lower")) == "Best: c, 60.0 ± 1.0"
    assert finding(Panel("x", bars)) == "From 60.0 (c) to 70.5 (b)"
    assert best_bar(Panel("x", bars)) is None
    figure = panels_figure("Which?", [Panel("exact (%)", bars, "higher"), Panel("KL", bars)])
    first, second = figure.axes
    assert titles(figure).startswith("Which? Best: b")
    assert first.get_xlabel() == "exact (%), higher is better" and second.get_xlabel() == "KL"
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["a", "b", "c"]


def test_points_of_best_of_n_and_of_a_training(tmp_path: Path) -> None:
    numbers = {"mean": 2.0, "std": 4.0, "reward_of.1": 2.0, "judge_of.1": 0.5, "best_of.1": 0.4,
               "reward_of.4": 6.0, "judge_of.4": 0.7, "best_of.4": 0.6}  # fmt: skip
    first, last = best_of_curve(numbers)
    assert first == Point(0.0, 0.0, 0.5)
    assert last == Point(pytest.approx(math.log(4) - 0.75), 1.0, 0.7)
    log = tmp_path / "metrics.jsonl"
    row = {"step": 5, "validation_kl": -0.1, "validation_reward": 0.4, "judge": 0.6}
    log.write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert training_curve(tmp_path) == [Point(0.0, 0.4, 0.6)]  # a KL is not drawn below 0
    assert math.isnan(training_curve(tmp_path, rewarded=False)[0].reward)
    log.write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no evaluation yet"):
        training_curve(tmp_path)


def test_only_trainings_with_a_reward_have_a_curve() -> None:
    folder = run_folder("instruction_tuning", "mine")
    write_json(folder / "config.json", {"reward": "quick_reward"})
    assert reward_visualization.curve_of("mine") == []
    log = folder / "metrics.jsonl"
    log.write_text('{"step": 1, "judge": 0.5, "validation_kl": 0.1}\n', encoding="utf-8")
    assert reward_visualization.curve_of("mine") == []
    row = '{"step": 2, "judge": 0.5, "validation_kl": 0.1, "validation_reward": 2.0}\n'
    log.write_text(row, encoding="utf-8")
    assert reward_visualization.curve_of("mine") == [Point(0.1, 2.0, 0.5)]
    write_json(folder / "config.json", {"reward": "verifier"})
    assert math.isnan(reward_visualization.curve_of("mine")[0].reward)


def test_the_script_draws_everything(capsys: pytest.CaptureFixture[str]) -> None:
    files = reward_visualization.main(["--preset", "smoke"])
    names = {path.name for path in files}
    assert names == {f"{name}.png" for name in ("stages", "table", "table_sampled", "tasks",
                                                "sharpening")}  # fmt: skip
    assert all(path.stat().st_size > 5000 for path in files)
    assert capsys.readouterr().out.split() == list(map(str, files))


def test_a_run_that_does_not_exist_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no_such_run.*does not exist"):
        reward_visualization.main(["--runs", "no_such_run", "--reference", "no_such_run"])
