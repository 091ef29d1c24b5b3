"""Asking word vectors: what the form of a query means, and what is said of bad ones."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from cbow import cbow_example as command
from cbow import cbow_trainer
from cbow.cbow_example import answer, parse_sum
from cbow.embeddings import toy_embeddings
from cbow.vector_files import save_vectors
from tutorial_kit.console import run_entry

TOY = toy_embeddings()
QUERIES = ["king", "king - man + woman", "king queen", "king, queen, prince, apple"]


def run(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        run_entry(lambda: command.main(argv))
    return (int(left.value.code or 0), *capsys.readouterr())


def pipe(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.fixture
def vectors(tmp_path: Path) -> str:
    path = tmp_path / "toy.bin"
    save_vectors(path, TOY.words, TOY.vectors.numpy(), binary=True)
    return str(path)


def test_the_form_of_a_query_says_what_is_asked() -> None:
    first, second = TOY.most_similar("king", 2)
    assert answer(TOY, "king", 2) == (
        f"king: {first.word} {first.similarity:.2f}, {second.word} {second.similarity:.2f}"
    )
    assert answer(TOY, " king - man + woman ", 1).startswith("king - man + woman: queen ")
    assert answer(TOY, "king queen") == f"king queen: cosine {TOY.similarity('king', 'queen'):.2f}"
    assert answer(TOY, "king queen apple prince") == "king queen apple prince: apple"
    assert answer(TOY, "king, queen, apple") == "king, queen, apple: apple"


def test_sums_may_have_any_length_and_begin_with_a_sign() -> None:
    assert parse_sum(["-", "man", "+", "king"]) == (["king"], ["man"])
    assert parse_sum(["a", "+", "b", "+", "c", "-", "d"]) == (["a", "b", "c"], ["d"])
    direct = TOY.nearest_to_sum(["king", "girl"], ["woman"], 3)
    found = answer(TOY, "-woman +king +girl", 3).partition(": ")[2]
    assert [part.split()[0] for part in found.split(", ")] == [near.word for near in direct]


def test_products_of_cosines_can_be_asked_for() -> None:
    query = "king - man + woman"
    add, mul = (answer(TOY, query, 3, method) for method in ("add", "mul"))  # type: ignore[arg-type]
    word, score = TOY.analogy("man", "king", "woman", 1, "mul")[0]
    assert mul.startswith(f"{query}: {word} {score:.2f}") and add != mul


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("", "no word"),
        (" , ", "no word"),
        ("king -", "is no sum"),
        ("king + - man", "is no sum"),
        ("king man + woman", "is no sum"),
        ("- man", "no word is added"),
        ("quen", "Close spellings: queen"),
        ("king - man + womann", "Close spellings: woman"),
    ],
)
def test_queries_of_no_known_form_are_explained(query: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        answer(TOY, query)


def test_the_smoke_preset_answers_one_query_of_each_form(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, error = run(["--preset", "smoke"], capsys)
    assert code == 0 and error == ""
    assert [line.split(": ")[0] for line in out.splitlines()] == list(command.EXAMPLES)


def test_vectors_come_from_a_file(vectors: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = run(["--vectors", vectors, "--top", "3", *QUERIES], capsys)
    assert code == 0 and error == ""
    assert out.splitlines() == [answer(TOY, query, 3) for query in QUERIES]
    _, out, _ = run(["--vectors", vectors, "--method", "mul", QUERIES[1]], capsys)
    assert out.strip() == answer(TOY, QUERIES[1], 5, "mul")


def test_a_run_is_asked_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    cbow_trainer.main(["--preset", "smoke", "--name", "mine", "--max-tokens", "20000"])
    capsys.readouterr()
    code, out, error = run(["--run", "mine", "--top", "3", "the"], capsys)
    assert code == 0 and error == "" and out.startswith("the: ") and out.count(", ") == 2
    code, _, error = run(["--run", "mine", "arrray"], capsys)
    assert code == 2 and "Close spellings: array" in error


def test_lines_are_piped_in_and_bad_ones_named(
    vectors: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(b"king\r\n\nqueeen\nk\xf6nig\nking queen apple\n", monkeypatch)
    code, out, error = run(["--vectors", vectors], capsys)
    assert code == 2
    assert out.splitlines() == [answer(TOY, "king"), "king queen apple: apple"]
    unknown, foreign = error.splitlines()
    assert unknown.startswith("line 3: ") and "Close spellings: queen" in unknown
    assert foreign.startswith("line 4: ") and "0xF6 is not UTF-8" in foreign
    pipe(b"king\nqueen\n", monkeypatch)
    assert run(["--vectors", vectors], capsys)[0] == 0


def test_an_empty_input_is_an_error(
    vectors: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(b"\n \n", monkeypatch)
    code, out, error = run(["--vectors", vectors], capsys)
    assert code == 2 and out == "" and "no query" in error and error.count("\n") == 1


def test_a_typed_mistake_does_not_end_the_conversation(
    vectors: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["queeen", "king queen apple"])

    def type_line(prompt: str = "") -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    stdin = io.StringIO()
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr("builtins.input", type_line)
    code, out, error = run(["--vectors", vectors], capsys)
    assert code == 0 and "king queen apple: apple" in out and error.startswith("line 1: ")


def test_one_bad_query_among_good_ones_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = run(["--preset", "smoke", "king", "kong", "pear"], capsys)
    assert code == 2 and [line.split(":")[0] for line in out.splitlines()] == ["king", "pear"]
    assert error.startswith("error: the word 'kong'") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["king"], "neither --run nor --vectors was given: there are no word vectors"),
        (["--run", "nowhere", "king"], "nowhere"),
        (["--vectors", "nowhere.bin", "king"], "nowhere.bin"),
        (["--run", "a", "--vectors", "b"], "not allowed with"),
        (["--preset", "smoke", "--top", "0"], "--top 0 asks for no word"),
        (["--preset", "smoke", "--method", "sub"], "invalid choice: 'sub'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = run(argv, capsys)
    assert code == 2 and message in error and error.count("\n") == 1 and out == ""


def test_a_foreign_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "foreign.bin"
    path.write_bytes(b"\x89PNG\r\n" + bytes(100))
    code, _, error = run(["--vectors", str(path), "king"], capsys)
    assert code == 2 and "foreign.bin" in error and error.count("\n") == 1
