"""The chapter's experiments of CBOW: they run, resume, share trainings, compare what they say."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch

from cbow import experiment_runs, run_examples
from cbow.embeddings import Embeddings
from cbow.experiment_figures import Row, cost_figure, dots_figure, finding, shares_figure
from cbow.experiments import (
    BASELINE,
    EXPERIMENTS,
    MEASURED,
    RIVALS,
    SMOKE_TEXT,
    TEXTS,
    Variant,
    variant_config,
)
from tutorial_kit import experiments
from tutorial_kit.results import Result


def refuse(*_args: object, **_options: object) -> None:
    raise AssertionError("a finished training is repeated")


def run_and_repeat(name: str, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(experiments, "record", None)  # nothing is recorded of a smoke test
    first = run_examples.main(["--preset", "smoke", "--only", name])
    assert first and {result.name for result in first} <= set(run_examples.MEASURES)
    assert all(result.value >= 0 for result in first)
    assert (run_examples.figures_folder() / f"{name}.png").is_file()
    shown = capsys.readouterr().out
    monkeypatch.setattr(experiment_runs, "train", refuse)
    monkeypatch.setattr(experiment_runs, "counting_embeddings", refuse)
    again = run_examples.main(["--preset", "smoke", "--only", first[0].name])
    assert [result.value for result in again] == [result.value for result in first]
    table = capsys.readouterr().out
    assert table.strip() and table.strip() in shown


@pytest.mark.parametrize("name", ["window", "text"])
def test_an_experiment_runs_and_resumes(name: str, monkeypatch: Any, capsys: Any) -> None:
    run_and_repeat(name, monkeypatch, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in ("window", "text")])
def test_the_other_experiments_run_and_resume(name: str, monkeypatch: Any, capsys: Any) -> None:
    run_and_repeat(name, monkeypatch, capsys)


@pytest.mark.slow
def test_every_variant_can_be_made() -> None:
    made = {
        (variant_config(variant, SMOKE_TEXT, 0, smoke=True), variant.method)
        for experiment in EXPERIMENTS.values()
        for variant in experiment.variants.values()
    }
    for config, method in sorted(made, key=repr):
        outcome = experiment_runs.run_variant(config, method)
        assert 0.0 <= outcome["purity"] <= 100.0 and outcome["vocabulary"] > 100


def test_a_training_is_shared_and_leaves_no_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The baseline of two experiments is trained once; less text is another training."""
    trained = []

    def counted(*args: Any, **options: Any) -> Any:
        trained.append(args)
        return train(*args, **options)

    train = experiment_runs.train
    monkeypatch.setattr(experiment_runs, "train", counted)
    config = variant_config(Variant(), SMOKE_TEXT, seed=3, smoke=True)
    outcomes = [experiment_runs.run_variant(config, "train", share) for share in (1.0, 1.0, 0.5)]
    assert len(trained) == 2 and outcomes[0] == outcomes[1]
    assert outcomes[2]["vocabulary"] < outcomes[0]["vocabulary"]
    every, few = (len(args[1].train.tokens) for args in trained)
    assert few == pytest.approx(every / 2, rel=0.1)
    for _, _, folder in trained:
        left = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert left < 50_000 and (folder / "outcome.json").is_file()


def test_all_shares_are_asked_for_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Purity is counted among the words of the smallest share, whatever was trained on."""
    asked = []

    def noted(embeddings: Embeddings, homes: Any) -> float:
        asked.append([embeddings.words[row] for row in homes.rows])
        return 0.5

    monkeypatch.setattr(experiment_runs, "purity", noted)
    config = variant_config(Variant(), SMOKE_TEXT, seed=0, smoke=True)
    for share in (0.3, 1.0):
        experiment_runs.run_variant(config, "random", share, smallest=0.3)
    experiment_runs.run_variant(config, "random")
    assert asked[0] == asked[1] and len(asked[0]) > 20
    assert set(asked[0]) < set(asked[2])


def test_words_keep_their_homes_in_a_part() -> None:
    data = experiment_runs.text_of(SMOKE_TEXT, 5)
    homes = experiment_runs.all_homes(SMOKE_TEXT, 5)
    words = data.vocabulary.words
    some = [words[row] for row in homes.rows[::3]] + ["the", "of"]
    part = Embeddings(some, torch.randn(len(some), 4))
    found = experiment_runs._homes_among(homes, words, part)
    assert [part.words[row] for row in found.rows] == some[:-2]
    assert found.home.tolist() == homes.home[::3].tolist()


def test_an_unknown_experiment_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no such experiment. Use one of window, dimen"):
        run_examples.main(["--only", "cbow.nonsense.x"])


def test_names_of_results_are_distinct_and_valid() -> None:
    variants = [v for e in EXPERIMENTS.values() for v in e.variants.values()]
    timed = sum(len(e.variants) for e in EXPERIMENTS.values() if e.picture == "cost")
    assert len(run_examples.MEASURES) == (len(MEASURED) - 1) * len(variants) + timed
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
        config = variant_config(variant, TEXTS[1], seed=2)
        assert different(BASELINE, config) <= {*variant.settings, "seed", "dataset"}
        assert (config.seed, config.dataset) == (2, "wikitext2")
        assert variant.share == 1 or name == "text"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_has_the_baseline_among_its_rows(name: str) -> None:
    variants = EXPERIMENTS[name].variants.values()
    assert len(variants) >= 3
    assert any(variant_config(v, BASELINE.dataset, seed=0) == BASELINE and v.method == "train"
               and v.share == 1 for v in variants)  # fmt: skip


def test_all_rivals_get_the_same_text() -> None:
    variants = list(EXPERIMENTS["text"].variants.values())
    shares = {line: [v.share for v in variants if v.line == line] for line in RIVALS}
    assert {tuple(found) for found in shares.values()} == {(0.1, 0.3, 1.0)}
    assert EXPERIMENTS["text"].smallest_share == 0.1
    assert EXPERIMENTS["window"].smallest_share == 1.0


def row(label: str, purity: float, wordsim: float, speed: float, **other: Any) -> Row:
    means = {"purity": purity, "wordsim": wordsim, "speed": speed}
    return Row(label, means, {"purity": 1.0, "wordsim": 2.0, "speed": 9.0}, **other)


ROWS = [row("5", 70.0, 40.0, 1000.0), row("10", 78.0, 41.0, 250.0), row("2", 60.0, 35.0, 4000.0)]


def title_of(figure: Any) -> str:
    return " ".join(figure.get_suptitle().split())


def test_titles_name_the_best_and_what_cannot_be_told_apart() -> None:
    pure = "Purest: 10, 78.0 ± 1.0"
    related = "nearest to human ratings: 10, 41.0 ± 2.0 (within the spread: 5)"
    assert finding(ROWS, "purity") == pure and finding(ROWS, "wordsim") == related
    figure = dots_figure("Which?", ROWS)
    assert title_of(figure) == f"Which? {pure}; {related}"
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["5", "10", "2"]
    assert title_of(cost_figure("Which?", ROWS)) == (
        f"Which? {pure}; {related}; 2 reads 16.0 times as fast as 10"
    )


def test_the_figure_of_the_text_compares_the_first_line_with_the_last() -> None:
    rows = [
        row("", 50.0, 10.0, 1.0, line="CBOW", share=0.1), row("", 70.0, 30.0, 1.0, line="CBOW"),
        row("", 60.0, 20.0, 1.0, line="PPMI", share=0.1), row("", 69.0, 31.0, 1.0, line="PPMI"),
    ]  # fmt: skip
    figure = shares_figure("Who?", rows)
    assert title_of(figure) == (
        "Who? CBOW against PPMI, points: -10.0 at 10 %, +1.0 at 100 % (purity); "
        "-10.0 at 10 %, -1.0 at 100 % (wordsim)"
    )
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["CBOW", "PPMI"]
