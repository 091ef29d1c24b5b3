"""What the report says of a finished demo: picture, sample, learning curve, parameters, speed.

Everything is read from the files that the demo named and from the folders of their runs (a folder
with ``metrics.jsonl``). What is missing or damaged is left out: a report with a gap is still a
report. Standard library only; Pillow and torch are imported where a file needs them.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutorial_kit.demo import DemoResult, KeptDemo
from tutorial_kit.training import read_metrics

PICTURE_WIDTH, PICTURE_HEIGHT = 1200, 1600  # pixels; larger pictures are scaled down
OTHER_PICTURES = ("structure", "training", "training_curve")  # shown if there is no other
SAMPLE_LINES = 40
COUNTED = ("tokens", "words")  # what a metrics log counts, the best first


@dataclass(frozen=True)
class Curve:
    """The losses of one run, at the steps where it was evaluated."""

    run: str  # the folder's name
    train: tuple[tuple[float, float], ...]  # (step, loss)
    validation: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Facts:
    """What is known about a finished demo beside its result."""

    picture: str = ""  # data: address; "" if there is none
    picture_name: str = ""
    sample: str = ""  # lines to read
    curve: Curve | None = None
    parameters: int | None = None
    rate: float | None = None  # per second of training
    rate_unit: str = ""  # "tokens", "words" or "examples"


def facts_of(kept: KeptDemo) -> Facts:
    """Reads what the files of a finished demo tell."""
    picture = best_picture(kept.result.files)
    run = next(run_folders(kept.result), None)
    rows = read_rows(run / "metrics.jsonl") if run else []
    rate, unit = speed(rows, run) if run else (None, "")
    return Facts(
        picture=embedded(picture) if picture else "",
        picture_name=picture.name if picture else "",
        sample=sample_of(kept.story, kept.result.files),
        curve=curve_of(rows, run.name) if run else None,
        parameters=parameter_count(run) if run else None,
        rate=rate,
        rate_unit=unit,
    )


def run_folders(result: DemoResult) -> Iterator[Path]:
    """Yields the folders of the runs that the demo's files lie in, in the order of the files."""
    seen = set()
    for file in result.files:
        for folder in list(Path(file).parents)[:2]:  # run/vectors.bin, run/figures/map.png
            if folder not in seen and (folder / "metrics.jsonl").is_file():
                seen.add(folder)
                yield folder


def best_picture(files: Sequence[str]) -> Path | None:
    """Returns the first picture that shows what was learned; any other if there is none."""
    pictures = [Path(file) for file in files if Path(file).suffix.lower() == ".png"]
    return min(pictures, key=lambda picture: picture.stem in OTHER_PICTURES, default=None)


def embedded(picture: Path) -> str:
    """Returns a picture as a ``data:`` address, scaled down if it is large; "" if unreadable."""
    with suppress(Exception):  # Pillow raises many types for a damaged file
        from PIL import Image

        with Image.open(picture) as image:
            flat = Image.new("RGB", image.size, "white")  # a figure may be transparent
            full = image.convert("RGBA")
            flat.paste(full, mask=full.getchannel("A"))
        flat.thumbnail((PICTURE_WIDTH, PICTURE_HEIGHT))
        buffer = io.BytesIO()
        flat.quantize(256).save(buffer, "PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return ""


def sample_of(story: str, files: Sequence[str]) -> str:
    """Returns the last part of a story before it lists its files: what the model can do now.

    Args:
        story: what the demo printed, in numbered parts ("6. What is near now:").
        files: the paths that it lists at the end.

    >>> story = "1. Data.\\n\\n2. It writes:\\n   a b\\n\\n3. Pictures:\\n   out/a.png"
    >>> sample_of(story, ["out/a.png"])
    '2. It writes:\\n   a b'
    """
    lines = [line.rstrip() for line in story.replace("\\", "/").splitlines()]
    names = tuple(str(file).replace("\\", "/") for file in files)
    end = next((i for i, line in enumerate(lines) if names and line.endswith(names)), len(lines))
    while end > 0 and end < len(lines) and lines[end - 1]:  # the paragraph that introduces them
        end -= 1
    part = [i for i in range(end) if re.match(r"\d+\. ", lines[i])]
    start = part[-1] if part else max(0, end - SAMPLE_LINES)
    return "\n".join(lines[start:end][-SAMPLE_LINES:]).strip("\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a metrics log that have a step; [] if it cannot be read."""
    rows: list[dict[str, Any]] = []
    with suppress(OSError, ValueError):  # no log, or one that is not text
        rows = read_metrics(path)
    return [row for row in rows if isinstance(row, dict) and is_number(row.get("step"))]


def is_number(value: object) -> bool:
    """Tells whether a value can be drawn."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and math.isfinite(value)  # type: ignore[arg-type]


def curve_of(rows: Sequence[Mapping[str, Any]], run: str) -> Curve | None:
    """Returns the losses of a run; None if it logged none."""

    def points(key: str) -> tuple[tuple[float, float], ...]:
        return tuple((row["step"], row[key]) for row in rows if is_number(row.get(key)))

    train, validation = points("train_loss"), points("validation_loss")
    return Curve(run, train, validation) if train or validation else None


def speed(rows: Sequence[Mapping[str, Any]], run: Path) -> tuple[float | None, str]:
    """Returns what a run read in a second of training, and the unit.

    Tokens or words where the log counts them, else examples: steps times batch size.
    """
    last = rows[-1] if rows else {}
    seconds = last.get("seconds")
    if seconds is None or not is_number(seconds) or seconds <= 0:
        return None, ""
    for unit in COUNTED:
        if is_number(last.get(unit)):
            return last[unit] / seconds, unit
    with suppress(OSError, ValueError, TypeError, KeyError):
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        batch = config["batch_size"] * config.get("accumulation", 1)
        return last["step"] * batch / seconds, "examples"
    return None, ""


def parameter_count(run: Path) -> int | None:
    """Returns how many numbers the model of a run has, tied weights once; None if unknown."""
    for name in ("last.pt", "best.pt"):
        path = run / "checkpoints" / name
        if not path.is_file():
            continue
        with suppress(Exception):  # no torch, or a checkpoint that is damaged or laid out otherwise
            import torch

            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            weights = content["state"]["model"].values()
            sizes = {w.data_ptr(): w.numel() for w in weights if w.is_floating_point()}
            return sum(sizes.values()) or None
    return None
