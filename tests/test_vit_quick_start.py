"""The demo: it tells the whole story in seconds with the smoke preset, from the numbers it saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vit.quick_start import QuickNumbers, in_characters, main
from vit.saved_model import load_run
from vit.vit_evaluation import evaluate


def test_the_story_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    result = main(["--preset", "smoke", "--device", "cpu", "--seed", "1"])
    output = capsys.readouterr().out
    assert result.family == "vit" and 0 <= result.value <= 100
    assert f"{result.value:.1f}%" in result.headline
    for word in ("1. ", "2. ", "3. ", "4. ", "5. ", "6. ", "patches", "SVM", "guessing"):
        assert word in output, word
    assert "{" not in output and "Traceback" not in output
    assert len(result.files) == len(set(result.files)) and len(result.files) >= 4
    for file in result.files:
        assert Path(file).stat().st_size > 500, file
    # The number is the saved model's, on the split that is never trained on.
    from vit.image_data import load_image_data

    model, config, facts = load_run("quick_start_smoke")
    scores, _ = evaluate(model, load_image_data(config.dataset).test, facts)
    assert 100 * scores.accuracy == pytest.approx(result.value)
    rival, rival_config, _ = load_run("quick_start_smoke_cnn")
    assert rival_config.architecture == "cnn" and rival_config.seed == config.seed == 1
    assert type(rival) is not type(model)


def test_a_picture_in_characters() -> None:
    image = torch.tensor([[[0.0, 1.0], [0.5, 0.0]]])
    assert in_characters(image) == "     @@\n   ==  "


def test_every_text_that_the_demo_says_is_there_and_used() -> None:
    import vit.quick_start as module

    source = Path(module.__file__).read_text(encoding="utf-8")
    texts = json.loads((Path(module.__file__).parent / "texts" / "en.json").read_text("utf-8"))
    for key in texts:
        if key.startswith("quick."):
            name = key.removeprefix("quick.")
            assert f'"{key}"' in source or f'"{name}"' in source, key


def test_the_numbers_have_the_names_that_the_benchmark_reads() -> None:
    wanted = {"accuracy", "cnn_accuracy", "svm_accuracy", "neighbors_accuracy", "seconds",
              "cnn_seconds", "files"}  # fmt: skip
    assert wanted == set(QuickNumbers.__dataclass_fields__)
