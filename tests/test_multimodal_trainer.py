"""Training of both tasks: it learns, resumes bit for bit, and takes the encoder that is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from multimodal.multimodal_config import PRESETS, config_from_argv
from multimodal.multimodal_trainer import TrainResult, main, train
from multimodal.saved_model import load_run
from multimodal.train_state import TrainState, load_split
from multimodal.vision_language_model import VisionLanguageModel
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.checkpoints import load_checkpoint

CPU = torch.device("cpu")
TASKS = ["smoke", "smoke-bridge"]


def run_folder(run: str) -> Path:
    return Path(os.environ["LLM_TUTORIAL_OUTPUTS"]) / "multimodal" / run


def weights(run: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(run_folder(run), family="multimodal")["state"][
        "model"
    ]
    return state


def command(preset: str, run: str, *more: str) -> list[str]:
    return ["--preset", preset, "--threads", "1", "--device", "cpu", "--name", run, *more]


def without_seconds(run: TrainResult) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.history]


@pytest.mark.parametrize("preset", TASKS)
def test_resume_equals_uninterrupted(preset: str) -> None:
    extra = ["--max-steps", "5", "--eval-every", "2", "--checkpoint-every", "2"]
    whole = main(command(preset, "whole", *extra))
    script = (
        "import os, signal, sys; from multimodal import train_state, multimodal_trainer\n"
        "set_rates = train_state.TrainState.set_learning_rates\n"
        "def patched(self):\n"
        "    if self.step == 2: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return set_rates(self)\n"
        "train_state.TrainState.set_learning_rates = patched\n"
        "multimodal_trainer.main(sys.argv[1:])\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *command(preset, "parts", *extra)],
        cwd=PROJECT_ROOT, capture_output=True, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert "stopped at step 3; saved" in process.stdout, process.stderr
    parts = main(command(preset, "parts", *extra, "--resume"))
    for name, weight in weights("whole").items():
        assert torch.equal(weight, weights("parts")[name]), name
    assert without_seconds(whole) == without_seconds(parts) and whole.scores == parts.scores


def test_the_bridge_takes_the_named_encoder_and_leaves_it_frozen() -> None:
    main(command("smoke", "encoder"))
    frozen = ["--encoder", "encoder", "--vision", "frozen"]
    main(command("smoke-bridge", "frozen", *frozen))
    theirs, ours = weights("encoder"), weights("frozen")
    vision = [name for name in ours if name.startswith("vision.")]
    assert vision and all(torch.equal(ours[name], theirs[name]) for name in vision)
    main(command("smoke-bridge", "trained", "--encoder", "encoder", "--vision", "trained"))
    changed = [n for n in vision if not torch.equal(weights("trained")[n], theirs[n])]
    # What stands above the patch features is not used; all else is trained on.
    unused = ("vision.head.", "vision.norm.", "vision.encoder.0.")  # its one layer is the last
    assert all(name.startswith(unused) for name in vision if name not in changed)
    with pytest.raises(ValueError, match="has the shape"):
        main(command("smoke-bridge", "other", *frozen, "--d-vision", "32"))
    with pytest.raises(ValueError, match="is a run of task=bridge"):
        main(command("smoke-bridge", "wrong", "--encoder", "frozen", "--vision", "frozen"))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        main(command("smoke-bridge", "absent", "--encoder", "no-such-run"))


def test_a_finished_run_is_loaded_as_it_was() -> None:
    result = main(command("smoke-bridge", "run"))
    model, config = load_run("run")
    assert isinstance(model, VisionLanguageModel) and config.task == "bridge"
    for name, weight in result.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)


@pytest.mark.parametrize("preset", TASKS)
def test_every_trained_weight_has_one_optimizer(preset: str) -> None:
    state = TrainState(PRESETS[preset], CPU)
    muon, adamw = state.optimizers
    hidden = [weight for weight, _ in muon.pairs] if hasattr(muon, "pairs") else []
    rest = [p for group in adamw.param_groups for p in group["params"]]
    convolutions = [p for p in hidden if p.ndim == 4]
    matrices = [p for p in muon.param_groups[0]["params"] if p.ndim == 2]
    assert convolutions or matrices
    taken = {id(p) for p in [*hidden, *muon.param_groups[0]["params"], *rest]}
    assert {id(p) for p in state.model.parameters() if p.requires_grad} <= taken
    first = next(p for p in state.model.vision.stem.parameters() if p.ndim == 4)
    assert any(first is p for p in rest)  # it reads pixels


def test_a_frozen_encoder_gets_no_gradient() -> None:
    main(command("smoke", "encoder"))
    config = replace(PRESETS["smoke-bridge"], encoder="encoder", vision="frozen")
    state = TrainState(config, CPU)
    state.loss(state.sampler.next_batch()).backward()
    for name, weight in state.model.named_parameters():
        assert (weight.grad is None) == name.startswith("vision."), name


def test_a_resumed_bridge_sees_with_the_encoder_it_was_saved_with(tmp_path: Path) -> None:
    main(command("smoke", "encoder"))
    config = replace(PRESETS["smoke-bridge"], encoder="encoder", vision="frozen")
    state = TrainState(config, CPU)
    state.save(tmp_path / "last.pt")
    main(command("smoke", "encoder", "--seed", "1"))  # another encoder under the same name
    resumed = TrainState(config, CPU)
    assert state.known is not None and resumed.known is not None
    assert not torch.equal(resumed.known, state.known)
    resumed.restore(tmp_path / "last.pt")
    assert torch.equal(resumed.known, state.known)


def test_blank_training_sees_nothing() -> None:
    config = replace(PRESETS["smoke-bridge"], pictures="blank")
    state = TrainState(config, CPU)
    batch = state.sampler.next_batch()
    other = replace(batch, images=batch.images.flip(0))
    assert torch.equal(state.loss(batch), state.loss(other))


def test_evaluated_pictures_are_the_same_for_every_seed() -> None:
    first, second = (replace(PRESETS["smoke"], seed=seed) for seed in (0, 1))
    for split in ("validation", "test", "unseen_test"):
        a, b = (load_split(config, split) for config in (first, second))
        assert torch.equal(a.images, b.images)
    assert not torch.equal(load_split(first, "train").images, load_split(second, "train").images)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--task", "bridge", "--dataset", "digits", "--encoder", "x"],
            "questions are made of scenes",
        ),
        (["--task", "bridge"], "vision=frozen without an encoder"),
        (["--combinations", "5"], "combinations=5 is not possible"),
        (["--questions", "7"], "questions=7 is more than the 6 kinds"),
        (["--lr", "0"], "lr=0.0 learns nothing"),
        (["--caption-share", "2"], "caption_share=2.0 is no share"),
        (["--max-steps", "0"], "max_steps=0 is not possible"),
        (["--patch-size", "5"], "image_size=32 is no multiple of patch_size=5"),
        (["--d-model", "66"], "d_model=66 is not divisible by n_heads=4"),
    ],
)
def test_impossible_settings(argv: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_argv(argv)


def test_resume_with_other_settings_is_refused() -> None:
    main(command("smoke", "run"))
    with pytest.raises(ValueError, match="was trained with gray=True, this command asks for False"):
        main(command("smoke", "run", "--resume", "--no-gray"))
    with pytest.raises(FileNotFoundError, match="Train first"):
        main(command("smoke", "never", "--resume"))


@pytest.mark.slow
def test_pictures_and_texts_are_matched_and_questions_answered(tmp_path: Path) -> None:
    """A few dozen steps on few pictures: far above guessing, which needs the picture."""
    matching = replace(
        PRESETS["quick"], n_pictures=1024, n_test=100, max_steps=90, eval_every=90, threads=1
    )
    first = train(matching, tmp_path / "matching", device="cpu")
    assert first.scores["accuracy"] > 0.25 and first.scores["picture_to_text"] > 0.2
    bridge = replace(
        PRESETS["quick-bridge"], encoder=str(tmp_path / "matching"), n_pictures=1024, n_test=60,
        max_steps=150, eval_every=150, threads=1, caption_share=0.0,
    )  # fmt: skip
    second = train(bridge, tmp_path / "bridge", device="cpu")
    assert second.scores["answers"] > second.scores["blank"] + 0.05
