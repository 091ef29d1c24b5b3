"""Who may import whom, what every module owes its reader, and habits that would hurt a user.

Everything is read from the source; nothing is imported but the tools' list of the project's files.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections.abc import Iterator
from functools import cache

import pytest

from tools.docs_sync import project_files
from tutorial_kit import PROJECT_ROOT

KIT = "tutorial_kit"
FAMILIES = ("cbow", "transformer", "bert", "vit", "gpt", "instruction_tuning")
LATER = ("multimodal", "optimization", "advanced_topics")
MAY_IMPORT = {
    KIT: set(),
    "tools": {KIT},
    "benchmarks": {KIT, *FAMILIES, *LATER},
    "docs": {KIT, "benchmarks", *FAMILIES, *LATER},
    "": {KIT, *FAMILIES, *LATER},  # scripts beside the README; see also LAZY below
    **{family: {KIT} for family in FAMILIES},
    **{package: {KIT, "gpt", "vit", "instruction_tuning"} for package in LATER},
    "instruction_tuning": {KIT, "gpt"},
}
# What starts before anyone knows whether torch is installed, and what that needs. Any other module
# whose docstring says "Standard library only" is held to it, too.
LIGHT_FILES = (
    "run_all_tutorials.py",
    "demo_complete_project.py",
    "validate_project.py",
    "tools/docs_sync.py",
    *(f"{KIT}/{name}.py" for name in ("__init__", "config", "console", "demo", "results", "texts")),
)

SOURCES = {
    name: text
    for name, text in project_files(PROJECT_ROOT).items()
    if text is not None and not name.startswith(("tests/", "."))
}
LONGEST_FUNCTION = 60  # lines, without its docstring


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(SOURCES[name], filename=name)


def package(name: str) -> str:
    """Returns the top folder of a file, "" for a script beside the README."""
    return name.partition("/")[0] if "/" in name else ""


def imports(node: ast.AST, everywhere: bool = True) -> Iterator[tuple[str, int]]:
    """Yields (module, line) of each import; without those inside functions if not everywhere."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"relative import in line {child.lineno}: name the package"
            yield child.module or "", child.lineno
            yield from ((f"{child.module}.{alias.name}", child.lineno) for alias in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        elif everywhere or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from imports(child, everywhere)


def file_of(module: str) -> str | None:
    """Returns the project's file of a module, None if it is not one of ours."""
    path = module.replace(".", "/")
    return next((name for name in (f"{path}.py", f"{path}/__init__.py") if name in SOURCES), None)


def reached(name: str) -> dict[str, str]:
    """Returns every module that importing a file loads: name -> the file that imports it."""
    found: dict[str, str] = {}
    todo, seen = [name], {name}
    while todo:
        file = todo.pop()
        for module, _ in imports(tree(file), everywhere=False):
            ours = file_of(module)
            if ours is None:
                top = module.partition(".")[0]
                if top not in MAY_IMPORT:
                    found.setdefault(top, file)
            elif ours not in seen:
                seen.add(ours)
                todo.append(ours)
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_imports_follow_the_arrows(name: str) -> None:
    home = package(name)
    assert home in MAY_IMPORT, f"{name}: say in MAY_IMPORT what the new package may import"
    allowed = MAY_IMPORT[home] | {home}
    ours = {part for part in MAY_IMPORT if part} | {"tests"}
    for module, line in imports(tree(name)):
        top = module.partition(".")[0]
        assert top not in ours or top in allowed, f"{name}:{line}: {home or name} imports {module}"


def test_the_arrows_are_seen() -> None:
    """The check above would find a wrong import, also one inside a function."""
    code = (
        "import gpt.gpt_model\ndef f():\n    from bert import x\nif TYPE_CHECKING:\n    import vit"
    )
    assert [m for m, _ in imports(ast.parse(code))] == ["gpt.gpt_model", "bert", "bert.x"]
    assert [m for m, _ in imports(ast.parse(code), everywhere=False)] == ["gpt.gpt_model"]


def says_it_is_light(name: str) -> bool:
    return (
        "standard library only" in " ".join((ast.get_docstring(tree(name)) or "").split()).lower()
    )


@pytest.mark.parametrize("name", sorted({*LIGHT_FILES, *filter(says_it_is_light, SOURCES)}))
def test_light_modules_load_the_standard_library_only(name: str) -> None:
    foreign = {m: by for m, by in reached(name).items() if m not in sys.stdlib_module_names}
    assert not foreign, f"{name} must start with the standard library alone, but loads {foreign}"


def definitions(name: str) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Yields (dotted name, definition) of all functions and classes but nested functions."""
    todo: list[tuple[str, ast.AST]] = [("", tree(name))]
    while todo:
        prefix, parent = todo.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield prefix + node.name, node
                if isinstance(node, ast.ClassDef):
                    todo.append((f"{prefix}{node.name}.", node))


def is_public(dotted: str) -> bool:
    return not any(part.startswith("_") for part in dotted.split("."))


@pytest.mark.parametrize("name", SOURCES)
def test_public_names_are_documented_and_typed(name: str) -> None:
    if SOURCES[name].strip():
        assert ast.get_docstring(tree(name)), f"{name}: a module begins with what it is"
    for dotted, node in definitions(name):
        where = f"{name}:{node.lineno}: {dotted}"
        if is_public(dotted):
            overload = any("overload" in ast.unparse(d) for d in node.decorator_list)
            assert overload or ast.get_docstring(node), f"{where} has no docstring"
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            untyped = [a.arg for a in given if not a.annotation and a.arg not in ("self", "cls")]
            assert not untyped, f"{where}: no type is given for {untyped}"
            assert node.returns or node.name == "__init__", f"{where}: no return type is given"


@pytest.mark.parametrize("name", SOURCES)
def test_functions_fit_on_a_screen(name: str) -> None:
    for dotted, node in definitions(name):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and node.body[1:] else node.body[0]
            length = (node.end_lineno or 0) - first.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{name}:{node.lineno}: {dotted} has {length} lines"


def test_modules_are_short() -> None:
    """The median stays below 200 lines, few are longer than 250: see CONTRIBUTING.md."""
    lengths = {name: text.count("\n") for name, text in SOURCES.items() if text.count("\n") > 20}
    longest = sorted(lengths.items(), key=lambda item: -item[1])
    report = ", ".join(f"{name} {length}" for name, length in longest[:12])
    assert statistics.median(lengths.values()) <= 200, report
    assert sum(length > 250 for length in lengths.values()) <= len(lengths) / 8, report
    assert longest[0][1] <= 350, report


def calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    """Yields (what is called, as written; the call)."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            yield ast.unparse(node.func), node


def lacks_encoding(function: str, call: ast.Call) -> bool:
    """Tells whether a call opens a text file in whatever encoding the system has."""
    last = function.rpartition(".")[2]
    if any(keyword.arg in ("encoding", None) for keyword in call.keywords):
        return False
    if last in ("read_text", "write_text"):
        return len(call.args) < (1 if last == "read_text" else 2)
    if last != "open" or function == "os.open":
        return False
    arguments = [*call.args, *(k.value for k in call.keywords if k.arg == "mode")]
    texts = [a.value for a in arguments if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    modes = [text for text in texts if re.fullmatch(r"[rwaxbt+U]+", text)]
    if modes:
        return "b" not in modes[-1] and (
            function.split(".")[0] not in ("gzip", "bz2", "lzma") or "t" in modes[-1]
        )
    return function == "open" or not call.args  # archive.open(member) gives bytes


@pytest.mark.parametrize("name", SOURCES)
def test_text_files_are_opened_as_utf8(name: str) -> None:
    for function, call in calls(name):
        assert not lacks_encoding(function, call), f"{name}:{call.lineno}: no encoding is given"


@pytest.mark.parametrize(
    ("code", "lacks"),
    [
        ("open(p)", True),
        ("open(p, 'w')", True),
        ("open(p, 'rb')", False),
        ("open(p, mode='w', encoding='utf-8')", False),
        ("p.open()", True),
        ("p.open('a')", True),
        ("p.open('wb')", False),
        ("archive.open(member)", False),
        ("gzip.open(p, 'rt')", True),
        ("gzip.open(p)", False),
        ("p.read_text()", True),
        ("p.read_text('utf-8')", False),
        ("p.write_text(text)", True),
        ("p.write_text(text, encoding='utf-8')", False),
    ],
)
def test_the_encoding_check_sees(code: str, lacks: bool) -> None:
    (statement,) = ast.parse(code).body
    assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    assert lacks_encoding(ast.unparse(statement.value.func), statement.value) is lacks


@pytest.mark.parametrize("name", SOURCES)
def test_no_file_is_unpickled(name: str) -> None:
    """A pickle runs code: `torch.load` reads tensors only, nothing else reads pickles."""
    for function, call in calls(name):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        where = f"{name}:{call.lineno}: {function}"
        if function == "torch.load":
            assert given.get("weights_only") == "True", f"{where} without weights_only=True"
        unsafe = function in ("pickle.load", "pickle.loads", "joblib.load", "dill.load")
        assert not unsafe and given.get("allow_pickle") != "True", f"{where} may run foreign code"


def test_no_file_names_a_foreign_machine() -> None:
    """An absolute path of someone's machine works nowhere else, and tells who wrote it."""
    folders = "|".join(("home", "Users", "root", "work", "mnt", "private"))
    pattern = re.compile(rf"(?<![\w.$}}~/-])/(?:{folders})/[\w.]|\b[A-Z]:\\+Users\\")
    found = []
    for name in project_files(PROJECT_ROOT):
        content = (PROJECT_ROOT / name).read_bytes()
        if b"\0" in content:
            continue  # a picture
        for number, line in enumerate(content.decode("utf-8").splitlines(), 1):
            invented = name.startswith("tests/") and str(PROJECT_ROOT) not in line
            if pattern.search(line) and not invented:
                found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)
