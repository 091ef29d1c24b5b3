"""Instructions and preferences from JSON files: their forms, and what may be wrong with them."""

import json
import os

import pytest

from instruction_tuning import instruction_json
from instruction_tuning.instruction_data import build_tokenizer, demonstrations_of, sft_rows
from instruction_tuning.instruction_json import (
    Comparison,
    Instruction,
    read_instructions,
    read_preferences,
)
from tutorial_kit.datasets import DATASETS, cache_folder

HAVE_DATA = bool(os.environ.get("LLM_TUTORIAL_MIRROR")) or all(
    (cache_folder() / "datasets" / name / "records").is_file()
    for name in instruction_json.DATA_SETS
)
needs_data = pytest.mark.skipif(not HAVE_DATA, reason="the data sets are not in the cache")

ENTRY = {"instruction": "Name a color.", "input": "", "output": "Red."}
PAIR = {"prompt": "Name a color.", "chosen": "Red.", "rejected": "Go away."}


@pytest.fixture
def write(tmp_path):
    """Writes a file and returns its path."""

    def to_file(content: object, name: str = "data.json") -> str:
        path = tmp_path / name
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return to_file


def test_instructions_with_and_without_input(write):
    entries = [ENTRY, {**ENTRY, "input": "warm"}, {"instruction": "Hi", "output": "Hé"}]
    assert read_instructions(write(entries)) == [
        Instruction("Name a color.", "Red."),
        Instruction("Name a color.\nwarm", "Red."),
        Instruction("Hi", "Hé"),
    ]


def test_preferences_in_both_forms(write):
    other = {**ENTRY, "input": "warm", "chosen": "Red.", "rejected": "Blue."}
    assert read_preferences(write([PAIR, other])) == [
        Comparison("Name a color.", "Red.", "Go away."),
        Comparison("Name a color.\nwarm", "Red.", "Blue."),
    ]


def test_one_entry_a_line(write):
    text = f"{json.dumps(ENTRY)}\n\n{json.dumps({**ENTRY, 'output': 'Blue.'})}\n"
    assert [e.reply for e in read_instructions(write(text, "data.jsonl"))] == ["Red.", "Blue."]


def test_a_byte_order_mark_is_no_error(write):
    assert read_instructions(write("\ufeff" + json.dumps([ENTRY]))) == [
        Instruction("Name a color.", "Red.")
    ]


def test_equal_pairs_are_dropped_with_a_note(write, capsys):
    equal = {**PAIR, "rejected": "Red."}
    assert len(read_preferences(write([PAIR, equal, PAIR, equal]))) == 2
    assert capsys.readouterr().out == (
        "note: data.json: 2 of 4 pairs are dropped: chosen equals rejected, which prefers nothing\n"
    )
    read_preferences(write([PAIR]))
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="has 2 pairs, and in each chosen equals rejected"):
        read_preferences(write([equal, equal]))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty: there is nothing to learn from"),
        (" \n", "is empty"),
        ("[]", "holds an empty list, where a list of entries is needed"),
        (ENTRY, "holds an object, where a list"),
        ('"text"', "holds a text"),
        ("3", "holds a number"),
        ("null", "holds null"),
        ("true", "holds a truth value"),
        ('[\n {"instruction": "a",\n  "output": }\n]', "line 3, column 13: Expecting value"),
        ("[\n {},\n", "line 3, column 1: "),
        ([ENTRY, 5], "entry 2 of .* is a number, which has no fields"),
        ([ENTRY, [1]], "entry 2 of .* is a list"),
        ([{}], "entry 1 of .* has no field 'instruction', only none"),
        ([ENTRY, {"instruction": "a", "input": "b"}],
         "entry 2 of .* has no field 'output', only instruction, input"),
        ([{**ENTRY, "output": None}], "entry 1 of .*: 'output' is null, where text is needed"),
        ([{**ENTRY, "output": "  "}], "'output' is an empty text"),
        ([{**ENTRY, "input": ["a"]}], "'input' is a list"),
        ([{**ENTRY, "instruction": 7}], "'instruction' is a number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(write, content, words):
    with pytest.raises(ValueError, match=words) as error:
        read_instructions(write(content))
    assert "data.json" in str(error.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"prompt": "a", "rejected": "b"}, "has no field 'chosen', only prompt, rejected"),
        ({"prompt": "a", "chosen": "b"}, "has no field 'rejected'"),
        ({"chosen": "a", "rejected": "b"}, "has no field 'prompt'"),
        ({"instruction": "a", "output": "b"}, "has no field 'chosen'.*forms are instruction"),
    ],
)
def test_what_a_pair_lacks_is_named(write, entry, words):
    with pytest.raises(ValueError, match=words):
        read_preferences(write([PAIR, entry]))


def test_the_line_of_a_malformed_entry_is_named(write):
    text = f"{json.dumps(ENTRY)}\n\n{{'instruction': 1}}\n"
    with pytest.raises(ValueError, match=r"data.jsonl, line 3, column 2: .* Mend that line"):
        read_instructions(write(text, "data.jsonl"))


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a file nor one of instructions, pref"):
        read_instructions(tmp_path / "none.json")
    path = tmp_path / "latin.json"
    path.write_bytes('[{"instruction": "é"}]'.encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8 .byte 18.*iconv"):
        read_instructions(path)


def test_a_file_for_sft(write):
    path = write([{**ENTRY, "output": str(number)} for number in range(40)])
    shown = {split: demonstrations_of(path, split, 100) for split in ("train", "validation")}
    assert [each.reply for each in shown["train"]] == [str(n) for n in range(34)]
    assert [each.reply for each in shown["validation"]] == ["38", "39"]
    assert len(demonstrations_of(path, "train", 5)) == 5
    assert len(sft_rows(shown["train"], build_tokenizer(), 96)) == 34


def test_the_registry_knows_both_data_sets():
    assert set(instruction_json.DATA_SETS) <= set(DATASETS)


@needs_data
def test_the_registrys_data_sets(capsys):
    instructions = read_instructions("instructions")
    assert len(instructions) == 1100
    assert instructions[0].prompt.endswith("given.\nfreind --> friend")
    assert instructions[2] == Instruction(
        "Convert 45 kilometers to meters.", "45 kilometers is 45000 meters."
    )
    capsys.readouterr()
    pairs = read_preferences("preferences")
    assert len(pairs) == 1094
    assert "6 of 1,100 pairs are dropped" in capsys.readouterr().out
    assert pairs[1].rejected == "He goes to the stupid park every single day."
    rows = sft_rows(instructions, build_tokenizer(), 96, drop_long=True)  # <unk> where not ASCII
    assert 500 < len(rows) < 1100
