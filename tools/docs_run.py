"""Runs the Python blocks of a page and compares what they print with what the page shows.

A block opened by three backticks and ``python run`` is executed; all such blocks of a page share
one namespace and one process, whose working directory is an empty temporary folder. The block that
follows directly, opened by ``text output``, shows what was printed. ``text output ~0.01`` lets
numbers differ by that relative amount: for what depends on the processor.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools.docs_page import Edit, Fence, Page, Problem

TIMEOUT = 120.0  # seconds for all blocks of a page
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


def run_page(page: Page, root: Path, timeout: float = TIMEOUT) -> tuple[list[Edit], list[Problem]]:
    """Runs a page's blocks.

    Returns:
        One edit for each shown output that differs, and the problems: a block that fails, an output
        that belongs to none.
    """
    blocks, problems = _blocks(page)
    if not blocks:
        return [], problems
    task = {
        "job": "run",
        "page": page.name,
        "blocks": [(block.line, block.text) for block, _ in blocks],
    }
    answers, ended = start_child(task, root, timeout)
    edits = []
    for (_, shown), answer in zip(blocks, answers, strict=False):
        if "error" in answer:
            text = f"this block fails: {answer['error']}. Mend the block or what it calls."
            problems.append(Problem(page.name, answer["line"], text))
        elif shown and not same_output(shown, answer["output"]):
            edits.append(_edit(shown, answer["output"]))
    if len(answers) < len(blocks) and not (answers and "error" in answers[-1]):
        block = blocks[len(answers)][0]
        text = f"this block {ended}. Make it smaller, or do not run it."
        problems.append(Problem(page.name, block.line, text))
    return edits, problems


def _blocks(page: Page) -> tuple[list[tuple[Fence, Fence | None]], list[Problem]]:
    """Pairs each block to be run with the output shown behind it."""
    blocks: list[tuple[Fence, Fence | None]] = []
    problems = []
    before: Fence | None = None
    for fence in page.fences:
        words = fence.info.split()
        if words[:2] == ["python", "run"]:
            blocks.append((fence, None))
        elif words[:2] == ["text", "output"]:
            if blocks and blocks[-1][0] is before:
                blocks[-1] = (blocks[-1][0], fence)
            else:
                text = "this output follows no block that is run. Open that one by ```python run."
                problems.append(Problem(page.name, fence.line, text))
        before = fence
    return blocks, problems


def same_output(shown: Fence, fresh: str) -> bool:
    """Tells whether a fresh output is what the page shows, within the tolerance the block names."""
    old, new = _tidy(shown.text), _tidy(fresh)
    tolerance = re.search(r"~([\d.e-]+)", shown.info)
    if old == new or not tolerance:
        return old == new
    if _NUMBER.sub("#", old) != _NUMBER.sub("#", new):
        return False
    pairs = zip(map(float, _NUMBER.findall(old)), map(float, _NUMBER.findall(new)), strict=True)
    return all(abs(a - b) <= float(tolerance[1]) * max(abs(a), abs(b)) for a, b in pairs)


def _edit(shown: Fence, fresh: str) -> Edit:
    """Returns the edit that puts the fresh output in, and names the first line that differs."""
    old, new = _tidy(shown.text).split("\n"), _tidy(fresh).split("\n")
    number = next(
        (i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), -1
    )
    was, now = (old[number], new[number]) if number >= 0 else (f"{len(old)} lines", f"{len(new)}")
    text = "".join(f"{shown.indent}{line}".rstrip() + "\n" for line in new) if any(new) else ""
    return Edit(shown.start, shown.end, text, f"the output shows {was!r}, the block prints {now!r}")


def _tidy(text: str) -> str:
    """Leaves out what no reader sees: spaces at line ends, empty lines at both ends."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def start_child(task: dict[str, Any], root: Path, timeout: float) -> tuple[list[Any], str]:
    """Lets ``docs_child.py`` do a task.

    Args:
        task: "job" and what that job needs.
        root: the project's folder, first on the child's path.
        timeout: seconds after which the child is ended.

    Returns:
        Its answers, possibly fewer than asked for, and how it ended, in words.
    """
    child = Path(__file__).with_name("docs_child.py")
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
    environment.pop("PYTHONSAFEPATH", None)
    with tempfile.TemporaryDirectory() as folder:
        environment["LLM_TUTORIAL_OUTPUTS"] = str(Path(folder) / "outputs")
        try:
            done = subprocess.run(
                [sys.executable, str(child)],
                input=json.dumps({**task, "root": str(root)}).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=environment,
                timeout=timeout,
            )
            output, ended = done.stdout, f"ends the process (exit code {done.returncode})"
        except subprocess.TimeoutExpired as expired:
            output, ended = expired.stdout or b"", f"takes longer than {timeout:g} s"
    return [json.loads(line) for line in output.decode("utf-8").splitlines()], ended
