"""The topics: they run and resume, what they say is computed, the tour visits them all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from advanced_topics import quick_start, run_examples, topic_runs
from advanced_topics.experiments import TOPICS
from advanced_topics.small_decoder import SmallDecoder, parameter_counts
from advanced_topics.topic_figures import (
    ExpertRow,
    GroupRow,
    MemoryRow,
    experts_figure,
    experts_finding,
    groups_figure,
    groups_finding,
    memory_figure,
    memory_finding,
    positions_finding,
    recall_finding,
    shown,
)
from advanced_topics.topic_measures import EXPERTS, GROUPS, POSITIONS, attention_difference
from advanced_topics.topic_runs import recall_config, text_config
from tutorial_kit import experiments
from tutorial_kit.config import override
from tutorial_kit.results import Result


def refuse(*_args: object, **_options: object) -> None:
    raise AssertionError("a finished training is repeated")


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_every_topic_runs_and_resumes(
    topic: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = topic.name  # type: ignore[attr-defined]
    monkeypatch.setattr(experiments, "record", None)  # nothing is recorded of a smoke test
    first = run_examples.main(["--preset", "smoke", "--only", name])
    assert first and {result.name for result in first} <= set(run_examples.MEASURES)
    assert (experiments.experiment_figures("advanced_topics") / f"{name}.png").is_file()
    shown_first = capsys.readouterr().out
    monkeypatch.setattr(topic_runs, "train", refuse)
    again = run_examples.main(["--preset", "smoke", "--only", first[0].name])
    assert [result.value for result in again] == [result.value for result in first]
    assert capsys.readouterr().out.strip() in shown_first


def test_an_unknown_topic_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no such experiment. Use one of positions"):
        run_examples.main(["--only", "nonsense"])


def test_names_of_results_are_valid_and_said_once() -> None:
    for name in run_examples.MEASURES:
        assert Result(name, 1.0, "x").name == name
    assert len(run_examples.MEASURES) == sum(
        len(t.measures) for t in run_examples.ALL_TOPICS.values()
    )


def test_variants_differ_from_the_baseline_in_the_named_settings_alone() -> None:
    baseline = text_config("standard", {}, 1)
    variants = [*(s for s, _ in POSITIONS.values()), *GROUPS.values(), *EXPERTS.values()]
    for settings in variants:
        config = text_config("standard", settings, 1)
        changed = {
            name
            for part, base in ((config, baseline), (config.model, baseline.model))
            for name in vars(part)
            if name != "model" and getattr(part, name) != getattr(base, name)
        }
        assert changed == set(settings)
    assert recall_config("standard", {"mixer": "linear"}, 2).seed == 2


def test_the_wider_feed_forward_has_the_parameters_of_the_full_heads() -> None:
    counts = [
        parameter_counts(
            SmallDecoder(override(text_config("standard", s, 0).model, {"vocab_size": 512}))
        )[0]
        for s in (GROUPS["4 key/value heads"], GROUPS["1 head, wider feed-forward"])
    ]
    assert counts[1] == pytest.approx(counts[0], rel=0.002)


@pytest.mark.parametrize("seed", [0, 1])
def test_tiles_differ_by_rounding_alone(seed: int) -> None:
    outputs, gradients = attention_difference(seed)
    assert 0 < outputs < 1e-12 and 0 < gradients < 1e-12


# What is said


def test_numbers_are_shown_with_their_spread() -> None:
    assert shown([1.0, 2.0, 3.0]) == "2.00 ± 1.00"
    assert shown([0.1234], 3, signed=True) == "+0.123"


def test_positions_name_worst_and_best() -> None:
    inside = {"a": [3.0], "b": [3.2], "c": [3.1]}
    far = {"a": [4.0], "b": [3.1], "c": [3.05]}
    said = positions_finding(inside, far)
    assert "against inside: a +1.00 nats, b -0.10 nats; lowest" in said and said.endswith("c, 3.05")


def test_groups_compare_with_the_first_row() -> None:
    rows = [GroupRow("4 heads", [3.0, 3.2], 400.0), GroupRow("1 head", [3.1, 3.2], 100.0)]
    said = groups_finding(rows)
    assert said == "1 head: cache 1/4, loss +0.050 ± 0.071 nats"
    assert groups_figure(rows, said).axes[0].get_xlim()[1] > 400


def test_experts_compare_loads_and_losses() -> None:
    rows = [
        ExpertRow("plain", [3.5], []),
        ExpertRow("experts", [3.4], [[0.9, 0.1]]),
        ExpertRow("experts, balanced", [3.3], [[0.5, 0.5]]),
    ]
    said = experts_finding(rows)
    assert "busiest of 2 experts gets 90 %" in said and "with balancing 50 %" in said
    assert said.endswith("change the loss by -0.200 nats")
    assert len(experts_figure(rows, said).axes) == 2


def test_memory_tells_the_exponents() -> None:
    rows = [MemoryRow(100, 4e6, 1e5), MemoryRow(200, 16e6, 2e5)]
    said = memory_finding(rows, 3e-16)
    assert "80 times less at 200 tokens" in said
    assert said.endswith("grows as T^1.0 instead of T^2.0")
    assert memory_figure(rows, said).axes[0].get_yscale() == "log"


def test_recall_tells_the_longest_trained_sequence() -> None:
    found = {"softmax": {4: [1.0], 8: [0.9], 16: [0.5]}, "linear": {4: [1.0], 8: [0.4], 16: [0.1]}}
    assert recall_finding(found, 32).startswith("Of 8 pairs, with heads 32 wide: softmax 90 %, l")


# The tour


def test_the_tour_visits_every_topic(capsys: pytest.CaptureFixture[str]) -> None:
    result = quick_start.main(["--preset", "smoke", "--device", "cpu"])
    shown_text = capsys.readouterr().out
    for topic in run_examples.ALL_TOPICS.values():
        assert topic.question in shown_text
    assert shown_text.count("   -> ") == len(run_examples.ALL_TOPICS)
    assert "{" not in shown_text and "Traceback" not in shown_text
    assert result.family == "advanced_topics" and 2 <= len(result.files) <= 3
    for file in result.files:
        assert Path(file).stat().st_size > 500


def test_every_text_is_there_and_used() -> None:
    folder = Path(quick_start.__file__).parent
    texts = json.loads((folder / "texts" / "en.json").read_text("utf-8"))
    source = "".join(path.read_text("utf-8") for path in folder.glob("*.py"))
    for key in texts:
        if key.startswith("quick.head."):
            assert f'"{key.removeprefix("quick.head.")}"' in source
        elif key.startswith(("quick.", "demo.")):
            assert f'"{key}"' in source, key
    for key in re.findall(r'texts\.(?:say|get)\("([a-z.]+)"', source):
        assert key in texts
