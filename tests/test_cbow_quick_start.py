"""The demo: it tells the whole story in seconds with the smoke preset, from the numbers it saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cbow.cbow_config import PRESETS
from cbow.cbow_data import load_corpus
from cbow.embeddings import Embeddings, toy_embeddings
from cbow.purity import chance, homes_of, purity
from cbow.quick_start import QuickNumbers, in_words, main, probes
from cbow.saved_vectors import load_run


def test_the_story_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    result = main(["--preset", "smoke", "--device", "cpu", "--seed", "1"])
    output = capsys.readouterr().out
    assert result.family == "cbow" and 0 <= result.value <= 100
    assert f"{result.value:.1f}%" in result.headline
    for word in (
        "1. ",
        "2. ",
        "3. ",
        "4. ",
        "5. ",
        "6. ",
        "7. ",
        "context",
        "PPMI",
        "random",
        "near now",
    ):
        assert word in output, word
    assert "parameters; training on" in output
    assert "{" not in output and "Traceback" not in output
    assert len(result.files) == len(set(result.files)) and len(result.files) >= 6
    for file in result.files:
        assert Path(file).stat().st_size > 500, file
    # The number is that of the saved vectors.
    config = PRESETS["smoke"]
    data = load_corpus(config.dataset, config.min_count)
    homes = homes_of(data)
    saved = load_run("quick_start_smoke")
    assert saved.words == data.vocabulary.words
    assert 100 * purity(saved, homes) == pytest.approx(result.value)
    assert f"{chance(homes):.1%}" in result.headline


def test_the_hidden_word_stands_between_its_context(capsys: pytest.CaptureFixture[str]) -> None:
    from cbow.quick_start import show_task
    from tutorial_kit.texts import Texts

    config = PRESETS["smoke"]
    data = load_corpus(config.dataset, config.min_count)
    for seed in range(5):
        show_task(data, config, seed, Texts(Path(load_corpus.__code__.co_filename).parent))
        lines = capsys.readouterr().out.splitlines()
        before, _, rest = lines[1].partition("[")
        target, _, after = rest.partition("]")
        context = lines[2].split(": ")[1].split(" (")[0].split()
        assert lines[3].endswith(f": {target}")
        behind, ahead = before.split()[::-1], after.split()
        cuts = range(min(config.window, len(behind), len(context)) + 1)
        assert context and any(
            context == [*behind[:left][::-1], *ahead[: len(context) - left]]
            and len(context) - left <= config.window
            for left in cuts
        )
        noise = lines[4].split(": ")[1].split(", ")
        assert len(noise) == config.negatives and set(noise) <= set(data.vocabulary.words)


def test_neighbors_are_a_line() -> None:
    toy = toy_embeddings()
    parts = in_words(toy, "king").split(", ")
    assert len(parts) == 6 and parts[0] == f"man {toy.similarity('king', 'man'):.2f}"
    assert probes(toy) == ["king"]
    known = Embeddings(["axes", "matrix"], toy.vectors[:2])
    assert probes(known) == ["matrix", "axes"]


def test_every_text_is_there_and_used() -> None:
    package = Path(load_corpus.__code__.co_filename).parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in package.glob("*.py"))
    texts = json.loads((package / "texts" / "en.json").read_text("utf-8"))
    for key in texts:
        if not key.startswith(("menu.", "exercise.")):  # the latter: test_exercises.py
            assert f'"{key}"' in source or f'"{key.removeprefix("quick.")}"' in source, key


def test_the_numbers_have_the_names_that_the_benchmark_reads() -> None:
    wanted = {"purity", "counting_purity", "chance", "validation_loss", "words_per_s", "seconds",
              "counting_seconds", "files"}  # fmt: skip
    assert wanted == set(QuickNumbers.__dataclass_fields__)
