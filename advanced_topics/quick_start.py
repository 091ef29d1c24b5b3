"""A tour of the advanced topics in about a minute, offline: one small measurement for each.

The words that it prints are in ``texts/en.json``; the findings are computed while you watch.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from advanced_topics.run_examples import ALL_TOPICS
from advanced_topics.topic import FAMILY, Topic, Tour
from tutorial_kit.compute import prepare_device
from tutorial_kit.console import format_table, run_entry
from tutorial_kit.demo import DemoResult
from tutorial_kit.entry_parsers import quick_start_parser
from tutorial_kit.plotting import save_figure
from tutorial_kit.texts import Texts
from tutorial_kit.training import run_folder

PICTURED = ("positions", "recall", "induction")  # topics whose figures are saved
FOLD = 84  # characters of a finding on one line of the table
HEADLINE = "recall"  # the topic that stands for all in the closing table of the menu


class Stop(NamedTuple):
    """One stop of the tour."""

    topic: Topic
    tour: Tour
    seconds: float


def visit(topics: Sequence[Topic], smoke: bool, texts: Texts) -> list[Stop]:
    """Measures each topic and says at once what was found."""
    stops = []
    for number, topic in enumerate(topics, 1):
        texts.say("quick.topic", number=number, question=topic.question)
        started = time.perf_counter()
        stops.append(Stop(topic, topic.tour(smoke), time.perf_counter() - started))
        texts.say("quick.finding", finding=stops[-1].tour.finding)
    return stops


def table_of(stops: Sequence[Stop], texts: Texts) -> str:
    """Returns the table of findings, long ones folded."""
    heads = [texts.get(f"quick.head.{name}") for name in ("topic", "seconds", "finding")]
    rows: list[tuple[str, str, str]] = []
    for stop in stops:
        first, *others = textwrap.wrap(stop.tour.finding, FOLD)
        rows.append((stop.topic.name, f"{stop.seconds:.1f}", first))
        rows += [("", "", line) for line in others]
    return format_table(heads, rows)


def draw(stops: Sequence[Stop], folder: Path) -> list[Path]:
    """Saves the figures of the pictured topics; returns their paths."""
    return [
        save_figure(stop.tour.figure, folder / f"{stop.topic.name}.png")
        for stop in stops
        if stop.topic.name in PICTURED and stop.tour.figure is not None
    ]


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return quick_start_parser("A tour of the advanced topics in about a minute, offline.")


def main(argv: Sequence[str] | None = None) -> DemoResult:
    """Gives the tour; returns its result."""
    args = build_parser().parse_args(argv)
    started = time.perf_counter()
    texts = Texts(Path(__file__).parent)
    prepare_device(args.device)
    folder = run_folder(FAMILY, f"quick_start_{args.preset}")
    topics = list(ALL_TOPICS.values())
    texts.say("quick.start", topics=len(topics), folder=run_folder(FAMILY, "experiments"))
    stops = visit(topics, args.preset == "smoke", texts)
    texts.say("quick.table", table=table_of(stops, texts))
    files = draw(stops, folder / "figures")
    texts.say("quick.files", files="\n".join(f"   {path}" for path in files))
    texts.say("quick.next")
    headline = next(stop.tour.finding for stop in stops if stop.topic.name == HEADLINE)
    return DemoResult(
        family=FAMILY,
        learned=texts.get("demo.learned", topics=len(topics)),
        headline=texts.get("demo.headline", finding=headline),
        value=float(len(stops)),
        unit="findings",
        seconds=time.perf_counter() - started,
        files=tuple(str(path) for path in files),
    )


if __name__ == "__main__":
    run_entry(main)
