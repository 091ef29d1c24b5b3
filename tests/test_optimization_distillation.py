"""Distillation: the loss, the student's trainer with its resume, and the teacher's cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gpt.generation import load_model
from gpt.gpt_config import parameter_count
from gpt.text_data import TextData
from optimization import teacher as teacher_module
from optimization import train_student as module
from optimization.distillation import distillation_loss, soft_target_loss
from optimization.optimization_config import PRESETS, TEACHERS, StudentConfig
from optimization.teacher import find_teacher, load_data, train_teacher
from optimization.train_student import main, train_student

SMOKE = PRESETS["smoke"]


@pytest.fixture(scope="module")
def data() -> TextData:
    whole = load_data(SMOKE)
    short = {"validation": whole.tokens["validation"][:500]}
    return replace(whole, tokens=whole.tokens | short)


def test_the_loss_by_hand() -> None:
    """Two tokens: the teacher says 3/4 and 1/4, the student one half each."""
    student, teacher = torch.zeros(1, 1, 2), torch.tensor([[[3.0, 1.0]]]).log()
    soft = 0.75 * torch.log(torch.tensor(1.5)) + 0.25 * torch.log(torch.tensor(0.5))
    assert soft_target_loss(student, teacher, 1.0).item() == pytest.approx(soft.item())
    hard = torch.log(torch.tensor(2.0))
    loss = distillation_loss(student, teacher, torch.zeros(1, 1, dtype=torch.long), 1.0, 0.25)
    assert loss.item() == pytest.approx((0.75 * hard + 0.25 * soft).item())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_gradients_are_those_of_the_papers_cross_entropy(temperature: float) -> None:
    """Hinton et al. 2015 write the cross-entropy with the soft targets: the same gradients."""
    torch.manual_seed(0)
    z, v = torch.randn(2, 6, 11, dtype=torch.float64)
    z.requires_grad_()
    (ours,) = torch.autograd.grad(soft_target_loss(z, v, temperature), z)
    paper = temperature**2 * F.cross_entropy(z / temperature, (v / temperature).softmax(-1))
    (theirs,) = torch.autograd.grad(paper, z)
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_no_gradient_reaches_the_teacher() -> None:
    z, v = torch.randn(2, 3, 5, requires_grad=True).unbind()
    assert torch.autograd.grad(soft_target_loss(z, v, 2.0), v, allow_unused=True) == (None,)


def test_a_student_of_all_soft_targets_becomes_its_teacher(data: TextData, tmp_path: Path) -> None:
    """With the teacher's own shape, the divergence falls by far."""
    guide = find_teacher("smoke", data)
    config = replace(
        SMOKE, model=TEACHERS["smoke"].model, soft_weight=1.0, max_steps=60, eval_every=60,
        checkpoint_every=60, seed=5,
    )  # fmt: skip
    result = train_student(config, data, guide, tmp_path, device="cpu")
    x = data.tokens["validation"][None, :32]
    with torch.no_grad():
        untrained = soft_target_loss(torch.zeros(1, 32, 512), guide(x), 2.0)
        learned = soft_target_loss(result.model(x), guide(x), 2.0)
    assert learned < 0.6 * untrained


def test_a_killed_run_goes_on_bit_for_bit(
    data: TextData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = find_teacher("smoke", data)
    config = replace(SMOKE, checkpoint_every=3)
    whole = train_student(config, data, guide, tmp_path / "whole", device="cpu")

    def killed(loss: float, step: int, _last: Path) -> None:
        if step == 5:
            raise RuntimeError("killed")

    monkeypatch.setattr(module, "check_loss", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train_student(config, data, guide, tmp_path / "part", device="cpu")
    monkeypatch.undo()
    part = train_student(config, data, guide, tmp_path / "part", resume=True, device="cpu")
    assert part.validation_loss == whole.validation_loss and part.steps == whole.steps == 8
    pairs = zip(whole.model.parameters(), part.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    metrics = [(tmp_path / name / "metrics.jsonl").read_text("utf-8") for name in ("whole", "part")]
    assert metrics[0].count("\n") == metrics[1].count("\n")


def test_accumulated_parts_give_the_same_student(data: TextData, tmp_path: Path) -> None:
    guide = find_teacher("smoke", data)
    losses = [
        train_student(
            replace(SMOKE, accumulation=parts), data, guide, tmp_path / str(parts), device="cpu"
        ).validation_loss
        for parts in (1, 4)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_alone_and_taught_start_alike_and_differ(data: TextData, tmp_path: Path) -> None:
    """The same seed gives both the same weights and minibatches; only the loss differs."""
    guide = find_teacher("smoke", data)
    alone = replace(SMOKE, soft_weight=0.0)
    with_guide, without = (
        train_student(alone, data, given, tmp_path / str(given is None), device="cpu")
        for given in (guide, None)
    )
    assert with_guide.validation_loss == without.validation_loss
    taught = train_student(SMOKE, data, guide.train(), tmp_path / "taught", device="cpu")
    assert taught.validation_loss != without.validation_loss
    assert guide.training, "the caller's teacher is another than before"


def test_a_student_is_an_ordinary_gpt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = main(["--preset", "smoke", "--name", "pupil", "--device", "cpu"])
    assert "a student with the teacher smoke" in capsys.readouterr().out
    model, _ = load_model(result.folder)
    tokens = torch.randint(model.config.vocab_size, (1, 8))
    assert torch.equal(model(tokens), result.model(tokens))
    again = main(["--preset", "smoke", "--name", "pupil", "--device", "cpu", "--resume"])
    assert again.steps == result.steps
    with pytest.raises(ValueError, match="trained with temperature=2.0, this command asks for 3.0"):
        main(["--preset", "smoke", "--name", "pupil", "--resume", "--temperature", "3"])


def test_bad_settings_are_explained(data: TextData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="soft_weight=1.5 is no share. Use 0 to 1"):
        StudentConfig(soft_weight=1.5)
    with pytest.raises(ValueError, match="temperature=0 cannot divide logits"):
        StudentConfig(temperature=0)
    with pytest.raises(ValueError, match="there is none. Give one, or use soft_weight=0"):
        train_student(SMOKE, data, None, tmp_path)
    long = replace(SMOKE, model=replace(SMOKE.model, max_len=64))
    with pytest.raises(ValueError, match="max_len=64 is more than the teacher's 32"):
        train_student(long, data, find_teacher("smoke", data), tmp_path)


def test_a_teacher_is_trained_once(data: TextData, monkeypatch: pytest.MonkeyPatch) -> None:
    path = train_teacher("smoke", data, seed=0)
    monkeypatch.setattr(teacher_module, "train", None)  # a second training would fail
    assert train_teacher("smoke", data, seed=0) == path
    other = replace(data, tokens=data.tokens | {"train": data.tokens["train"][:-1]})
    with pytest.raises(TypeError):
        train_teacher("smoke", other, seed=0)


def test_a_run_of_gpt_can_teach_but_not_with_other_tokens(data: TextData) -> None:
    folder = train_teacher("smoke", data).parent.parent
    guide = find_teacher(str(folder), data)
    assert guide.config.vocab_size == data.tokenizer.vocab_size and not guide.training
    other = load_data(replace(SMOKE, tokenizer="characters"))
    with pytest.raises(ValueError, match="has 512 tokens of its own.*Use the teacher's --dataset"):
        find_teacher(str(folder), other)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_teacher("no_such_run", data)


@pytest.mark.parametrize("name", ["quick", "standard"])
def test_students_are_about_a_quarter_and_read_the_teachers_text(name: str) -> None:
    student, guide = PRESETS[name], TEACHERS[name]
    counts = [
        parameter_count(replace(config.model, vocab_size=config.bpe_tokens))
        for config in (student, guide)
    ]
    assert 0.2 < counts[0] / counts[1] < 0.3
    for field in ("dataset", "tokenizer", "bpe_tokens", "batch_size"):
        assert getattr(student, field) == getattr(guide, field)
    assert student.model.max_len == guide.model.max_len and student.teacher == name
