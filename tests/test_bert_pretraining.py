"""Pre-training: it learns both tasks, repeats, resumes bit for bit, and runs on two processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bert.bert_config import BertConfig
from bert.bert_heads import BertForPreTraining
from bert.bert_model import BertModel
from bert.bert_pretraining import main
from bert.pretraining_batches import evaluation_batches
from bert.pretraining_config import PRESETS, PretrainConfig, config_from_argv
from bert.pretraining_data import load_bert_data
from bert.pretraining_evaluation import evaluate, filled_sample, unigram_loss
from bert.pretraining_state import PretrainState
from bert.saved_model import load_run
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.checkpoints import load_checkpoint, save_checkpoint
from tutorial_kit.distributed import Processes
from tutorial_kit.training import read_metrics

SMALL = [
    "--preset", "smoke", "--max-len", "24", "--d-model", "32", "--d-ff", "64", "--batch-size", "8",
    "--wordpiece-tokens", "300", "--threads", "1", "--device", "cpu",
]  # fmt: skip
RECIPES = ["mlm+nsp", "mlm"]
TOPICS = (
    ("the cat sleeps on the warm sofa .", "it dreams of a small gray mouse ."),
    ("our ship sails over the cold sea .", "a storm breaks the tall mast ."),
    ("this function sorts a long list .", "an error is raised for empty input ."),
    ("her garden grows red and white roses .", "bees visit every open flower ."),
)


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """400 documents of an opening and a closing sentence; also an own cache."""
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))
    generator = random.Random(0)
    documents = []
    for _ in range(400):
        documents.append("\n".join(generator.choice(TOPICS)))
    path = tmp_path / "documents.txt"
    path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return str(path)


def run_folder(run: str) -> Path:
    return Path(os.environ["LLM_TUTORIAL_OUTPUTS"]) / "bert" / run


def weights(run: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(run_folder(run), family="bert")["state"]["model"]  # type: ignore[no-any-return]


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def command(text: str, run: str, *more: str) -> list[str]:
    return [*SMALL, "--dataset", text, "--name", run, *more]


def state_of(text: str, *more: str) -> PretrainState:
    config, _ = config_from_argv(command(text, "state", *more))
    data = load_bert_data(config.dataset, config.wordpiece_tokens)
    config = replace(config, model=replace(config.model, vocab_size=data.wordpiece.vocab_size))
    return PretrainState(config, data, Processes(0, 1, torch.device("cpu")))


def test_both_tasks_are_learned_and_the_files_are_there(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = main(command(text, "learn", "--max-steps", "180", "--eval-every", "60",
                          "--lr", "5e-3", "--dropout", "0", "--norm", "pre"))  # fmt: skip
    rows = read_metrics(result.folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [60, 120, 180] and result.history == rows
    assert rows[-1]["validation_mlm_loss"] < 0.6 * rows[-1]["unigram_entropy"]
    assert result.scores.nsp_accuracy > 0.62  # an opening sentence as B is wrong: 75 % are easy
    assert result.validation_loss == rows[-1]["validation_mlm_loss"]
    assert result.unigram_entropy == rows[-1]["unigram_entropy"]
    files = {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*")}
    wanted = {"config.json", "vocab.txt", "metrics.jsonl", "checkpoints/best.pt"}
    assert wanted | {"checkpoints/last.pt"} <= files
    output = capsys.readouterr().out
    assert "MLM accuracy" in output and "NSP accuracy" in output and "unigram" in output
    assert "masked:" in output and "[MASK]" in output and "filled:" in output and "test:" in output

    model, pieces, config = load_run("learn")
    assert not model.training and config.objective == "mlm+nsp" and config.dataset == text
    held_out = load_bert_data(text, 300).splits["validation"]
    pairs = evaluation_batches(held_out, pieces, config.model.max_len, "mlm+nsp")
    again = evaluate(model, pairs)
    assert again.mlm_loss == pytest.approx(result.validation_loss, abs=1e-5)
    # Both labels are learned: a shared ignore_index=0 would leave the pairs of label 0 at chance.
    for label in (0, 1):
        right = total = 0
        for b in pairs:
            assert b.next_labels is not None
            hidden = model.bert.hidden(b.tokens, b.mask, b.segments)
            answers = model.next_head(model.bert.pool(hidden)).argmax(-1)
            chosen = b.next_labels == label
            right, total = right + int((answers[chosen] == label).sum()), total + int(chosen.sum())
        assert right / total > 0.25, f"label {label}: {right} of {total}"


def test_without_pairs_there_is_no_nsp(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = main(command(text, "mlm", "--recipe", "mlm", "--max-steps", "120", "--lr", "1e-2"))
    assert result.validation_loss < 0.8 * result.unigram_entropy
    assert result.scores.nsp_accuracy != result.scores.nsp_accuracy
    assert "NSP" not in capsys.readouterr().out


def test_muon_trains_the_encoder(text: str) -> None:
    result = main(command(text, "muon", "--recipe", "mlm", "--optimizer", "muon",
                          "--max-steps", "120", "--lr", "1e-2"))  # fmt: skip
    assert result.validation_loss < 0.8 * result.unigram_entropy
    state = state_of(text, "--optimizer", "muon")
    muon, adamw = state.optimizers
    groups = [group for optimizer in (muon, adamw) for group in optimizer.param_groups]
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in state.model.parameters())  # each exactly once
    assert all(p.ndim == 2 for p in muon.param_groups[0]["params"])
    assert state.model.bert.encoder[0].attention.qkv.weight.muon_splits == (32, 32, 32)  # type: ignore[index, union-attr]


@pytest.mark.parametrize("recipe", RECIPES)
def test_label_zero_of_nsp_has_a_gradient_of_its_own(text: str, recipe: str) -> None:
    state = state_of(text, "--recipe", recipe, "--dropout", "0")
    (b,), _ = state.minibatch()
    next_labels = None if recipe == "mlm" else torch.zeros(len(b.tokens), dtype=torch.long)
    state.model.eval()
    output = state.model(b.tokens, b.mask, b.segments, b.labels, next_labels)
    output.loss.backward()
    gradient = state.model.next_head.weight.grad
    if recipe == "mlm":
        assert gradient is None and state.model.bert.pooler.weight.grad is None
    else:
        assert output.nsp_loss > 0.3 and gradient is not None and gradient.abs().sum() > 0


def test_no_gradient_from_padding_and_from_tokens_that_are_not_hidden(text: str) -> None:
    state = state_of(text, "--dropout", "0", "--max-len", "24")
    (b,), _ = state.minibatch()
    assert b.mask is not None and not b.mask.all()
    model = state.model.double().eval()
    hidden = model.bert.hidden(b.tokens, b.mask, b.segments)  # (B, T, D)
    hidden.retain_grad()
    rows = hidden[b.labels != -100]
    model.masked_head.loss(rows, b.labels[b.labels != -100])[0].backward()
    assert hidden.grad is not None
    assert (hidden.grad[b.labels == -100] == 0).all()
    assert (hidden.grad[b.labels != -100].abs().sum(-1) > 0).all()
    # The whole loss does not change with what stands at the padding, nor its gradient.
    other = torch.where(b.mask, b.tokens, torch.full_like(b.tokens, 7))
    gradients = []
    for tokens in (b.tokens, other):
        model.zero_grad()
        output = model(tokens, b.mask, b.segments, b.labels, b.next_labels)
        output.loss.backward()
        gradients.append([output.loss.detach()] + [p.grad.clone() for p in model.parameters()])  # type: ignore[union-attr]
    for one, two in zip(*gradients, strict=True):
        assert torch.allclose(one, two, atol=1e-12)


def test_same_seed_same_weights_other_seed_other_weights(text: str) -> None:
    for run, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        main(command(text, run, "--seed", seed))
    assert_equal(weights("a"), weights("b"))
    assert not torch.equal(weights("a")["next_head.weight"], weights("c")["next_head.weight"])


@pytest.mark.parametrize(
    "extra",
    [
        ["--recipe", "mlm+nsp"],
        ["--recipe", "mlm", "--optimizer", "muon", "--dropout", "0.1", "--accumulation", "2"],
    ],
    ids=["mlm+nsp", "mlm-muon"],
)
def test_resume_equals_uninterrupted(text: str, extra: list[str]) -> None:
    extra = [*extra, "--max-steps", "12", "--eval-every", "5", "--checkpoint-every", "4"]
    whole = main(command(text, "whole", *extra))
    # Stop after 8 steps by asking for an interrupt from within, as Ctrl-C does.
    script = (
        "import os, signal, sys; from bert import bert_pretraining, pretraining_state\n"
        "set_rates = pretraining_state.PretrainState.set_learning_rates\n"
        "def patched(self):\n"
        "    if self.step == 7: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return set_rates(self)\n"
        "pretraining_state.PretrainState.set_learning_rates = patched\n"
        "bert_pretraining.main(sys.argv[1:])\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *command(text, "parts", *extra)],
        cwd=PROJECT_ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert "stopped at step 8; saved" in process.stdout and "KeyboardInterrupt" in process.stderr
    parts = main(command(text, "parts", *extra, "--resume"))
    assert_equal(weights("whole"), weights("parts"))
    histories = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in run.history]
        for run in (whole, parts)
    ]
    assert histories[0] == histories[1]


KILLED = ["--max-steps", "400", "--eval-every", "150", "--checkpoint-every", "10"]


def kill_and_resume(text: str, run: str, delay: float) -> int:
    """Kills a run with SIGKILL some seconds after its first checkpoint, then lets it finish.

    Returns:
        The step of the last checkpoint at the kill.
    """
    script = [sys.executable, "-m", "bert.bert_pretraining", *command(text, run, *KILLED)]
    last = run_folder(run) / "checkpoints" / "last.pt"
    process = subprocess.Popen(
        script, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not last.exists():  # until it trains, whatever the load
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = int(load_checkpoint(last, family="bert")["state"]["step"])
    subprocess.run([*script, "--resume"], cwd=PROJECT_ROOT, check=True, capture_output=True)
    return step


@pytest.mark.slow
def test_killed_run_resumes_bit_for_bit(text: str) -> None:
    main(command(text, "whole", *KILLED))
    for trial, delay in enumerate((0.2, 0.7)):
        step = kill_and_resume(text, f"killed{trial}", delay)
        assert 0 < step < 400, "the kill missed the run: choose another delay"
        assert_equal(weights("whole"), weights(f"killed{trial}"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_give_the_one_process_run(text: str, recipe: str) -> None:
    extra = ["--recipe", recipe, "--max-steps", "3", "--dropout", "0", "--lr", "1e-3"]
    main(command(text, "one", *extra))
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "bert.bert_pretraining", *command(text, "two", *extra)],
        cwd=PROJECT_ROOT, check=True, capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    one, two = weights("one"), weights("two")
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-5), name
    first, second = (read_metrics(run_folder(run) / "metrics.jsonl")[-1] for run in ("one", "two"))
    for name in ("train_mlm_loss", "validation_mlm_loss", "tokens"):
        assert first[name] == pytest.approx(second[name], abs=1e-5), name


def test_parts_of_a_minibatch_give_the_same_gradient(text: str) -> None:
    extra = ["--max-steps", "3", "--dropout", "0"]
    main(command(text, "whole", *extra))
    main(command(text, "parts", *extra, "--accumulation", "4"))
    for name, weight in weights("whole").items():
        assert torch.allclose(weight, weights("parts")[name], atol=1e-5), name


def test_evaluation_does_not_disturb_and_counts_every_mask_once(text: str) -> None:
    data = load_bert_data(text, 300)
    torch.manual_seed(0)
    config = BertConfig(data.wordpiece.vocab_size, max_len=24, d_model=32, n_layers=2, dropout=0.5)
    model = BertForPreTraining(BertModel(config)).train()
    batches = evaluation_batches(data.splits["validation"], data.wordpiece, 24, "mlm")
    state = torch.get_rng_state()
    scores = evaluate(model, batches)
    masked, filled = filled_sample(model, batches[0], data.wordpiece)
    assert model.training and torch.equal(state, torch.get_rng_state())
    assert masked.count("[MASK]") > 0 and "[MASK]" not in filled
    model.eval()
    total, count = 0.0, 0
    for b in batches:
        logits = model.masked_head(model.bert.hidden(b.tokens, b.mask, b.segments))  # (B, T, V)
        total += float(
            torch.nn.functional.cross_entropy(logits.mT, b.labels, reduction="sum").detach()
        )
        count += b.n_masked
    assert scores.mlm_loss == pytest.approx(total / count, abs=1e-5)
    # By hand: the unigram model's probability of each hidden token.
    train = data.splits["train"].tokens.tolist()
    special = set(data.wordpiece.special_tokens.values())
    counted = sum(1 for token in train if token not in special)
    counted += data.wordpiece.vocab_size - len(special)
    labels = [token for b in batches for token in b.labels.flatten().tolist() if token != -100]
    by_hand = -sum(
        torch.tensor((train.count(token) + 1) / counted).log().item() for token in labels
    ) / len(labels)
    assert unigram_loss(data.splits["train"].tokens, batches, data.wordpiece) == pytest.approx(
        by_hand, abs=1e-4
    )


def test_a_finished_run_resumed_is_measured_and_stays_as_it_is(text: str) -> None:
    first = main(command(text, "run"))
    again = main(command(text, "run", "--resume"))
    assert again.steps == first.steps and again.validation_loss == first.validation_loss
    assert again.scores == first.scores and again.history == first.history


def test_a_time_budget_ends_the_run(text: str) -> None:
    result = main(command(text, "budget", "--max-steps", "1000000", "--budget-minutes", "0.01"))
    assert 0.6 < result.seconds < 4


def test_resume_with_other_settings_or_another_text_is_refused(text: str, tmp_path: Path) -> None:
    main(command(text, "run"))
    with pytest.raises(ValueError, match="was trained with d_model=32, this command asks for 64"):
        main([*command(text, "run", "--resume"), "--d-model", "64"])
    with pytest.raises(ValueError, match="was trained with objective=mlm"):
        main(command(text, "run", "--resume", "--objective", "mlm"))
    with pytest.raises(FileNotFoundError, match="Train first"):
        main(command(text, "other", "--resume"))
    path = Path(text)
    path.write_text(path.read_text(encoding="utf-8").replace("cat", "dog"), encoding="utf-8")
    with pytest.raises(ValueError, match="the text has changed"):
        main(command(text, "run", "--resume"))


def test_a_run_that_cannot_be_opened_says_why(text: str, tmp_path: Path) -> None:
    main(command(text, "run"))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_run("absent")
    content = load_checkpoint(run_folder("run"), family="bert")
    path = tmp_path / "changed.pt"
    tokens = content["state"]["wordpiece"]
    save_checkpoint(path, family="bert", config=content["config"], state={"model": {}})
    with pytest.raises(ValueError, match="checkpoint of another kind"):
        load_run(path)
    model = {**content["config"]["model"], "vocab_size": 77}
    config = {**content["config"], "model": model}
    save_checkpoint(path, family="bert", config=config, state={"model": {}, "wordpiece": tokens})
    with pytest.raises(ValueError, match="weights for 77"):
        load_run(path)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batch-size", "6", "--accumulation", "4"], "cannot be computed in accumulation=4"),
        (["--lr", "0"], "lr=0.0 learns nothing"),
        (["--warmup", "2"], "warmup=2.0 is no share"),
        (["--mask-rate", "1"], "mask_rate=1.0 is no share"),
        (["--mask-rate", "0"], "mask_rate=0.0 is no share"),
        (["--max-len", "6"], "max_len=6 leaves no room"),
        (["--n-segments", "1"], "cannot tell the two texts"),
        (["--d-model", "130"], "d_model=130 is not divisible"),
    ],
)
def test_impossible_settings(argv: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_argv(["--preset", "paper", "--accumulation", "1", *argv])


def test_recipe_replaces_the_presets_and_flags_replace_both() -> None:
    config, _ = config_from_argv(["--preset", "standard", "--recipe", "mlm+nsp", "--norm", "pre"])
    assert config.objective == "mlm+nsp" and config.mask_rate == 0.15
    assert config.model.norm == "pre" and config.model.dropout == 0.1
    assert config.model.max_len == PRESETS["standard"].model.max_len
    assert PRESETS["standard"].objective == "mlm" and PRESETS["standard"].budget_minutes <= 15
    assert PRESETS["long"].budget_minutes <= 60
    assert PretrainConfig().model.norm == "post"
