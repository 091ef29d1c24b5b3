"""The data set registry and its cache, against a mirror folder built here."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from tutorial_kit import PROJECT_ROOT, datasets
from tutorial_kit.datasets import (
    DATASETS,
    DataFile,
    Dataset,
    cache_folder,
    dataset_files,
    read_text_lines,
    verify_cache,
)
from tutorial_kit.download import Patience

TRAIN, TEST = b"to be\nor not\n" * 100, b"to be\n"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Registers the data set "plays" of two files, and a mirror folder that holds them."""
    files = []
    for key, content in (("train", TRAIN), ("test", TEST)):
        path = f"owner/repo/commit/{key}.txt"
        (tmp_path / "mirror" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / path).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files.append(DataFile(key, path, len(content), key, digest))
    plays = Dataset("plays", tuple(files), "CC0", "W. S. (1603)", "https://a.example", "Two files.")
    monkeypatch.setitem(DATASETS, "plays", plays)
    monkeypatch.setattr(datasets, "PUBLIC_ADDRESS", "http://127.0.0.1:1")  # nobody listens there
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("LLM_TUTORIAL_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("LLM_TUTORIAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "mirror"


def test_the_registry_is_complete_and_well_formed() -> None:
    asked = "tinyshakespeare wikitext2 multi30k tatoeba_cmn sst2 rt_polarity fashion_mnist"
    asked += " questions_words wordsim353 simlex999 instructions preferences"
    assert list(DATASETS) == asked.split()
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert all([dataset.licence, dataset.note, dataset.homepage.startswith("https://")])
        assert re.search(r"\((19|20)\d\d\)", dataset.citation), "a citation names its year"
        assert len({file.key for file in dataset.files}) == len(dataset.files) > 0
        for file in dataset.files:
            assert re.fullmatch(r"[a-z]+(\.[a-z]+)?", file.key)  # a safe file name everywhere
            assert re.fullmatch(r"[\w.-]+/[\w.-]+/[0-9a-f]{40}/[\w./-]+", file.path)
            assert ".." not in file.path
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.bytes > 0
            assert file.split in ("train", "validation", "test", "none")
            assert file.url == f"https://raw.githubusercontent.com/{file.path}"
    everything = [file.sha256 for dataset in DATASETS.values() for file in dataset.files]
    assert len(set(everything)) == len(everything)


def test_importing_the_registry_needs_only_the_standard_library() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'numpy', 'tqdm']))\n"
        "import tutorial_kit.datasets"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)


def test_files_come_once_with_license_and_citation(
    mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = dataset_files("plays")
    assert {key: path.read_bytes() for key, path in files.items()} == {"train": TRAIN, "test": TEST}
    assert files["train"] == cache_folder() / "datasets" / "plays" / "train"
    said = capsys.readouterr()
    assert said.out == ""
    for text in ("plays: Two files.", "License: CC0", "W. S. (1603)", "https://a.example"):
        assert text in said.err
    assert dataset_files("plays") == files
    assert capsys.readouterr().err == ""


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no data set 'wikitext-2'") as caught:
        dataset_files("wikitext-2")
    text = str(caught.value)
    assert "\n" not in text
    assert "tinyshakespeare, wikitext2, multi30k" in text
    assert text.endswith("Did you mean wikitext2?")
    with pytest.raises(ValueError, match=r"preferences\.$"):
        dataset_files("zzz")


@pytest.mark.parametrize(
    "damage", [TRAIN[:-1], TRAIN.upper(), b""], ids=["short", "changed", "empty"]
)
def test_a_damaged_file_in_the_cache_is_found_and_replaced(
    mirror: Path, capsys: pytest.CaptureFixture[str], damage: bytes
) -> None:
    train = dataset_files("plays")["train"]
    train.write_bytes(damage)
    os.utime(train, ns=(1, 1))  # the clock of a coarse file system may not have moved
    capsys.readouterr()
    assert dataset_files("plays")["train"].read_bytes() == TRAIN
    assert "plays/train was damaged; deleted, fetching it again" in capsys.readouterr().err


def test_a_file_is_hashed_once_until_it_changes(
    mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = dataset_files("plays")["train"]
    hashed: list[str] = []
    original = datasets.file_sha256
    monkeypatch.setattr(
        datasets, "file_sha256", lambda path: hashed.append(path.name) or original(path)
    )
    dataset_files("plays")
    assert hashed == []
    os.utime(train, ns=(1, 1))
    dataset_files("plays")
    dataset_files("plays")
    assert hashed == ["train"]


def test_a_new_hash_in_the_registry_makes_the_old_check_worthless(
    mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_files("plays")
    old = DATASETS["plays"].files[1]
    content = TEST.upper()
    (mirror / old.path).write_bytes(content)
    new = replace(old, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(DATASETS, "plays", replace(DATASETS["plays"], files=(new,)))
    assert dataset_files("plays")["test"].read_bytes() == content


def test_without_mirror_or_network_the_cache_still_serves(
    mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = Patience(attempts=2, backoff=0.0)
    monkeypatch.delenv("LLM_TUTORIAL_MIRROR")
    with pytest.raises(OSError, match=r"^cannot download plays/train \(0.0 MB\)") as caught:
        dataset_files("plays", impatient)
    assert "\n" not in str(caught.value)
    assert "refused" in str(caught.value)
    monkeypatch.setenv("LLM_TUTORIAL_MIRROR", str(mirror))
    dataset_files("plays")
    monkeypatch.delenv("LLM_TUTORIAL_MIRROR")
    assert dataset_files("plays")["train"].read_bytes() == TRAIN


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_read_only_cache_serves_what_it_has_and_says_what_it_cannot(
    mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as name:  # other users may not see into tmp_path
        monkeypatch.setenv("LLM_TUTORIAL_CACHE", name)
        train = dataset_files("plays")["train"]
        (train.parent / ".train.verified").unlink()  # the check cannot be remembered
        (train.parent / "test").unlink()
        folders = [Path(name), Path(name) / "datasets", train.parent]
        for folder in folders:
            folder.chmod(0o555)
        only_train = replace(DATASETS["plays"], files=DATASETS["plays"].files[:1])
        root = os.geteuid() == 0
        if root:  # permissions bind everybody else
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError, match="^cannot write in .*plays: .*") as caught:
                dataset_files("plays")
            assert "Set LLM_TUTORIAL_CACHE to a folder" in str(caught.value)
            assert "\n" not in str(caught.value)
            monkeypatch.setitem(DATASETS, "plays", only_train)
            assert dataset_files("plays")["train"].read_bytes() == TRAIN
        finally:
            if root:
                os.seteuid(0)
            for folder in folders:
                folder.chmod(0o755)


def test_the_doctor_sees_each_state_and_changes_nothing(mirror: Path) -> None:
    def states() -> dict[str, str]:
        return {key: status for name, key, status in verify_cache() if name == "plays"}

    assert states() == {"train": "missing", "test": "missing"}
    assert not cache_folder().exists()
    train = dataset_files("plays")["train"]
    assert states() == {"train": "ok", "test": "ok"}
    stamp = train.stat()
    train.write_bytes(TRAIN.upper())
    os.utime(train, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # rot that the clock does not show
    assert states() == {"train": "damaged", "test": "ok"}
    train.rename(f"{train}.part")
    assert states() == {"train": "partial", "test": "ok"}
    assert len(verify_cache()) == sum(len(dataset.files) for dataset in DATASETS.values())


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"LLM_TUTORIAL_CACHE": "/data/my cache"}, "/data/my cache"),
        ("linux", {"LLM_TUTORIAL_CACHE": "~/c"}, "/home/me/c"),
        ("linux", {"LLM_TUTORIAL_CACHE": " "}, "/home/me/.cache/llm-tutorial"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/llm-tutorial"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/llm-tutorial"),
        ("darwin", {"XDG_CACHE_HOME": "/xdg"}, "/home/me/Library/Caches/llm-tutorial"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/llm-tutorial"),
        ("win32", {}, "/home/me/AppData/Local/llm-tutorial"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="the expected paths are POSIX ones")
def test_the_cache_folder_follows_the_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], expected: str
) -> None:
    for name in ("LLM_TUTORIAL_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (environment | {"HOME": "/home/me"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == Path(expected)


def test_lines_end_where_the_file_says(tmp_path: Path) -> None:
    text = "\ufeffeins\u2028zwei\n\nd\x85rei\r\nvier"
    expected = ["eins\u2028zwei", "", "d\x85rei", "vier"]
    plain, packed, archive = (tmp_path / name for name in ("a", "b", "c"))
    plain.write_bytes(text.encode())
    packed.write_bytes(gzip.compress((text + "\n").encode()))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("folder/text.pos", text)
        file.writestr("../../outside.pos", "never extracted")
    assert read_text_lines(plain) == expected
    assert read_text_lines(packed) == expected
    assert read_text_lines(archive, "text.pos") == expected
    assert read_text_lines(archive, "outside.pos") == ["never extracted"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]
    plain.write_bytes(b"")
    assert read_text_lines(plain) == []


def test_what_is_no_text_is_one_clear_line(tmp_path: Path) -> None:
    packed = gzip.compress(b"text" * 1000)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "text" * 10)
    broken = bytearray(archive.getvalue())
    broken[45] ^= 1
    path = tmp_path / "file"
    cases = [(packed[:20], None), (packed[:-5] + b"12345", None), (b"\xff\xfe\x00\x01", None)]
    cases += [(b"no zip", "a.txt"), (bytes(broken), "a.txt"), (archive.getvalue(), "b.txt")]
    for content, member in cases:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
            read_text_lines(path, member)
        assert "\n" not in str(caught.value)
