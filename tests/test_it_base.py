"""The base model: trained once, found again, another one for another seed or setting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instruction_tuning import base_model as module
from instruction_tuning.base_model import PRESETS, base_model, base_name, main, parse_base_name
from tutorial_kit.word_tokenizer import CHAT_TOKENS


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))


def test_it_is_trained_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, tokenizer, folder = base_model("smoke", device="cpu")
    assert first.config.vocab_size == tokenizer.vocab_size and not first.training
    assert all(name in tokenizer.special_tokens for name in CHAT_TOKENS)
    assert "parameters; training on cpu" in capsys.readouterr().out
    monkeypatch.setattr(module, "train", None)  # a second training would call it
    monkeypatch.setattr(module, "base_text", None)
    second, _, same_folder = base_model("smoke", device="cpu")
    assert same_folder == folder
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name


def test_another_seed_or_setting_is_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _, folder = base_model("smoke", device="cpu")
    other, _, other_folder = base_model("smoke", seed=1, device="cpu")
    assert folder != other_folder
    assert not torch.equal(one.token_embedding.weight, other.token_embedding.weight)
    smoke = PRESETS["smoke"]
    changed = [
        replace(smoke, documents=smoke.documents + 1),
        replace(smoke, training=replace(smoke.training, muon_lr=0.02)),
    ]
    for preset in changed:
        monkeypatch.setitem(PRESETS, "smoke", preset)
        assert base_model("smoke", device="cpu")[2] not in (folder, other_folder)


def test_another_text_is_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = base_model("smoke", device="cpu")[2]
    lines = module.base_lines
    monkeypatch.setattr(module, "base_lines", lambda *args: [line + " ;" for line in lines(*args)])
    assert base_model("smoke", device="cpu")[2] != folder


def test_a_killed_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _, _ = base_model("smoke", device="cpu")
    smoke = PRESETS["smoke"]
    often = replace(smoke, training=replace(smoke.training, checkpoint_every=3))
    monkeypatch.setitem(PRESETS, "smoke", often)
    train, asked = module.train, []

    def killed_after_three_steps(settings, *args, **options):  # type: ignore[no-untyped-def]
        train(replace(settings, max_steps=3), *args, **options)
        raise KeyboardInterrupt

    def remembers(settings, *args, **options):  # type: ignore[no-untyped-def]
        asked.append(options["resume"])
        return train(settings, *args, **options)

    monkeypatch.setattr(module, "train", killed_after_three_steps)
    with pytest.raises(KeyboardInterrupt):
        base_model("smoke", device="cpu")
    monkeypatch.setattr(module, "train", remembers)
    base_model("smoke", device="cpu")
    assert asked == [True]


def test_names() -> None:
    assert parse_base_name("quick") == ("quick", 0) and parse_base_name("quick:12") == ("quick", 12)
    for seed in (0, 3):
        assert parse_base_name(base_name("smoke", seed)) == ("smoke", seed)
    for name in ("quick_sft", "quick:", "quick:-1", "outputs/quick", "mine"):
        assert parse_base_name(name) is None, name


def test_an_unknown_preset() -> None:
    with pytest.raises(ValueError, match="there is no base model 'huge'.*Use one of smoke, quick"):
        base_model("huge")


def test_the_command_says_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    folder = main(["--preset", "smoke", "--seed", "2", "--device", "cpu"])
    assert (folder / "checkpoints" / "last.pt").is_file()
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line.startswith("base model smoke:2: 2 layers of 32") and str(folder) in last_line
