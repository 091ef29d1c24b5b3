"""The corpus on small made-up libraries, and its promises about the real ones."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tutorial_kit import PROJECT_ROOT, corpus_building, documentation_corpus
from tutorial_kit.corpus_building import (
    Document,
    Library,
    build_documents,
    find_libraries,
    split_of,
)
from tutorial_kit.docstring_sources import docstrings, find_source_files

SENTENCES = (  # no thirteen words in a row are the same in two modules
    "The module {k} is one of the {k} modules that have the number {k} in their text.",
    "It is the number {k} that makes the text of the module {k} a text of its own.",
)


def make_library(folder, name, modules=40):
    """Writes a package whose import would end the process: it must only be read."""
    package = folder / name
    (package / "tests").mkdir(parents=True)
    (package / "tests" / "test_it.py").write_text('"""A test is not a part of the text."""')
    (package / "__init__.py").write_text(f'"""The package {name} has a name."""\nraise SystemExit')
    (package / "broken.py").write_text('"""This is not a valid file of Python."""\ndef (')
    for k in range(modules):
        text = f'def f():\n    """{SENTENCES[0].format(k=f"{name} {k}")}\n\n'
        text += f'    {SENTENCES[1].format(k=f"{name} {k}")}\n    """\n'
        (package / f"module_{k}.py").write_text(text)
    return Library(name, "1.0", package)


@pytest.fixture
def libraries(tmp_path, monkeypatch):
    made = [make_library(tmp_path, "first"), make_library(tmp_path, "second")]
    monkeypatch.setattr(corpus_building, "_CHUNK_FILES", 21)
    return made


@pytest.fixture
def small_corpus(libraries, tmp_path, monkeypatch):
    """Makes `documentation_corpus` see the made-up libraries and an empty cache folder."""
    monkeypatch.setattr(corpus_building, "find_libraries", lambda: (libraries, []))
    monkeypatch.setattr(documentation_corpus, "LIBRARIES", {"first": "", "second": ""})
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))
    documentation_corpus._load_or_build.cache_clear()
    yield tmp_path / "cache" / "documentation_corpus"
    documentation_corpus._load_or_build.cache_clear()


def load_again():
    documentation_corpus._load_or_build.cache_clear()
    return documentation_corpus.documentation_corpus()


def test_one_and_two_processes_give_the_same(libraries):
    one, two = build_documents(libraries, processes=1), build_documents(libraries, processes=2)
    assert one == two
    assert len(one) == 82
    assert one[0].paragraphs == ("The package first has a name.",)
    modules = [(document.library, document.module) for document in one]
    assert modules == sorted(modules)


def test_a_failing_worker_is_replaced(libraries, monkeypatch):
    expected = build_documents(libraries, processes=1)
    for executable in ("/no/such/python", "/bin/false", None):
        monkeypatch.setattr(sys, "executable", executable)
        assert build_documents(libraries, processes=2) == expected


def _build(libraries, queue):
    queue.put(len(build_documents(libraries, processes=2)))


def test_builds_inside_a_spawned_daemon(libraries):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_build, args=(libraries, queue), daemon=True)
    process.start()
    assert queue.get(timeout=60) == 82
    process.join()


def test_builds_from_standard_input(libraries):
    code = (
        "from pathlib import Path\nfrom tutorial_kit.corpus_building import *\n"
        f"libraries = [Library('first', '1.0', Path({str(libraries[0].folder)!r}))]\n"
        "print(len(build_documents(libraries, processes=2)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run(
        [sys.executable, "-"], input=code, capture_output=True, text=True, env=environment
    )
    assert (done.stdout, done.stderr) == ("41\n", "")


def test_docstrings_are_found_where_they_are():
    source = b'''"""Module."""
class C:
    """Class."""
    async def f(self):
        """Function."""
        if x:
            def g():
                """Inner."""
x = f"""no docstring"""
add_newdoc("numpy", "f",
    """
    Added.""")
g = _add_docstr(h, r"""
Formatted {x}.""".format(x=1) + """
Joined.""")
f.__doc__ = """
Assigned."""
print("""
Printed.""")
'''
    found = [text.strip() for text in docstrings(source)]
    assert found == [
        *("Module.", "Class.", "Function.", "Inner."),
        *("Added.", "Formatted {x}.", "Joined.", "Assigned."),
    ]
    assert list(docstrings(b'"""A file that is not Python."""\ndef (')) == []


def test_standard_library_without_what_is_installed_beside_it(tmp_path):
    for place in ("json", "site-packages/numpy", "test", "dist-packages"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "__init__.py").write_text('"""Text."""')
    assert [file.module for file in find_source_files("python", "", tmp_path)] == ["json"]


def test_help_topics_are_documents_of_their_own(tmp_path):
    (tmp_path / "pydoc_data").mkdir()
    topics = {"assert": "An assertion is a statement that is checked.", "if": "What if it is true?"}
    (tmp_path / "pydoc_data" / "topics.py").write_text(f"topics = {topics!r}")
    documents = build_documents([Library("python", "3", tmp_path)], processes=1)
    assert [document.module for document in documents] == [
        "pydoc_data.topics.assert",
        "pydoc_data.topics.if",
    ]


def test_copies_are_left_out_across_libraries(tmp_path):
    made = [make_library(tmp_path, name, modules=1) for name in ("first", "second")]
    for library in made:
        (library.folder / "same.py").write_text('"""The text, which is in both of them."""')
        (library.folder / "less.py").write_text('"""The TEXT which is in both of them!"""')
    texts = [text for document in build_documents(made) for text in document.paragraphs]
    assert sum("both of them" in text for text in texts) == 1


def test_held_out_paragraphs_that_overlap_with_training_are_left_out():
    train = next(f"m{k}" for k in range(99) if split_of(f"m{k}") == "train")
    words = "one two three four five six seven eight nine ten eleven twelve thirteen"
    documents = [
        Document("a", train, "train", (f"It counts: {words}, and so on.",)),
        Document("a", "x", "test", (f"Another count: {words.upper()}!", "The other is kept.")),
        Document("a", "y", "validation", (f"Only {words.removeprefix('one ')} are shared.",)),
        Document("a", "z", "test", (f"All of it: {words}.",)),
    ]
    kept = corpus_building._without_leaks(documents)
    assert kept[:1] == documents[:1]
    assert kept[1].paragraphs == ("The other is kept.",)
    assert kept[2:] == documents[2:3]


def test_splits_are_nine_to_one_and_never_change():
    counts = Counter(split_of(f"library.module_{k}") for k in range(20_000))
    assert abs(counts["train"] / 20_000 - 0.9) < 0.01
    assert abs(counts["validation"] / 20_000 - 0.05) < 0.01
    assert [split_of(m) for m in ("json", "ast", "cmd", "sched", "torch.nn")] == ["train"] * 5


def test_corpus_is_built_once_and_read_back(small_corpus, capsys):
    built = documentation_corpus.documentation_corpus()
    first = capsys.readouterr().out
    assert "train" in first and "second" in first and "total" in first
    assert documentation_corpus.documentation_corpus() is built
    loaded = load_again()
    assert capsys.readouterr().out == ""
    assert loaded.all_documents == built.all_documents
    assert len(list(small_corpus.iterdir())) == 1


def test_views_of_the_corpus_agree(small_corpus):
    corpus = documentation_corpus.documentation_corpus()
    statistics = corpus.statistics()
    for split in documentation_corpus.SPLITS:
        paragraphs = [p.text for p in corpus.paragraphs if p.split == split]
        assert corpus.text(split).split("\n\n") == paragraphs
        assert [p for d in corpus.documents(split) for p in d.paragraphs] == paragraphs
        assert statistics[split]["words"] == len(corpus.text(split).split())
    assert statistics["total"]["paragraphs"] == len(corpus.paragraphs)
    with pytest.raises(ValueError, match="'dev' was asked.*Use one of: train, validation, test"):
        corpus.documents("dev")


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty", "foreign", "binary"])
def test_a_damaged_cache_file_is_built_again(small_corpus, damage):
    built = documentation_corpus.documentation_corpus().all_documents
    (path,) = small_corpus.iterdir()
    good = path.read_bytes()
    path.write_bytes(
        {
            "truncated": good[:-100],
            "changed": good.replace(b"sentence", b"sentense", 1),
            "empty": b"",
            "foreign": json.dumps({"fingerprint": "other", "sha256": ""}).encode() + b"\n",
            "binary": bytes(range(256)),
        }[damage]
    )
    assert load_again().all_documents == built
    assert path.read_bytes() == good


def test_without_a_writable_cache_one_line_warns(small_corpus, capsys):
    small_corpus.parent.write_text("a file stands where the cache folder would be")
    corpus = documentation_corpus.documentation_corpus()
    assert len(corpus.all_documents) == 82
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.match(r"warning: cannot write .* The corpus is built each time\.", lines[0])


def test_another_version_is_another_file(small_corpus, libraries, monkeypatch):
    documentation_corpus.documentation_corpus()
    newer = [library._replace(version="2.0") for library in libraries]
    monkeypatch.setattr(corpus_building, "find_libraries", lambda: (newer, []))
    documentation_corpus.documentation_corpus()
    assert len(list(small_corpus.iterdir())) == 2


def test_missing_libraries_are_said(small_corpus, libraries, monkeypatch, capsys):
    monkeypatch.setattr(documentation_corpus, "LIBRARIES", {"first": "", "networkx": "networkx"})
    monkeypatch.setattr(corpus_building, "find_libraries", lambda: (libraries[:1], ["networkx"]))
    assert len(documentation_corpus.documentation_corpus().all_documents) == 41
    expected = (
        "documentation corpus: no source of networkx found, its text is left out "
        "(pip install networkx)"
    )
    assert capsys.readouterr().err.splitlines() == [expected]
    monkeypatch.setattr(corpus_building, "find_libraries", lambda: ([], ["python"]))
    with pytest.raises(FileNotFoundError, match="none of first, networkx was found"):
        documentation_corpus.documentation_corpus()


def test_libraries_are_found_without_being_imported():
    code = (
        "import sys; from tutorial_kit.corpus_building import find_libraries as f;"
        " f(); print({'numpy', 'torch', 'scipy', 'sympy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT_ROOT
    )
    assert done.stdout == "set()\n", done.stderr


def test_text_of_real_libraries_is_prose():
    found, _ = find_libraries()
    documents = build_documents([library for library in found if library.name == "networkx"])
    words = " ".join(p for document in documents for p in document.paragraphs).split()
    assert len(words) > 100_000
    assert sum(bool(re.search(r"[`\\{}|]|>>>|::|https?:", word)) for word in words) < 200
    assert sum(word.lower() in ("the", "of", "is", "a", "to") for word in words) > 0.15 * len(words)


@pytest.mark.slow
def test_the_corpus_is_large_and_its_splits_are_apart():
    """Reads the user's cache, or takes half a minute."""
    corpus = documentation_corpus.documentation_corpus()
    statistics = corpus.statistics()
    assert statistics["total"]["words"] > 1_500_000
    shares = {s: statistics[s]["bytes"] / statistics["total"]["bytes"] for s in ("train", "test")}
    assert 0.87 < shares["train"] < 0.93 and 0.035 < shares["test"] < 0.065
    splits_of_modules = {}
    for document in corpus.all_documents:
        splits_of_modules.setdefault(document.module, set()).add(document.split)
    assert all(len(splits) == 1 for splits in splits_of_modules.values())
    keys = [re.sub(r"[\W_]+", "", p.text.casefold()) for p in corpus.paragraphs]
    assert len(set(keys)) == len(keys)
    assert all(Path(p.text).name and "\n" not in p.text for p in corpus.paragraphs[:1000])


def test_corpus_speaks_utf8_whatever_the_locale(libraries):
    text = '"""The café of the naïve user is the best of them."""'
    (libraries[0].folder / "accents.py").write_text(text, encoding="utf-8")
    code = (
        "from pathlib import Path\nfrom tutorial_kit.corpus_building import *\n"
        f"made = [Library('first', '1.0', Path({str(libraries[0].folder)!r}))]\n"
        "print(ascii([d.paragraphs[0] for d in build_documents(made, 2) if 'accents' in d.module]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout == "['The caf\\xe9 of the na\\xefve user is the best of them.']\n"
