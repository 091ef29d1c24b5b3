"""The benchmarks of vit: both sides do equal work, goals are the documented ones, runs resume."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import (
    seed_measures,
    vit_inference,
    vit_minute,
    vit_quality,
    vit_resized,
    vit_training,
)
from benchmarks.side_processes import Memory, Race, race
from benchmarks.vit_peers import PEER, ROWS, SHAPE, SIDES, TUNED, peer_config, random_batches
from tutorial_kit.results import Result
from vit import quick_start
from vit.image_data import load_image_data
from vit.pretrained import load_pretrained
from vit.saved_model import load_run
from vit.train_config import PRESETS, TrainConfig
from vit.vit_model import ViT

TINY = replace(SHAPE, image_size=8, d_model=32, n_heads=2, n_layers=2, d_ff=64)
SMOKE = PRESETS["smoke"]


def tiny_batch(rows: int = 4) -> tuple[Tensor, Tensor]:
    return random_batches(1, rows, TINY, torch.Generator().manual_seed(0))[0]


def test_the_shape_is_that_of_the_goals() -> None:
    c = SHAPE
    assert (c.d_model, c.n_layers, c.patch_size, c.image_size, c.channels) == (128, 6, 4, 32, 3)
    assert (c.pooling, c.positions, c.stem, c.dropout) == ("cls", "learned", "patches", 0.0)
    assert vit_training.Plan().rows == vit_inference.Plan().rows == ROWS == 128
    assert vit_training.Plan().threads == vit_inference.Plan().threads == 2


def test_random_pictures_repeat_and_have_all_classes() -> None:
    images, labels = tiny_batch(rows=100)
    assert images.shape == (100, 3, 8, 8) and set(labels.tolist()) == set(range(10))
    again, _ = tiny_batch(rows=100)
    assert torch.equal(images, again)


def test_both_sides_compute_the_same_loss_and_gradient(tmp_path: Path) -> None:
    """Same weights, same batch: the benchmark compares equal work, not two different tasks."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    peer = transformers.ViTForImageClassification(peer_config(TINY))
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.normal_(0.0, 0.2)
    peer.save_pretrained(tmp_path)
    ours, _ = load_pretrained(tmp_path)
    counts = [sum(p.numel() for p in model.parameters()) for model in (ViT(TINY), ours, peer)]
    assert counts[0] == counts[1] == counts[2]
    ours, peer, (images, labels) = ours.double(), peer.double(), tiny_batch()
    loss = nn.functional.cross_entropy(ours(images.double()), labels)
    theirs = peer(pixel_values=images.double(), labels=labels).loss
    assert loss.item() == pytest.approx(theirs.item(), abs=1e-10)
    loss.backward()
    theirs.backward()
    squares = [
        sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
        for model in (ours, peer)
    ]
    assert squares[0] == pytest.approx(squares[1], rel=1e-10)


@pytest.mark.parametrize("make", [vit_training.our_step, vit_training.peer_step])
def test_each_side_of_the_training_learns(make: Any) -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    step, batch = make(TINY), tiny_batch()
    losses = [step(batch) for _ in range(40)]
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.slow
def test_the_training_sides_take_turns_in_processes_of_their_own() -> None:
    pytest.importorskip("transformers")
    plan = vit_training.Plan(TINY, rows=4, steps=1, rounds=2, threads=1)
    found = race(plan)
    assert set(found.seconds) == set(SIDES) and found.amounts == [4, 4]
    results = {row.name: row for row in vit_training.results_of(found)}
    assert set(results) == set(vit_training.MEASURES)
    assert all(row.value > 0 for row in results.values())
    whole = results["vit.training.process_memory_vs_transformers"]
    assert 0.3 < whole.value < 1.5  # nearly all of it is torch itself


def test_speed_and_memory_are_judged_by_their_goals() -> None:
    seconds = {"ours": [1.0, 1.0], PEER: [1.4, 1.4], TUNED: [1.2, 1.2]}
    memory = {"ours": Memory(300e6, 400e6), PEER: Memory(400e6, 600e6), TUNED: Memory(0, 200e6)}
    rows = vit_training.results_of(Race(seconds, [100, 100], memory))
    found = {row.name.removeprefix("vit.training."): row for row in rows}
    speed = found["vs_transformers"]
    assert (speed.value, speed.at_least, speed.aim, speed.spread) == (1.4, 1.05, 1.3, 0.0)
    assert found["vs_transformers_tuned"].value == 1.2
    assert found["vs_transformers_tuned"].at_least is None
    share = found["memory_vs_transformers"]
    assert (share.value, share.at_least, share.aim, share.better) == (0.5, 1.0, 0.7, "lower")
    assert found["memory_vs_transformers_tuned"].value == 0.5
    assert found["process_memory_vs_transformers"].value == pytest.approx(2 / 3)
    assert found["images_per_second"].value == 100.0


@pytest.mark.parametrize("side", ["ours", PEER])
def test_reading_gives_every_picture_its_logits(side: str) -> None:
    pytest.importorskip("transformers")
    logits = vit_inference.reader(side, TINY)(tiny_batch())
    assert logits.shape == (4, 10) and not logits.requires_grad


def test_our_most_accurate_model_reads_the_pictures_of_the_others() -> None:
    best = vit_inference.best_shape()
    images, labels = random_batches(1, 2, SHAPE, torch.Generator().manual_seed(0))[0]
    assert vit_inference.reader(vit_inference.BEST, best)((images, labels)).shape == (2, 10)
    ours = PRESETS[vit_inference.BEST_PRESET].model
    assert (best.d_model, best.n_layers, best.stem) == (ours.d_model, ours.n_layers, ours.stem)


def test_both_of_our_models_are_judged_by_their_goals() -> None:
    seconds = {"ours": [2.0], "best": [0.5], PEER: [3.0], TUNED: [2.5]}
    memory = dict.fromkeys(seconds, Memory(0, 1))
    rows = vit_inference.results_of(Race(seconds, [100], memory))
    found = {row.name.removeprefix("vit.inference."): row for row in rows}
    assert {row.name for row in rows} == set(vit_inference.MEASURES)
    same, best = found["vs_transformers"], found["best_vs_transformers"]
    assert (same.value, same.at_least, same.aim) == (1.5, 1.05, 1.3)
    assert (best.value, best.at_least, best.aim) == (6.0, 3.0, 5.0)
    assert found["best_vs_transformers_tuned"].value == 5.0
    assert found["best_vs_transformers_tuned"].at_least is None
    assert found["best_images_per_second"].value == 200.0


@pytest.mark.slow
def test_reading_is_measured_in_turns() -> None:
    pytest.importorskip("transformers")
    plan = vit_inference.Plan(TINY, best=TINY, rows=4, steps=1, rounds=2, threads=1)
    results = vit_inference.measure(plan)
    assert {row.name for row in results} == set(vit_inference.MEASURES)
    assert all(row.value > 0 and row.note and row.command for row in results)


def test_the_table_of_runs_is_that_of_the_goals() -> None:
    goals = {name: run.goal for name, run in vit_quality.RUNS.items()}
    assert goals["vit_5"] == (89.0, 92.0) and goals["vit_15"] == (91.0, 93.5)
    assert goals["plain_15"] == (87.0, 90.0) and goals["vit_long"] == (92.0, 94.0)
    assert goals["cnn_15"] == (None, 94.0)
    assert vit_resized.SCALE == 1.5 and len(vit_resized.SEEDS) >= 3
    assert vit_quality.RUNS["vit_long"].minutes <= 60
    for name, run in vit_quality.RUNS.items():
        config = vit_quality.fashion_config(run, 7)
        assert (config.seed, config.budget_minutes) == (7, run.minutes)
        assert config.dataset == "fashion_mnist"
        assert config.architecture == name.split("_")[0].replace("plain", "vit")
    plain = vit_quality.fashion_config(vit_quality.RUNS["plain_15"], 0).model
    assert (plain.stem, plain.pooling) == ("patches", "cls")


def test_other_threads_stand_in_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = {"accuracy": 90.0, "seconds": 1.0}
    monkeypatch.setattr(vit_quality, "learn", lambda *_: (Path("run"), outcome))
    for threads, more in ((vit_quality.THREADS, ""), (1, "_quality --only vit.fashion.vit_5")):
        command = vit_quality.measure("vit_5", threads=threads).command
        assert more in command and ("--threads 1" in command) == bool(more)


def test_the_cnn_trains_on_the_pictures_of_its_vit() -> None:
    """Everything that decides a minibatch is the same, so is the time."""
    same = ("batch_size", "shift", "flip", "rotate", "zoom", "cutout", "mixup", "budget_minutes")
    for vit, cnn in (("vit_5", "cnn_5"), ("vit_15", "cnn_15"), ("vit_long", "cnn_long")):
        ours, rival = (vit_quality.fashion_config(vit_quality.RUNS[name], 0) for name in (vit, cnn))
        assert all(getattr(ours, field) == getattr(rival, field) for field in same)


def test_a_finished_training_is_read_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, outcome = vit_quality.learn("toy", SMOKE)
    assert folder.name.startswith("benchmark_toy_") and 0 <= outcome["accuracy"] <= 100

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a finished training was repeated")

    monkeypatch.setattr(vit_quality, "train", forbidden)
    assert vit_quality.learn("toy", SMOKE) == (folder, outcome)
    with pytest.raises(AssertionError):  # another seed is another training
        vit_quality.learn("toy", replace(SMOKE, seed=1))


def test_a_stopped_training_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, outcome = vit_quality.learn("toy", SMOKE)
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(tmp_path / "other"))

    def stop(loss: float, step: int, last: Path) -> None:
        if step == SMOKE.checkpoint_every + 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vit.vit_trainer.check_loss", stop)
        with pytest.raises(KeyboardInterrupt):
            vit_quality.learn("toy", SMOKE)
    folder, resumed = vit_quality.learn("toy", SMOKE)
    assert "going on in" in capsys.readouterr().out and folder != whole
    assert resumed["accuracy"] == outcome["accuracy"]
    for ours, theirs in zip(weights(whole), weights(folder), strict=True):
        assert torch.equal(ours, theirs)


def weights(folder: Path) -> list[Tensor]:
    return list(load_run(folder)[0].state_dict().values())


def test_fashion_results_carry_goal_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[TrainConfig] = []

    def learned(name: str, config: TrainConfig) -> tuple[Path, dict[str, float]]:
        seen.append(config)
        return Path(name), {"accuracy": 90.0 + 2 * config.seed, "seconds": 300.0}

    monkeypatch.setattr(vit_quality, "learn", learned)
    row = vit_quality.measure("vit_5", (0, 1))
    assert (row.value, row.at_least, row.aim, row.seconds) == (91.0, 89.0, 92.0, 600.0)
    assert row.spread == pytest.approx(2**0.5) and row.preset == "standard"
    assert [config.seed for config in seen] == [0, 1]
    assert vit_quality.measure("vit_5", (0,)).spread is None


def test_one_training_can_be_measured_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: dict[str, list[Result]] = {}

    def keep(stem: str, rows: list[Result]) -> list[Result]:
        recorded[stem] = rows
        return rows

    monkeypatch.setattr(seed_measures, "record", keep)
    monkeypatch.setattr(vit_quality, "prepare", lambda threads: {"cores": 2})
    monkeypatch.setattr(vit_quality, "fashion_config", lambda run, seed, threads: SMOKE)
    (row,) = vit_quality.main(["--only", "vit.fashion.cnn_15"])
    assert recorded == {"vit_quality": [row]} and row.name == "vit.fashion.cnn_15"
    assert row.note and row.machine == {"cores": 2} and row.aim == 94.0


def test_pictures_grow_smoothly_and_at_their_own_size_stay_what_they_are() -> None:
    data = load_image_data("digits-small")
    images = data.test.images
    assert torch.equal(vit_resized.enlarged(data, 8).test.images, images.float())
    larger = vit_resized.enlarged(data, 12)
    assert larger.image_size == 12 and torch.equal(larger.mean, data.mean)
    found = larger.test.images
    assert found.shape[2:] == (12, 12) and 0 <= float(found.min()) <= float(found.max()) <= 1
    assert float(found.mean()) == pytest.approx(float(images.mean()), abs=0.02)


def test_a_few_steps_at_the_new_size_teach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vit_resized, "TUNING_LR", 1e-2)
    data = vit_resized.enlarged(load_image_data("digits-small"), 12)
    torch.manual_seed(0)
    shape = replace(SMOKE.model, image_size=8, d_model=32, d_ff=64)
    model = ViT(shape).resized(12)
    config = replace(SMOKE, batch_size=32)
    batch = vit_resized.ImageSampler(data, config.augmentation, 64, 1).next_batch()

    def loss() -> float:
        with torch.no_grad():
            return float(batch.loss(model(batch.images), 0.0))

    before = loss()
    vit_resized.fine_tune(model, data, config, steps=60)
    assert loss() < before - 0.1 and not model.training


def test_larger_pictures_are_read_with_interpolated_positions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    resized = ViT.resized

    def keep(model: ViT, size: int) -> ViT:
        sizes.append(size)
        return resized(model, size)

    monkeypatch.setattr(ViT, "resized", keep)
    monkeypatch.setattr(vit_resized, "TUNING_STEPS", 2)
    rows = vit_resized.measure(SMOKE, SMOKE, seeds=(0, 1))
    assert sizes == 4 * [12] and {row.name for row in rows} == set(vit_resized.MEASURES)
    found = {row.name.removeprefix("vit.resized."): row for row in rows}
    for kind in ("", "tuned_"):
        loss, accuracy = found[f"{kind}loss"], found[f"{kind}accuracy"]
        assert loss.value == pytest.approx(found["original_accuracy"].value - accuracy.value)
        assert (loss.better, loss.at_least, loss.aim) == ("lower", 3.0, 1.0)
        assert loss.seeds == (0, 1) and loss.spread is not None and accuracy.at_least is None
    again = vit_resized.measure(SMOKE, SMOKE, seeds=(0, 1))  # kept; fine-tuned bit for bit
    assert [row.value for row in again] == [row.value for row in rows]


def test_the_quick_start_is_told_once_for_each_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int]] = []

    def tell(preset: str, seed: int, device: str, texts: object) -> quick_start.QuickNumbers:
        told.append((preset, seed))
        return quick_start.QuickNumbers(
            accuracy=0.98 + 0.01 * seed, cnn_accuracy=0.99, svm_accuracy=0.994,
            neighbors_accuracy=0.986, seconds=25.0, cnn_seconds=12.0, files=(),
        )  # fmt: skip

    monkeypatch.setattr(quick_start, "tell", tell)
    rows = vit_minute.measure((0, 1))
    assert told == [("quick", 0), ("quick", 1)]
    found = {row.name.removeprefix("vit.quick_start."): row for row in rows}
    ours, cnn = found["accuracy"], found["cnn_accuracy"]
    assert ours.value == pytest.approx(98.5) and ours.spread == pytest.approx(0.5**0.5)
    assert (ours.at_least, ours.aim) == (98.0, 99.0)
    assert (cnn.value, cnn.at_least, cnn.aim) == (99.0, 98.5, 99.4)
    assert found["svm_accuracy"].at_least is None and found["training_seconds"].better == "lower"
    assert {row.name for row in rows} == set(vit_minute.MEASURES)


def test_names_say_what_is_measured() -> None:
    for module in (vit_training, vit_inference, vit_quality, vit_resized, vit_minute):
        for name, meaning in module.MEASURES.items():
            assert re.fullmatch(r"vit\.[a-z0-9_]+\.[a-z0-9_]+", name) and meaning
            assert module.build_parser().parse_args(["--only", name]).only == name
