"""Every family on one page: runs each demo, or reuses its last result, and writes a report.

`outputs/report.html` holds what each model learned, its picture, sample, parameters, speed and
learning curve, and the architectures side by side. A demo that fails becomes a card that says so;
the exit code is the number of demos that failed.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from this folder
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parent)

import argparse
import platform
import time
from collections.abc import Sequence
from pathlib import Path

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import INTERRUPTED, OneLineParser, run_entry
from tutorial_kit.datasets import cache_folder
from tutorial_kit.demo import MOST_FAILURES, find_kept, outputs_folder, relative
from tutorial_kit.demo_runner import Family, find_families, parse_choice, run_demo
from tutorial_kit.forecast import Forecaster, spoken
from tutorial_kit.report_facts import facts_of
from tutorial_kit.report_page import Card, write_report
from tutorial_kit.texts import Texts

PRESETS = ("smoke", "quick")
SMOKE_FAMILIES = ("cbow", "vit")  # what a smoke run starts unless --only says otherwise


def make_card(
    family: Family, preset: str, forecaster: Forecaster, texts: Texts, *, rerun: bool, root: Path
) -> Card:
    """Reuses what is kept of a family's demo, or runs the demo; returns its card.

    Args:
        family: whose demo.
        preset: "smoke" or "quick".
        forecaster: says how long it will take, and remembers how long it took.
        texts: the kit's.
        rerun: run it although there is a result.
        root: the folder that holds the package.
    """
    kept = None if rerun else find_kept(family.name, preset, root)
    if kept is not None:
        texts.say("report.reused", family=family.name, preset=kept.preset, finished=kept.finished)
        return Card(family, "finished", kept, facts_of(kept))
    expected = spoken(forecaster.forecast(family.name, preset).seconds)
    texts.say("report.running", family=family.name, title=family.title, time=expected)
    outcome = run_demo(family.name, ["--preset", preset], root)
    values: dict[str, object] = {"family": family.name, "seconds": outcome.seconds}
    values["message"] = outcome.message
    values["headline"] = outcome.result.headline if outcome.result else ""
    log = relative(outcome.log, root) if outcome.log else ""
    values["log"] = log or texts.get("runner.no_log")
    said = "report.stopped" if outcome.status == "interrupted" else f"runner.{outcome.status}"
    texts.say(said, **values)
    if outcome.kept is None:
        return Card(family, outcome.status, message=outcome.message, log=log)
    forecaster.remember(family.name, preset, outcome.seconds)
    return Card(family, "finished", outcome.kept, facts_of(outcome.kept))


def make_cards(
    families: Sequence[Family], started: Sequence[str], preset: str, texts: Texts, *,
    rerun: bool, root: Path,
) -> list[Card]:  # fmt: skip
    """Returns a card for each family; after an interrupted demo no other is started.

    Args:
        families: on the page, in this order.
        started: the names of those that run if there is no result; of the others only what is
            kept is shown.
        preset: "smoke" or "quick".
        texts: the kit's.
        rerun: run those of ``started`` although there is a result.
        root: the folder that holds the packages.
    """
    forecaster = Forecaster(cache_folder() / "forecast.json", root / "benchmarks" / "results")
    cards: list[Card] = []
    for family in families:
        stopped = any(card.status == "interrupted" for card in cards)
        if family.name in started and not stopped:
            cards.append(make_card(family, preset, forecaster, texts, rerun=rerun, root=root))
        elif kept := find_kept(family.name, preset, root):
            cards.append(Card(family, "finished", kept, facts_of(kept)))
        else:
            texts.say("report.skipped", family=family.name)
            cards.append(Card(family, "missing"))
    return cards


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="demo_complete_project.py",
        description="Runs or reuses every demo and writes one page about all of them.",
        epilog="The exit code is the number of demos that failed.",
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="quick",
        help=f"quick: about a minute each; smoke: only {' and '.join(SMOKE_FAMILIES)}, in seconds",
    )
    parser.add_argument("--only", metavar="NAMES", help="only these, such as: --only gpt,bert")
    parser.add_argument("--rerun", action="store_true", help="run them although there are results")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the page (default: outputs/report.html)"
    )
    return parser


def main(argv: Sequence[str] | None = None, *, root: Path = PROJECT_ROOT) -> int:
    """Builds the page.

    Args:
        argv: arguments; None means the command line.
        root: the folder with the families.

    Returns:
        The number of failed demos, or 130 if one was interrupted by Ctrl-C.

    Raises:
        ValueError: `--only` names something that is not there, or `--output` is a folder.
        OSError: the page cannot be written.
    """
    args = build_parser().parse_args(argv)
    texts = Texts(Path(__file__).resolve().parent / "tutorial_kit")
    families = {family.name: family for family in find_families(root)}
    if not families:
        raise ValueError(texts.get("runner.nothing", root=root))
    output = args.output or outputs_folder(root) / "report.html"
    if output.is_dir():
        raise ValueError(texts.get("report.output_is_folder", path=output))
    names = parse_choice("all" if args.only is None else args.only, list(families))
    started = SMOKE_FAMILIES if args.preset == "smoke" and args.only is None else names
    cards = make_cards([families[name] for name in names], started, args.preset, texts,
                       rerun=args.rerun, root=root)  # fmt: skip
    values = {
        "families": len(cards),
        "finished": sum(card.status == "finished" for card in cards),
    }
    machine = f"{platform.system()} {platform.machine()}"
    note = texts.get("report.note", date=time.strftime("%Y-%m-%d"), machine=machine, **values)
    path = write_report(output, cards, texts, note=note)
    size = path.stat().st_size / 1e6
    print()
    texts.say("report.written", path=relative(path, root), size=size, **values)
    if any(card.status == "interrupted" for card in cards):
        return INTERRUPTED
    return min(MOST_FAILURES, sum(card.status == "failed" for card in cards))


if __name__ == "__main__":
    run_entry(main)
