"""The doctor's checks of the project: its files, imports, models, data and documents.

Whatever imports torch or a family runs in a child process (`tutorial_kit.doctor_probe`): a library
built for another processor kills the process that imports it, and the doctor must live to say so.
Standard library only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tutorial_kit.demo_runner import FAMILIES
from tutorial_kit.doctor import FAIL, INSTALL, OK, WARN, Finding

RESTORE = "the clone is incomplete; restore it: git checkout -- "
CHANGED = "this shows what was changed in it: git diff -- "
TOP_LEVEL = (
    "README.md",
    "LICENSE",
    "CONTRIBUTING.md",
    "pyproject.toml",
    "requirements.txt",
    "requirements-dev.txt",
    "run_all_tutorials.py",
    "demo_complete_project.py",
    "validate_project.py",
    "tutorial_kit/__init__.py",
    "tools/docs_sync.py",
    "tests",
    "docs",
    "benchmarks/results",
)
EVERY_FAMILY = ("__init__.py", "quick_start.py", "texts/en.json")
FAMILY_FILES = {
    "cbow": ("README_cbow_tutorial.md", "cbow_data.py", "cbow_components.py", "cbow_model.py")
    + ("cbow_trainer.py", "cbow_example.py", "embedding_visualization.py", "run_examples.py")
    + ("verify_embedding_updates.py",),
    "transformer": ("README_transformer_tutorial.md", "positional_encoding.py")
    + ("transformer_components.py", "transformer_model.py", "train_transformer.py")
    + ("text_generation_example.py", "run_examples.py", "verify_structure.py"),
    "bert": ("README_bert_tutorial.md", "wordpiece.py", "bert_components.py", "bert_model.py")
    + ("bert_data.py", "bert_pretraining.py", "bert_finetuning.py", "bert_inference.py")
    + ("attention_visualization.py", "run_examples.py", "verify_structure.py"),
    "vit": ("README_vit_tutorial.md", "image_data.py", "patch_embedding.py", "vit_components.py")
    + ("vit_model.py", "cnn_baseline.py", "vit_trainer.py", "vit_inference.py")
    + ("attention_visualization.py", "run_examples.py", "verify_vit_structure.py"),
    "gpt": ("README_gpt_tutorial.md", "text_data.py", "gpt_components.py", "gpt_model.py")
    + ("train_gpt.py", "generation.py", "attention_visualization.py", "run_examples.py")
    + ("verify_structure.py",),
    "instruction_tuning": ("README_instruction_tuning.md", "instruction_data.py", "chat.py")
    + ("losses.py", "lora.py", "reward_model.py", "sft_trainer.py", "reward_trainer.py")
    + ("dpo_trainer.py", "ppo_trainer.py", "grpo_trainer.py", "evaluate.py")
    + ("reward_visualization.py", "run_examples.py", "verify_losses.py"),
    "multimodal": ("scenes.py", "captions.py", "contrastive_model.py")
    + ("vision_language_model.py", "multimodal_trainer.py", "run_examples.py")
    + ("verify_multimodal.py",),
    "optimization": ("quantized_model.py", "pruning.py")
    + ("distillation.py", "train_student.py", "server.py", "load_test.py", "roofline.py")
    + ("run_examples.py", "verify_optimization.py"),
    "advanced_topics": ("positions.py", "grouped_attention.py")
    + ("mixture_of_experts.py", "online_softmax.py", "linear_attention.py", "scaling_law.py")
    + ("induction.py", "logit_lens.py", "sparse_features.py", "advanced_trainer.py")
    + ("run_examples.py", "verify_advanced_topics.py"),
}


def existing_families(root: Path) -> list[str]:
    """Returns the families whose folder is there, in the order of the lessons."""
    return [name for name in FAMILIES if (root / name / "__init__.py").is_file()]


def check_structure(root: Path) -> Iterator[Finding]:
    """Checks that the files every clone has are there."""
    missing = [name for name in TOP_LEVEL if not (root / name).exists()]
    if missing:
        text = f"missing: {', '.join(missing)}"
        yield Finding(FAIL, "project files", text, RESTORE + " ".join(missing))
    else:
        yield Finding(OK, "project files", f"all {len(TOP_LEVEL)} there")
    families = existing_families(root)
    if not families:
        yield Finding(FAIL, "families", "there is none", RESTORE + ".")
    for family in families:
        names = EVERY_FAMILY + FAMILY_FILES.get(family, ())
        missing = [f"{family}/{name}" for name in names if not (root / family / name).exists()]
        if missing:
            text = f"missing: {', '.join(missing)}"
            yield Finding(FAIL, family, text, RESTORE + " ".join(missing))
        else:
            yield Finding(OK, family, f"all {len(names)} files of the lesson there")


def check_libraries(root: Path, packages: Sequence[str]) -> Iterator[Finding]:
    """Imports the packages in a child process; asks torch for devices and matplotlib for fonts."""
    report, problem = probe(root, "libraries", *packages)
    broken = {row["name"]: row["error"] for row in report if row["kind"] == "broken"}
    for name, error in broken.items():
        advice = f"pip install --force-reinstall {name}"
        yield Finding(FAIL, name, f"cannot be imported: {error}", advice)
    if problem:
        yield Finding(FAIL, "libraries", problem, f"{INSTALL} --force-reinstall")
    elif not broken:
        yield Finding(OK, "libraries", f"all {len(packages)} can be imported")
    for row in report:
        if row["kind"] == "finding":
            yield Finding(row["level"], row["subject"], row["text"], row["advice"])


def check_family(root: Path, family: str) -> Iterator[Finding]:
    """Imports every module of a family and runs one forward pass, in a child process."""
    report, problem = probe(root, "family", family)
    for row in report:
        if row["kind"] == "broken":
            text = f"{row['name']} cannot be imported: {row['error']}"
            yield Finding(FAIL, family, text, CHANGED + family)
        elif row["kind"] == "finding":
            yield Finding(row["level"], row["subject"], row["text"], row["advice"])
    if problem:
        yield Finding(FAIL, family, problem, "run it alone: python -m " + _last_module(report))


def check_kit(root: Path) -> Iterator[Finding]:
    """Imports every module of the kit, in a child process."""
    report, problem = probe(root, "family", "tutorial_kit")
    broken = [row for row in report if row["kind"] == "broken"]
    for row in broken:
        text = f"{row['name']} cannot be imported: {row['error']}"
        yield Finding(FAIL, "tutorial_kit", text, CHANGED + "tutorial_kit")
    if problem:
        yield Finding(FAIL, "tutorial_kit", problem, CHANGED + "tutorial_kit")
    elif not broken:
        count = sum(row["kind"] == "trying" for row in report)
        yield Finding(OK, "tutorial_kit", f"all {count} modules can be imported")


def check_data_sets() -> Iterator[Finding]:
    """Compares the cached files of the data sets with their SHA-256."""
    from tutorial_kit.datasets import cache_folder, verify_cache

    files = verify_cache()
    there = [f"{name}/{key}" for name, key, status in files if status == "ok"]
    missing = sum(status in ("missing", "partial") for *_, status in files)
    bad = [(f"{name}/{key}", status) for name, key, status in files]
    bad = [(file, status) for file, status in bad if status in ("damaged", "unreadable")]
    for file, status in bad:
        path = cache_folder() / "datasets" / file
        advice = f"delete {path}; it is fetched again when it is needed"
        yield Finding(FAIL, "data sets", f"{file} is {status}", advice)
    if not bad:
        text = f"{len(there)} files cached and whole, {missing} not fetched (only when needed)"
        yield Finding(OK, "data sets", text)


def check_documents(root: Path) -> Iterator[Finding]:
    """Asks docs_sync whether the documents say what the code and the results say."""
    command = [sys.executable, "tools/docs_sync.py", "--check"]
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, errors="replace", timeout=300
        )
    except subprocess.TimeoutExpired:
        yield Finding(WARN, "documents", "the check took longer than 300 s", " ".join(command[1:]))
        return
    if done.returncode == 0:
        yield Finding(OK, "documents", "in step with code and results")
    else:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
        advice = "python tools/docs_sync.py --check says more, without --check it mends most"
        yield Finding(FAIL, "documents", f"out of step: {lines[-1].strip()}", advice)


def probe(root: Path, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    """Runs `doctor_probe` in a child process.

    Args:
        root: the project's folder.
        arguments: for the probe's command line.

    Returns:
        The rows it reported, and what ended it early ("" if nothing did).
    """
    command = [sys.executable, str(root / "tutorial_kit" / "doctor_probe.py"), *arguments]
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, errors="replace", timeout=300
        )
        output, code, errors = done.stdout, done.returncode, done.stderr
    except subprocess.TimeoutExpired as late:
        output = late.stdout.decode("utf-8", "replace") if isinstance(late.stdout, bytes) else ""
        code, errors = None, ""
    rows = []
    for line in output.splitlines():
        if line.startswith('{"kind": '):  # libraries may print, too
            rows.append(json.loads(line))
    if code == 0:
        return rows, ""
    at = f"while importing {_last_module(rows)}"
    if code is None:
        return rows, f"nothing happened for 300 s {at}"
    if code < 0:
        return rows, f"Python was killed by signal {-code} {at}"
    return rows, f"Python ended with code {code} {at}: {(errors.strip() or '?').splitlines()[-1]}"


def _last_module(rows: Sequence[dict[str, Any]]) -> str:
    return next((row["name"] for row in reversed(rows) if row["kind"] == "trying"), "the kit")
