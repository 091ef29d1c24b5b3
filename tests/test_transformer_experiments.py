"""The chapter's experiments and the benchmarks beside peers: they run, resume, compare fairly."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields, replace

import pytest
import torch

from benchmarks import (
    side_processes,
    transformer_decoding,
    transformer_quality,
    transformer_training,
)
from benchmarks.transformer_peers import (
    SPECIAL_TOKENS,
    TorchTransformer,
    marian_model,
    random_batches,
    random_pairs,
)
from transformer import experiment_runs, run_examples
from transformer.batching import pad_pairs
from transformer.experiments import (
    BASELINE,
    BEAM_SETTINGS,
    EXPERIMENTS,
    LENGTHS,
    TOY,
    accuracy_by_place,
    variant_config,
)
from transformer.toy_tasks import LONGEST, TASKS, toy_data
from transformer.transformer_config import TransformerConfig, parameter_count
from transformer.transformer_model import Transformer
from transformer.verify_structure import torch_name
from tutorial_kit import PROJECT_ROOT, experiments
from tutorial_kit.dropout import Dropout
from tutorial_kit.results import Result
from tutorial_kit.training import run_folder

TINY = TransformerConfig(
    60, max_len=64, d_model=16, n_heads=2, n_layers=1, n_decoder_layers=2, d_ff=32, dropout=0.1
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))


def tiny_batches(count: int = 4):
    return random_batches(count, TINY.vocab_size, 200, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [n for n in run_examples.RUNNERS if n != "pictures"])
def test_every_experiment_runs_and_resumes(name, monkeypatch, capsys):
    first = run_examples.main(["--preset", "smoke", "--only", name])
    assert first and {result.name for result in first} <= set(run_examples.MEASURES)
    assert (run_examples.figures_folder() / f"{name}.png").is_file()
    shown = capsys.readouterr().out

    def refuse(*_args, **_options):
        raise AssertionError("a finished training is repeated")

    monkeypatch.setattr(experiment_runs, "train", refuse)
    again = run_examples.main(["--preset", "smoke", "--only", first[0].name])
    assert [result.value for result in again] == [result.value for result in first]
    table = capsys.readouterr().out
    assert table.strip() and table.strip() in shown


def test_the_pictures_come_from_the_quick_start():
    assert run_examples.main(["--preset", "smoke", "--only", "pictures"]) == []
    drawn = {path.name for path in run_examples.figures_folder().glob("*.png")}
    assert {"cross_attention.png", "positions.png", "training_curve.png"} <= drawn
    assert (run_folder("transformer", "quick_start_smoke") / "metrics.jsonl").is_file()


def test_an_unknown_experiment_is_refused():
    with pytest.raises(ValueError, match="there is no such experiment. Use one of tasks, "):
        run_examples.main(["--only", "transformer.nonsense.x"])


def test_smoke_runs_record_nothing(monkeypatch):
    monkeypatch.setattr(experiments, "record", None)
    run_examples.main(["--preset", "smoke", "--only", "tasks"])


def test_names_of_results_are_distinct_and_valid():
    names = [
        run_examples.result_name(f"{name}.loss", label)
        for name, experiment in EXPERIMENTS.items()
        for label in experiment.variants
    ]
    assert len(set(names)) == len(names)
    for name in run_examples.MEASURES:
        assert Result(name, 1.0, "x").name == name


def different(left, right) -> set[str]:
    """Returns the settings in which two configs differ, the model's included."""
    names = {f.name for f in fields(left) if f.name != "model"}
    found = {name for name in names if getattr(left, name) != getattr(right, name)}
    for field in fields(left.model):
        if getattr(left.model, field.name) != getattr(right.model, field.name):
            found.add(field.name)
    return found


def test_variants_differ_from_their_base_in_the_named_settings_alone():
    cases = [(e.base, settings) for e in EXPERIMENTS.values() for settings in e.variants.values()]
    cases += [(TOY, settings) for settings in LENGTHS.values()] + [(BASELINE, BEAM_SETTINGS)]
    for base, settings in cases:
        config = variant_config(base, settings, seed=2)
        assert different(base, config) <= {*settings, "seed"}
        assert config.seed == 2 and config.max_steps <= 600


@pytest.mark.parametrize("task", TASKS)
def test_toy_tasks_ask_what_they_say(task):
    data = toy_data(task)
    words = [source for split in data.pairs.values() for source, _ in split]
    assert len(set(words)) == len(words), "a held-out word was trained on"
    expected = {"copy": list, "reverse": lambda w: list(reversed(w)), "sort": sorted}[task]
    assert all(list(b) == expected(a) for split in data.pairs.values() for a, b in split)
    assert max(len(a) for a, _ in data.pairs["train"]) == LONGEST
    assert min(len(a) for a, _ in data.pairs["longer"]) == LONGEST + 1
    eos = data.tokenizer.special_tokens["<eos>"]
    for (source, target), (a, b) in zip(data.pairs["test"], data.ids["test"], strict=True):
        assert data.tokenizer.decode(a[:-1]) == source and a[-1] == eos
        assert data.tokenizer.decode(b) == target and len(b) == len(target)


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="no task 'swap'. Use one of copy, reverse, sort"):
        toy_data("swap")


def test_accuracy_by_place_counts_each_place():
    """A model that always says "a" is right exactly where the reference has an "a"."""
    data = toy_data("copy")
    (a,) = data.tokenizer.encode("a")
    model = Transformer(replace(TINY, vocab_size=data.tokenizer.vocab_size))
    model.project = lambda hidden: torch.eye(data.tokenizer.vocab_size)[
        torch.full(hidden.shape[:-1], a)
    ]
    words = [target for _, target in data.pairs["longer"]]
    expected = []
    for place in range(max(map(len, words))):
        letters = [word[place] for word in words if place < len(word)]
        expected.append(100 * letters.count("a") / len(letters))
    assert accuracy_by_place(model, data, "longer") == pytest.approx(expected, abs=1e-3)
    assert model.training


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_torchs_side_computes_what_ours_computes(norm):
    config = replace(TINY, norm=norm, dropout=0.0)
    torch.manual_seed(0)
    ours, theirs = Transformer(config), TorchTransformer(config)
    weights = {torch_name(name): tensor for name, tensor in ours.state_dict().items()}
    state = {name: weights[name] for name in theirs.transformer.state_dict()}
    theirs.transformer.load_state_dict(state)
    theirs.embedding.load_state_dict(ours.source_embedding.state_dict())
    assert sum(p.numel() for p in theirs.parameters()) == parameter_count(config)
    for batch in tiny_batches():
        logits = [m(batch.source, batch.target_in, batch.source_mask) for m in (ours, theirs)]
        torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)


def test_both_sides_drop_in_the_same_places():
    """Behind each part and on the two embeddings, which share a module."""
    ours = [m for m in Transformer(TINY).modules() if isinstance(m, Dropout)]
    theirs = [m for m in TorchTransformer(TINY).modules() if isinstance(m, torch.nn.Dropout)]
    assert len([m for m in theirs if m.p == 0.1]) == len(ours) == 1 + 2 * 1 + 3 * 2
    assert {m.p for m in ours} == {0.1} and {m.p for m in theirs} == {0.1, 0.0}
    attentions = [
        m for m in TorchTransformer(TINY).modules() if isinstance(m, torch.nn.MultiheadAttention)
    ]
    assert {m.dropout for m in attentions} == {0.0}


@pytest.mark.parametrize("side", transformer_training.SIDES)
def test_each_side_of_the_training_learns(side):
    if side == "marian":
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    step = transformer_training.SIDES[side](TINY)
    (batch,) = tiny_batches(1)
    losses = [step(batch) for _ in range(30)]
    assert losses[-1] < losses[0] - 0.1


def test_the_first_loss_is_about_the_same_on_all_sides():
    """Ours counts and smooths the same labels as the plain cross-entropy of the peers."""
    pytest.importorskip("transformers")
    config, (batch,) = replace(TINY, dropout=0.0), tiny_batches(1)
    losses = []
    for make in transformer_training.SIDES.values():
        torch.manual_seed(0)
        losses.append(make(config)(batch))
    assert max(losses) - min(losses) < 1.5 and min(losses) > 3.0


def test_the_three_sides_take_turns_in_processes_of_their_own():
    pytest.importorskip("transformers")
    plan = transformer_training.Plan(TINY, tokens_per_batch=200, steps=1, rounds=2, threads=1)
    results = transformer_training.measure(plan)
    assert {result.name for result in results} == set(transformer_training.MEASURES)
    assert all(result.value > 0 and result.note for result in results)
    found = {result.name.rpartition(".")[2]: result for result in results}
    assert (found["vs_nn_transformer"].at_least, found["vs_marian"].aim) == (1.3, 1.4)
    memory = found["memory_vs_nn_transformer"]
    assert (memory.better, memory.at_least, memory.aim) == ("lower", 1.0, 0.7)
    assert 0.5 < memory.value < 2.0  # nearly all of it is torch itself


def test_a_side_that_cannot_start_is_said_in_one_line():
    broken = replace(transformer_training.Plan(TINY, threads=1), tokens_per_batch="many")
    with pytest.raises(ValueError, match="the process that runs [a-z_]+ has ended"):
        side_processes.race(broken)


def test_a_case_of_decoding_is_timed_in_turns(monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr(transformer_decoding, "SIZE", TINY)
    monkeypatch.setitem(transformer_decoding.CASES, "beam4_batch_64", (3, 1, 4, 2, 1.5, 2.5))
    result = transformer_decoding.measure_case("beam4_batch_64")
    assert result.value > 0 and (result.at_least, result.aim) == (1.5, 2.5)


def test_random_batches_look_like_captions():
    generator = torch.Generator().manual_seed(1)
    batches = random_batches(40, 8000, 4096, generator)
    assert len(batches) == 40
    assert all(b.source.numel() + b.labels.numel() <= 4096 for b in batches)
    real = sum(int(b.source_mask.sum()) + b.n_target_tokens for b in batches)
    assert real > 0.94 * sum(b.source.numel() + b.labels.numel() for b in batches)
    pairs = random_pairs(2000, 8000, generator)
    assert sum(len(a) - 1 for a, _ in pairs) / 2000 == pytest.approx(15.3, abs=0.4)
    assert sum(len(b) for _, b in pairs) / 2000 == pytest.approx(16.8, abs=0.5)


def test_peak_memory_counts_what_was_held_and_freed():
    code = (  # in a process of its own, which has no freed memory to use again
        "import torch; from benchmarks.side_processes import peak_memory\n"
        "before = peak_memory(); block = torch.ones(20_000_000); del block\n"
        "assert 80e6 <= peak_memory() - before < 90e6"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT)


@pytest.mark.parametrize("beams", [1, 4])
def test_both_sides_write_exactly_as_many_tokens_as_asked(beams):
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = replace(TINY, vocab_size=8)  # <eos> would often come by itself
    pairs = random_pairs(5, config.vocab_size, torch.Generator().manual_seed(0))
    batch = pad_pairs(pairs, SPECIAL_TOKENS)
    ours = transformer_decoding.translate_ours(Transformer(config), batch, beams, new=7)
    assert [len(text) for text in ours] == [7] * 5
    theirs = transformer_decoding.translate_theirs(marian_model(config).eval(), batch, beams, new=7)
    assert theirs.shape == (5, 8)


def test_an_endless_beam_never_ends_early():
    torch.manual_seed(0)
    config = replace(TINY, vocab_size=8)
    batch = pad_pairs([([4, 5, 2], [4])], SPECIAL_TOKENS)
    (text,) = transformer_decoding.translate_ours(Transformer(config), batch, 4, new=7)
    assert SPECIAL_TOKENS["<eos>"] not in text


def test_quality_of_the_quick_start_is_measured_with_its_signature():
    results = transformer_quality.measure_quick_start([0, 1], preset="smoke")
    found = {result.name.rpartition(".")[2]: result for result in results}
    assert set(found) == {"exact_match", "bleu", "training_seconds"}
    assert found["exact_match"].at_least == 95 and found["exact_match"].aim == 99
    assert "tok:zh" in found["bleu"].note and found["training_seconds"].value > 0


def test_goals_are_the_ones_of_the_benchmarks():
    assert set(transformer_quality.BUDGETS) == {"bleu_4_minutes", "bleu_10_minutes", "bleu_long"}
    for module in (transformer_training, transformer_decoding, transformer_quality):
        for name, meaning in module.MEASURES.items():
            assert re.fullmatch(r"transformer\.[a-z0-9_]+\.[a-z0-9_]+", name) and meaning
