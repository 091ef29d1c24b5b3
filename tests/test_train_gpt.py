"""Training: it learns, repeats, resumes bit for bit, and runs on two processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from gpt.train_config import PRESETS, build_parser, config_from_argv
from gpt.train_gpt import evaluate, main
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.checkpoints import load_checkpoint
from tutorial_kit.training import read_metrics

SMALL = [
    "--preset",
    "smoke",
    "--tokenizer",
    "characters",
    "--max-len",
    "16",
    "--d-model",
    "16",
    "--d-ff",
    "32",
    "--batch-size",
    "4",
    "--dropout",
    "0.1",
    "--threads",
    "1",
    "--device",
    "cpu",
]


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of 20,000 characters with something to learn; also an own cache."""
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))
    generator = random.Random(0)
    words = ["token", "head", "layer", "model", "loss", "step"]
    path = tmp_path / "words.txt"
    path.write_text(" ".join(generator.choice(words) for _ in range(3500)), encoding="utf-8")
    return str(path)


def weights(run: str) -> dict[str, torch.Tensor]:
    folder = Path(os.environ["LLM_TUTORIAL_OUTPUTS"]) / "gpt" / run
    return load_checkpoint(folder, family="gpt")["state"]["model"]  # type: ignore[no-any-return]


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def command(text: str, run: str, *more: str) -> list[str]:
    return [*SMALL, "--dataset", text, "--name", run, *more]


@pytest.mark.parametrize("recipe", ["gpt2", "modern"])
def test_it_learns_and_writes_what_it_promises(
    text: str, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = main(
        command(text, recipe, "--recipe", recipe, "--max-steps", "450", "--eval-every", "150")
    )
    rows = read_metrics(result.folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [150, 300, 450]
    # 15 characters at random are 2.7 nats; knowing the six words leaves ln 6 / 5.6 = 0.32
    assert rows[-1]["validation_loss"] < min(1.5, rows[0]["validation_loss"])
    assert result.validation_loss == rows[-1]["validation_loss"]
    files = {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*")}
    assert {"config.json", "metrics.jsonl", "checkpoints/best.pt", "checkpoints/last.pt"} <= files
    output = capsys.readouterr().out
    assert "nats/token" in output and "sample:" in output and "test:" in output


def test_same_seed_same_weights_other_seed_other_weights(text: str) -> None:
    for run, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        main(command(text, run, "--seed", seed))
    assert_equal(weights("a"), weights("b"))
    assert not torch.equal(weights("a")["head.weight"], weights("c")["head.weight"])


@pytest.mark.parametrize("recipe", ["gpt2", "modern"])
def test_resume_equals_uninterrupted(text: str, recipe: str) -> None:
    extra = [
        "--recipe",
        recipe,
        "--max-steps",
        "12",
        "--eval-every",
        "5",
        "--checkpoint-every",
        "4",
    ]
    whole = main(command(text, "whole", *extra))
    # Stop after 8 steps by asking for an interrupt from within, as Ctrl-C does.
    script = (
        "import os, signal, sys; from gpt import train_gpt, train_state\n"
        "set_rates = train_state.TrainState.set_learning_rates\n"
        "def patched(self):\n"
        "    if self.step == 7: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return set_rates(self)\n"
        "train_state.TrainState.set_learning_rates = patched\n"
        "train_gpt.main(sys.argv[1:])\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *command(text, "parts", *extra)],
        cwd=PROJECT_ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert "stopped at step 8; saved" in process.stdout and "KeyboardInterrupt" in process.stderr
    parts = main(command(text, "parts", *extra, "--resume"))
    assert_equal(weights("whole"), weights("parts"))
    losses = [
        [[row[k] for k in ("step", "train_loss", "validation_loss")] for row in read_metrics(path)]
        for path in (run.folder / "metrics.jsonl" for run in (whole, parts))
    ]  # fmt: skip
    assert losses[0] == losses[1]


KILLED = ["--max-steps", "1500", "--eval-every", "400", "--checkpoint-every", "10"]


def kill_and_resume(text: str, run: str, delays: list[float]) -> list[int]:
    """Starts a run, kills it with SIGKILL after each delay, then lets it finish.

    Returns:
        The step of the last checkpoint at each kill.
    """
    script = [sys.executable, "-m", "gpt.train_gpt", *command(text, run, *KILLED)]
    last = Path(os.environ["LLM_TUTORIAL_OUTPUTS"]) / "gpt" / run / "checkpoints" / "last.pt"
    steps = []
    for delay in delays:
        resume = ["--resume"] if last.exists() else []
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = subprocess.Popen(
            script + resume, cwd=PROJECT_ROOT,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None:  # until it trains, whatever the machine's load
            if last.exists() and last.stat().st_mtime_ns != before:
                break
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        steps.append(load_checkpoint(last, family="gpt")["state"]["step"])
    subprocess.run([*script, "--resume"], cwd=PROJECT_ROOT, check=True, capture_output=True)
    return steps


def test_killed_run_resumes_bit_for_bit(text: str) -> None:
    main(command(text, "whole", *KILLED))
    steps = kill_and_resume(text, "killed", [0.3, 0.5])
    assert 0 < steps[0] < steps[1] < 1500, "the kills missed the run: choose other delays"
    assert_equal(weights("whole"), weights("killed"))


@pytest.mark.slow
def test_twenty_kills_at_random_moments(text: str) -> None:
    main(command(text, "whole", *KILLED))
    generator = random.Random(0)
    for trial in range(20):
        kill_and_resume(text, f"killed{trial}", [generator.uniform(0.0, 1.5)])
        assert_equal(weights("whole"), weights(f"killed{trial}"))


def test_two_processes_give_the_one_process_run(text: str) -> None:
    extra = ["--recipe", "gpt2", "--max-steps", "3", "--dropout", "0"]
    main(command(text, "one", *extra))
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "gpt.train_gpt", *command(text, "two", *extra)],
        cwd=PROJECT_ROOT, check=True, capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    one, two = weights("one"), weights("two")
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-5), name
    folder = Path(os.environ["LLM_TUTORIAL_OUTPUTS"]) / "gpt"
    first, second = (read_metrics(folder / run / "metrics.jsonl")[-1] for run in ("one", "two"))
    assert first["train_loss"] == pytest.approx(second["train_loss"], abs=1e-5)


def test_accumulation_gives_the_same_gradient(text: str) -> None:
    extra = ["--recipe", "gpt2", "--max-steps", "3", "--dropout", "0"]
    main(command(text, "whole", *extra))
    main(command(text, "parts", *extra, "--accumulation", "4"))
    for name, weight in weights("whole").items():
        assert torch.allclose(weight, weights("parts")[name], atol=1e-5), name


def test_evaluation_scores_every_token_once_and_does_not_disturb() -> None:
    torch.manual_seed(0)
    model = GPT(
        GPTConfig(vocab_size=11, max_len=8, d_model=16, n_heads=2, n_kv_heads=2, dropout=0.5)
    )
    tokens = torch.randint(11, (30,))
    model.train()
    state = torch.get_rng_state()
    loss = evaluate(model, tokens, 8, torch.device("cpu"))
    assert model.training and torch.equal(state, torch.get_rng_state())
    model.eval()
    total = 0.0
    for start in (0, 8, 16, 24):
        window = tokens[start : start + 9]
        log_p = model(window[None, :-1]).log_softmax(-1)[0]
        total -= log_p.gather(1, window[1:, None]).sum().item()
    assert loss == pytest.approx(total / 29, abs=1e-5)


def test_a_time_budget_ends_the_run(text: str) -> None:
    started = time.monotonic()
    result = main(command(text, "budget", "--max-steps", "1000000", "--budget-minutes", "0.02"))
    assert 1.0 < result.seconds < 5 and time.monotonic() - started < 60


def test_resume_with_other_settings_is_refused(text: str) -> None:
    main(command(text, "run"))
    with pytest.raises(ValueError, match="was trained with d_model=16, this command asks for 32"):
        main([*command(text, "run", "--resume"), "--d-model", "32"])
    with pytest.raises(ValueError, match="was trained with muon_lr"):
        main(command(text, "run", "--resume", "--muon-lr", "0.5"))
    with pytest.raises(FileNotFoundError, match="Train first"):
        main(command(text, "other", "--resume"))


def test_an_exploding_run_stops_with_a_remedy(text: str) -> None:
    extra = ["--recipe", "gpt2", "--lr", "1e30", "--clip", "0", "--max-steps", "50"]
    with pytest.raises(ValueError, match="Lower the learning rate"):
        main(command(text, "nan", *extra))


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--batch-size", "6", "--accumulation", "4"], "cannot be computed in accumulation=4"),
        (["--lr", "0"], "lr=0.0 learns nothing"),
        (["--warmup", "2"], "warmup=2.0 is no share"),
        (["--bpe-tokens", "100"], "bpe_tokens=100 is too few"),
        (["--d-model", "130"], "d_model=130 is not divisible"),
    ],
)
def test_impossible_settings(argv: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        config_from_argv(argv)


def test_recipe_replaces_the_presets_and_flags_replace_both() -> None:
    config, _ = config_from_argv(["--preset", "standard", "--recipe", "gpt2", "--norm", "rmsnorm"])
    assert config.optimizer == "adamw" and config.model.positions == "learned"
    assert (
        config.model.norm == "rmsnorm" and config.model.d_model == PRESETS["standard"].model.d_model
    )
    assert "--muon-lr" in build_parser().format_help()
