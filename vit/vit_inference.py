"""Use a trained image model: name what is on pictures, and draw where it looked.

    python vit/vit_inference.py --run NAME photo.png other.jpg --top 3 --attention where.png
    python vit/vit_inference.py --pretrained FOLDER photo.png

NAME is a run of ``vit_trainer``, FOLDER holds published weights. A file that is no picture gives
one line on stderr that says why; the others go on, and the exit code is 2.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from tutorial_kit.console import USER_ERROR, OneLineParser, one_line, run_entry
from tutorial_kit.device import pick_device, tune_cpu
from tutorial_kit.entry_parsers import add_device
from tutorial_kit.plotting import save_figure
from tutorial_kit.texts import Texts
from vit.attention_maps import attention_weights, class_attention, rollout, vit_of
from vit.attention_pictures import attention_rows_figure
from vit.image_files import channels_of, read_image
from vit.open_model import OpenModel, add_model, open_named
from vit.prediction import normalize, predict, unit_range

__all__ = ["Answer", "attention_of", "classify", "main", "read_pictures"]

MAX_DRAWN = 12  # pictures that one attention figure has room for


class Answer(NamedTuple):
    """A class that a picture may show."""

    name: str
    probability: float  # 0 to 1


def classify(opened: OpenModel, images: Tensor, top_k: int = 5) -> list[list[Answer]]:
    """Returns the most probable classes of pictures, the best first.

    Args:
        opened: from `open_run` or `open_published`.
        images: (B, C, H, W) of the model's size, uint8 or float from 0 to 1.
        top_k: how many classes for each picture; fewer if the model knows fewer.

    Raises:
        ValueError: pictures of another shape, or no class is asked for.
    """
    facts = opened.facts
    wanted = (facts.channels, facts.image_size, facts.image_size)
    if images.ndim != 4 or images.shape[1:] != wanted:
        raise ValueError(
            f"pictures of shape {tuple(images.shape)} do not fit the model, which reads (pictures, "
            f"channels, height, width) = (B, {', '.join(map(str, wanted))}). Read them with "
            "image_files.read_image."
        )
    if top_k < 1:
        raise ValueError(f"top_k={top_k} asks for no class. Use 1 or more.")
    shares = predict(opened.model, images, facts.mean, facts.std).probabilities  # (B, classes)
    best = shares.topk(min(top_k, shares.shape[1]), dim=1)
    return [
        [Answer(facts.classes[place], share) for place, share in zip(places, row, strict=True)]
        for places, row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def attention_of(opened: OpenModel, images: Tensor, captions: Sequence[str]) -> Figure:
    """Draws where a ViT looks on each picture, layer by layer, and the rollout.

    Args:
        opened: its model is a ViT.
        images: (B, C, H, W) of the model's size, float from 0 to 1.
        captions: B texts, such as the answers.

    Raises:
        ValueError: the model has no attention.
    """
    weights, grid = weights_of(opened, images), grid_of(opened)
    maps = class_attention(weights.mean(dim=2), grid)  # (L, B, G, G)
    return attention_rows_figure(images, maps, class_attention(rollout(weights), grid), captions)


def weights_of(opened: OpenModel, images: Tensor) -> Tensor:
    """Returns a ViT's attention weights (L, B, H, T, T) for pictures from 0 to 1."""
    facts = opened.facts
    return attention_weights(opened.model, normalize(images, facts.mean, facts.std))


def grid_of(opened: OpenModel) -> int:
    """Returns G, a ViT's patches along a side."""
    return vit_of(opened.model).config.grid


def caption(answers: Sequence[Answer]) -> str:
    """Returns the best answer in few letters: "coat (93%)"."""
    return f"{answers[0].name} ({answers[0].probability:.0%})"


def read_pictures(
    opened: OpenModel, paths: Sequence[Path], texts: Texts
) -> tuple[list[Path], Tensor]:
    """Reads picture files as the model wants them.

    Says on stderr which cannot be read, and which lose their color.

    Returns:
        The paths that could be read, and (B, C, H, W) from 0 to 1.
    """
    facts = opened.facts
    read, images = [], [torch.empty(0, facts.channels, facts.image_size, facts.image_size)]
    for path in paths:
        try:
            images.append(read_image(path, facts.channels, facts.image_size).unsqueeze(0))
            read.append(path)
            if channels_of(path) > facts.channels:
                print(texts.get("inference.gray", path=path), file=sys.stderr)
        except (ValueError, OSError) as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
    return read, torch.cat(images)


def example_picture(opened: OpenModel) -> Tensor:
    """Returns (1, 1, 8, 8), a digit of scikit-learn's, for ``--preset smoke`` without a file."""
    from vit.image_data import load_image_data  # scikit-learn takes a second to import

    return unit_range(load_image_data(opened.dataset).test.images[:1])


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Name what is on pictures.")
    parser.add_argument(
        "pictures", nargs="*", type=Path, metavar="PICTURE", help="PNG or JPEG files"
    )
    add_model(parser)
    parser.add_argument("--top", type=int, default=5, help="classes for each picture")
    parser.add_argument("--attention", type=Path, metavar="PNG",
                        help="draw where the model looks into this file")  # fmt: skip
    parser.add_argument("--invert", action="store_true",
                        help="swap dark and light, for dark ink on white paper")  # fmt: skip
    add_device(parser, "where to compute")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the classes of each picture; returns 2 if one could not be read, else 0."""
    args = build_parser().parse_args(argv)
    if args.top < 1:
        raise ValueError(f"--top {args.top} asks for no class. Use 1 or more.")
    texts = Texts(Path(__file__).parent)
    tune_cpu()
    opened = open_named(args, "to name pictures")
    if args.pictures:
        paths, images = read_pictures(opened, args.pictures, texts)
    elif args.preset == "smoke":
        paths, images = [Path("digit")], example_picture(opened)
    else:
        raise ValueError(texts.get("inference.no_picture"))
    if not paths:
        return USER_ERROR
    if args.invert:
        images = 1 - images
    opened.model.to(pick_device(args.device))
    answers = classify(opened, images, args.top)
    for path, row in zip(paths, answers, strict=True):
        named = [texts.get("inference.candidate", **answer._asdict()) for answer in row]
        texts.say("inference.answer", path=path, answers=", ".join(named))
    if args.attention is not None:
        captions = [caption(row) for row in answers[:MAX_DRAWN]]
        figure = attention_of(opened, images[:MAX_DRAWN], captions)
        texts.say("inference.attention", path=save_figure(figure, args.attention))
    return 0 if len(paths) == len(args.pictures or paths) else USER_ERROR


if __name__ == "__main__":
    run_entry(main)
