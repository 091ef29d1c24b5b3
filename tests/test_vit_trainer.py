"""Training: it learns, repeats, resumes bit for bit, and shows ViT and CNN the same minibatches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.checkpoints import load_checkpoint, save_checkpoint
from tutorial_kit.config import override
from tutorial_kit.distributed import Processes
from tutorial_kit.optimizers import Muon
from tutorial_kit.training import read_metrics
from vit.augmentation import Augmentation
from vit.classical_baselines import nearest_neighbors, support_vectors
from vit.filter_muon import FilterMuon, as_matrix
from vit.image_data import ImageData, ImageSplit, load_image_data
from vit.prediction import unit_range
from vit.saved_model import DataFacts, build_model, fit_to_data, load_run
from vit.train_config import PRESETS, config_from_argv
from vit.train_state import TrainState
from vit.training_batches import ImageBatch, ImageSampler
from vit.vit_evaluation import answers_in_words, averaged, evaluate
from vit.vit_model import parameter_count
from vit.vit_trainer import TrainResult, main, train
from vit.weight_average import WeightAverage

SMALL = ["--preset", "smoke", "--threads", "1", "--device", "cpu"]
AUGMENTED = ["--mixup", "0.3", "--cutout", "2", "--flip"]
ARCHITECTURES = ["vit", "cnn"]


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_image_data("digits-small")


def run_folder(run: str) -> Path:
    return Path(os.environ["LLM_TUTORIAL_OUTPUTS"]) / "vit" / run


def weights(run: str) -> dict[str, torch.Tensor]:
    """Everything that is trained, averages included."""
    state = load_checkpoint(run_folder(run), family="vit")["state"]
    averages = {f"average.{name}": weight for name, weight in (state["average"] or {}).items()}
    return {**state["model"], **averages}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def command(run: str, *more: str) -> list[str]:
    return [*SMALL, "--name", run, *more]


def state_of(data: ImageData, *more: str) -> TrainState:
    config, _ = config_from_argv([*SMALL, *more])
    config = fit_to_data(config, DataFacts.of(data))
    return TrainState(config, data, Processes(0, 1, torch.device("cpu")))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_digits_are_learned_and_the_files_are_there(
    architecture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = main(command("learn", "--architecture", architecture, "--max-steps", "120",
                          "--eval-every", "40", "--d-model", "32", "--d-ff", "64",
                          "--lr", "1e-2", "--rotate", "0", "--zoom", "0",
                          "--shift", "0"))  # fmt: skip
    rows = read_metrics(result.folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [40, 80, 120] and result.history == rows
    assert result.validation_accuracy == max(row["validation_accuracy"] for row in rows)
    assert result.validation_accuracy > 0.5 and result.test_accuracy > 0.5
    assert rows[-1]["train_loss"] < 0.7 * rows[0]["train_loss"]
    files = {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*")}
    wanted = {"config.json", "metrics.jsonl", "checkpoints/best.pt", "checkpoints/last.pt"}
    assert wanted <= files
    output = capsys.readouterr().out
    assert "accuracy" in output and "answers:" in output and output.count("test:") == 1

    model, config, facts = load_run("learn")
    data = load_image_data("digits-small")
    assert not model.training and config.architecture == architecture
    assert facts.classes == data.classes and torch.equal(facts.mean, data.mean)
    scores, _ = evaluate(model, data.test, facts)
    assert scores.accuracy == result.test_accuracy
    assert scores.loss == pytest.approx(result.test_loss, abs=1e-6)
    with torch.no_grad():  # as the training saw them: from 0 to 1, then normalized
        pictures = unit_range(data.test.images) - data.mean.view(-1, 1, 1)
        logits = model(pictures / data.std.view(-1, 1, 1))
        loss = F.cross_entropy(logits, data.test.labels)
    assert scores.loss == pytest.approx(loss.item(), rel=1e-4)


def test_vit_and_cnn_see_the_same_minibatches(digits: ImageData) -> None:
    vit = state_of(digits, *AUGMENTED, "--architecture", "vit", "--seed", "3")
    cnn = state_of(digits, *AUGMENTED, "--architecture", "cnn", "--seed", "3")
    other = state_of(digits, *AUGMENTED, "--architecture", "cnn", "--seed", "4")
    torch.rand(7)  # what else is drawn does not matter
    for _ in range(5):
        (a,), (b,), (c,) = vit.minibatch(), cnn.minibatch(), other.minibatch()
        for name in ("images", "labels", "others", "share"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert not torch.equal(a.images, c.images)


def test_the_cnn_has_as_many_parameters_as_the_vit(digits: ImageData) -> None:
    for preset in ("quick", "standard", "long"):
        config = replace(PRESETS[preset], architecture="cnn")
        count = sum(weight.numel() for weight in build_model(config).parameters())
        assert count == pytest.approx(parameter_count(config.model), rel=0.15), preset
    assert build_model(replace(config, cnn_width=8)).config.width == 8  # type: ignore[union-attr]


def test_every_epoch_has_every_picture_once_in_another_order(digits: ImageData) -> None:
    size = len(digits.train.labels)
    numbered = replace(
        digits,
        classes=tuple(map(str, range(size))),
        train=ImageSplit(digits.train.images, torch.arange(size)),
    )
    batch = 7  # does not divide the size: minibatches reach over the end of an epoch
    sampler = ImageSampler(numbered, Augmentation(), batch, seed=0)
    seen = torch.cat([sampler.next_batch().labels for _ in range(2 * size // batch + 1)])
    first, second = seen[:size], seen[size : 2 * size]
    assert torch.equal(first.sort().values, torch.arange(size))
    assert torch.equal(second.sort().values, torch.arange(size))
    assert not torch.equal(first, second)
    # Fewer pictures than a minibatch has room for: they come again.
    few = replace(numbered, train=ImageSplit(digits.train.images[:3], torch.arange(3)))
    labels = ImageSampler(few, Augmentation(), 7, seed=0).next_batch().labels
    assert torch.equal(labels[:6].sort().values, torch.tensor([0, 0, 1, 1, 2, 2]))


def test_pictures_are_normalized_by_the_training_split(digits: ImageData) -> None:
    sampler = ImageSampler(digits, Augmentation(), len(digits.train.labels), seed=0)
    images = sampler.next_batch().images  # an epoch as one minibatch
    assert images.mean().item() == pytest.approx(0, abs=1e-4)
    assert images.std().item() == pytest.approx(1, abs=1e-2)


def test_the_loss_is_the_cross_entropy_of_the_mixed_and_smoothed_target() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]], dtype=torch.float64)
    labels, others = torch.tensor([0, 1]), torch.tensor([2, 1])
    share = torch.tensor([0.7, 1.0], dtype=torch.float64)
    target = torch.tensor([[0.7, 0.0, 0.3], [0.0, 1.0, 0.0]], dtype=torch.float64)
    target = 0.9 * target + 0.1 / 3
    by_hand = -(target * logits.log_softmax(-1)).sum(-1).mean()
    batch = ImageBatch(torch.zeros(2, 1, 2, 2), labels, others, share)
    assert torch.allclose(batch.loss(logits, 0.1), by_hand, atol=1e-12)
    whole = replace(batch, share=torch.ones(2))
    assert torch.equal(whole.loss(logits, 0.0), F.cross_entropy(logits, labels))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_muon_takes_the_hidden_weights_and_each_weight_has_one_optimizer(
    digits: ImageData, architecture: str
) -> None:
    state = state_of(digits, "--architecture", architecture)
    muon, adamw = state.optimizers
    assert isinstance(muon, FilterMuon)
    twins = {id(matrix): weight for weight, matrix in muon.pairs}
    hidden = [twins.get(id(p), p) for p in muon.param_groups[0]["params"]]
    rest = [p for group in adamw.param_groups for p in group["params"]]
    assert sorted(map(id, hidden + rest)) == sorted(id(p) for p in state.model.parameters())
    layers = [m for m in state.model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    ids = {id(p) for p in hidden}
    assert id(layers[0].weight) not in ids  # reads pixels
    assert id(state.model.head.weight) not in ids  # names classes
    assert len(hidden) == len(layers) - 2


def test_filters_are_updated_as_the_matrices_they_are() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    start = convolution.weight.detach().clone()
    matrix = nn.Parameter(as_matrix(start).clone())
    ours, plain = FilterMuon([convolution.weight], 0.1), Muon([matrix], 0.1)
    for _ in range(3):
        gradient = torch.randn(5, 3, 3, 3)
        convolution.weight.grad = gradient.clone()
        matrix.grad = as_matrix(gradient).clone()
        ours.step()
        plain.step()
    assert torch.equal(as_matrix(convolution.weight.detach()), matrix.detach())
    assert not torch.equal(convolution.weight, start)
    ours.zero_grad()
    assert convolution.weight.grad is None
    before = convolution.weight.detach().clone()
    ours.step()
    assert torch.equal(convolution.weight, before)  # no gradient, no update


def test_the_average_forgets_its_beginning_and_is_taken_back() -> None:
    layer = nn.Linear(1, 1)
    values = []
    with torch.no_grad():
        layer.weight.fill_(5.0)
        average = WeightAverage(layer, decay=0.9)
        for step in range(1, 200):
            layer.weight.fill_(float(step))
            average.update(layer, step)
            values.append(average.weights["weight"].item())
    assert values[0] == pytest.approx((5.0 + 10 * 1.0) / 11)  # step 1 keeps a share of 1 / 11
    assert values[-1] == pytest.approx(199 - 9, abs=0.01)  # lags by decay / (1 - decay) steps
    with averaged(layer, average):
        assert layer.weight.item() == values[-1]
    assert layer.weight.item() == 199.0


def test_same_seed_same_weights_other_seed_other_weights() -> None:
    for run, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        main(command(run, "--seed", seed, *AUGMENTED))
    assert_equal(weights("a"), weights("b"))
    assert not torch.equal(weights("a")["head.weight"], weights("c")["head.weight"])


@pytest.mark.parametrize(
    "extra",
    [
        ["--architecture", "vit", "--dropout", "0.1", "--accumulation", "2", *AUGMENTED],
        ["--architecture", "cnn", "--optimizer", "muon"],
        ["--architecture", "vit", "--optimizer", "adamw", "--ema", "0", "--stem", "patches",
         "--pooling", "cls", "--clip", "1"],
    ],
    ids=["vit", "cnn", "plain"],
)  # fmt: skip
def test_resume_equals_uninterrupted(extra: list[str]) -> None:
    extra = [*extra, "--max-steps", "12", "--eval-every", "5", "--checkpoint-every", "4"]
    whole = main(command("whole", *extra))
    # Stop after 8 steps by asking for an interrupt from within, as Ctrl-C does.
    script = (
        "import os, signal, sys; from vit import train_state, vit_trainer\n"
        "set_rates = train_state.TrainState.set_learning_rates\n"
        "def patched(self):\n"
        "    if self.step == 7: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return set_rates(self)\n"
        "train_state.TrainState.set_learning_rates = patched\n"
        "vit_trainer.main(sys.argv[1:])\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *command("parts", *extra)],
        cwd=PROJECT_ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert "stopped at step 8; saved" in process.stdout and "KeyboardInterrupt" in process.stderr
    parts = main(command("parts", *extra, "--resume"))
    assert_equal(weights("whole"), weights("parts"))
    assert without_seconds(whole) == without_seconds(parts)
    assert whole.test_accuracy == parts.test_accuracy


def without_seconds(run: TrainResult) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.history]


KILLED = ["--max-steps", "300", "--eval-every", "110", "--checkpoint-every", "10"]


@pytest.mark.slow
def test_killed_run_resumes_bit_for_bit() -> None:
    main(command("whole", *KILLED))
    for trial, delay in enumerate((0.2, 0.7)):
        run = f"killed{trial}"
        script = [sys.executable, "-m", "vit.vit_trainer", *command(run, *KILLED)]
        last = run_folder(run) / "checkpoints" / "last.pt"
        process = subprocess.Popen(
            script, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not last.exists():  # until it trains, whatever the load
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        step = int(load_checkpoint(last, family="vit")["state"]["step"])
        assert 0 < step < 300, "the kill missed the run: choose another delay"
        subprocess.run([*script, "--resume"], cwd=PROJECT_ROOT, check=True, capture_output=True)
        assert_equal(weights("whole"), weights(run))


@pytest.mark.slow
def test_two_processes_give_the_one_process_run() -> None:
    extra = ["--max-steps", "3", "--optimizer", "adamw", "--dropout", "0", *AUGMENTED]
    main(command("one", *extra))
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "vit.vit_trainer", *command("two", *extra)],
        cwd=PROJECT_ROOT, check=True, capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    one, two = weights("one"), weights("two")
    for name in one:
        a, b = one[name], two[name]
        if name.endswith("qkv.bias"):
            # The keys' bias adds the same to all scores of a query, so softmax does not see it:
            # its gradient is rounding alone, of which AdamW makes whole steps.
            width = len(a) // 3
            a, b = (torch.cat([x[:width], x[2 * width :]]) for x in (a, b))
        assert torch.allclose(a, b, atol=1e-5), name
    first, second = (read_metrics(run_folder(run) / "metrics.jsonl")[-1] for run in ("one", "two"))
    for name in ("train_loss", "validation_loss", "validation_accuracy", "epochs"):
        assert first[name] == pytest.approx(second[name], abs=1e-5), name


def test_parts_of_a_minibatch_give_the_same_gradient() -> None:
    extra = ["--max-steps", "3", "--optimizer", "adamw", "--dropout", "0", *AUGMENTED]
    main(command("whole", *extra))
    main(command("parts", *extra, "--accumulation", "4"))
    for name, weight in weights("whole").items():
        assert torch.allclose(weight, weights("parts")[name], atol=1e-5), name


def test_the_test_split_takes_no_part_in_training(digits: ImageData, tmp_path: Path) -> None:
    config, _ = config_from_argv(SMALL)
    first = train(config, digits, tmp_path / "true", device="cpu")
    wrong = (digits.test.labels + 1) % len(digits.classes)
    lied = replace(digits, test=ImageSplit(digits.test.images, wrong))
    second = train(config, lied, tmp_path / "lied", device="cpu")
    assert_equal(first.model.state_dict(), second.model.state_dict())
    assert first.validation_accuracy == second.validation_accuracy


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_evaluation_does_not_disturb(digits: ImageData, architecture: str) -> None:
    state = state_of(digits, "--architecture", architecture, "--dropout", "0.5")
    state.model.train()
    before = {name: weight.clone() for name, weight in state.model.state_dict().items()}
    random = torch.get_rng_state()
    facts = DataFacts.of(digits)
    with averaged(state.model, state.average):
        scores, answers = evaluate(state.model, digits.validation, facts)
    assert state.model.training and torch.equal(random, torch.get_rng_state())
    assert_equal(before, state.model.state_dict())
    right = (answers == digits.validation.labels).float().mean().item()
    assert scores.accuracy == pytest.approx(right) and scores.loss > 0
    words = answers_in_words(torch.tensor([1, 2]), torch.tensor([1, 0]), ("a", "b", "c"))
    assert words == "b, [a, not c]"


def test_the_best_evaluation_is_the_most_accurate_and_of_equals_the_later(
    digits: ImageData,
) -> None:
    state = state_of(digits)
    assert [state.is_best(a) for a in (0.4, 0.5, 0.5, 0.3)] == [True, True, True, False]
    assert state.best_accuracy == 0.5


def test_a_finished_run_resumed_is_measured_and_stays_as_it_is() -> None:
    first = main(command("run"))
    again = main(command("run", "--resume"))
    assert again.steps == first.steps and again.validation_accuracy == first.validation_accuracy
    assert again.test_accuracy == first.test_accuracy and again.history == first.history
    assert_equal(first.model.state_dict(), again.model.state_dict())


def test_a_time_budget_ends_the_run() -> None:
    result = main(command("budget", "--max-steps", "1000000", "--budget-minutes", "0.01"))
    assert 0.6 < result.seconds < 4


def test_resume_with_other_settings_or_other_pictures_is_refused(
    digits: ImageData, tmp_path: Path
) -> None:
    main(command("run"))
    with pytest.raises(ValueError, match="was trained with d_model=16, this command asks for 32"):
        main(command("run", "--resume", "--d-model", "32"))
    with pytest.raises(ValueError, match="was trained with architecture=vit"):
        main(command("run", "--resume", "--architecture", "cnn"))
    with pytest.raises(FileNotFoundError, match="Train first"):
        main(command("other", "--resume"))
    config, _ = config_from_argv(SMALL)
    other = replace(digits, train=ImageSplit(digits.train.images.flip(0), digits.train.labels))
    with pytest.raises(ValueError, match="the pictures have changed"):
        train(config, other, run_folder("run"), resume=True, device="cpu")


def test_a_run_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    main(command("run"))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_run("absent")
    content = load_checkpoint(run_folder("run"), family="vit")
    path = tmp_path / "changed.pt"
    state = {**content["state"], "model": {}, "average": None}
    save_checkpoint(path, family="vit", config=content["config"], state=state)
    with pytest.raises(ValueError, match="weights that do not fit its own settings"):
        load_run(path)
    config = {**content["config"], "model": {**content["config"]["model"], "n_classes": 3}}
    save_checkpoint(path, family="vit", config=config, state=content["state"])
    with pytest.raises(ValueError, match="names of 10 classes and weights for 3"):
        load_run(path)


def test_pictures_that_do_not_fit_the_patches_are_refused() -> None:
    with pytest.raises(ValueError, match="patch"):
        main(command("run", "--patch-size", "3"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batch-size", "6", "--accumulation", "4"], "cannot be computed in accumulation=4"),
        (["--lr", "0"], "lr=0.0 learns nothing"),
        (["--warmup", "2"], "warmup=2.0 is no share"),
        (["--label-smoothing", "1"], "label_smoothing=1.0 is no share below 1"),
        (["--ema", "1"], "ema=1.0 is no share below 1"),
        (["--shift", "-1"], "shift=-1 is below 0"),
        (["--crop", "0"], "crop=0.0 is no share of the area"),
        (["--mixup", "-1"], "mixup=-1.0 is below 0"),
        (["--max-steps", "0"], "max_steps=0 is not possible"),
        (["--d-model", "130"], "d_model=130 is not divisible"),
    ],
)
def test_impossible_settings(argv: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_argv(["--preset", "paper", "--accumulation", "1", *argv])


def test_presets_keep_their_promises() -> None:
    assert PRESETS["standard"].budget_minutes <= 15 and PRESETS["long"].budget_minutes <= 60
    plain, standard = PRESETS["plain"], PRESETS["standard"]
    assert plain.model.stem == "patches" and standard.model.stem == "conv"
    assert replace(plain, model=standard.model) == standard  # the training is the same
    paper = PRESETS["paper"]
    assert parameter_count(paper.model) == pytest.approx(86e6, rel=0.01)  # table 1
    for name in ("quick", "standard", "long"):
        cnn = PRESETS["cnn" if name == "standard" else f"cnn-{name}"]
        same = {"architecture": "vit", "lr": PRESETS[name].lr, "muon_lr": PRESETS[name].muon_lr}
        assert override(cnn, same) == PRESETS[name]  # the rival differs in its rates alone


def test_classical_methods_are_chosen_on_validation_and_do_well(digits: ImageData) -> None:
    for method in (nearest_neighbors, support_vectors):
        baseline = method(digits)
        assert baseline.accuracy > 0.7 and baseline.seconds < 30
        wrong = (digits.test.labels + 1) % len(digits.classes)
        lied = replace(digits, test=ImageSplit(digits.test.images, wrong))
        assert method(lied).setting == baseline.setting
