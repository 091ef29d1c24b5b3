"""The doctor: every check finds what it is there for, and it lives with nothing installed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import validate_project
from tutorial_kit import PROJECT_ROOT, doctor, doctor_probe, doctor_project
from tutorial_kit.doctor import FAIL, GIB, OK, WARN, Finding

VERIFY = "def forward_once():\n    return 'logits (2, 8, 65)'\n"


def levels(findings) -> list[str]:
    return [finding.level for finding in findings]


def only(findings) -> Finding:
    (finding,) = findings
    return finding


# --- the machine -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "level"),
    [((3, 9, 18), FAIL), ((3, 10, 0), OK), ((3, 14, 1), OK), ((4, 0, 0), OK)],
)
def test_python_must_be_new_enough(version, level):
    finding = only(doctor.check_python(version))
    assert finding.level == level
    assert bool(finding.advice) == (level == FAIL)


@pytest.mark.parametrize(
    ("version", "operator", "bound", "expected"),
    [
        ("2.4", ">=", "2.4.0", True),
        ("2.4.0rc1", ">=", "2.4", True),
        ("2.3.9", ">=", "2.4", False),
        ("2.13.0+cpu", "<", "2.14", True),
        ("2.14.0.dev20260101", "<", "2.14", False),
        ("2.10.0", ">=", "2.9", True),  # numbers, not letters
        ("1!1.0", "==", "1.0.0", True),
        ("1.5.2", "~=", "1.4", True),
        ("2.0", "~=", "1.4", False),
        ("1.4.9", "==", "1.4.*", True),
        ("1.5", "!=", "1.4.*", True),
        ("1.5", "!=", "1.5", False),
        ("3", "<=", "3.0", True),
        ("3", ">", "2.99", True),
        ("unknown", ">=", "1", False),
    ],
)
def test_versions_compare_as_numbers(version, operator, bound, expected):
    assert doctor.satisfies(version, operator, bound) is expected


def test_versions_compare_as_packaging_does():
    specifiers = pytest.importorskip("packaging.specifiers")
    versions = ["1.0", "1.0.1", "1.10", "2.0.0", "2.4.0+cpu", "2.13.1", "3"]
    for bound in ("1.0", "2.4", "2.13.1", "3.0.0"):
        for operator in (">=", "<=", "<", "~=") if "." in bound else (">=",):
            specifier = specifiers.SpecifierSet(operator + bound)
            for version in versions:
                ours = doctor.satisfies(version, operator, bound)
                assert ours == specifier.contains(version), (version, operator, bound)


def test_requirements_are_read_with_their_bounds(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text(
        "# a comment\n-r other.txt\n\ntorch>=2.4, <2.14  # why\nsacrebleu[ja] >= 2.4; "
        "python_version > '3'\nplain\nscikit-learn~=1.4\n"
    )
    assert doctor.read_requirements(path) == {
        "torch": [(">=", "2.4"), ("<", "2.14")],
        "sacrebleu": [(">=", "2.4")],
        "plain": [],
        "scikit-learn": [("~=", "1.4")],
    }


def test_the_projects_own_requirements_are_understood():
    requirements = doctor.read_requirements(PROJECT_ROOT / "requirements.txt")
    assert requirements["torch"][1][0] == "<"
    assert all(bounds for bounds in requirements.values())


@pytest.mark.parametrize(
    ("bounds", "level", "text"),
    [
        ([(">=", "1.0")], OK, "2.5.0"),
        ([(">=", "3.0")], FAIL, "2.5.0 is too old: >=3.0 is needed"),
        ([(">=", "1.0"), ("<", "2.5")], WARN, "2.5.0 lies outside >=1.0,<2.5"),
    ],
)
def test_versions_are_compared_with_the_requirements(monkeypatch, bounds, level, text):
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: "2.5.0")
    finding = only(doctor.check_packages({"somepackage": bounds}))
    assert finding.level == level and text in finding.text
    assert bool(finding.advice) == (level != OK)


@pytest.mark.parametrize("damaged", [True, False])
def test_missing_packages_are_named_together(monkeypatch, damaged):
    def version(name):
        if damaged:
            return
        raise doctor.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    finding = only(doctor.check_packages({"one": [], "two": [(">=", "1")]}))
    assert finding.level == FAIL and finding.text == "missing: one, two"
    assert finding.advice == "pip install -r requirements.txt"


def test_a_thread_limit_is_noticed(monkeypatch):
    monkeypatch.setattr(doctor, "usable_cores", lambda: 4.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert only(doctor.check_processor()).level == WARN
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert only(doctor.check_processor()).level == OK
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert only(doctor.check_processor()).level == OK


@pytest.mark.parametrize(
    ("gibibytes", "level"), [(0.3, FAIL), (1.5, WARN), (8, OK), (0, OK)], ids=str
)
def test_memory(monkeypatch, gibibytes, level):
    monkeypatch.setattr(doctor, "available_memory", lambda: 0)
    assert only(doctor.check_memory(gibibytes * GIB or None)).level == level


def test_this_machine_has_memory_and_cores():
    assert doctor.available_memory() > 0
    assert 0 < doctor.usable_cores() <= os.cpu_count()


def test_a_folder_that_cannot_be_written_fails_and_says_how_to_move_it(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("a file where a folder is needed")
    finding = only(doctor.check_folders({"LLM_TUTORIAL_CACHE": blocker / "cache"}))
    assert finding.level == FAIL and "cannot be written" in finding.text
    assert "LLM_TUTORIAL_CACHE" in finding.advice


@pytest.mark.parametrize(("gibibytes", "level"), [(0.1, FAIL), (1, WARN), (50, OK)])
def test_disk(tmp_path, monkeypatch, gibibytes, level):
    usage = shutil._ntuple_diskusage(100 * GIB, 0, int(gibibytes * GIB))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage)
    finding = only(doctor.check_folders({"LLM_TUTORIAL_OUTPUTS": tmp_path / "not" / "yet"}))
    assert finding.level == level
    assert not (tmp_path / "not").exists()  # looking leaves nothing behind


def test_a_report_names_neither_user_nor_home_nor_machine(monkeypatch):
    monkeypatch.setattr(doctor.getpass, "getuser", lambda: "ada")
    monkeypatch.setattr(doctor.platform, "node", lambda: "analytical.engine.example")
    monkeypatch.setattr(doctor.Path, "home", lambda: Path("/home/ada"))
    text = "/home/ada/course/gpt of ada on analytical.engine.example; /home/ada/.cache; adapter"
    shown = doctor.without_private_names(text, Path("/home/ada/course"))
    assert shown == "<project>/gpt of <user> on <machine>; ~/.cache; adapter"


# --- the project -------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    """A small copy with the kit and a made-up family."""
    root = tmp_path / "project"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT_ROOT / "tutorial_kit", root / "tutorial_kit", ignore=ignore)
    for name in ("validate_project.py", "run_all_tutorials.py", "requirements.txt"):
        shutil.copy(PROJECT_ROOT / name, root)
    (root / "gpt").mkdir()
    (root / "gpt" / "__init__.py").touch()
    (root / "gpt" / "verify_structure.py").write_text(VERIFY)
    return root


@pytest.fixture
def light_project(project):
    """The same without what imports torch, so that a whole examination takes a second."""
    for path in (project / "tutorial_kit").glob("*.py"):
        if re.search(r"^(import|from) (torch|numpy)", path.read_text(encoding="utf-8"), re.M):
            path.unlink()
    (project / "requirements.txt").write_text("tqdm>=4\n")
    return project


def start(root: Path, *arguments: str, python: str = sys.executable, **changes: str):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LLM_TUTORIAL", "PYTHON"))}
    environment = {**kept, "LLM_TUTORIAL_CACHE": str(root / "cache"), **changes}
    return subprocess.run(
        [python, str(root / "validate_project.py"), *arguments],
        cwd=root.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


def test_missing_files_are_named_with_the_command_that_restores_them(project):
    findings = {finding.subject: finding for finding in doctor_project.check_structure(project)}
    assert findings["project files"].level == FAIL
    assert "README.md" in findings["project files"].text
    assert findings["gpt"].level == FAIL
    assert "gpt/gpt_model.py" in findings["gpt"].text
    assert "git checkout -- " in findings["gpt"].advice
    assert "gpt/verify_structure.py" not in findings["gpt"].text


def test_no_family_is_a_failure(project):
    shutil.rmtree(project / "gpt")
    findings = list(doctor_project.check_structure(project))
    assert findings[-1].subject == "families" and findings[-1].level == FAIL


def test_the_forward_pass_is_tried(project):
    finding = only(doctor_project.check_family(project, "gpt"))
    assert finding.level == OK and "logits (2, 8, 65)" in finding.text


@pytest.mark.parametrize(
    ("source", "level", "text"),
    [
        (
            "raise RuntimeError('no\\nluck')",
            FAIL,
            "gpt.broken cannot be imported: RuntimeError",
        ),
        ("import missing_thing", FAIL, "ModuleNotFoundError: No module named 'missing_thing'"),
        ("raise SystemExit(3)", FAIL, "gpt.broken cannot be imported: SystemExit: 3"),
        (
            "import os; os.kill(os.getpid(), 11)",
            FAIL,
            "killed by signal 11 while importing gpt",
        ),
        ("import os; os._exit(7)", FAIL, "Python ended with code 7 while importing gpt.broken"),
        ("print('noise')", OK, "logits"),
    ],
)
def test_a_module_that_breaks_is_reported_and_the_doctor_lives(project, source, level, text):
    (project / "gpt" / "broken.py").write_text(source)
    finding = only(doctor_project.check_family(project, "gpt"))
    assert finding.level == level and text in finding.text


@pytest.mark.parametrize(
    ("verify", "level", "text"),
    [
        ("def forward_once():\n    raise ValueError('shapes')\n", FAIL, "ValueError: shapes"),
        ("", WARN, "no forward pass to try"),
    ],
)
def test_a_forward_pass_that_fails_or_lacks(project, verify, level, text):
    (project / "gpt" / "verify_structure.py").write_text(verify)
    finding = only(doctor_project.check_family(project, "gpt"))
    assert finding.level == level and text in finding.text


def test_libraries_devices_threads_and_fonts_are_reported(project):
    findings = list(doctor_project.check_libraries(project, ["torch", "matplotlib"]))
    assert {finding.subject for finding in findings} == {
        "libraries",
        "device",
        "threads",
        "fonts",
    }
    assert FAIL not in levels(findings)


def test_a_library_that_cannot_be_imported_is_named(project):
    (project / "badlib.py").write_text("raise ImportError('wrong ELF class')")
    finding = only(doctor_project.check_libraries(project, ["badlib"]))
    assert finding.level == FAIL and finding.subject == "badlib"
    assert "wrong ELF class" in finding.text


def test_too_many_threads_and_missing_fonts_are_warnings(monkeypatch):
    monkeypatch.setattr(doctor_probe, "usable_cores", lambda: 0.25)
    threads = doctor_probe.thread_finding()
    assert threads.level == WARN and threads.advice == "set OMP_NUM_THREADS=1"
    monkeypatch.setattr("tutorial_kit.plotting.chinese_font", lambda: None)
    assert doctor_probe.font_finding().level == WARN


def test_damaged_data_are_a_failure_missing_data_are_not(monkeypatch):
    files = [("a", "train", "ok"), ("a", "test", "missing"), ("b", "all", "partial")]
    monkeypatch.setattr("tutorial_kit.datasets.verify_cache", lambda: files)
    finding = only(doctor_project.check_data_sets())
    assert finding.level == OK and "1 files cached and whole, 2 not fetched" in finding.text
    files.append(("b", "train.en", "damaged"))
    finding = only(doctor_project.check_data_sets())
    assert finding.level == FAIL and "b/train.en is damaged" in finding.text
    assert "delete " in finding.advice


@pytest.mark.parametrize(("code", "level"), [(0, OK), (1, FAIL)])
def test_documents_out_of_step_are_a_failure(project, code, level):
    (project / "tools").mkdir()
    script = f"import sys\nprint('docs/a.md: a number differs')\nsys.exit({code})\n"
    (project / "tools" / "docs_sync.py").write_text(script)
    finding = only(doctor_project.check_documents(project))
    assert finding.level == level
    assert ("a number differs" in finding.text) == (level == FAIL)


def test_a_check_that_breaks_is_a_finding():
    def broken():
        yield Finding(OK, "first", "fine")
        raise KeyError("oops")

    first, second = validate_project._guarded("something", broken)
    assert (first.level, second.level) == (OK, FAIL)
    assert "KeyError: 'oops'" in second.text


def test_a_finding_is_a_line_and_its_advice_another():
    line, advice = str(Finding(WARN, "fonts", "none", "install one")).splitlines()
    assert line == "[warn] fonts             none"
    assert advice.strip() == "do: install one"


# --- the script --------------------------------------------------------------------------------


def test_failures_give_exit_code_1_and_no_traceback(light_project):
    done = start(light_project)
    assert done.returncode == 1 and not done.stderr
    assert "[fail] project files" in done.stdout and "[ok]   python" in done.stdout
    assert done.stdout.splitlines()[-1].split()[1] == "failed,"


def test_the_report_is_one_block_without_private_names(light_project):
    home = light_project.parent / "home" / "somebody"
    moved = home / "course"
    home.mkdir(parents=True)
    shutil.move(light_project, moved)
    done = start(moved, "--report", HOME=str(home), USER="somebody", LOGNAME="somebody")
    lines = done.stdout.splitlines()
    assert lines[0] == "```text" and lines[-1] == "```"
    assert "somebody" not in done.stdout
    assert "[ok]   tqdm" in done.stdout and "[ok]   python" in done.stdout


@pytest.mark.parametrize("arguments", [["--repor"], ["now"]])
def test_a_wrong_argument_is_one_line(project, arguments):
    done = start(project, *arguments)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A virtual environment without a single package, not even pip."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")


def test_with_the_standard_library_only_it_says_what_is_missing(project, bare_python):
    done = start(project, python=bare_python)
    assert done.returncode == 1 and not done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "[fail] packages" in line]
    for name in doctor.read_requirements(project / "requirements.txt"):
        assert name in line
    assert "do: pip install -r requirements.txt" in done.stdout
    assert "[warn] not checked" in done.stdout


def test_the_menu_says_that_torch_is_missing(project, bare_python):
    (project / "gpt" / "quick_start.py").write_text("import torch\n")
    script = str(project / "run_all_tutorials.py")
    environment = {**os.environ, "LLM_TUTORIAL_CACHE": str(project / "cache")}
    for argument, text in (("--list", "torch is not installed here"), ("--all", "gpt failed")):
        done = subprocess.run(
            [bare_python, script, argument], env=environment, capture_output=True, text=True
        )
        assert text in done.stdout and "pip install -r requirements.txt" in done.stdout
        assert "Traceback" not in done.stderr


def test_the_probe_speaks_json_only(project):
    rows, problem = doctor_project.probe(project, "family", "gpt")
    assert not problem
    assert [row["kind"] for row in rows] == ["trying", "finding"]
    assert json.dumps(rows)


@pytest.mark.slow
def test_this_repository_is_healthy():
    done = start(PROJECT_ROOT)
    assert done.returncode == 0, done.stdout
