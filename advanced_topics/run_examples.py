"""The chapter's experiments: every topic with three seeds, its table, its figure, its results.

``python advanced_topics/run_examples.py`` runs all of them; ``--only positions`` runs one; what was
measured is kept under ``outputs/advanced_topics/experiments`` and not repeated.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
from collections.abc import Sequence

from advanced_topics import analyses
from advanced_topics.experiments import TOPICS
from advanced_topics.topic import FAMILY
from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import experiments_parser
from tutorial_kit.experiments import Study, chosen_experiments, run_experiments, seeds_of
from tutorial_kit.results import Result

ALL_TOPICS = {topic.name: topic for topic in [*TOPICS, *analyses.EXPERIMENTS]}
RUNNERS = {name: topic.run for name, topic in ALL_TOPICS.items()}
MEASURES = {
    name: meaning for topic in ALL_TOPICS.values() for name, meaning in topic.measures.items()
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return experiments_parser(FAMILY, "Run the experiments of the advanced topics.", RUNNERS)


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Runs the experiments, prints their tables, saves figures and results."""
    args = build_parser().parse_args(argv)
    names = chosen_experiments(FAMILY, args.only, RUNNERS)
    study = Study(seeds_of(args), smoke=args.preset == "smoke")
    return run_experiments(FAMILY, RUNNERS, names, study, publish=args.publish)


if __name__ == "__main__":
    run_entry(main)
