"""The predicted durations: what they rest on, and that nothing damaged or read-only stops them."""

import json
import platform
import subprocess
import sys

import pytest

from tutorial_kit import PROJECT_ROOT, forecast, processor
from tutorial_kit.forecast import (
    REFERENCE_CALIBRATION,
    SLOWDOWN,
    Forecaster,
    calibrate,
    spoken,
)


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    for family, seconds in (("gpt", 40.0), ("vit", 80.0), ("bert", 50.0)):
        entry = {f"{family}.quick_start.seconds": {"value": seconds, "unit": "s"}}
        (folder / f"{family}.json").write_text(json.dumps(entry))
    return folder


@pytest.fixture(autouse=True)
def _nothing_else_runs(monkeypatch):
    monkeypatch.setattr(Forecaster.__init__, "__defaults__", (calibrate, lambda: 0.0))


def same_speed() -> float:
    return REFERENCE_CALIBRATION


def twice_as_slow() -> float:
    return 2 * REFERENCE_CALIBRATION


def test_calibration_scales_the_reference(tmp_path, results):
    memory = tmp_path / "memory.json"
    assert Forecaster(memory, results, same_speed).forecast("gpt").seconds == pytest.approx(40)
    memory.unlink()
    slow = Forecaster(memory, results, twice_as_slow).forecast("gpt")
    assert slow.seconds == pytest.approx(80)
    assert slow.basis == "calibration"


def test_calibration_is_measured_once_and_remembered(tmp_path, results):
    memory = tmp_path / "cache" / "memory.json"
    calls = []

    def counted():
        calls.append(1)
        return REFERENCE_CALIBRATION

    first = Forecaster(memory, results, counted)
    assert not calls  # reading the memory measures nothing
    first.forecast("gpt")
    first.forecast("bert")
    Forecaster(memory, results, counted).forecast("gpt")
    assert len(calls) == 1


def test_the_machine_of_the_reference_may_say_its_own_calibration(tmp_path, results):
    entry = {"value": 40.0, "machine": {"calibration_seconds": 4 * REFERENCE_CALIBRATION}}
    (results / "gpt.json").write_text(json.dumps({"gpt.quick_start.seconds": entry}))
    forecaster = Forecaster(tmp_path / "memory.json", results, same_speed)
    assert forecaster.forecast("gpt").seconds == pytest.approx(10)  # this machine is 4x faster


def test_own_runs_win_over_the_calibration(tmp_path, results):
    memory = tmp_path / "memory.json"
    for seconds in (100.0, 60.0, 62.0):
        Forecaster(memory, results, same_speed).remember("gpt", "quick", seconds)
    predicted = Forecaster(memory, results, same_speed).forecast("gpt")
    assert (predicted.seconds, predicted.basis) == (62.0, "earlier runs")


def test_runs_of_one_demo_correct_the_others(tmp_path, results):
    """The first demo took half its forecast (more cores, a GPU): the others will take less, too."""
    forecaster = Forecaster(tmp_path / "memory.json", results, same_speed)
    forecaster.remember("gpt", "quick", 20.0)
    assert forecaster.forecast("vit").seconds == pytest.approx(60)  # one demo may be an exception
    (results / "cbow.json").write_text('{"cbow.quick_start.seconds": {"value": 10.0}}')
    forecaster.remember("cbow", "quick", 5.0)
    assert forecaster.forecast("vit").seconds == pytest.approx(40)


def test_a_demo_that_trains_by_the_clock_is_neither_corrected_nor_corrects(tmp_path, results):
    memory = tmp_path / "memory.json"
    busy = Forecaster(memory, results, twice_as_slow, lambda: 1.0)
    assert busy.forecast("bert").seconds == pytest.approx(50)
    busy.remember("bert", "quick", 51.0)
    assert Forecaster(memory, results, same_speed).forecast("vit").seconds == pytest.approx(160)
    assert busy.forecast("bert").seconds == pytest.approx(51)


@pytest.mark.parametrize(
    ("held", "longer"), [(0.0, 1.0), (0.5, 1 + SLOWDOWN / 2), (3, 1 + SLOWDOWN)]
)
def test_other_programs_stretch_a_demo(tmp_path, results, held, longer):
    memory = tmp_path / "memory.json"
    busy = Forecaster(memory, results, same_speed, lambda: held)
    assert busy.forecast("gpt").seconds == pytest.approx(40 * longer)
    busy.remember("gpt", "quick", 40 * longer)  # just as foretold: nothing is to be corrected
    assert busy.forecast("gpt").seconds == pytest.approx(40 * longer, rel=1e-3)
    assert busy.forecast("vit").seconds == pytest.approx(80 * longer, rel=1e-3)
    alone = Forecaster(memory, results, same_speed)
    assert alone.forecast("gpt").seconds == pytest.approx(40, rel=1e-3)


def test_the_kernels_counters_tell_what_others_hold(tmp_path, monkeypatch):
    counters = tmp_path / "stat"
    counters.write_text("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2\n")

    def later(_):  # of 100 ticks 50 were idle and 10 waited for a disk
        counters.write_text("cpu  130 0 60 850 60 0 0 0 0 0\ncpu0 1 2\n")

    monkeypatch.setattr(processor.time, "sleep", later)
    monkeypatch.setattr(processor, "core_count", lambda: 4)
    assert processor.busy_cores(0.05, counters) == pytest.approx(4 * 0.4)
    assert processor.busy_cores(0.05, counters) == 0.0  # no tick has passed
    assert processor.busy_cores(0.05, tmp_path / "nothing") == 0.0
    counters.write_text("")
    assert processor.busy_cores(0.05, counters) == 0.0


def test_presets_are_kept_apart(tmp_path, results):
    forecaster = Forecaster(tmp_path / "memory.json", results, same_speed)
    forecaster.remember("gpt", "smoke", 3.0)
    assert forecaster.forecast("gpt", "smoke").seconds == 3.0
    assert forecaster.forecast("gpt", "quick").seconds == pytest.approx(
        40
    )  # a guess taught nothing
    assert forecaster.forecast("bert", "smoke").seconds < 10


def test_without_a_reference_time_it_is_called_a_guess(tmp_path):
    guess = Forecaster(None, tmp_path, same_speed).forecast("vit")
    assert (guess.seconds, guess.basis) == (60.0, "guess")


def test_only_the_latest_runs_count(tmp_path, results):
    forecaster = Forecaster(tmp_path / "memory.json", results, same_speed)
    for _ in range(10):
        forecaster.remember("gpt", "quick", 500.0)
    for _ in range(forecast.REMEMBERED_RUNS):
        forecaster.remember("gpt", "quick", 50.0)
    assert forecaster.forecast("gpt").seconds == 50.0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1, 2]",
        b"\xff\xfe\x00garbage",
        b'{"machines": 3}',
        b'{"machines": {"KEY": 3}}',
        b'{"machines": {"KEY": {"calibration_seconds": "fast", "runs": []}}}',
        b'{"machines": {"KEY": {"calibration_seconds": -1, "runs": {"gpt/quick": 7}}}}',
        b'{"machines": {"KEY": {"runs": {"gpt/quick": [3, {"seconds": NaN}, {"ratio": 2}]}}}}',
        b'{"machines": {"KEY": {"runs": {"bert/quick": [{"seconds": 5, "ratio": "x"}]}}}}',
    ],
)
def test_a_damaged_memory_counts_as_empty_and_is_replaced(tmp_path, results, content):
    memory = tmp_path / "memory.json"
    memory.write_bytes(content.replace(b"KEY", forecast._machine_key().encode()))
    forecaster = Forecaster(memory, results, same_speed)
    assert forecaster.forecast("gpt").seconds == pytest.approx(40)
    forecaster.remember("gpt", "quick", 30.0)
    assert Forecaster(memory, results, same_speed).forecast("gpt").seconds == 30.0


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{]",
        "[]",
        '{"gpt.quick_start.seconds": 3}',
        '{"gpt.quick_start.seconds": {"value": "x"}}',
    ],
)
def test_a_damaged_results_file_gives_a_guess(tmp_path, content):
    (tmp_path / "gpt.json").write_text(content)
    assert Forecaster(None, tmp_path, same_speed).forecast("gpt").basis == "guess"


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, results):
    blocker = tmp_path / "file"
    blocker.write_text("a file where the cache folder should be")
    forecaster = Forecaster(blocker / "memory.json", results, same_speed)
    assert forecaster.forecast("gpt").seconds == pytest.approx(40)
    forecaster.remember("gpt", "quick", 30.0)
    assert forecaster.forecast("gpt").seconds == 30.0  # remembered for as long as the menu lives


def test_the_real_calibration_is_short_and_steady():
    first, second = (min(calibrate() for _ in range(4)) for _ in range(2))
    assert 0.0005 < first < 0.2
    assert max(first, second) / min(first, second) < 2


def test_the_memory_does_not_name_the_machine(tmp_path, results):
    memory = tmp_path / "memory.json"
    Forecaster(memory, results, same_speed).remember("gpt", "quick", 30.0)
    assert platform.node() not in memory.read_text() or len(platform.node()) < 3


def test_torch_is_not_needed():
    code = "import sys, tutorial_kit.forecast; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.01, "1 s"), (19.4, "19 s"), (58, "60 s"), (94, "95 s"), (95, "2 min"), (5400, "1.5 h")],
)
def test_durations_are_spoken_the_way_people_do(seconds, words):
    assert spoken(seconds) == words
