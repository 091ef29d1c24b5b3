"""Every script that can be started: its three ways, its help, its answer to a wrong flag.

The scripts run in a copy of the repository, so that a file written anywhere but in the outputs
folder is noticed.
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.demo_runner import FAMILIES

PRELUDE = re.compile(
    r'if\s*\(?\s*__name__ == "__main__" and __spec__ is None\s*\)?:.*\n'
    r"(?:\s+import .*\n|\n)+\s+sys\.path\[0\] = str\(pathlib\.Path\(__file__\)\.resolve\(\)\.parent"
)
WITHOUT_PRESETS = {
    "validate_project.py",
    "tools/docs_sync.py",
    *(f"{family}/exercises.py" for family in FAMILIES),  # started by test_exercises.py
}
EXTRA = {"run_all_tutorials.py": ["--only", "cbow,gpt"]}  # each demo is started alone, too
SCRIPT_SECONDS = 240


def find_scripts() -> list[str]:
    """Returns every script that ends in ``run_entry(main)``, from the root."""
    folders = [PROJECT_ROOT, *(PROJECT_ROOT / name for name in (*FAMILIES, "tools", "benchmarks"))]
    return [
        path.relative_to(PROJECT_ROOT).as_posix()
        for folder in folders
        for path in sorted(folder.glob("*.py"))
        if re.search(r"^    run_entry\(main\)", path.read_text(encoding="utf-8"), re.M)
    ]


SCRIPTS = find_scripts()
LESSONS = [script for script in SCRIPTS if not script.startswith("benchmarks/")]  # those: only -m
WITH_PRESETS = [script for script in LESSONS if script not in WITHOUT_PRESETS]


def module_name(script: str) -> str:
    return script.removesuffix(".py").replace("/", ".")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy without anything that was produced by a run."""
    root = tmp_path_factory.mktemp("copy") / "repository"
    unwanted = shutil.ignore_patterns(".git", "outputs", "tests", "__pycache__", ".*_cache", "venv")
    shutil.copytree(PROJECT_ROOT, root, ignore=unwanted)
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def environment(cache: Path, **changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LLM_TUTORIAL", "PYTHON"))}
    return {**kept, "LLM_TUTORIAL_CACHE": str(cache), "OMP_NUM_THREADS": "1", **changes}


def listing(folder: Path) -> set[str]:
    """Returns the files below a folder, without Python's own."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder).as_posix() for path in files}


def test_the_scripts_of_the_lessons_are_found():
    assert {"run_all_tutorials.py", "validate_project.py", "tools/docs_sync.py"} <= set(SCRIPTS)
    for family in FAMILIES:
        if (PROJECT_ROOT / family / "quick_start.py").exists():
            assert f"{family}/quick_start.py" in SCRIPTS
            assert any(script.startswith(f"{family}/verify_") for script in SCRIPTS)


@pytest.mark.parametrize("script", WITH_PRESETS)
def test_three_ways_of_starting_do_the_same(repository, cache, tmp_path, script):
    """As a file from another folder, as a module, and imported by another program."""
    name = module_name(script)
    arguments = [*EXTRA.get(script, []), "--preset", "smoke"]
    call = f"from {name} import main; code = main({arguments!r})\n"
    call += "raise SystemExit(code if isinstance(code, int) else 0)"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ways = {
        "file": ([str(repository / script), *arguments], elsewhere, {}),
        "module": (["-m", name, *arguments], repository, {}),
        "imported": (["-c", call], elsewhere, {"PYTHONPATH": str(repository)}),
    }
    before = listing(repository)
    started = {}
    for way, (command, folder, changes) in ways.items():  # together: most of it is waiting
        outputs = str(tmp_path / way)
        started[way] = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment(cache, LLM_TUTORIAL_OUTPUTS=outputs, **changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
    for way, process in started.items():
        try:
            output, _ = process.communicate(timeout=SCRIPT_SECONDS)
        finally:
            process.kill()
        assert process.returncode == 0, f"{way}:\n{output}"
        assert "Traceback" not in output
    written = {way: listing(tmp_path / way) for way in ways}
    assert written["file"] == written["module"] == written["imported"]
    assert not listing(elsewhere), "files in the working folder"
    assert listing(repository) == before, "files among the sources"


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_explains_every_flag(script, capsys):
    with pytest.raises(SystemExit) as left:
        importlib.import_module(module_name(script)).main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage:")
    bare = re.findall(r"(?m)^  (--[\w-]+)(?: \S+)?\n(?!   )", text)
    assert not bare, f"flags without help: {bare}"


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("arguments", [["--no-such-flag"], ["--preset", "gigantic"]], ids=str)
def test_a_wrong_argument_is_one_line_and_exit_code_2(script, arguments, capsys):
    with pytest.raises(SystemExit) as left:
        importlib.import_module(module_name(script)).main(arguments)
    assert left.value.code == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert not shown.out


@pytest.mark.parametrize("script", SCRIPTS)
def test_importing_a_script_starts_nothing_and_it_has_a_parser(script, capsys):
    module = importlib.import_module(module_name(script))
    assert module.build_parser().format_help()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("script", LESSONS)
def test_a_script_replaces_the_first_place_python_looks_in(script):
    """Appending would let a foreign package of the same name win."""
    source = (PROJECT_ROOT / script).read_text(encoding="utf-8")
    assert PRELUDE.search(source), "the lines of DESIGN.md's section 6 are missing"
    first_own = re.search(r"^(from|import) (tutorial_kit|tools|benchmarks|gpt)\b", source, re.M)
    assert PRELUDE.search(source).start() < first_own.start()


@pytest.mark.parametrize("script", [one for one in LESSONS if one.split("/")[0] in FAMILIES])
def test_how_threads_wait_is_set_before_torch_is_loaded(script):
    source = (PROJECT_ROOT / script).read_text(encoding="utf-8")
    first_import = re.search(r"^(?:import|from) (?!__future__)", source, re.M)
    assert "\n    import tutorial_kit  #" in source[: first_import.start()]


@pytest.mark.parametrize("own", [None, "77"])
def test_how_threads_wait_is_the_users_choice(own):
    changes = {} if own is None else {"GOMP_SPINCOUNT": own}
    kept = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    call = "import os, tutorial_kit; print(os.environ['GOMP_SPINCOUNT'])"
    command = [sys.executable, "-c", call]
    done = subprocess.run(
        command, cwd=PROJECT_ROOT, env={**kept, **changes}, capture_output=True, text=True
    )
    assert done.stdout.strip() == (own or "1000")


@pytest.mark.parametrize("script", [script for script in SCRIPTS if "quick_start" in script])
@pytest.mark.parametrize("flags", [[], ["-P"]], ids=["", "-P"])
def test_a_foreign_package_of_the_same_name_does_not_win(
    repository, cache, tmp_path, script, flags
):
    if flags and sys.version_info < (3, 11):
        pytest.skip("python -P is new in 3.11")
    foreign = tmp_path / script.split("/")[0]
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise SystemExit('the foreign package was imported')")
    done = subprocess.run(
        [sys.executable, *flags, str(repository / script), "--help"],
        cwd=tmp_path,
        env=environment(cache, PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=SCRIPT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:")


@pytest.mark.slow
@pytest.mark.parametrize("script", [script for script in SCRIPTS if "quick_start" in script])
def test_ctrl_c_in_the_middle_of_a_demo_ends_it(repository, cache, script):
    """A training that stops at Ctrl-C must not go on to show what it never learned."""
    test_runner = pytest.importorskip("test_runner", reason="needs a pseudo-terminal")
    family = script.split("/")[0]
    user = test_runner.Terminal(
        repository, "--only", family, LLM_TUTORIAL_CACHE=str(cache), OMP_NUM_THREADS="1"
    )
    user.wait_for("parameters; training on", SCRIPT_SECONDS)
    time.sleep(3)  # into the first steps
    user.type(test_runner.CTRL_C)
    assert user.leave() == 0
    assert f"{family} interrupted" in user.screen
