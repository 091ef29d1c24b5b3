"""The benchmarks of cbow: both sides read the same text, goals are the documented ones."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cbow_memory, cbow_quality, cbow_training, seed_measures
from benchmarks.cbow_peers import (
    PEER,
    Trained,
    build_peer,
    line_file,
    peer_embeddings,
    share_kept,
    shortened,
    train_peer,
)
from benchmarks.cbow_training import Plan
from cbow.cbow_config import PRESETS, TrainConfig
from cbow.cbow_data import CBOWData, drop_frequent, load_corpus
from cbow.word_tests import Pair, Section, WordTests
from tutorial_kit.results import Result

SMOKE = PRESETS["smoke"]
TESTS = WordTests(
    (Section("gram1", (("array", "arrays", "value", "values"),)),),
    (Pair("array", "matrix", 8.0), Pair("array", "graph", 3.0), Pair("node", "edge", 7.0)),
    (Pair("array", "list", 8.0), Pair("array", "zebra", 3.0)),
)


@pytest.fixture(scope="module")
def data() -> CBOWData:
    return shortened(load_corpus("documentation-small", 5), 30_000)


# The same text for both sides


def test_the_settings_are_those_of_the_goals() -> None:
    for config in (cbow_training.SPEED.config, cbow_quality.SETTINGS):
        assert (config.window, config.negatives, config.model.d_model) == (5, 5, 100)
        model = config.model
        assert (model.architecture, model.objective, model.combine) == ("cbow", "negative", "mean")
    assert cbow_training.SPEED.config.dataset == "wikitext2"
    assert len(cbow_quality.SEEDS) >= 3 and cbow_training.SPEED.rounds >= 5


def test_gensim_reads_our_words_and_keeps_as_many(data: CBOWData) -> None:
    pytest.importorskip("gensim")
    with line_file(data.train) as path:
        lines = path.read_text(encoding="utf-8").splitlines()
        model = build_peer(replace(SMOKE, sample=1e-3), path, workers=1)
        done = train_peer(model, path, epochs=2)
    assert not path.exists() and len(lines) == len(data.train)
    tokens = data.train.tokens
    assert model.corpus_total_words == len(tokens) and done.words == 2 * len(tokens)
    seen = np.unique(tokens)
    assert len(model.wv) == len(seen)
    word = data.vocabulary.words[int(tokens[0])]
    assert model.wv.get_vecattr(word, "count") == int((tokens == tokens[0]).sum())


def test_gensims_vectors_come_in_the_order_of_our_words(data: CBOWData) -> None:
    pytest.importorskip("gensim")
    with line_file(data.train) as path:
        model = build_peer(SMOKE, path)
    words = tuple(sorted(model.wv.index_to_key))
    embeddings = peer_embeddings(model, words)
    for word in words[:5]:
        theirs = model.wv.get_vector(word, norm=True)
        assert np.allclose(embeddings.vector(word).numpy(), theirs, atol=1e-6)


def test_gensim_learns_what_the_settings_say(data: CBOWData) -> None:
    pytest.importorskip("gensim")
    config = TrainConfig(window=3, negatives=7, noise_power=0.5, sample=1e-2)
    with line_file(data.train) as path:
        model = build_peer(config, path)
    assert (model.window, model.negative, model.ns_exponent, model.sample) == (3, 7, 0.5, 1e-2)
    assert (model.alpha, model.sg, model.hs, model.cbow_mean) == (config.lr, 0, 0, 1)


def test_the_share_that_is_kept_is_what_drawing_keeps(data: CBOWData) -> None:
    corpus = load_corpus("documentation-small", 5).train
    keep = corpus.vocabulary.keep_probability(1e-3)
    tokens, _ = drop_frequent(*corpus.stretch(), keep, np.random.default_rng(0))
    kept = share_kept(corpus, 1e-3)
    n = len(corpus.tokens)
    assert len(tokens) / n == pytest.approx(kept, abs=4 * (kept * (1 - kept) / n) ** 0.5)
    assert share_kept(corpus, 0.0) == 1.0 and kept < 0.9


def test_a_shortened_text_keeps_the_vocabulary_and_whole_sentences() -> None:
    whole = load_corpus("documentation-small", 5)
    part = shortened(whole, 1000)
    assert part.vocabulary is whole.vocabulary and part.validation is whole.validation
    n = len(part.train.tokens)
    assert 1000 <= n < 2100 and part.train.starts[-1] == n == whole.train.starts[len(part.train)]
    assert np.array_equal(part.train.tokens, whole.train.tokens[:n])
    assert len(part.train.sources) == len(part.train)  # type: ignore[arg-type]


# Speed and memory


def test_speed_is_judged_by_its_goals() -> None:
    found = {
        "ours": [Trained(1000, 1.0), Trained(1000, 1.0)],
        PEER: [Trained(1200, 1.8), Trained(1000, 2.5)],  # reads a little more
        "one_thread": [Trained(1000, 1.8), Trained(1000, 1.8)],
    }
    rows = cbow_training.speed_results(found, kept=0.7)
    rows += cbow_training.readable_results(
        {"ours": [Trained(10, 0.1)], "readable": [Trained(10, 5.0)]}
    )
    assert {row.name for row in rows} == set(cbow_training.MEASURES)
    by_name = {row.name.removeprefix("cbow.training."): row for row in rows}
    speed, cores, slow = (by_name[name] for name in ("vs_gensim", "two_cores", "vs_readable"))
    assert (speed.value, speed.at_least, speed.aim) == (2.0, 1.5, 2.5)
    assert (cores.value, cores.at_least, cores.aim) == (1.8, 1.6, 1.9)
    assert (slow.value, slow.at_least, slow.aim) == (50.0, None, 50.0)
    assert by_name["words_per_second"].value == 1000
    assert by_name["effective_words_per_second"].value == pytest.approx(700)


@pytest.mark.slow
def test_the_sides_train_in_turns_on_the_same_text() -> None:
    pytest.importorskip("gensim")
    plan = Plan(SMOKE, epochs=1, rounds=2, words=8_000, sides=("ours", PEER, "readable"))
    found = cbow_training.race(plan)
    assert {side: len(turns) for side, turns in found.items()} == dict.fromkeys(plan.sides, 2)
    assert {done.words for done in found["ours"]} == {done.words for done in found["readable"]}
    assert all(done.words >= found["ours"][0].words for done in found[PEER])
    assert all(done.seconds > 0 for turns in found.values() for done in turns)


@pytest.mark.slow
def test_a_side_that_dies_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    plan = Plan(replace(SMOKE, dataset="nowhere.txt"), rounds=1, sides=("ours",))
    with pytest.raises(ValueError, match="the process that runs ours has ended"):
        cbow_training.race(plan)
    assert "nowhere.txt" in capfd.readouterr().err


def test_the_long_text_has_its_size_and_new_words_in_each_copy(tmp_path: Path) -> None:
    base, path = tmp_path / "base.txt", tmp_path / "long.txt"
    base.write_text("the cat the mat\nthe the rare the\n" * 3, encoding="utf-8")
    cbow_memory.write_long_text(path, 0.001, base, rare=4)
    assert 1000 <= path.stat().st_size < 1040
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["the cat0 the mat0", "the the rare0 the"]
    assert lines[6:8] == ["the cat1 the mat1", "the the rare1 the"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    """More text costs less memory than its own size: it is read and kept in pieces."""
    base = tmp_path / "base.txt"
    rng = np.random.default_rng(0)
    words = (" ".join(f"longword{n:04d}" for n in rng.zipf(1.3, 12) % 5000) for _ in range(20_000))
    base.write_text("\n".join(words) + "\n", encoding="utf-8")
    peaks = []
    for megabytes in (10, 80):
        path = tmp_path / f"{megabytes}.txt"
        cbow_memory.write_long_text(path, megabytes, base, rare=0)
        peaks.append(cbow_memory.peak_of(path))
    assert peaks[1].words > 7 * peaks[0].words and peaks[1].vocabulary >= peaks[0].vocabulary
    assert peaks[1].megabytes - peaks[0].megabytes < 80 - 10
    assert peaks[1].megabytes < cbow_memory.AT_MOST


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells")
def test_the_memory_of_a_child_counts_and_what_is_common_counts_once() -> None:
    program = (
        "import os; common = bytearray(b'1') * 60_000_000; ours, theirs = os.pipe()\n"
        "if os.fork(): print('ready' if os.read(ours, 1) else '', flush=True); input()\n"
        "else: own = bytearray(b'1') * 30_000_000; os.write(theirs, b'1'); os.read(0, 9)\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        found = cbow_memory.memory_with_children(process.pid)
        process.communicate(b"\n")
    assert 90e6 < found < 140e6
    assert cbow_memory.memory_with_children(process.pid) == 0


# Quality


def test_every_side_is_asked_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("gensim")
    data = load_corpus("documentation-small", 5)
    monkeypatch.setattr(cbow_quality, "load_tests", lambda: TESTS)
    for side in cbow_quality.SIDES:
        embeddings = cbow_quality.learn(side, SMOKE, data, tmp_path / side)
        assert embeddings.words == data.vocabulary.words
        assert embeddings.vectors.shape[1] == SMOKE.model.d_model
        found = cbow_quality.judge(embeddings, data)
        assert set(found) == {*cbow_quality.SCORES, *cbow_quality.COUNTS}
        assert (found["wordsim_pairs"], found["simlex_pairs"], found["simlex"]) == (3, 1, 0.0)
        assert found["analogies_asked"] == 1 and 0 <= found["purity"] <= 100


def test_margins_are_means_of_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, str]] = []

    def outcome(side: str, config: TrainConfig) -> dict[str, float]:
        told.append((side, config.seed, config.dataset))
        base = {"ours": 50.0, PEER: 48.0, "ppmi": 45.0, "random": 1.0}[side]
        scores = dict.fromkeys(cbow_quality.SCORES, base + config.seed * (side == "ours"))
        return scores | {"analogies_asked": 1680, "wordsim_pairs": 44, "simlex_pairs": 227}

    monkeypatch.setattr(cbow_quality, "outcome", outcome)
    rows = cbow_quality.measure("documentation", (0, 1, 2))
    assert len(told) == 3 * len(cbow_quality.SIDES) and {t[2] for t in told} == {"documentation"}
    by_name = {row.name.removeprefix("cbow.documentation."): row for row in rows}
    ours, margin = by_name["purity_ours"], by_name[f"analogies_vs_{PEER}"]
    assert ours.value == 51.0 and ours.spread == 1.0 and ours.at_least is None
    assert (margin.value, margin.at_least, margin.aim) == (3.0, -1.0, 0.0)
    topics = by_name["purity_vs_ppmi"]
    assert (topics.value, topics.at_least, topics.aim, topics.unit) == (6.0, 0.0, 10.0, "points")
    assert by_name["wordsim_pairs"].value == 44
    rows += cbow_quality.measure("wikitext2", (0, 1, 2))
    assert {row.name for row in rows} == set(cbow_quality.MEASURES)
    assert not any("purity" in row.name for row in rows if "wikitext2" in row.name)


def test_a_finished_training_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, data: CBOWData
) -> None:
    monkeypatch.setattr(cbow_quality, "load_tests", lambda: TESTS)
    monkeypatch.setattr(cbow_quality, "text_of", lambda dataset, min_count: data)
    first = cbow_quality.outcome("random", SMOKE)

    def forbidden(*_: object) -> None:
        raise AssertionError("a finished training was repeated")

    monkeypatch.setattr(cbow_quality, "learn", forbidden)
    assert cbow_quality.outcome("random", SMOKE) == first
    with pytest.raises(AssertionError):  # another seed is another training
        cbow_quality.outcome("random", replace(SMOKE, seed=1))


def test_one_text_can_be_measured_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: dict[str, list[Result]] = {}

    def keep(stem: str, rows: list[Result]) -> list[Result]:
        recorded[stem] = rows
        return rows

    row = Result("cbow.wikitext2.simlex_ours", 20.0, "%")
    asked: list[str] = []
    monkeypatch.setattr(seed_measures, "record", keep)
    monkeypatch.setattr(cbow_quality, "prepare", lambda: {"cores": 2})
    monkeypatch.setattr(cbow_quality, "measure", lambda text, seeds: asked.append(text) or [row])
    (found,) = cbow_quality.main(["--only", row.name])
    assert asked == ["wikitext2"] and recorded == {"cbow_quality": [found]}
    assert found.machine == {"cores": 2}


def test_names_say_what_is_measured() -> None:
    for module in (cbow_training, cbow_memory, cbow_quality):
        for name, meaning in module.MEASURES.items():
            assert re.fullmatch(r"cbow\.[a-z0-9_]+\.[a-z0-9_]+", name) and meaning
            assert module.build_parser().parse_args(["--only", name]).only == name
