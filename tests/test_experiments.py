"""Around the experiments of a chapter: kept trainings, sums over seeds, recording, publishing."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import pytest

from tutorial_kit import experiments
from tutorial_kit.entry_parsers import experiments_parser
from tutorial_kit.experiments import (
    Study,
    chosen_experiments,
    experiment_figures,
    kept_outcome,
    mean_and_spread,
    result_name,
    run_experiments,
    seed_result,
    seeds_of,
    variant_folder,
)
from tutorial_kit.results import Result


@dataclass(frozen=True)
class Settings:
    lr: float = 0.1


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    calls = []

    def train() -> dict[str, float]:
        calls.append(1)
        return {"loss": 0.5}

    assert kept_outcome(tmp_path, train) == kept_outcome(tmp_path, train) == {"loss": 0.5}
    assert len(calls) == 1


def test_an_interrupted_training_keeps_nothing(tmp_path: Path) -> None:
    def interrupted() -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_outcome(tmp_path, interrupted)
    assert kept_outcome(tmp_path, lambda: {"loss": 1.0}) == {"loss": 1.0}


def test_other_settings_or_data_are_another_folder() -> None:
    first = variant_folder("gpt", Settings(), [1])
    assert first == variant_folder("gpt", Settings(), [1])
    others = {variant_folder("gpt", Settings(0.2), [1]), variant_folder("gpt", Settings(), [2]),
              variant_folder("bert", Settings(), [1])}  # fmt: skip
    assert len(others | {first}) == 4
    assert first.parent == experiment_figures("gpt").parent


def test_mean_and_spread_by_hand() -> None:
    assert mean_and_spread([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_spread([4.0]) == (4.0, 0.0)


def test_a_result_over_the_seeds_says_how_to_repeat_it() -> None:
    result = seed_result(
        "bert", "mask.loss", "15 %", [1.0, 3.0], "nats", study=Study((4, 5)), note="n",
        better="lower", seconds=9.0,
    )  # fmt: skip
    assert result.name == result_name("bert", "mask.loss", "15 %") == "bert.mask.loss.15_"
    assert (result.value, result.spread, result.seeds) == (2.0, pytest.approx(2**0.5), (4, 5))
    assert result.command == "python bert/run_examples.py --only mask"
    assert (result.better, result.seconds, result.unit, result.note) == ("lower", 9.0, "nats", "n")


def test_what_only_may_name() -> None:
    names = ["mask", "depth"]
    assert chosen_experiments("bert", None, names) == names
    for only in ("mask", "bert.mask", "bert.mask.loss.15", "mask.loss"):
        assert chosen_experiments("bert", only, names) == ["mask"]
    with pytest.raises(ValueError, match="--only gpt.mask: there is no such experiment. Use one of "
                       "mask, depth"):  # fmt: skip
        chosen_experiments("bert", "gpt.mask", names)


def test_a_smoke_test_takes_one_seed() -> None:
    parser = experiments_parser("bert", "Run.", ["mask"], seeds=(0, 1, 2, 3))
    assert seeds_of(parser.parse_args([])) == [0, 1, 2, 3]
    assert seeds_of(parser.parse_args(["--preset", "smoke", "--seeds", "7", "8"])) == [7]
    assert seeds_of(Namespace(seeds=[5], preset="standard")) == [5]
    assert Study((0,)).most is None and Study((0,), smoke=True).most == 2


@pytest.mark.parametrize("smoke", [False, True])
def test_each_experiment_is_recorded_when_it_is_done(
    smoke: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = []
    monkeypatch.setattr(experiments, "record", lambda stem, found: recorded.append((stem, found)))
    done = Result("bert.a.x", 1.0, "x")

    def broken(study: Study) -> list[Result]:
        raise KeyboardInterrupt

    runners = {"a": lambda study: [done], "pictures": lambda study: [], "b": broken}
    assert run_experiments("bert", runners, ["a", "pictures"], Study((0,), smoke)) == [done]
    with pytest.raises(KeyboardInterrupt):
        run_experiments("bert", runners, ["a", "b"], Study((0,), smoke))
    assert recorded == ([] if smoke else [("bert", [done])] * 2)


def test_figures_that_a_page_shows_are_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "PROJECT_ROOT", tmp_path)
    (tmp_path / "bert").mkdir()
    page = "![Masks](../docs/figures/bert/mask.png)"
    (tmp_path / "bert" / "README_bert_tutorial.md").write_text(page, encoding="utf-8")

    def draw(study: Study) -> list[Result]:
        experiment_figures("bert").mkdir(parents=True)
        for name in ("mask", "unmask"):
            (experiment_figures("bert") / f"{name}.png").write_bytes(b"picture")
        return []

    run_experiments("bert", {"mask": draw}, ["mask"], Study((0,)), publish=True)
    (published,) = tmp_path.glob("docs/figures/bert/*")
    assert published.name == "mask.png" and published.read_bytes() == b"picture"
