"""The documents' checks: a sound project passes, one error of each kind is found in its line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import docs_commands, docs_run, docs_sync
from tools.docs_checks import CHAPTER_PARTS
from tools.docs_page import Page, slugify
from tutorial_kit import PROJECT_ROOT
from tutorial_kit.results import Result, record

MODULE = '''"""A module."""

import argparse

LIMIT = 3


class Adder:
    """Adds."""

    def forward(self, a: int, b: int) -> int:
        """Adds two numbers.

        >>> Adder().forward(1, 2)
        """
        # the sum
        return a + b


def draw() -> None:
    """Draws."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", choices=["smoke", "quick"])
    parser.add_argument("--steps", type=int)
    return parser
'''

PAGE = """# Page

Read [the code](adder/adder.py#L8), [below](#how-fast-is-it) and
[a chapter](adder/README_adder.md#1-intuition).

<!-- figure: adder/adder.py draw -->
![A finding](adder/curve.png "title")

<!-- code: adder/adder.py Adder.forward no-docstring -->
<!-- /code -->

The limit is in <!-- source: adder/adder.py LIMIT --><!-- /source -->, the speed is
<!-- note -->**<!-- value: adder.speed.ratio .1f --><!-- /value -->** times as fast.

```python run
from adder.adder import Adder

print(Adder().forward(1, 2))
print("0.5000001")
```

```text output
```

```bash
# from the project's root
$ pip install -r requirements.txt && python adder/adder.py --preset smoke \\
    --steps 5   # quick
THREADS=2 this is what it prints
$ OMP_NUM_THREADS=1 python -m adder.adder --steps 3 > log.txt
$ torchrun --nproc_per_node 2 adder/adder.py --steps=3
$ python adder/adder.py --preset huge  # wrong on purpose
```

`python adder/adder.py --help` helps; `<!-- value: nothing -->`, `[x](missing.md)` are only shown.

## How fast is it?

### Results

| what | measured |
|---|---|
| 2 numbers | x <!-- value: adder.speed.ratio@measured --><!-- /value -->, `gpt2` |

<!-- table: adder.speed.* -->
<!-- /table -->
"""


def chapter() -> str:
    """Returns a chapter with all its parts."""
    return "# Adder\n" + "".join(f"\n## {i}. {p}\n\nText.\n" for i, p in enumerate(CHAPTER_PARTS))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a small project whose page is filled in and sound."""
    tmp_path = tmp_path_factory.mktemp("original")
    (tmp_path / "adder").mkdir()
    for name, text in {
        "adder/__init__.py": "",
        "adder/adder.py": MODULE,
        "adder/README_adder.md": chapter(),
        "requirements.txt": "",
        "README.md": PAGE,
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "adder" / "curve.png").write_bytes(b"")
    result = Result(
        "adder.speed.ratio",
        1.23,
        "x",
        at_least=1.0,
        spread=0.04,
        machine={"cores": 2},
        commit="abc",
        command="python adder/adder.py --preset quick",
        note="2 | 3 numbers",
    )
    record("adder", result, tmp_path / "benchmarks" / "results")
    report = docs_sync.synchronize(tmp_path, write=True)
    assert report.problems == [] and report.changed == ["README.md"]
    return tmp_path


@pytest.fixture
def project(original: Path, tmp_path: Path) -> Path:
    """Returns a copy of the sound project, to be damaged."""
    return shutil.copytree(original, tmp_path / "project")


def change(path: Path, old: str, new: str) -> int:
    """Replaces one place in a file and returns the number of the line it stands in."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return text[: text.index(old)].count("\n") + 1


def found(project: Path, **options: bool) -> list[str]:
    """Returns the problems that --check finds."""
    report = docs_sync.synchronize(project, write=False, **options)
    return [str(problem) for problem in report.problems]


def test_a_page_is_filled_in(project: Path) -> None:
    text = (project / "README.md").read_text(encoding="utf-8")
    quoted = (
        "```python\ndef forward(self, a: int, b: int) -> int:\n    # the sum\n    return a + b\n```"
    )
    assert quoted in text
    assert "[`LIMIT`](adder/adder.py#L5)" in text
    assert "**<!-- value: adder.speed.ratio .1f -->1.2<!-- /value -->**" in text
    assert "1.23x ± 0.04<!-- /value -->" in text
    assert "```text output\n3\n0.5000001\n```" in text
    assert "| what | measured | at least | command |\n| --- | --- | --- | --- |\n" in text
    assert r"| 2 \| 3 numbers | 1.23x ± 0.04 | ≥ 1x | `python adder/adder.py" in text


def test_a_second_run_changes_nothing(project: Path) -> None:
    before = (project / "README.md").read_bytes()
    report = docs_sync.synchronize(project, write=True)
    assert report.changed == [] and report.problems == []
    assert (project / "README.md").read_bytes() == before
    assert found(project) == []


def test_what_all_rows_of_a_table_share_stands_below_it(project: Path) -> None:
    folder = project / "benchmarks" / "results"
    for name, value in (("one", 2.0), ("two", 2.5)):
        command = "python adder/adder.py --steps 3"
        fields = {"machine": {"cores": 2}, "commit": "abc", "command": command}
        result = Result(f"ablation.heads.{name}", value, "nats", seeds=(0, 1, 2), **fields)
        record("ablation", result, folder)
    page = project / "page.md"
    page.write_text("# T\n\n<!-- table: ablation.* -->\n<!-- /table -->\n", encoding="utf-8")
    assert docs_sync.main(["--root", str(project), "page.md"]) == 0
    assert page.read_text(encoding="utf-8") == (
        "# T\n\n<!-- table: ablation.* -->\n\n"
        "| what | measured |\n| --- | --- |\n"
        "| `ablation.heads.one` | 2.000 nats |\n| `ablation.heads.two` | 2.500 nats |\n\n"
        "Mean ± spread over 3 seeds. Measured by `python adder/adder.py --steps 3`.\n\n"
        "<!-- /table -->\n"
    )


def test_a_grid_has_a_row_for_each_variant_and_a_column_for_each_measure(project: Path) -> None:
    folder = project / "benchmarks" / "results"
    notes = {"1000.a": "1000 labels: read", "50.a": "50 labels: read", "50.b": "50 labels: counted"}
    for value, (name, note) in enumerate(notes.items(), 1):
        fields = {"machine": {"cores": 2}, "commit": "abc", "command": "make", "note": note}
        record("curve", Result(f"curve.{name}", float(value), "%", **fields), folder)
    page = project / "page.md"
    page.write_text("# T\n\n<!-- grid: curve.* -->\n<!-- /grid -->\n", encoding="utf-8")
    assert docs_sync.main(["--root", str(project), "page.md"]) == 0
    assert (
        "|  | read | counted |\n| --- | --- | --- |\n"
        "| 50 labels | 2.00 % | 3.00 % |\n| 1000 labels | 1.00 % |  |\n\n"
        "Measured by `make`."
    ) in page.read_text(encoding="utf-8")
    record("curve", Result("curve.c", 1.0, "%", **{**fields, "note": "no halves"}), folder)
    problems = docs_sync.synchronize(project, write=False).problems
    assert any("a grid needs 'ROW: COLUMN'" in problem.text for problem in problems)


PLANTED = {
    "wrong number": ("-->1.2<", "-->1.9<", "is shown as '1.9', measured is '1.2'"),
    "wrong row of a table": ("| ≥ 1x |", "| ≥ 2x |", "table of adder.speed.* is out of date"),
    "stale quote": ("    return a + b\n", "    return b + a\n", "quote of adder/adder.py Adder"),
    "stale output": ("\n3\n0.5", "\n4\n0.5", "shows '4', the block prints '3'"),
    "stale line link": ("adder.py#L5", "adder.py#L6", "link to adder/adder.py LIMIT"),
    "missing symbol": ("Adder.forward", "Adder.backward", "has no 'Adder.backward'"),
    "missing file": ("code: adder/adder.py", "code: adder/gone.py", "gone.py does not exist"),
    "unknown option": ("no-docstring", "no-doc", "'no-doc' is no option"),
    "unknown result": ("ratio .1f", "ratios .1f", "'adder.speed.ratios' is not in benchmarks"),
    "unknown field": ("ratio@measured", "ratio@minutes", "has no 'minutes'"),
    "bad format": ("ratio .1f", "ratio .1q", "'.1q' does not fit"),
    "unknown marker": ("<!-- value: adder.speed.ratio .", "<!-- vaule: a .", "'vaule' is unknown"),
    "marker never closed": ("<!-- /table -->", "", "is never closed"),
    "marker closed twice": ("The limit", "The <!-- /value --> limit", "has no partner"),
    "marker begins a line": ("<!-- note -->**", "", "begins the line"),
    "broken link": ("adder/adder.py#L8", "adder/gone.py", "leads nowhere"),
    "link beyond the file": ("adder.py#L8", "adder.py#L800", "the file has"),
    "broken anchor": ("(#how-fast-is-it)", "(#how-slow)", "no heading with the anchor #how-slow"),
    "broken anchor elsewhere": ("md#1-intuition", "md#intuitive", "the anchor #intuitive"),
    "absolute link": ("(adder/README", "(/adder/README", "is absolute"),
    "link out of the project": ("(adder/README", "(../adder/README", "leads nowhere: ../adder"),
    "missing figure": ("curve.png", "gone.png", "'adder/gone.png' leads nowhere"),
    "missing html figure": ("![A finding](", '<img src="adder/gone.png">![', "gone.png"),
    "figure of nobody": ("<!-- figure: adder/adder.py draw -->\n", "", "does not say who draws it"),
    "figure's function is gone": ("draw -->", "paint -->", "adder/adder.py has no 'paint'"),
    "figure marker alone": ("![A finding]", "A [finding]", "no picture follows"),
    "unknown flag": ("--steps=3", "--step 3", "unrecognized arguments: --step 3"),
    "unknown flag inline": ("--help`", "--halp`", "unrecognized arguments: --halp"),
    "wrong value": ("--preset smoke", "--preset smok", "invalid choice: 'smok'"),
    "unknown script": ("python -m adder.adder", "python -m adder.gone", "no adder/gone.py"),
    "unknown module": ("python -m adder.adder", "python -m addition", "there is no addition.py"),
    "no requirements": ("-r requirements.txt", "-r needs.txt", "there is no needs.txt"),
    "placeholder": ("--nproc_per_node 2", "--nproc_per_node <number>", "nobody can type <number>"),
    "unbalanced quote": ("--nproc_per_node 2", "--nproc_per_node '2", "a shell cannot read it"),
    "typed number": ("`gpt2` |", "gpt2 |", "typed by hand"),
    "block fails": ("print(Adder()", "print(Addre()", "NameError: name 'Addre'"),
    "block leaves": ('print("0.5000001")', "raise SystemExit(3)", "SystemExit: 3"),
    "block has no syntax": ("from adder.adder import", "from adder.adder impart", "SyntaxError"),
    "output of nothing": ("```python run", "```python", "follows no block"),
    "block swallowed": ("times as fast.\n", "times as fast.\n\n```text\n", "never closed"),
    "block never closed": ("## How fast", "```text\n## How fast", "never closed"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_one_planted_error_is_found_in_its_line(project: Path, kind: str) -> None:
    old, new, text = PLANTED[kind]
    line = change(project / "README.md", old, new)
    problems = found(project, run="block" in kind or "output" in kind)
    where = [int(problem.split(":")[1]) for problem in problems if text in problem]
    assert where, problems
    # A marker's problem is told at the marker, a block's at the line that fails or opens it.
    assert abs(line - where[0]) <= 7, problems
    assert all(problem.startswith("README.md:") for problem in problems)


def test_exact_lines(project: Path) -> None:
    path = project / "README.md"
    expected = {
        change(path, "adder/adder.py#L8", "adder/gone.py"),
        change(path, "--steps=3", "--stepz=3"),
        change(path, "print(Adder()", "print(Addre()"),
        change(path, "-->1.2<", "-->1.9<"),
    }
    assert {int(problem.split(":")[1]) for problem in found(project)} == expected


@pytest.mark.parametrize("part", CHAPTER_PARTS)
def test_a_missing_part_of_a_chapter_is_found(project: Path, part: str) -> None:
    path = project / "adder" / "README_adder.md"
    change(path, f". {part}\n", ". Something else\n")
    problems = found(project, run=False)
    if part == "Intuition":  # the page links to it
        problems = [problem for problem in problems if not problem.startswith("README.md")]
    (problem,) = problems
    assert problem.startswith("adder/README_adder.md:") and f"no part {part!r}" in problem


def test_parts_in_the_wrong_order_or_empty_are_found(project: Path) -> None:
    path = project / "adder" / "README_adder.md"
    change(path, ". Intuition\n", ". Wait\n")
    line = change(path, ". Summary\n", ". Intuition\n")
    problems = found(project, run=False)
    assert any(f"README_adder.md:{line}: part" in p or "no part" in p for p in problems)
    path.write_text(chapter().replace("Pitfalls\n\nText.\n", "Pitfalls\n"), encoding="utf-8")
    (problem,) = found(project, run=False)
    assert "part 'Pitfalls' is empty" in problem


def test_a_short_chapter_is_a_warning_not_an_error(project: Path) -> None:
    report = docs_sync.synchronize(project, write=False, run=False)
    assert report.problems == []
    assert len(report.warnings) == 1 and "a chapter has 1,500 to 3,500" in report.warnings[0]


def test_a_changed_source_or_result_makes_the_page_stale(project: Path) -> None:
    change(project / "adder" / "adder.py", "        # the sum\n", "        # their sum\n")
    change(project / "benchmarks" / "results" / "adder.json", '"value": 1.23', '"value": 1.47')
    problems = found(project)
    assert len(problems) == 4  # the quote, two values, the table
    assert docs_sync.main(["--check", "--root", str(project)]) == 1
    assert docs_sync.main(["--root", str(project)]) == 0
    assert docs_sync.main(["--check", "--root", str(project)]) == 0


def test_a_results_command_is_checked(project: Path) -> None:
    change(project / "benchmarks" / "results" / "adder.json", "--preset quick", "--preset quack")
    assert any(p.startswith("benchmarks/results: adder.speed.ratio") for p in found(project))


def test_a_problem_that_cannot_be_filled_in_is_an_error_when_writing(project: Path) -> None:
    change(project / "README.md", "adder/adder.py#L8", "adder/gone.py")
    assert docs_sync.main(["--root", str(project)]) == 1


def test_named_pages_only(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(project / "README.md", "adder/adder.py#L8", "adder/gone.py")
    root = str(project)
    assert docs_sync.main(["--check", "--root", root, "./adder/README_adder.md"]) == 0
    assert docs_sync.main(["--check", "--root", root, "--no-run", "README.md"]) == 1
    assert "README.md:3: link" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no page 'gone.md'"):
        docs_sync.main(["--root", root, "gone.md"])


def test_no_run_executes_nothing(project: Path) -> None:
    change(project / "README.md", "print(Adder()", "print(Addre()")
    assert found(project, run=False) == []


def test_blocks_share_a_namespace_and_leave_nothing_behind(project: Path) -> None:
    page = Page(
        "docs/page.md",
        "```python run\nimport os, pathlib\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass P:\n    x: int = 1\n```\n"
        "1. in a list\n\n   ```python run\n   import pickle, inspect\n"
        "   print(pickle.loads(pickle.dumps(P())), len(inspect.getsource(P).splitlines()))\n"
        "   pathlib.Path('here.txt').write_text('x', encoding='utf-8')\n"
        "   os.system('echo not an answer')\n   ```\n\n"
        "   ```text output\n   old\n   ```\n",
    )
    edits, problems = docs_run.run_page(page, project)
    assert problems == [] and edits[0].new == "   P(x=1) 3\n"
    assert not list(project.rglob("here.txt")) and not Path("here.txt").exists()


@pytest.mark.parametrize(
    ("info", "shown", "same"),
    [
        ("text output", "loss 1.2345 at 10", True),
        ("text output", "loss 1.2346 at 10", False),
        ("text output ~0.001", "loss 1.2350 at 10", True),
        ("text output ~0.001", "loss 1.2450 at 10", False),
        ("text output ~0.001", "cost 1.2345 at 10", False),
    ],
)
def test_a_tolerance_is_given_by_the_block(info: str, shown: str, same: bool) -> None:
    fence = Page("p.md", f"```{info}\n{shown}  \n\n```\n").fences[0]
    assert docs_run.same_output(fence, "loss 1.2345 at 10\n") is same


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("while True: pass", "takes longer than 4 s"),
        ("import os\nos._exit(7)", r"ends the process \(exit code 7\)"),
    ],
)
def test_a_block_that_hangs_or_dies_is_named(project: Path, code: str, text: str) -> None:
    page = Page("p.md", f"```python run\nprint(1)\n```\n\n```python run\n{code}\n```\n")
    _, problems = docs_run.run_page(page, project, timeout=4.0 if "while" in code else 20.0)
    assert [problem.line for problem in problems] == [5]
    assert re.search(text, problems[0].text)


def test_the_project_being_checked_is_first_on_the_path(project: Path) -> None:
    page = Page(
        "p.md", "```python run\nimport sys, adder\nprint(sys.path[0], adder.__file__)\n```\n"
    )
    task = {"job": "run", "page": "p.md", "blocks": [(1, page.fences[0].text)]}
    answers, _ = docs_run.start_child(task, project, 20.0)
    assert answers[0]["output"].split() == [str(project), str(project / "adder" / "__init__.py")]


def test_a_command_that_needs_torch_is_imported_once(project: Path) -> None:
    (project / "adder" / "adder.py").write_text(
        MODULE + "\nimport pathlib\nwith pathlib.Path(__file__).with_name('log').open('a') as f:\n"
        "    f.write('x')\n",
        encoding="utf-8",
    )
    commands = [docs_commands.Command("p", 1, "python adder/adder.py --steps 1")] * 3
    assert docs_commands.check_commands(commands, project) == []
    assert (project / "adder" / "log").read_text(encoding="utf-8") == "x"


def test_a_source_that_is_no_python_is_a_problem_of_each_marker(project: Path) -> None:
    (project / "adder" / "adder.py").write_text("def draw(:\n", encoding="utf-8")
    problems = found(project, run=False)
    assert sum("not valid Python" in problem for problem in problems) == 3
    assert sum("cannot be imported: SyntaxError" in problem for problem in problems) >= 1


def test_a_script_without_parser_is_said(project: Path) -> None:
    (project / "run.py").write_text("print('side effect')\n", encoding="utf-8")
    (project / "dies.py").write_text("import not_there\n", encoding="utf-8")
    commands = [docs_commands.Command("p", 4, f"python {name}.py") for name in ("run", "dies")]
    first, second = docs_commands.check_commands(commands, project)
    assert "has no build_parser()" in first.text and "not_there" in second.text


def test_ignored_files_are_not_part_of_the_repository(project: Path) -> None:
    (project / "outputs").mkdir()
    (project / "outputs" / "page.md").write_text("[x](gone.md)", encoding="utf-8")
    (project / "outputs" / "made.png").write_bytes(b"")
    assert found(project, run=False) == []
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    (project / ".gitignore").write_text("outputs/\n", encoding="utf-8")
    assert found(project, run=False) == []
    change(project / "README.md", "adder/adder.py#L8", "outputs/made.png")
    (problem,) = found(project, run=False)
    assert "'outputs/made.png' leads nowhere" in problem


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("What you'll build: a *GPT*", "what-youll-build-a-gpt"),
        ("The `bert_model.py` file", "the-bert_modelpy-file"),
        ("[Linked](x.md) & more", "linked--more"),
        ("词元 and tokens", "词元-and-tokens"),
    ],
)
def test_anchors_follow_githubs_rule(heading: str, anchor: str) -> None:
    assert slugify(heading) == anchor
    page = Page("p.md", f"# {heading}\n\n## {heading}\n")
    assert page.anchors == {anchor, f"{anchor}-1"}


def test_the_documents_of_this_project_are_true() -> None:
    report = docs_sync.synchronize(PROJECT_ROOT, write=False)
    assert not report.problems, "\n".join(map(str, report.problems))


def test_the_command_line(project: Path) -> None:
    script = Path(docs_sync.__file__)
    for command in ([str(script)], ["-m", "tools.docs_sync"]):
        done = subprocess.run(
            [sys.executable, *command, "--check", "--no-run", "--root", str(project)],
            cwd=script.parents[1],
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
        assert "2 pages, 0 problems" in done.stdout
    done = subprocess.run([sys.executable, str(script), "gone.md"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: there is no page 'gone.md'")
