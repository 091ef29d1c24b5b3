"""Open what a user names: a run of ``vit_trainer`` or a folder with published weights."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tutorial_kit.published_folder import read_json_object
from tutorial_kit.saved_runs import figures_of
from tutorial_kit.training import run_folder
from vit.pretrained import PROCESSOR_FILE, load_pretrained
from vit.saved_model import DataFacts, load_run
from vit.vit_config import ViTConfig
from vit.vit_model import ViT

SMOKE_SIZE = 8  # pixels, as the digits of scikit-learn


@dataclass(frozen=True)
class OpenModel:
    """A model that can read pictures, and what it must know for that."""

    model: nn.Module  # a ViT or a ResidualCNN, in evaluation mode
    facts: DataFacts  # classes, mean and deviation, image size, channels
    dataset: str  # what it was trained on, by the trainer's name; "" if nobody knows
    figures: Path  # the folder for its pictures


def open_run(name: Path | str) -> OpenModel:
    """Opens a run.

    Args:
        name: a run's folder, its name under outputs/vit/, or a checkpoint file.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it cannot be read.
    """
    model, config, facts = load_run(name)
    return OpenModel(model, facts, config.dataset, figures_of("vit", name))


def open_published(folder: Path | str) -> OpenModel:
    """Opens a folder with config.json and model.safetensors.

    How pictures are normalized stands in preprocessor_config.json. If it is not there, they are put
    between -1 and 1, as the weights of the paper want it.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: a file is damaged or of another architecture.
    """
    folder = Path(folder)
    model, classes = load_pretrained(folder, say=lambda line: print(line, file=sys.stderr))
    channels = model.config.channels
    mean, std = _normalization(folder / PROCESSOR_FILE, channels)
    facts = DataFacts(classes, mean, std, model.config.image_size, channels)
    return OpenModel(model, facts, "", figures_of("vit", folder))


def _normalization(path: Path, channels: int) -> tuple[Tensor, Tensor]:
    """Reads mean and deviation of each channel; both 0.5 without the file."""
    if not path.is_file():
        return torch.full((channels,), 0.5), torch.full((channels,), 0.5)
    content = read_json_object(path, "")
    values = [content.get(name, [0.5] * channels) for name in ("image_mean", "image_std")]
    for value in values:
        if not (
            isinstance(value, list)
            and len(value) == channels
            and all(isinstance(number, (int, float)) for number in value)
        ):
            raise ValueError(
                f"{path} normalizes with {value!r} and the model reads {channels} channel(s): it "
                "takes one number each. Use files that belong together."
            )
    return torch.tensor(values[0]).float(), torch.tensor(values[1]).float()


def untrained_model(seed: int = 0) -> OpenModel:
    """Returns a tiny ViT with fresh weights, for tests and ``--preset smoke``."""
    config = ViTConfig(
        image_size=SMOKE_SIZE, patch_size=2, channels=1, n_classes=10, d_model=32, n_heads=4,
        n_layers=2, d_ff=64,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ViT(config).eval()
        nn.init.normal_(model.head.weight, std=0.2)  # of zeros, every class is as probable
    classes = tuple(map(str, range(10)))
    facts = DataFacts(classes, torch.tensor([0.3]), torch.tensor([0.4]), SMOKE_SIZE, 1)
    return OpenModel(model, facts, "digits-small", run_folder("vit", "pictures_smoke") / "figures")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds ``--run``, ``--pretrained`` and ``--preset``, of which `open_named` takes one."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--run", type=Path, metavar="NAME",
                       help="run of vit_trainer: name, folder, or checkpoint file")  # fmt: skip
    which.add_argument("--pretrained", type=Path, metavar="FOLDER",
                       help="folder with config.json and model.safetensors")  # fmt: skip
    parser.add_argument(
        "--preset", choices=["run", "smoke"], default="run", help="smoke: an untrained model"
    )


def open_named(args: argparse.Namespace, purpose: str) -> OpenModel:
    """Opens what the command line names.

    Args:
        args: of a parser with `add_model`.
        purpose: what the model is for, as "to look into".

    Raises:
        FileNotFoundError: there is no such run or folder.
        ValueError: none is named, or it cannot be read.
    """
    if args.run is not None:
        return open_run(args.run)
    if args.pretrained is not None:
        return open_published(args.pretrained)
    if args.preset == "smoke":
        return untrained_model()
    raise ValueError(
        f"neither --run nor --pretrained was given: there is no model {purpose}. Train one with "
        "python vit/vit_trainer.py, then name its run."
    )
