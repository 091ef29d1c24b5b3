"""The benchmarks of bert: both sides do equal work, goals are the documented ones, runs resume."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import bert_inference, bert_minute, bert_quality, bert_runs, bert_training
from benchmarks.bert_peers import PEER, SIZES, TUNED, peer_config, random_batches
from benchmarks.side_processes import Memory, Race, race
from bert import quick_start
from bert.bert_config import BertConfig
from bert.bert_heads import BertForPreTraining
from bert.finetuning_config import FinetuneConfig
from bert.finetuning_tasks import TextTask
from bert.pretrained import load_pretrained
from bert.saved_model import load_run
from bert.smoke_model import SENTENCES

TINY = BertConfig(vocab_size=60, max_len=16, d_model=32, n_heads=2, n_layers=2, d_ff=64)


def tiny_batch(config: BertConfig = TINY, rows: int = 4):
    return random_batches(1, rows, config, torch.Generator().manual_seed(0))[0]


def test_the_sizes_are_those_of_the_goals():
    assert {size: (c.d_model, c.n_layers, c.max_len) for size, c in SIZES.items()} == {
        "128x4": (128, 4, 128),
        "256x4": (256, 4, 128),
    }
    assert all(c.dropout == 0.1 and c.d_head == 64 and c.norm == "post" for c in SIZES.values())
    assert bert_training.Plan(TINY).rows == bert_inference.ROWS == 32


def test_the_peer_has_the_same_dropout_but_none_of_attention_weights():
    pytest.importorskip("transformers")
    config = peer_config(TINY)
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.1, 0.0)


def test_random_batches_are_full_masked_at_the_rate_and_have_both_labels():
    config = replace(TINY, vocab_size=8000, max_len=128)
    batch = tiny_batch(config, rows=64)
    assert batch.tokens.shape == (64, 128) and batch.mask.all()
    share = (batch.labels != -100).float().mean().item()
    assert abs(share - 0.15) < 4 * (0.15 * 0.85 / batch.labels.numel()) ** 0.5
    assert set(batch.next_labels.tolist()) == {0, 1}
    assert batch.segments[0].tolist() == [0] * 64 + [1] * 64
    again = tiny_batch(config, rows=64)
    assert torch.equal(batch.tokens, again.tokens) and torch.equal(batch.labels, again.labels)


def test_both_sides_compute_the_same_loss_and_gradient(tmp_path):
    """Same weights, same batch: the benchmark compares equal work, not two different tasks."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    peer = transformers.BertForPreTraining(peer_config(replace(TINY, dropout=0.0)))
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.normal_(0.0, 0.2)
    peer.save_pretrained(tmp_path)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *(f"w{i}" for i in range(TINY.vocab_size - len(special)))]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    ours, _ = load_pretrained(tmp_path)
    assert isinstance(ours, BertForPreTraining)
    ours, peer, batch = ours.double(), peer.double(), tiny_batch()
    out = ours(batch.tokens, batch.mask, batch.segments, batch.labels, batch.next_labels)
    theirs = peer(
        input_ids=batch.tokens, attention_mask=batch.mask, token_type_ids=batch.segments,
        labels=batch.labels, next_sentence_label=batch.next_labels,
    ).loss  # fmt: skip
    assert out.loss.item() == pytest.approx(theirs.item(), abs=1e-10)
    out.loss.backward()
    theirs.backward()
    torch.testing.assert_close(
        ours.bert.embeddings.token.weight.grad,
        peer.bert.embeddings.word_embeddings.weight.grad,
        rtol=0.0,
        atol=1e-10,
    )


@pytest.mark.parametrize("make", [bert_training.our_step, bert_training.peer_step])
def test_each_side_of_the_training_learns(make):
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    step, batch = make(TINY), tiny_batch()
    losses = [step(batch) for _ in range(40)]
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.slow
def test_the_training_sides_take_turns_in_processes_of_their_own():
    pytest.importorskip("transformers")
    plan = bert_training.Plan(TINY, rows=4, steps=1, rounds=2, threads=1)
    found = race(plan)
    assert set(found.seconds) == {"ours", PEER, TUNED} and found.amounts == [64, 64]
    results = {row.name: row for row in bert_training.results_of(found, "128x4")}
    assert set(results) == {name for name in bert_training.MEASURES if name.endswith("128x4")}
    assert all(row.value > 0 for row in results.values())
    whole = results["bert.training.process_memory_vs_transformers_128x4"]
    assert 0.3 < whole.value < 1.5  # nearly all of it is torch itself


def test_speed_and_memory_are_judged_by_their_goals():
    seconds = {"ours": [1.0, 1.0], PEER: [3.5, 3.5], TUNED: [2.0, 2.0]}
    memory = {"ours": Memory(300e6, 400e6), PEER: Memory(400e6, 800e6), TUNED: Memory(0, 1)}
    rows = bert_training.results_of(Race(seconds, [100, 100], memory), "128x4")
    found = {row.name.removeprefix("bert.training."): row for row in rows}
    speed = found["vs_transformers_128x4"]
    assert (speed.value, speed.at_least, speed.aim, speed.spread) == (3.5, 2.0, 3.0, 0.0)
    assert found["vs_transformers_tuned_128x4"].value == 2.0
    assert found["vs_transformers_tuned_128x4"].at_least is None
    share = found["memory_vs_transformers_128x4"]
    assert (share.value, share.at_least, share.aim, share.better) == (0.25, 0.8, 0.5, "lower")
    assert found["process_memory_vs_transformers_128x4"].value == 0.5
    assert found["tokens_per_second_128x4"].value == 100.0


@pytest.mark.parametrize("side", ["ours", PEER])
def test_reading_gives_every_token_a_vector(side):
    pytest.importorskip("transformers")
    sequences = [[2, 7, 3], [2, 8, 9, 10, 11, 3], [2, 6, 7, 3]]
    found = bert_inference.reader(side, TINY, sort=True)(sequences)
    assert sum(vectors.shape[0] for vectors in found) == 3
    assert all(vectors.shape[2] == TINY.d_model for vectors in found)


def test_minibatches_in_the_given_order_are_padded_to_their_longest():
    first, second = bert_inference.in_order([[5, 6], [5], [5, 6, 7]], rows=2)
    assert first[0].tolist() == [[5, 6], [5, 0]] and first[1].tolist() == [
        [True, True],
        [True, False],
    ]
    assert second[0].tolist() == [[5, 6, 7]]


def test_equal_sequences_all_have_the_full_length():
    sequences = bert_inference.equal_sequences(TINY, minibatches=1)
    assert len(sequences) == 32 and {len(row) for row in sequences} == {TINY.max_len}


@pytest.mark.slow
def test_reading_is_measured_in_turns():
    pytest.importorskip("transformers")
    sequences = [[2, *range(5, 5 + n), 3] for n in (1, 9, 4, 12)]
    plan = bert_inference.Plan(TINY, sequences, sort=True, rounds=2, threads=1)
    results = bert_inference.measure("real", "128x4", plan)
    assert [row.name for row in results] == [
        "bert.inference.real_128x4", "bert.inference.real_tuned_128x4"
    ]  # fmt: skip
    assert (results[0].at_least, results[0].aim) == (1.5, 2.5) and results[1].at_least is None


TOY = TextTask(
    "toy",
    ("arrays", "other"),
    *[tuple((f"{n} {text}", "arrays" if "matrix" in text else "other")
            for n in range(6) for text in SENTENCES)] * 3,
)  # fmt: skip
QUICK = FinetuneConfig(labels=8, epochs=1, batch_size=4, max_len=24)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Sixty documents of a few sentences."""
    path = tmp_path / "documents.txt"
    documents = ["\n".join([f"Number {n} is here.", *SENTENCES]) for n in range(60)]
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path


def smoke_config(text: Path, **changes):
    changes = {"dataset": str(text), "wordpiece_tokens": 150, "objective": "mlm", **changes}
    return bert_runs.pretraining_config("smoke", changes, seed=0)


def test_the_table_of_pretrainings_names_fields_of_the_preset():
    for name, changes in bert_quality.PRETRAININGS.items():
        config = bert_quality.config_of(bert_quality.PRESET, changes, 7)
        assert config.seed == 7 and config.budget_minutes == changes["budget_minutes"], name
        known = {**vars(config), **vars(config.model)}
        assert all(known[field] == value for field, value in changes.items())
    minutes = {name: c["budget_minutes"] for name, c in bert_quality.PRETRAININGS.items()}
    assert minutes["documentation"] <= 10 and minutes["pairs"] <= 10 and minutes["reviews"] <= 20
    assert {c.pretraining for c in bert_quality.COMPARISONS.values()} <= set(minutes)


def test_a_finished_pretraining_is_read_and_not_repeated(text, capsys):
    config = smoke_config(text)
    first = bert_runs.pretrain("toy", config)
    assert first.folder.name.startswith("benchmark_toy_") and first.seconds > 0
    second = bert_runs.pretrain("toy", config)
    assert (second.folder, second.seconds) == (first.folder, first.seconds)
    for ours, again in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(ours, again)
    assert "going on" in capsys.readouterr().out
    opened, _, _ = load_run(first.folder.name)  # the other scripts open it by its name
    assert torch.equal(opened.next_head.weight, first.model.next_head.weight)
    assert bert_runs.pretrain("toy", replace(config, seed=1)).folder != first.folder


def test_a_stopped_pretraining_goes_on_bit_for_bit(text, tmp_path, monkeypatch):
    config = smoke_config(text)
    whole = bert_runs.pretrain("toy", config)
    monkeypatch.setenv("LLM_TUTORIAL_OUTPUTS", str(tmp_path / "other"))

    def stop(loss: float, step: int, last: Path) -> None:
        if step == 6:  # the last checkpoint is that of step 4
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bert.bert_pretraining.check_loss", stop)
        with pytest.raises(KeyboardInterrupt):
            bert_runs.pretrain("toy", config)
    resumed = bert_runs.pretrain("toy", config)
    assert resumed.folder != whole.folder
    for ours, theirs in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("objective", ["mlm", "mlm+nsp"])
def test_held_out_text_is_scored_beside_its_entropy(text, objective):
    run = bert_runs.pretrain("toy", smoke_config(text, objective=objective))
    found = bert_runs.held_out(run)
    assert 0 < found.entropy < math.log(run.data.wordpiece.vocab_size)
    assert found.scores.mlm_loss > 0 and found.unigram > 0
    accuracy = found.scores.nsp_accuracy
    assert math.isnan(accuracy) if objective == "mlm" else 0 <= accuracy <= 1


def test_the_entropy_is_that_of_the_tokens_themselves():
    assert bert_runs.entropy_of(torch.tensor([3, 0, 3])) == pytest.approx(math.log(2))
    assert bert_runs.entropy_of(torch.tensor([0, 5])) == 0.0


def test_contestants_are_compared_and_kept(text, monkeypatch):
    run = bert_runs.pretrain("toy", smoke_config(text))
    asked = bert_quality.Comparison(
        "toy", "documentation", (8, bert_quality.ALL), above_scratch={8: (None, 5.0)},
        above_tfidf={8: (1.0, 2.0)}, accuracy={bert_quality.ALL: (80.0, 84.0)},
        outside_spread=(8,),
    )  # fmt: skip
    monkeypatch.setitem(bert_quality.COMPARISONS, "toy", asked)
    monkeypatch.setattr(
        bert_quality, "finetuning",
        lambda task, labels, seed: replace(QUICK, labels=labels, seed=seed),
    )  # fmt: skip
    rows = bert_quality.measure_comparison("toy", run, TOY, (0, 1))
    found = {row.name.removeprefix("bert.toy."): row for row in rows}
    assert {row.name for row in rows} == set(bert_quality.comparison_names("toy"))
    ours, scratch, tfidf = (found[f"{who}_8"] for who in bert_runs.CONTESTANTS)
    above = found["above_scratch_8"]
    assert above.value == pytest.approx(ours.value - scratch.value) and above.aim == 5.0
    assert above.at_least == max(ours.spread, scratch.spread)
    assert found["above_tfidf_8"].value == pytest.approx(ours.value - tfidf.value)
    assert (found["above_tfidf_8"].at_least, found["above_tfidf_8"].aim) == (1.0, 2.0)
    assert (found["pretrained_all"].at_least, found["pretrained_all"].aim) == (80.0, 84.0)
    assert found["scratch_all"].at_least is None
    assert found["minutes"].value > run.seconds / 60 and found["minutes"].better == "lower"

    def forbidden(*_, **__):
        raise AssertionError("a kept fine-tuning was repeated")

    monkeypatch.setattr(bert_runs, "fine_tune", forbidden)
    assert bert_quality.measure_comparison("toy", run, TOY, (0, 1)) == rows


def test_the_goals_of_the_tasks_are_the_documented_ones():
    library, sst2 = bert_quality.COMPARISONS["library"], bert_quality.COMPARISONS["sst2"]
    assert library.above_scratch == {50: (15.0, 25.0), 200: (10.0, 20.0)}
    assert library.above_tfidf == {50: (10.0, 20.0), 200: (6.0, 15.0), 1000: (0.0, 3.0)}
    assert sst2.accuracy == {0: (80.0, 84.0)} and sst2.above_scratch[500] == (None, 5.0)
    assert len(bert_quality.SEEDS) >= 3


def test_few_labels_are_learned_at_the_rate_of_their_task():
    rates = {task: bert_quality.finetuning(task, 500, 0).lr for task in ("library", "sst2")}
    assert rates["library"] != rates["sst2"] == bert_quality.COMPARISONS["sst2"].few["lr"]
    assert bert_quality.finetuning("sst2", bert_quality.ALL, 7).select == "best"


def test_one_part_can_be_measured_alone(text, monkeypatch):
    recorded = {}

    def keep(stem, rows):
        recorded[stem] = rows
        return rows

    monkeypatch.setattr(bert_quality, "record", keep)
    monkeypatch.setattr(bert_quality, "PRESET", "smoke")
    monkeypatch.setattr(bert_quality, "prepare", lambda threads: {"cores": 2})
    changes = {"dataset": str(text), "wordpiece_tokens": 150}
    monkeypatch.setitem(bert_quality.PRETRAININGS, "documentation", {**changes, "objective": "mlm"})
    monkeypatch.setitem(bert_quality.PRETRAININGS, "pairs", {**changes, "objective": "mlm+nsp"})
    for part, name in (("documentation", "mlm_below_unigram"), ("pairs", "nsp_accuracy")):
        rows = bert_quality.main(["--only", f"bert.{part}.{name}"])
        assert rows == recorded["bert_quality"]
        expected = {key for key in bert_quality.MEASURES if key.startswith(f"bert.{part}.")}
        assert {row.name for row in rows} == expected
        assert all(row.note and row.command.endswith(row.name) for row in rows)
        (goal,) = [row for row in rows if row.name.endswith(name)]
        goals = (0.8, 1.5) if part == "documentation" else (75.0, 85.0)
        assert (goal.at_least, goal.aim) == goals


def test_the_quick_start_is_told_once_for_each_seed(monkeypatch):
    told = []

    def tell(preset, seed, device, texts):
        told.append((preset, seed))
        return quick_start.QuickNumbers(0.6 + 0.1 * seed, 0.4, 0.5, 5.0, 6.5, 40.0, ())

    monkeypatch.setattr(quick_start, "tell", tell)
    rows = bert_minute.measure((0, 1))
    assert told == [("quick", 0), ("quick", 1)]
    found = {row.name.removeprefix("bert.quick_start."): row for row in rows}
    assert found["accuracy"].value == pytest.approx(65.0)
    assert found["above_scratch"].value == pytest.approx(25.0)
    assert found["above_tfidf"].spread == pytest.approx(50**0.5)
    assert found["mlm_below_unigram"].value == 1.5
    expected = set(bert_minute.MEASURES)
    assert {row.name for row in rows} == expected and {row.preset for row in rows} == {"quick"}


def test_names_say_what_is_measured():
    for module in (bert_training, bert_inference, bert_quality, bert_minute):
        for name, meaning in module.MEASURES.items():
            assert re.fullmatch(r"bert\.[a-z0-9_]+\.[a-z0-9_]+", name) and meaning
            assert module.build_parser().parse_args(["--only", name]).only == name
