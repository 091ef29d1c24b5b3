"""The doctor's child process: imports what might break, and reports in JSON lines.

``doctor_probe.py libraries NAME...`` imports packages and looks for devices and fonts;
``doctor_probe.py family NAME`` imports every module of a package and runs its forward pass. A row
of kind "trying" comes before each import, so that the parent knows the culprit if this one dies.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import importlib
import json
import pkgutil
import sys
import time
from collections.abc import Sequence

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import one_line
from tutorial_kit.doctor import FAIL, OK, WARN, Finding, usable_cores

IMPORT_NAMES = {"scikit-learn": "sklearn"}  # where a package is imported under another name


def main(argv: Sequence[str] | None = None) -> None:
    """Carries out what the arguments ask for; see the module's text."""
    what, *names = sys.argv[1:] if argv is None else argv
    if what == "libraries":
        imported = [name for name in names if try_import(IMPORT_NAMES.get(name, name), name)]
        if "torch" in imported:
            report(device_finding())
            report(thread_finding())
        if "matplotlib" in imported:
            report(font_finding())
    else:
        (package,) = names
        modules = [module.name for module in pkgutil.iter_modules([str(PROJECT_ROOT / package)])]
        modules = [f"{package}.{name}" for name in modules if name != "__main__"]
        worked = [try_import(name, name) for name in modules]
        if all(worked) and package != "tutorial_kit":
            report(forward_finding(package))


def try_import(module: str, name: str) -> bool:
    """Imports a module; reports before, and afterwards if it failed."""
    row("trying", name=name)
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        row("broken", name=name, error=f"{type(error).__name__}: {one_line(error)}"[:300])
        return False
    return True


def device_finding() -> Finding:
    """Says which device ``--device auto`` takes."""
    import torch

    from tutorial_kit.device import pick_device

    device = pick_device("auto")
    text = f"{device} (torch {torch.__version__})"
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory / 1024**3
        text = f"{text}: {torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
    try:
        two = torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)
        assert two.sum().item() == 8.0
    except (RuntimeError, AssertionError) as error:
        advice = "use --device cpu, or install the torch that fits your driver"
        return Finding(FAIL, "device", f"{text} cannot multiply: {one_line(error)[:200]}", advice)
    if device.type == "cpu":
        text += ", which is enough for every lesson"
    return Finding(OK, "device", text)


def thread_finding() -> Finding:
    """Compares torch's threads with the cores there are; too many make every step slower."""
    import torch

    threads, cores = torch.get_num_threads(), usable_cores()
    text = f"torch uses {threads} threads for {cores:g} cores"
    if threads > cores + 0.5:
        return Finding(WARN, "threads", text, f"set OMP_NUM_THREADS={max(1, int(cores))}")
    return Finding(OK, "threads", text)


def font_finding() -> Finding:
    """Looks for a font with Chinese characters, which the translation lesson's figures use."""
    from tutorial_kit.plotting import chinese_font

    font = chinese_font()
    if font:
        return Finding(OK, "fonts", f"Chinese in figures is drawn with {font}")
    advice = "install one, such as Noto Sans CJK (Debian, Ubuntu: apt install fonts-noto-cjk)"
    return Finding(WARN, "fonts", "none with Chinese: figures show character codes", advice)


def forward_finding(family: str) -> Finding:
    """Calls the ``forward_once`` of the family's verify script."""
    scripts = sorted((PROJECT_ROOT / family).glob("verify_*.py"))
    for script in scripts:
        forward_once = getattr(sys.modules[f"{family}.{script.stem}"], "forward_once", None)
        if forward_once is None:
            continue
        start = time.perf_counter()
        try:
            text = str(forward_once())
        except Exception as error:
            problem = f"{type(error).__name__}: {one_line(error)[:200]}"
            advice = f"python {family}/{script.name}"
            return Finding(FAIL, family, f"forward pass failed: {problem}", advice)
        seconds = time.perf_counter() - start
        return Finding(OK, family, f"imports; forward pass in {seconds:.1f} s: {text}")
    advice = f"{family}/verify_*.py needs a function forward_once() -> str"
    return Finding(WARN, family, "imports; no forward pass to try", advice)


def report(finding: Finding) -> None:
    """Sends a finding to the parent."""
    row(
        "finding",
        level=finding.level,
        subject=finding.subject,
        text=finding.text,
        advice=finding.advice,
    )


def row(kind: str, **values: str) -> None:
    """Sends one JSON line to the parent, at once."""
    print(json.dumps({"kind": kind, **values}), flush=True)


if __name__ == "__main__":
    main()
