"""Runs the course's demos: a menu, or all of them in turn.

Without arguments a menu appears at once: nothing heavy is imported before a demo is chosen. With
`--all` or `--only` the demos run one after another and a table closes the run. The exit code is the
number of demos that failed.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from this folder
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parent)

import argparse
import importlib.util
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from tutorial_kit import PROJECT_ROOT
from tutorial_kit.console import INTERRUPTED, OneLineParser, run_entry
from tutorial_kit.datasets import cache_folder
from tutorial_kit.demo import MOST_FAILURES, Outcome, relative, summary
from tutorial_kit.demo_runner import Family, find_families, parse_choice, run_demo
from tutorial_kit.forecast import Forecast, Forecaster, spoken
from tutorial_kit.texts import Texts

PRESETS = ("smoke", "quick")
TWICE_SECONDS = 2.0  # a second Ctrl-C within this time leaves


class Session:
    """One run of this script: what is on the menu, what has been run, when Ctrl-C was pressed."""

    def __init__(self, root: Path, preset: str | None) -> None:
        self.root, self.preset = root, preset
        self.texts = Texts(Path(__file__).resolve().parent / "tutorial_kit")
        self.families = {family.name: family for family in find_families(root)}
        self.forecaster = Forecaster(
            cache_folder() / "forecast.json", root / "benchmarks" / "results"
        )
        self.outcomes: list[Outcome] = []
        self.last_interrupt = -TWICE_SECONDS

    @property
    def failures(self) -> int:
        """The exit code."""
        return min(MOST_FAILURES, sum(outcome.status == "failed" for outcome in self.outcomes))

    def interrupted_twice(self) -> bool:
        """Notes a Ctrl-C; returns whether it follows another one closely."""
        previous, self.last_interrupt = self.last_interrupt, time.monotonic()
        return self.last_interrupt - previous < TWICE_SECONDS

    def show_list(self) -> None:
        """Prints one row per family: what one will see and how long it takes on this machine."""
        width = min(shutil.get_terminal_size().columns, 100)
        forecasts = {name: self._forecast(name) for name in self.families}
        print(self.texts.get("runner.title"), end="\n\n")
        for number, family in enumerate(self.families.values(), 1):
            about = self.texts.get("runner.about", time=spoken(forecasts[family.name].seconds))
            print(_row(number, family, about, width))
        total = spoken(sum(forecast.seconds for forecast in forecasts.values()))
        print(f"  0  {self.texts.get('runner.all')}, {self.texts.get('runner.about', time=total)}")
        bases = [forecast.basis for forecast in forecasts.values()]
        weakest = next(b for b in ("guess", "calibration", "earlier runs") if b in bases)
        basis = self.texts.get(f"runner.basis.{weakest}")
        print("\n" + self.texts.get("runner.times", basis=basis))
        if importlib.util.find_spec("torch") is None:
            self.texts.say("runner.no_torch")

    def run(self, names: Sequence[str], stop_at_interrupt: bool) -> None:
        """Runs demos in turn and prints the closing table.

        Args:
            names: the families.
            stop_at_interrupt: whether Ctrl-C drops the rest (menu) or only this demo (`--all`).

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed twice.
        """
        first = len(self.outcomes)
        try:
            for position, name in enumerate(names, 1):
                self._run_one(name, position, len(names))
                if self.outcomes[-1].status == "interrupted":
                    if self.interrupted_twice():
                        raise KeyboardInterrupt
                    if stop_at_interrupt:
                        break
        finally:
            columns = shutil.get_terminal_size((120, 24)).columns
            print("\n" + summary(self.outcomes[first:], self.root, columns), flush=True)

    def menu(self) -> None:
        """Shows the menu until the user leaves: `q`, end of input, or Ctrl-C twice."""
        self.show_list()
        print(f"  q  {self.texts.get('runner.leave')}")
        while True:
            try:
                line = input("\n" + self.texts.get("runner.prompt")).strip()
                if line.lower() in ("q", "quit", "exit"):
                    return
                names = parse_choice(line, list(self.families)) if line else []
            except EOFError:
                print()
                return
            except ValueError as error:
                print(f"{error} q leaves.")
                continue
            except KeyboardInterrupt:
                print()
                if self.interrupted_twice():
                    raise
                self.texts.say("runner.once_more")
                continue
            if names:
                self.run(names, stop_at_interrupt=True)
                print()
            self.show_list()
            print(f"  q  {self.texts.get('runner.leave')}")
            if names and self.outcomes[-1].status == "interrupted":
                self.last_interrupt = time.monotonic()  # the two seconds begin with the prompt

    def _forecast(self, name: str) -> Forecast:
        return self.forecaster.forecast(name, self.preset or "quick")

    def _run_one(self, name: str, position: int, count: int) -> None:
        """Runs one demo, says in one line how it ended, and remembers how long it took."""
        duration = spoken(self._forecast(name).seconds)
        title = self.families[name].title
        print()
        self.texts.say(
            "runner.start", family=name, title=title, position=position, count=count, time=duration
        )
        outcome = run_demo(name, ["--preset", self.preset] if self.preset else [], self.root)
        self.outcomes.append(outcome)
        values: dict[str, object] = {"family": name, "seconds": outcome.seconds}
        values["message"] = outcome.message
        if outcome.result:
            values["headline"] = outcome.result.headline
            self.forecaster.remember(name, self.preset or "quick", outcome.seconds)
        no_log = self.texts.get("runner.no_log")
        values["log"] = relative(outcome.log, self.root) if outcome.log else no_log
        print()
        self.texts.say(f"runner.{outcome.status}", **values)


def _row(number: int, family: Family, about: str, width: int) -> str:
    """Returns a family's row: number, name, title and time; below it what one will see."""
    start = f"{number:3}  {family.name:<19} {family.title}"
    gap = max(2, width - len(start) - len(about))
    lines = textwrap.wrap(family.what_you_see, width - 25)
    return "\n".join([start + " " * gap + about, *(" " * 25 + line for line in lines)])


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="run_all_tutorials.py",
        description="Runs the demos of the course. Without arguments a menu appears.",
        epilog="The exit code is the number of demos that failed.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--list", action="store_true", help="print what there is and leave")
    which.add_argument("--all", action="store_true", help="run every demo in turn")
    which.add_argument("--only", metavar="NAMES", help="run these, such as: --only gpt,bert")
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        help="smoke: seconds each; quick (default): about a minute each",
    )
    return parser


def main(argv: Sequence[str] | None = None, *, root: Path = PROJECT_ROOT) -> int:
    """Shows the menu or runs what the arguments name.

    Args:
        argv: arguments; None means the command line.
        root: the folder with the families.

    Returns:
        The number of failed demos, or 130 after Ctrl-C pressed twice.

    Raises:
        ValueError: `--only` names something that is not there.
    """
    args = build_parser().parse_args(argv)
    session = Session(root, args.preset)
    if not session.families:
        raise ValueError(session.texts.get("runner.nothing", root=root))
    if hasattr(sys.stdin, "reconfigure"):  # bytes that are no text get the menu's one-line answer
        sys.stdin.reconfigure(errors="replace")
    try:
        if args.all or args.only is not None:
            names = parse_choice("all" if args.all else args.only, list(session.families))
            session.run(names, stop_at_interrupt=False)
        elif args.list or not sys.stdin.isatty():
            session.show_list()
            print()
            session.texts.say("runner.how_to_choose", example=",".join(list(session.families)[-2:]))
        else:
            session.menu()
    except KeyboardInterrupt:
        return INTERRUPTED
    return session.failures


if __name__ == "__main__":
    run_entry(main)
