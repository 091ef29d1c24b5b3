"""The museum of bugs: every line is where its patch says, every test exists, the signs are seen."""

from __future__ import annotations

import ast
import functools
import io
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import pitfalls
from benchmarks.pitfall_curves import SIGNS, Curves, Ending, ending, load_curves, sign_of
from benchmarks.pitfall_exhibits import EXHIBITS
from benchmarks.pitfall_figures import exhibit_figure, found_signs, museum_figure
from benchmarks.pitfall_guess import choices_for, plot, question, quiz
from benchmarks.pitfall_patch import Patch, buggy_code, patched_function, planted
from benchmarks.pitfall_proof import run_test
from benchmarks.pitfall_stages import STAGES, train_stage, written_loss
from gpt.verify_structure import check_causality, small_model
from instruction_tuning.losses import masked_mean
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import run_entry
from vit.vit_config import ViTConfig
from vit.vit_model import ViT

PAGE = PROJECT_ROOT / "docs" / "pitfalls.md"


def curves(train: list[float], validation: list[float], used: float = 1.0) -> Curves:
    return Curves(tuple(range(1, len(train) + 1)), tuple(train), tuple(validation), used)


SOUND = curves([4.0, 2.0, 1.0], [3.0, 2.0, 1.2])
WRONG = {
    "flat": curves([4.0, 4.0, 3.9], [4.0, 4.0, 4.0]),
    "too good": curves([4.0, 0.2, 0.1], [0.2, 0.1, 0.1]),
    "apart": curves([4.0, 0.2, 0.1], [3.0, 4.0, 5.0]),
    "worse": curves([4.0, 2.5, 2.0], [3.0, 2.5, 2.2]),
    "validation": curves([4.0, 2.0, 1.0], [3.0, 2.2, 1.5]),
    "normal": curves([4.0, 2.0, 1.02], [3.0, 2.0, 1.18]),
}


# Patches


@pytest.mark.parametrize("name", EXHIBITS)
def test_every_bug_is_one_line_of_the_source_and_goes_away_again(name: str) -> None:
    patch = EXHIBITS[name].patch
    function = patched_function(patch)
    sound = function.__code__  # type: ignore[attr-defined]
    with planted(patch):
        planted_code = function.__code__  # type: ignore[attr-defined]
    assert function.__code__ is sound  # type: ignore[attr-defined]
    assert planted_code.co_code != sound.co_code or planted_code.co_consts != sound.co_consts
    assert planted_code.co_freevars == sound.co_freevars
    source = (PROJECT_ROOT / patch.file).read_text(encoding="utf-8")
    assert patch.right in source and patch.right != patch.wrong


def test_a_bug_goes_away_after_an_error_too() -> None:
    patch = EXHIBITS["future_leak"].patch
    with pytest.raises(RuntimeError), planted(patch):
        raise RuntimeError
    assert check_causality() == 0.0


@pytest.mark.parametrize("right", ["no such line", "return x"])
def test_a_patch_that_does_not_fit_is_refused(right: str) -> None:
    patch = replace(EXHIBITS["future_leak"].patch, right=right)
    with pytest.raises(ValueError, match=f"has the line '{right}' 0 times: a patch needs exactly"):
        buggy_code(patch)


def test_a_line_that_stands_twice_is_refused() -> None:
    patch = Patch("benchmarks.pitfall_patch:planted", "yield", "pass")
    with pytest.raises(ValueError, match="has the line 'yield' 2 times: a patch needs exactly one"):
        buggy_code(patch)


def test_planted_bugs_do_what_they_say() -> None:
    """Some of them by hand, without training."""
    with planted(EXHIBITS["future_leak"].patch):
        assert check_causality() > 0.0
    with planted(EXHIBITS["plain_list"].patch):  # a constructor with `super()`
        lost = small_model("gpt2")
        assert not any("blocks" in name for name, _ in lost.named_parameters())
    assert any("blocks" in name for name, _ in small_model("gpt2").named_parameters())
    values, mask = torch.tensor([[1.0, 3.0]]), torch.tensor([[True, False]])
    with planted(EXHIBITS["mean_over_padding"].patch):
        assert masked_mean(values, mask) == 0.5
    assert masked_mean(values, mask) == 1.0


def test_softmax_twice_leaves_a_loss_of_at_least_one_and_a_half() -> None:
    """The number on the page: ln(e + 9) - 1 for ten classes, even if every answer is certain."""
    model = ViT(ViTConfig(image_size=8, patch_size=4, d_model=8, n_heads=2, n_layers=1, d_ff=8))
    torch.nn.init.normal_(model.head.bias, std=100.0)
    with planted(EXHIBITS["softmax_twice"].patch), torch.no_grad():
        logits = model(torch.zeros(1, 1, 8, 8))
    best = torch.nn.functional.cross_entropy(logits, logits.argmax(-1))
    assert best.item() == pytest.approx(1.4612, abs=1e-3)


def test_moving_positions_are_what_makes_writing_equal_reading() -> None:
    model, tokens = small_model("gpt2", torch.float32), torch.randint(50, (200,))
    model.new_cache(1)  # the window of the small model is shorter than the museum's
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.pitfall_stages.WINDOW", 16)
        right = written_loss(model, tokens)
        with planted(EXHIBITS["cache_positions"].patch):
            wrong = written_loss(model, tokens)
    with torch.no_grad():
        logits = model(tokens[:192].view(12, 16))
    read = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[1:193])
    assert right == pytest.approx(read.item(), abs=1e-4) and abs(wrong - right) > 1e-2


# Exhibits


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", EXHIBITS)
def test_the_test_that_catches_it_exists(name: str) -> None:
    file, _, function = EXHIBITS[name].test.partition("::")
    assert function in functions_of(PROJECT_ROOT / file)
    assert EXHIBITS[name].stage in STAGES and EXHIBITS[name].sign in SIGNS


def test_there_are_enough_and_no_name_is_used_twice() -> None:
    assert len(EXHIBITS) >= 14 and not set(EXHIBITS) & set(STAGES)
    assert len({item.title for item in EXHIBITS.values()}) == len(EXHIBITS)
    assert {item.sign for item in EXHIBITS.values()} == set(SIGNS)


def test_the_page_shows_every_exhibit() -> None:
    text = PAGE.read_text(encoding="utf-8")
    flowing = " ".join(text.split())
    for name, item in EXHIBITS.items():
        assert f"### {item.title}\n" in text, name
        assert f"```diff\n{item.patch.diff}\n```" in text, name
        assert " ".join(item.symptom.split()) in flowing and item.why in flowing, name
        file, _, function = item.test.partition("::")
        assert f"[`{function}`](../{file})" in text, name
        assert (
            f"docs/figures/pitfalls/{name}.png" in text or f"(figures/pitfalls/{name}.png)" in text
        )
    order = [text.index(f"## {heading}\n") for heading in SIGNS.values()]
    assert order == sorted(order)


@pytest.mark.parametrize("sign", SIGNS)
def test_a_log_is_read_by_its_last_numbers(sign: str) -> None:
    assert sign_of(ending([SOUND]), ending([WRONG[sign]])) == sign


def test_the_end_is_the_mean_over_seeds() -> None:
    two = [curves([4.0, 1.0], [3.0, 2.0], 10.0), curves([2.0, 2.0], [3.0, 4.0], 30.0)]
    assert ending(two) == Ending(start=3.0, train=1.5, learning=2.25, validation=3.0, used=20.0)


@pytest.mark.parametrize(
    ("name", "steps"),
    [("labels_not_shifted", 36), ("stale_optimizer", 36), ("mean_over_padding", 36),
     ("not_normalized", 72), ("same_minibatch", 72)],
)  # fmt: skip
def test_the_sign_is_seen_after_a_few_steps(name: str, steps: int) -> None:
    stage = EXHIBITS[name].stage
    right = short_run(stage, steps)
    with planted(EXHIBITS[name].patch):
        wrong = train_stage(STAGES[stage], seed=0, steps=steps)
    assert sign_of(ending([right]), ending([wrong])) == EXHIBITS[name].sign


@functools.cache
def short_run(stage: str, steps: int) -> Curves:
    run = train_stage(STAGES[stage], seed=0, steps=steps)
    assert len(run.steps) == 12 and run.steps[-1] == steps
    assert run.train[-1] < 0.95 * run.train[0]
    return run


# Guessing


RUNS = {name: [WRONG[item.sign]] for name, item in EXHIBITS.items()}


def answers(*lines: str):
    given = iter(lines)

    def ask(prompt: str) -> str:
        try:
            return next(given)
        except StopIteration:
            raise EOFError from None

    return ask


def test_a_plot_by_hand() -> None:
    assert plot({"a": [2.0, 1.0, 0.0]}, 3, 3) == " 2.20 |a\n      | a\n 0.00 |  a"
    tall = plot({"a": [2.0, 90.0, 0.0]}, 3, 3)  # what leaves the top is drawn in its line
    assert tall == " 2.20 |aa\n      |\n 0.00 |  a"


def test_right_wrong_and_strange_answers(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["future_leak", "leaky_split"]
    dice = random.Random(3)
    order = dice.sample(names, 2)
    first = choices_for(order[0], dice).index(order[0]) + 1
    second = choices_for(order[1], dice).index(order[1]) + 1
    lines = ["?", "seven", "0", str(first), str(second % 4 + 1)]
    score = quiz(names, lambda name: ([SOUND], RUNS[name]), 3, answers(*lines))
    assert score == (1, 2)
    shown = capsys.readouterr().out
    assert EXHIBITS[order[0]].symptom in shown and EXHIBITS[order[1]].symptom not in shown
    assert "'seven' is no answer: type 1 to 4" in shown and "'0' is no answer" in shown
    assert f"Right. {EXHIBITS[order[0]].title}:" in shown
    assert f"No. {EXHIBITS[order[1]].title}:" in shown and "1 of 2 right" in shown
    for name in names:
        assert EXHIBITS[name].patch.right in shown and EXHIBITS[name].test in shown


def test_the_question_does_not_tell_the_answer() -> None:
    for name, item in EXHIBITS.items():
        asked = question(item, [SOUND], RUNS[name])
        assert item.title not in asked and item.patch.right not in asked and name not in asked
        assert STAGES[item.stage].label in asked


def test_four_different_answers_are_offered() -> None:
    for name in EXHIBITS:
        for seed in range(5):
            offered = choices_for(name, random.Random(seed))
            assert name in offered and len(set(offered)) == 4 and set(offered) <= set(EXHIBITS)


@pytest.mark.parametrize("lines", [[], ["q"]])
def test_the_end_of_the_input_ends_the_quiz(
    lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert quiz(list(EXHIBITS), lambda name: ([SOUND], RUNS[name]), 0, answers(*lines)) == (0, 0)
    assert "0 of 0 right" in capsys.readouterr().out


# The command


def test_every_result_has_a_name_and_a_description() -> None:
    assert len(pitfalls.MEASURES) == 3 * (len(EXHIBITS) + len(STAGES))
    stages = {name: [SOUND, SOUND] for name in STAGES}
    results = pitfalls.results_of(stages | RUNS, "standard", 60.0)
    assert {result.name for result in results} == set(pitfalls.MEASURES)
    found = {result.name: result for result in results}
    assert found["pitfalls.gpt.validation"].value == 1.2
    assert found["pitfalls.gpt.validation"].seeds == (0, 1)
    assert found["pitfalls.leaky_split.used"].unit == "%"
    assert found["pitfalls.leaky_split.used"].better == "higher"


def test_the_smoke_preset_trains_draws_and_asks_and_records_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pitfalls, "record", None)
    command = ["--preset", "smoke", "--only", "pitfalls.mean_over_padding.train"]
    assert pitfalls.main(command) == []
    folder = pitfalls.museum_folder("smoke")
    assert {path.name for path in folder.iterdir()} == {
        "curves.json", "museum.png", "mean_over_padding.png",
    }  # fmt: skip
    assert "mean_over_padding" in capsys.readouterr().out
    assert pitfalls.main([*command, "--figure"]) == []
    monkeypatch.setattr("sys.stdin", io.StringIO("?\n2\n"))
    monkeypatch.setattr(pitfalls, "train_all", None)  # nothing is trained twice
    assert pitfalls.main([*command, "--guess"]) == []
    shown = capsys.readouterr().out
    assert "Which bug is it?" in shown and "of 1 right" in shown
    (folder / "curves.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="does not hold curves .* Delete it and run"):
        load_curves(folder)


def test_figures_state_what_the_curves_show() -> None:
    stages = {name: [SOUND] for name in STAGES}
    signs = found_signs(stages, RUNS)
    assert signs == {name: item.sign for name, item in EXHIBITS.items()}
    figure = museum_figure(stages, RUNS)
    hidden = sum(sign in ("normal", "too good") for sign in signs.values())
    assert figure._suptitle.get_text().startswith(f"{hidden} of {len(EXHIBITS)} bugs leave")
    title = exhibit_figure("leaky_split", [SOUND], [WRONG["too good"]])._suptitle.get_text()
    assert "validation loss 0.10 instead of 1.20" in " ".join(title.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nonsense"], "--only 'nonsense': no such bug. Use one of future_leak, "),
        (["--preset", "smoke", "--figure"], "has no curves to draw. Run it without --figure"),
        (["--figure", "--guess"], "not allowed with argument --figure"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["pitfalls", *arguments])
    with pytest.raises(SystemExit) as left:
        run_entry(pitfalls.main)
    said = capsys.readouterr().err
    assert left.value.code == 2 and message in said and said.count("\n") == 1


def test_a_test_that_does_not_exist_proves_nothing() -> None:
    with pytest.raises(ValueError, match="did not run"):
        run_test("tests/test_pitfalls.py::test_nobody_wrote", None)


@pytest.mark.slow
def test_every_bug_is_caught_by_its_test() -> None:
    """In a process of its own: pytest inside pytest would share its plugins."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pitfalls", "--prove"],
        cwd=PROJECT_ROOT, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert f"{len(EXHIBITS)} of {len(EXHIBITS)} bugs are caught" in done.stdout
