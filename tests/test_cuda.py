"""On a CUDA GPU: every trainer computes there what it computes on the CPU, resumes, and moves back.

Skipped where there is no such GPU. The smoke presets are small enough that the GPU gains nothing;
what is tested is that every tensor is where it should be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bert import bert_pretraining
from cbow import cbow_trainer
from gpt import train_gpt
from instruction_tuning import (
    dpo_trainer,
    grpo_trainer,
    ppo_trainer,
    reward_trainer,
    sft_trainer,
)
from transformer import train_transformer
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.demo_runner import find_families
from tutorial_kit.training import read_metrics
from vit import vit_trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA")

PRETRAININGS: dict[str, Callable[..., Any]] = {
    "gpt": train_gpt.main,
    "transformer": train_transformer.main,
    "bert": bert_pretraining.main,
    "vit": vit_trainer.main,
    "instruction_tuning": sft_trainer.main,
}
AFTER_SFT: dict[str, Callable[..., Any]] = {
    "reward": reward_trainer.main,
    "dpo": dpo_trainer.main,
    "ppo": ppo_trainer.main,
    "grpo": grpo_trainer.main,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _exact_products() -> Iterator[None]:
    """Multiplies in float32: TF32 rounds to 10 bits, and the CPU does not."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def train(main: Callable[..., Any], device: str, name: str, *more: str) -> Any:
    return main(["--preset", "smoke", "--device", device, "--name", name, *more])


def without_dropout(family: str) -> list[str]:
    """Returns the flags that leave nothing to chance: each device draws other numbers."""
    return ["--dropout", "0"] if family in ("transformer", "bert") else []


def losses(family: str, name: str) -> list[float]:
    """Returns the training losses that a run has logged."""
    path = Path(os.environ["LLM_TUTORIAL_OUTPUTS"]) / family / name / "metrics.jsonl"
    return [row["train_loss"] for row in read_metrics(path) if row.get("train_loss") is not None]


@pytest.mark.parametrize("family", PRETRAININGS)
def test_a_training_is_that_of_the_cpu(family: str) -> None:
    main = PRETRAININGS[family]
    for device in ("cpu", "cuda"):
        train(main, device, device, "--precision", "float32", *without_dropout(family))
    expected, found = losses(family, "cpu"), losses(family, "cuda")
    assert expected and found == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("family", PRETRAININGS)
def test_bfloat16_is_near(family: str) -> None:
    """Where nothing is said, a GPU computes the forward pass in bfloat16."""
    main = PRETRAININGS[family]
    train(main, "cuda", "exact", "--precision", "float32")
    train(main, "cuda", "auto")
    exact, rounded = losses(family, "exact"), losses(family, "auto")
    assert rounded != exact and rounded == pytest.approx(exact, rel=3e-2)


@pytest.mark.parametrize("family", PRETRAININGS)
def test_a_run_of_the_gpu_goes_on_and_moves_to_the_cpu(family: str) -> None:
    main = PRETRAININGS[family]
    whole = train(main, "cuda", "whole")
    for device in ("cuda", "cpu"):  # a finished run resumes to the same weights, on either
        again = train(main, device, "whole", "--resume")
        for name, weight in whole.model.state_dict().items():
            assert torch.equal(weight.cpu(), again.model.state_dict()[name].cpu()), name


def test_word_vectors_are_those_of_the_cpu() -> None:
    cpu, gpu = (train(cbow_trainer.main, device, device) for device in ("cpu", "cuda"))
    assert torch.allclose(gpu.vectors, cpu.vectors, atol=1e-4) and gpu.vectors.std() > 0
    again = train(cbow_trainer.main, "cpu", "cuda", "--resume")  # finished: only loaded
    assert torch.equal(again.vectors, gpu.vectors)


@pytest.mark.parametrize("stage", AFTER_SFT)
def test_a_stage_after_sft(stage: str) -> None:
    train(sft_trainer.main, "cuda", "smoke_sft")
    if stage == "ppo":
        train(reward_trainer.main, "cuda", "smoke_reward")
    result = train(AFTER_SFT[stage], "cuda", stage)
    assert all(weight.isfinite().all() for weight in result.model.state_dict().values())


@pytest.mark.parametrize("family", [family.name for family in find_families(PROJECT_ROOT)])
def test_a_quick_start_runs(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = __import__(f"{family}.quick_start", fromlist=["main"])
    module.main(["--preset", "smoke", "--device", "cuda"])
    printed = capsys.readouterr().out
    stays = family == "advanced_topics"  # its models are too small, and it says so
    assert ("on the CPU: a GPU would gain nothing" if stays else "training on cuda") in printed
