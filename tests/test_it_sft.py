"""SFT: it learns, resumes bit for bit, trains the end token and never the padding."""

from __future__ import annotations

import copy
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT
from gpt.sampling import GREEDY
from instruction_tuning import sft_trainer
from instruction_tuning.chat_template import END, PAD, chat_tokens, make_batch
from instruction_tuning.demonstrations import demonstrate
from instruction_tuning.instruction_data import sft_rows
from instruction_tuning.replies import write_replies
from instruction_tuning.sft_trainer import SFTData, build_parser, evaluate, main, train
from instruction_tuning.tuning_config import SFT_PRESETS, SFTConfig, config_from_argv
from instruction_tuning.tuning_state import TrainResult, TuningState
from instruction_tuning.word_world import draw_requests
from instruction_tuning.world_tokenizer import build_tokenizer
from tutorial_kit.training import read_metrics

TOKENIZER = build_tokenizer()
CONFIG = SFTConfig(
    batch_size=8, max_steps=12, eval_every=5, checkpoint_every=4, lr=3e-3, max_new=6, threads=1
)


@pytest.fixture(scope="module")
def policy() -> GPT:
    """A fresh model of the modern recipe, with a head that is not all zero."""
    torch.manual_seed(0)
    config = GPTConfig(TOKENIZER.vocab_size, 64, 16, 2, 2, 1, 32, **RECIPES["modern"])
    model = GPT(config).eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def data() -> SFTData:
    """Forty sloppy demonstrations; six held-out requests."""
    requests = draw_requests(6, "validation", 0)
    parts = demonstrate(draw_requests(40, "train", 0)), demonstrate(requests, 0.0, 0.0)
    return SFTData(*(sft_rows(part, TOKENIZER, 64) for part in parts), requests)


def assert_equal(one: GPT, other: GPT) -> None:
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def numbers(result: TrainResult[GPT]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]


def run(policy: GPT, data: SFTData, folder: Path, **changes: object) -> TrainResult[GPT]:
    resume = bool(changes.pop("resume", False))
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    return train(config, policy, TOKENIZER, data, folder, resume=resume, device="cpu")


def test_it_learns_and_writes_what_it_promises(
    policy: GPT, data: SFTData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = policy.head.weight.clone()
    result = run(policy, data, tmp_path, max_steps=60, eval_every=30, lr=1e-2)
    assert [row["step"] for row in result.history] == [30, 60]
    first, last = result.history
    assert last["train_loss"] < 0.7 * first["train_loss"]
    assert 0 <= last["accuracy"] <= 1 and 0 <= last["exact_match"] <= 1
    assert last["epochs"] == 60 * 8 / 40 and result.steps == 60
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert {"config.json", "metrics.jsonl", "checkpoints/last.pt", "checkpoints/best.pt"} <= written
    output = capsys.readouterr().out
    assert "parameters; training on cpu, 40 demonstrations" in output
    assert "nats/token" in output and "tokens right" in output and " -> '" in output
    assert torch.equal(policy.head.weight, before), "the given model stays as it is"
    assert not result.model.training


@pytest.mark.parametrize("lora_rank", [0, 4], ids=["all weights", "lora"])
def test_one_demonstration_is_learned_to_its_end(
    policy: GPT, tmp_path: Path, lora_rank: int
) -> None:
    """The end token is trained: greedy writing stops behind the reply and not before.

    With LoRA, too: a base model never saw <end>, so the layers that get LoRA include the head.
    """
    requests = [replace(draw_requests(1, "train", 0)[0], answer="kapi")]
    rows = sft_rows(demonstrate(requests, 0.0, 0.0), TOKENIZER, 64)
    data = SFTData(rows, rows, requests)
    deaf = copy.deepcopy(policy)
    deaf.head.weight.data.zero_()
    changes = {"max_steps": 60, "batch_size": 2, "lr": 2e-2, "eval_every": 60}
    result = run(deaf, data, tmp_path, lora_rank=lora_rank, **changes)
    (reply,) = write_replies(result.model, TOKENIZER, requests, GREEDY, max_new=12)
    assert reply.text == "kapi" and reply.finished
    assert result.history[-1]["exact_match"] == 1.0


def test_padding_is_left_out_by_position(
    policy: GPT, data: SFTData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padded with end tokens, or with words, the same is learned bit for bit."""
    plain = run(policy, data, tmp_path / "plain")
    for pad in (chat_tokens(TOKENIZER)[END], TOKENIZER.encode("q")[0]):
        padded_so = {**chat_tokens(TOKENIZER), PAD: pad}
        monkeypatch.setattr(sft_trainer, "chat_tokens", lambda _, found=padded_so: found)
        other = run(policy, data, tmp_path / str(pad))
        assert_equal(plain.model, other.model)
        assert numbers(plain) == numbers(other)


@pytest.mark.parametrize("mask_prompt", [True, False])
def test_which_tokens_are_trained(
    policy: GPT, data: SFTData, tmp_path: Path, mask_prompt: bool
) -> None:
    """The first step's loss is the mean over all replies' tokens and ends, or over all tokens."""
    changes = {"batch_size": 40, "max_steps": 1, "mask_prompt": mask_prompt}
    result = run(policy, data, tmp_path, **changes)
    losses = []
    with torch.no_grad():
        for ids, mask in data.train:  # each row alone, without padding
            log_p = policy(torch.tensor([ids]))[0].log_softmax(-1)  # (T, V)
            losses += [
                -log_p[t - 1, ids[t]].item()
                for t in range(1, len(ids))
                if mask[t] or not mask_prompt
            ]
    assert result.history[0]["train_loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)


CASES = {
    "adamw": {},
    "muon": {"optimizer": "muon", "schedule": "cosine"},
    "lora": {"lora_rank": 2, "weight_decay": 0.1},
}


@pytest.mark.parametrize("case", CASES)
def test_resume_equals_uninterrupted(
    policy: GPT, data: SFTData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    whole = run(policy, data, tmp_path / "whole", **CASES[case])
    set_rates = TuningState.set_learning_rates

    def press_ctrl_c(state: TuningState[GPT]) -> float:
        if state.step == 6:  # the seventh step is finished, then it stops: in mid epoch
            os.kill(os.getpid(), signal.SIGINT)
        return set_rates(state)

    monkeypatch.setattr(TuningState, "set_learning_rates", press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        run(policy, data, tmp_path / "parts", **CASES[case])
    monkeypatch.setattr(TuningState, "set_learning_rates", set_rates)
    assert [row["step"] for row in read_metrics(tmp_path / "parts" / "metrics.jsonl")] == [5]
    torch.rand(5)  # the random generators are somewhere else now
    parts = run(policy, data, tmp_path / "parts", resume=True, **CASES[case])
    assert_equal(whole.model, parts.model)
    assert numbers(whole) == numbers(parts)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_eight_parts_of_one_row_equal_one_part_of_eight(
    policy: GPT, data: SFTData, tmp_path: Path, optimizer: str
) -> None:
    """Replies have different lengths, so a mean over the parts' means would be another loss."""
    changes = {"max_steps": 10, "eval_every": 1, "optimizer": optimizer, "clip": 0.5}
    one = run(policy, data, tmp_path / "one", accumulation=1, **changes)
    eight = run(policy, data, tmp_path / "eight", accumulation=8, **changes)
    for a, b in zip(one.history, eight.history, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-5)
        assert a["validation_loss"] == pytest.approx(b["validation_loss"], abs=1e-5)


def test_the_evaluation_counts_each_trained_token_once(policy: GPT, data: SFTData) -> None:
    loss, accuracy = evaluate(policy, data.train, pad=0)
    total, right, count = 0.0, 0, 0
    for row in data.train:
        one_loss, one_right = evaluate(policy, [row], pad=0)
        tokens = sum(row[1])
        total, right = total + one_loss * tokens, right + round(one_right * tokens)
        count += tokens
    assert loss == pytest.approx(total / count, abs=1e-5)
    assert accuracy == pytest.approx(right / count)
    assert make_batch(data.train, 0).loss_mask.sum() == count


def test_lora_trains_its_matrices_and_nothing_else(
    policy: GPT, data: SFTData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"lora_rank": 2, "lora_layers": "qkv,output", "lr": 2e-2}
    result = run(policy, data, tmp_path, **changes)
    assert " of " in capsys.readouterr().out.split(" parameters; training on")[0]
    changed = {
        name
        for name, weight in result.model.state_dict().items()
        if name in policy.state_dict() and not torch.equal(weight, policy.state_dict()[name])
    }
    assert changed == {f"blocks.0.attention.{name}.weight" for name in ("qkv", "output")}
    assert evaluate(result.model, data.train, 0)[0] < evaluate(policy, data.train, 0)[0]
    saved = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    held = sum(weight.numel() for weight in saved["state"]["model"].values())
    assert held == 2 * (16 + 48) + 2 * (16 + 16), "A and B of qkv (16 -> 48) and output (16 -> 16)"


def test_other_settings_other_data_and_no_checkpoint_are_refused(
    policy: GPT, data: SFTData, tmp_path: Path
) -> None:
    run(policy, data, tmp_path, max_steps=4)
    with pytest.raises(ValueError, match="was trained with lr=0.003, this command asks for 0.1"):
        run(policy, data, tmp_path, lr=0.1, resume=True)
    with pytest.raises(ValueError, match="its rows of data were 40, here they are 39"):
        run(policy, replace(data, train=data.train[:-1]), tmp_path, resume=True)
    with pytest.raises(FileNotFoundError, match="Train first"):
        run(policy, data, tmp_path / "other", resume=True)


def test_an_exploding_run_stops_with_a_remedy(policy: GPT, data: SFTData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Lower the learning rate"):
        run(policy, data, tmp_path, lr=1e30, clip=0.0, max_steps=50)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--batch-size", "6", "--accumulation", "4"], "cannot be computed in accumulation=4"),
        (["--lr", "0"], "lr=0.0 learns nothing"),
        (["--warmup", "2"], "warmup=2.0 is no share"),
        (["--requests", "0"], "requests=0 is not possible"),
        (["--lora-rank", "-1"], "lora_rank=-1 is below 0"),
        (["--slips", "1.5"], "slips=1.5 is no share"),
    ],
)
def test_impossible_settings(argv: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        config_from_argv(build_parser(), SFTConfig, SFT_PRESETS, argv)


def test_inherited_settings_have_flags_with_help() -> None:
    text = " ".join(build_parser().format_help().split())
    assert "--accumulation INT parts a minibatch is computed in" in text
    assert "--slips FLOAT share of the world's demonstrations with a slip" in text


def test_lora_on_a_layer_that_does_not_exist(policy: GPT, data: SFTData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="querry"):
        run(policy, data, tmp_path, lora_rank=2, lora_layers="querry")


def test_the_command_runs_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))
    result = main(["--preset", "smoke", "--device", "cpu"])
    assert result.folder.name == "smoke_sft" and result.steps == 4
    assert result.folder.parent.name == "instruction_tuning"


def test_a_file_of_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "mine.json"
    entries = ", ".join(
        f'{{"instruction": "say {i}", "input": "", "output": "{i}"}}' for i in range(24)
    )
    path.write_text(f"[{entries}]", encoding="utf-8")
    result = main(["--preset", "smoke", "--device", "cpu", "--dataset", str(path)])
    assert "exact_match" not in result.history[-1]
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="mine.json"):
        main(["--preset", "smoke", "--dataset", str(path)])
