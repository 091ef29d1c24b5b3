"""Training a translator: schedules, averaging, it learns, repeats, resumes bit for bit."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import sacrebleu
import torch
from torch import nn

from transformer.batching import batches_of
from transformer.scoring import score
from transformer.train_config import (
    PRESETS,
    TrainConfig,
    config_from_argv,
    paper_rate,
    warmup_inverse_sqrt,
)
from transformer.train_state import TrainState, WeightAverage
from transformer.train_transformer import batch_loss, evaluate, main
from transformer.transformer_model import Transformer
from transformer.translation_data import load_translation_data
from tutorial_kit.checkpoints import load_checkpoint, save_checkpoint
from tutorial_kit.training import read_metrics

SMALL = [
    "--preset",
    "smoke",
    "--max-len",
    "24",
    "--d-model",
    "16",
    "--d-ff",
    "32",
    "--n-layers",
    "1",
    "--n-decoder-layers",
    "1",
    "--bpe-tokens",
    "290",
    "--threads",
    "1",
    "--device",
    "cpu",
]
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
DIGITS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "0"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two files of 300 lines, numbers in words and as digits in reverse order; an own cache."""
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))
    generator = torch.Generator().manual_seed(0)
    sources, targets = [], []
    for _ in range(300):
        length = int(torch.randint(1, 5, (1,), generator=generator))
        places = torch.randint(10, (length,), generator=generator).tolist()
        sources.append(" ".join(NUMBERS[place] for place in places))
        targets.append(" ".join(DIGITS[place] for place in reversed(places)))
    paths = [tmp_path / "words.txt", tmp_path / "digits.txt"]
    for path, lines in zip(paths, (sources, targets), strict=True):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ",".join(map(str, paths))


def command(files: str, run: str, *more: str) -> list[str]:
    return [*SMALL, "--dataset", files, "--name", run, *more]


def checkpoint_of(run: str) -> Path:
    folder = Path(os.environ["LLM_TUTORIAL_OUTPUTS"]) / "transformer" / run
    return folder / "checkpoints" / "last.pt"


def state_of(run: str) -> dict[str, object]:
    return load_checkpoint(checkpoint_of(run), family="transformer")["state"]


def assert_equal(a: object, b: object, where: str = "") -> None:
    """Compares nested containers bit for bit."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict) and isinstance(b, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        assert len(a) == len(b), where
        for place, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{place}]")
    else:
        assert a == b, where


# Schedules


def test_the_papers_rate_peaks_at_the_end_of_the_warm_up() -> None:
    rates = [paper_rate(step, 512, 4000) for step in range(1, 20_001)]
    assert max(rates) == rates[4000 - 1] == pytest.approx((512 * 4000) ** -0.5)
    assert rates[1999] == pytest.approx(rates[3999] / 2)  # linear before
    assert rates[15_999] == pytest.approx(rates[3999] / 2)  # 1 / sqrt(step) after: 4 times, half
    assert all(a < b for a, b in zip(rates[:3999], rates[1:4000], strict=True))
    assert all(a > b for a, b in zip(rates[3999:], rates[4000:], strict=False))


def test_the_schedule_over_the_share_is_equation_3() -> None:
    peak, total, warmup = paper_rate(400, 64, 400), 10_000, 400
    for step in (1, 37, 399, 400, 401, 5000, 10_000):
        factor = warmup_inverse_sqrt(step / total, warmup / total)
        assert peak * factor == pytest.approx(paper_rate(step, 64, warmup), rel=1e-12)
    assert warmup_inverse_sqrt(0.5, 0.0) == 1.0 and warmup_inverse_sqrt(0.0, 0.1) == 0.0


def test_the_cosine_ends_at_its_floor() -> None:
    config = TrainConfig(schedule="cosine", warmup=0.1, floor=0.05)
    assert config.rate_factor(0.05) == pytest.approx(0.5)
    assert config.rate_factor(0.1) == pytest.approx(1.0)
    assert config.rate_factor(0.55) == pytest.approx((1 + 0.05) / 2)
    assert config.rate_factor(1.0) == pytest.approx(0.05)


# Averaging


def set_weight(model: nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def test_average_of_the_last_by_hand() -> None:
    model = nn.Linear(2, 2, bias=False)
    average = WeightAverage(model, "last", count=3, decay=0.0)
    for value in (100.0, 1.0, 2.0, 6.0):
        set_weight(model, value)
        average.after_step()
        average.at_evaluation()
    set_weight(model, -5.0)
    with average.applied():
        assert model.weight[0, 0].item() == 3.0  # (1 + 2 + 6) / 3; the oldest is forgotten
    assert model.weight[0, 0].item() == -5.0


def test_exponential_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, "ema", count=1, decay=0.5)
    by_hand = 4.0
    for t, value in enumerate((4.0, 8.0, 0.0), start=1):
        set_weight(model, value)
        average.after_step()
        decay = min(0.5, (1 + t) / (10 + t))
        by_hand = decay * by_hand + (1 - decay) * value
    assert average.mean()[0].item() == pytest.approx(by_hand, rel=1e-6)


def test_no_average_is_the_model_itself() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, "none", count=1, decay=0.5)
    set_weight(model, 7.0)
    average.after_step()
    average.at_evaluation()
    assert average.mean()[0].item() == 7.0 and not average.moments


def test_tied_weights_are_averaged_once_and_stay_tied() -> None:
    model = Transformer(replace(PRESETS["smoke"].model, vocab_size=9))
    average = WeightAverage(model, "ema", count=1, decay=0.9)
    average.after_step()
    before = model.head.weight.clone()
    with torch.no_grad():
        model.head.weight.add_(1.0)
    with average.applied():
        assert torch.equal(model.head.weight, before)
        assert model.head.weight.data_ptr() == model.source_embedding.weight.data_ptr()
    assert torch.equal(model.source_embedding.weight, before + 1.0)


# Training


@pytest.mark.parametrize("schedule", ["paper", "cosine"])
def test_it_learns_and_writes_what_it_promises(
    files: str, schedule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = main(
        command(files, schedule, "--schedule", schedule, "--max-steps", "120", "--warmup", "0.1",
                "--lr", "1e-2", "--dropout", "0", "--eval-every", "60", "--average", "ema",
                "--average-decay", "0.9", "--d-model", "32", "--checkpoint-every", "60")
    )  # fmt: skip
    rows = read_metrics(result.folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [60, 120]
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    assert rows[1]["validation_loss"] < min(1.6, rows[0]["validation_loss"])  # ln 290 = 5.7
    assert result.validation_loss == rows[1]["validation_loss"]
    assert result.validation_bleu == rows[1]["bleu"] and result.steps == 120
    assert result.test is not None and "tok:13a" in result.test.signature
    written = {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*")}
    assert {"config.json", "metrics.jsonl", "checkpoints/best.pt", "checkpoints/last.pt"} <= written
    output = capsys.readouterr().out
    for word in ("nats/token", "BLEU", "source:", "reference:", "ours:", "test, beam 4: BLEU"):
        assert word in output


def test_same_seed_same_weights_other_seed_other_weights(files: str) -> None:
    for run, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        main(command(files, run, "--seed", seed, "--max-steps", "3"))
    assert_equal(state_of("a")["model"], state_of("b")["model"])
    first, third = (state_of(run)["trained"] for run in ("a", "c"))
    assert not torch.equal(first[0], third[0])  # type: ignore[index]


@pytest.mark.parametrize("average", ["last", "ema"])
def test_resume_equals_uninterrupted(
    files: str, average: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ["--max-steps", "12", "--eval-every", "5", "--checkpoint-every", "100",
             "--average", average, "--average-count", "2", "--dropout", "0.1"]  # fmt: skip
    whole = main(command(files, "whole", *extra))
    set_rate = TrainState.set_learning_rate

    def interrupt_at_step_7(state: TrainState) -> float:
        if state.step == 7:
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C does; the step is finished first
        return set_rate(state)

    monkeypatch.setattr(TrainState, "set_learning_rate", interrupt_at_step_7)
    with pytest.raises(KeyboardInterrupt):
        main(command(files, "parts", *extra))
    assert "stopped at step 8; saved" in capsys.readouterr().out
    monkeypatch.setattr(TrainState, "set_learning_rate", set_rate)
    torch.manual_seed(123)  # whatever the new process starts from
    parts = main(command(files, "parts", *extra, "--resume"))
    first, second = state_of("whole"), state_of("parts")
    assert first.pop("seconds") != second.pop("seconds")  # the clock alone may differ
    assert_equal(first, second)
    rows = [
        [{name: value for name, value in row.items() if name != "seconds"} for row in
         read_metrics(run.folder / "metrics.jsonl")]
        for run in (whole, parts)
    ]  # fmt: skip
    assert rows[0] == rows[1] and [row["step"] for row in rows[0]] == [5, 10, 12]
    assert whole.test == parts.test


def test_a_checkpoint_holds_the_averaged_weights_and_those_to_go_on_from(files: str) -> None:
    result = main(command(files, "run", "--max-steps", "6", "--average", "ema",
                          "--average-decay", "0.5"))  # fmt: skip
    state = state_of("run")
    model = state["model"]
    for name, weight in result.model.state_dict().items():
        assert torch.equal(weight, model[name])  # type: ignore[index]
    trained = state["trained"]
    names = [name for name, _ in result.model.named_parameters()]
    assert not torch.equal(trained[0], model[names[0]])  # type: ignore[index]
    assert state["languages"] and isinstance(state["languages"], list)


def test_evaluation_scores_every_token_once_and_does_not_disturb(files: str) -> None:
    data = load_translation_data(files, 290, 24)
    torch.manual_seed(0)
    config, _ = config_from_argv([*SMALL, "--dropout", "0.5"])
    model = Transformer(replace(config.model, vocab_size=data.tokenizer.vocab_size))
    model.train()
    random = torch.get_rng_state()
    loss = evaluate(model, data, "validation", torch.device("cpu"))
    assert model.training and torch.equal(random, torch.get_rng_state())
    model.eval()
    bos, eos = (data.tokenizer.special_tokens[name] for name in ("<bos>", "<eos>"))
    total, count = 0.0, 0
    for source, target in data.ids["validation"]:  # one by one, no padding at all
        labels = torch.tensor([*target, eos])
        with torch.no_grad():
            logits = model(torch.tensor([source]), torch.tensor([[bos, *target]]))
        total -= logits[0].log_softmax(-1).gather(1, labels[:, None]).sum().item()
        count += len(labels)
    assert loss == pytest.approx(total / count, abs=1e-5)


def test_the_loss_of_a_batch_is_the_one_of_its_logits(files: str) -> None:
    data = load_translation_data(files, 290, 24)
    config, _ = config_from_argv([*SMALL, "--dropout", "0"])
    model = Transformer(replace(config.model, vocab_size=data.tokenizer.vocab_size))
    batch = batches_of(data, "validation", 400)[0]
    loss = batch_loss(model, batch, 0.1)
    logits = model(batch.source, batch.target_in, batch.source_mask)
    oracle = nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.labels.flatten(), label_smoothing=0.1
    )
    assert loss.item() == pytest.approx(oracle.item(), abs=1e-5)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    expected = torch.autograd.grad(oracle, list(model.parameters()))
    for mine, theirs in zip(gradients, expected, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_a_time_budget_ends_the_run(files: str) -> None:
    result = main(command(files, "budget", "--budget-minutes", "0.01", "--eval-every", "1000000",
                          "--checkpoint-every", "1000000"))  # fmt: skip
    assert 0.6 <= result.seconds < 5


# Bad input


def test_resume_with_other_settings_is_refused(files: str) -> None:
    main(command(files, "run", "--max-steps", "2"))
    with pytest.raises(ValueError, match="was trained with d_model=16, this command asks for 32"):
        main([*command(files, "run", "--resume"), "--d-model", "32"])
    with pytest.raises(ValueError, match="was trained with label_smoothing"):
        main(command(files, "run", "--resume", "--label-smoothing", "0.2"))
    with pytest.raises(FileNotFoundError, match="Train first"):
        main(command(files, "other", "--resume"))


def test_resume_with_another_vocabulary_is_refused(files: str) -> None:
    main(command(files, "run", "--max-steps", "2"))
    source = Path(files.split(",")[0])
    text = source.read_text(encoding="utf-8")
    source.write_text(text.replace("one", "uno").replace("three", "tre"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"its vocabulary of 2\d\d tokens is not the one of this"):
        main(command(files, "run", "--resume", "--max-steps", "4"))


def test_a_checkpoint_of_another_family_is_refused(files: str) -> None:
    save_checkpoint(checkpoint_of("gpts"), family="gpt", config={}, state={})
    with pytest.raises(ValueError, match="is a checkpoint of gpt, not of transformer"):
        main(command(files, "gpts", "--resume"))


def test_an_unknown_dataset_is_refused() -> None:
    with pytest.raises((ValueError, FileNotFoundError), match="grammar"):
        main([*SMALL, "--dataset", "nonsense"])


def test_an_exploding_run_stops_with_a_remedy(files: str) -> None:
    with pytest.raises(ValueError, match="Lower the learning rate"):
        main(command(files, "nan", "--lr", "1e30", "--clip", "0", "--max-steps", "50"))


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--lr", "0"], "lr=0.0 learns nothing"),
        (["--warmup", "2"], "warmup=2.0 is no share"),
        (["--label-smoothing", "1"], "label_smoothing=1.0 is no share below 1"),
        (["--average-count", "0"], "average_count=0 is not possible"),
        (["--budget-minutes", "-1"], "budget_minutes=-1.0 is below 0"),
        (["--d-model", "130"], "d_model=130 is not divisible"),
    ],
)
def test_impossible_settings(argv: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        config_from_argv(argv)


# Scores


def test_bleu_is_sacrebleus_with_the_tokenizer_of_the_language() -> None:
    ours, theirs = ["The cat sat on a mat.", "No."], ["The cat sat on the mat.", "No."]
    expected = sacrebleu.corpus_bleu(ours, [theirs])
    result = score(ours, theirs, "de")
    assert result.bleu == pytest.approx(expected.score) and result.exact_match == 0.5
    assert "tok:13a" in result.signature and "case:mixed" in result.signature
    chinese = score(["我有两本书。"], ["我有三本书。"], "zh")
    assert "tok:zh" in chinese.signature and chinese.bleu > 0 and chinese.exact_match == 0.0
    assert math.isclose(score(theirs, theirs, "en").bleu, 100.0)


def test_scores_need_one_reference_each() -> None:
    with pytest.raises(ValueError, match="1 translations cannot be compared with 2 references"):
        score(["a"], ["a", "b"], "en")
    with pytest.raises(ValueError, match="0 translations"):
        score([], [], "en")
