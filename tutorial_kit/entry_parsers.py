"""The command lines that every family's scripts have in common; a script adds what is its own.

The flags of settings are derived from the config (``config.py``), not written here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from tutorial_kit.console import OneLineParser
from tutorial_kit.device import DEVICES

SEEDS = (0, 1, 2)
"""What an experiment's mean and spread are taken over unless ``--seeds`` says otherwise."""


def add_device(parser: argparse.ArgumentParser, meaning: str = "where to train") -> None:
    """Adds ``--device``."""
    parser.add_argument("--device", default="auto", metavar="|".join(DEVICES), help=meaning)


def add_run(parser: argparse.ArgumentParser, family: str) -> None:
    """Adds what a trainer has beside its settings: ``--name``, ``--resume``, ``--device``."""
    # Not --run: torchrun would read that as its own --run-path.
    parser.add_argument(
        "--name", default=None, metavar="NAME", help=f"folder under outputs/{family}/"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the run's last checkpoint"
    )
    add_device(parser)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds ``--checkpoint``, of which ``saved_runs.find_run`` makes a path."""
    parser.add_argument(
        "--checkpoint", type=Path, metavar="RUN", help="run folder, its name, or a checkpoint file"
    )


def quick_start_parser(description: str) -> argparse.ArgumentParser:
    """Returns the command line of a ``quick_start.py``: ``--preset``, ``--device``, ``--seed``."""
    parser = OneLineParser(description=description)
    parser.add_argument("--preset", choices=["smoke", "quick"], default="quick", help="how long")
    add_device(parser)
    parser.add_argument("--seed", type=int, default=0, help="initial weights and order of the data")
    return parser


def verify_parser(description: str) -> argparse.ArgumentParser:
    """Returns the command line of a verify script: ``--preset`` and ``--trace``."""
    parser = OneLineParser(description=description)
    parser.add_argument("--preset", choices=["smoke", "standard"], default="standard",
                        help="both run every check; here for a uniform command line")  # fmt: skip
    parser.add_argument("--trace", action="store_true", help="print the shape ledger instead")
    return parser


def experiments_parser(
    family: str, description: str, names: Iterable[str], seeds: Sequence[int] = SEEDS
) -> argparse.ArgumentParser:
    """Returns the command line of a ``run_examples.py``.

    Args:
        family: the package, such as "gpt".
        description: what the script does, in one sentence.
        names: of the experiments.
        seeds: the default of ``--seeds``.
    """
    parser = OneLineParser(description=description)
    parser.add_argument("--only", metavar="NAME", help=f"{', '.join(names)}, or a result's name")
    parser.add_argument("--preset", choices=["smoke", "standard"], default="standard",
                        help="smoke: two steps of everything, nothing is recorded")  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds), help="at least three")
    parser.add_argument("--publish", action="store_true",
                        help=f"also copy what pages show to docs/figures/{family}")  # fmt: skip
    return parser
