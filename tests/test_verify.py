"""PASS and FAIL lines, their exit code, differences that are not a number."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Sequence

import pytest
import torch

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.verify import Origin, largest, run_checks, shape_ledger, source_line

LEDGERS: dict[
    str, tuple[str, list[tuple[str, ...]]]
] = {  # module -> (its chapter, arguments of each trace)
    "cbow.verify_embedding_updates": ("cbow/README_cbow_tutorial.md", [()]),
    "transformer.verify_structure": (
        "transformer/README_transformer_tutorial.md",
        [("post",), ("pre",)],
    ),
    "bert.verify_structure": ("bert/README_bert_tutorial.md", [("post",), ("pre",)]),
    "vit.verify_vit_structure": ("vit/README_vit_tutorial.md", [("cls",), ("mean",)]),
    "gpt.verify_structure": ("gpt/README_gpt_tutorial.md", [("gpt2",), ("modern",)]),
    "instruction_tuning.verify_losses": ("instruction_tuning/README_instruction_tuning.md", [()]),
    "multimodal.verify_multimodal": ("docs/multimodal.md", [()]),
    "advanced_topics.verify_advanced_topics": ("docs/advanced_topics.md", [()]),
}


def close() -> float:
    """One is one."""
    return 1e-7


def far() -> float:
    """One is two."""
    return 1.0


def broken() -> float:
    """One is nothing."""
    return math.nan


def decorated(x: float) -> float:
    """Says more than it does: y = x * 3."""
    y = x * 2  # the line to find
    return y


def test_every_check_has_a_line_and_one_failure_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_checks([(close, 1e-6), (close, 1e-7)]) == 0
    assert run_checks([(close, 1e-6), (far, 0.5), (broken, 1.0), (close, 0.0)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in lines] == ["PASS", "PASS", "PASS", "FAIL", "FAIL", "FAIL"]
    assert lines[3] == "FAIL  One is two.  [1.0e+00 <= 0.5]"


def test_the_largest_difference_is_never_not_a_number() -> None:
    assert largest(torch.tensor([[-3.0, 2.0]])) == 3.0
    for strange in (math.nan, math.inf, -math.inf):
        assert largest(torch.tensor([0.0, strange])) > 1e30


def test_the_ledger_finds_the_meaning_of_a_numbered_layer() -> None:
    named = {"a.b.11": torch.zeros(2), "logits": torch.zeros(1, 3)}
    ledger = shape_ledger(named, {"a.b": "stream", "logits": "scores"}).splitlines()
    assert [line.split() for line in ledger[2:]] == [
        ["a.b.11", "(2,)", "stream"],
        ["logits", "(1,", "3)", "scores"],
    ]


def test_the_ledger_names_equation_and_line_of_each_tensor() -> None:
    named = {"doubled.0": torch.zeros(2), "free": torch.zeros(1)}
    meanings = {"doubled": "twice", "free": "no equation"}
    origins = {"doubled": Origin(decorated, "7", "x * 2"), "free": Origin(decorated)}
    lines = shape_ledger(named, meanings, origins).splitlines()
    assert lines[0].split() == ["tensor", "shape", "equation", "source", "meaning"]
    first = decorated.__code__.co_firstlineno
    assert lines[2].split() == [
        "doubled.0", "(2,)", "(7)", f"tests/test_verify.py:{first + 2}", "twice",
    ]  # fmt: skip
    assert lines[3].split()[:3] == ["free", "(1,)", f"tests/test_verify.py:{first}"]


def test_a_decorated_function_is_found_where_it_is_defined() -> None:
    inside = torch.no_grad()(decorated)
    assert source_line(Origin(inside, at="x * 2")) == source_line(Origin(decorated, at="x * 2"))


def test_a_line_that_is_gone_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no line of decorated has the text 'x \* 4'"):
        source_line(Origin(decorated, at="x * 4"))


@pytest.mark.parametrize("module", LEDGERS)
def test_every_family_tells_where_each_tensor_comes_from(module: str) -> None:
    """Names agree, lines hold code, and the chapter has the equations."""
    verify = importlib.import_module(module)
    chapter, traces = LEDGERS[module]
    assert verify.ORIGINS.keys() == verify.MEANINGS.keys()
    text = (PROJECT_ROOT / chapter).read_text(encoding="utf-8")
    equations = set(re.findall(r"\\tag\{(\w+)\}", text))
    assert {origin.equation for origin in verify.ORIGINS.values()} <= equations | {""}
    for arguments in traces:
        check_rows(verify.trace(*arguments).splitlines()[2:])


def check_rows(rows: Sequence[str]) -> None:
    assert rows
    for row in rows:
        found = re.search(r"(\S+\.py):(\d+)  ", row)
        assert found, row
        line = (PROJECT_ROOT / found[1]).read_text(encoding="utf-8").splitlines()[int(found[2]) - 1]
        assert line.strip() and not line.strip().startswith(("#", '"""')), row
