"""Pictures of a trained ViT, and the command that draws all pictures of a run.

``python vit/attention_visualization.py --run plain`` writes into the figures folder of the run:
the class token's attention over held-out pictures, per layer and per head, the rollout, how far
each head looks, similarity of the positions, patch filters, confusion matrix, worst mistakes, a map
of the features, the structure, and a page to look through heads and layers. Pictures named behind
it are looked at instead of held-out ones. A CNN gets those that need no attention.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.device import tune_cpu
from tutorial_kit.model_diagram import model_diagram
from tutorial_kit.plotting import save_figure
from vit.attention_maps import attention_distance, class_attention, vit_of
from vit.attention_pictures import (
    attention_rows_figure,
    distance_figure,
    heads_over_image_figure,
)
from vit.embedding_map import MIN_PICTURES, embedding_map_figure
from vit.head_page import write_page
from vit.image_data import ImageSplit, load_image_data
from vit.image_files import read_image
from vit.model_figures import filter_weight, patch_filters_figure, position_similarity_figure
from vit.open_model import OpenModel, add_model, open_named
from vit.position_encodings import LearnedPositions, LearnedPositions2D, SinePositions2D
from vit.prediction import Predictions, predict, unit_range
from vit.prediction_figures import confusion_figure, mistakes_figure
from vit.vit_inference import attention_of, caption, classify, grid_of, weights_of
from vit.vit_model import ViT

__all__ = [
    "attention_rows_figure",
    "distance_figure",
    "draw_attention",
    "draw_predictions",
    "draw_weights",
    "heads_over_image_figure",
    "main",
    "write_page",
]

PICTURES = 4  # held-out pictures whose attention is drawn
DISTANCE_PICTURES = 128  # that the attention distance is averaged over, as in the paper
BATCH = 16  # pictures whose weights are held at once
MAPPED = 800  # held-out pictures on the map of features
PAGE = "attention.html"


def draw_attention(opened: OpenModel, images: Tensor) -> dict[str, Figure]:
    """Draws where a ViT looks on pictures.

    Args:
        opened: its model is a ViT.
        images: (B, C, H, W) of the model's size, from 0 to 1; the first 4 get a row of their own.

    Returns:
        Name of the file, without its ending -> figure.
    """
    grid, patch = grid_of(opened), vit_of(opened.model).config.patch_size
    captions = [caption(row) for row in classify(opened, images[:PICTURES], 1)]
    heads = class_attention(weights_of(opened, images[:1])[:, 0], grid)  # (L, H, G, G)
    measured = images[:DISTANCE_PICTURES]
    distances = torch.zeros(heads.shape[:2])  # (L, H)
    for part in measured.split(BATCH):
        share = len(part) / len(measured)
        distances += share * attention_distance(weights_of(opened, part), grid, patch)
    return {
        "attention": attention_of(opened, images[:PICTURES], captions),
        "heads": heads_over_image_figure(images[0], heads, captions[0]),
        "distance": distance_figure(distances, grid, patch, len(measured)),
    }


def draw_weights(model: ViT) -> dict[str, Figure]:
    """Draws positions, if each patch has a vector of its own, and patch filters."""
    figures = {"filters": patch_filters_figure(filter_weight(model))}
    if isinstance(model.positions, LearnedPositions | LearnedPositions2D | SinePositions2D):
        table = model.positions.table(model.config.n_patches)  # (N, D)
        figures["positions"] = position_similarity_figure(table, model.config.grid)
    return figures


def draw_predictions(opened: OpenModel, split: ImageSplit, seen: Predictions) -> dict[str, Figure]:
    """Draws what a model says about held-out pictures.

    Args:
        opened: a ViT or a CNN.
        split: the pictures and what they show.
        seen: what the model says about them.
    """
    classes, name = opened.facts.classes, "ViT" if isinstance(opened.model, ViT) else "CNN"
    figures = {
        "confusion": confusion_figure(split.labels, seen.classes, classes),
        "mistakes": mistakes_figure(
            unit_range(split.images), split.labels, seen.probabilities, classes
        ),
    }
    if len(split.labels) >= MIN_PICTURES:
        figures["map"] = embedding_map_figure(
            {name: seen.features[:MAPPED]}, split.labels[:MAPPED], classes, "tsne"
        )
    return figures


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Draw where a trained ViT looks and what it has learned.")
    parser.add_argument(
        "pictures", nargs="*", type=Path, metavar="PICTURE", help="none takes held-out pictures"
    )
    add_model(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Draws every picture of a model; returns the files."""
    args = build_parser().parse_args(argv)
    tune_cpu()
    opened = open_named(args, "to look into")
    model, facts = opened.model, opened.facts
    drawn = {"structure": model_diagram(model, type(model).__name__)}
    images, names = _read(opened, args.pictures)
    if opened.dataset:
        test = load_image_data(opened.dataset, image_size=facts.image_size).test
        drawn |= draw_predictions(opened, test, predict(model, test.images, facts.mean, facts.std))
        if not names:
            images = unit_range(test.images[:DISTANCE_PICTURES])
            names = [f"picture {number}" for number in range(1, PICTURES + 1)]
    looks = isinstance(model, ViT) and len(names) > 0
    if isinstance(model, ViT):
        drawn |= draw_weights(model)
    if looks:
        drawn |= draw_attention(opened, images)
    files = [save_figure(figure, opened.figures / f"{name}.png") for name, figure in drawn.items()]
    if looks:
        files.append(write_page(opened, images[: len(names)], names, opened.figures / PAGE))
    print("\n".join(map(str, files)))
    return files


def _read(opened: OpenModel, paths: Sequence[Path]) -> tuple[Tensor, list[str]]:
    """Reads pictures, (B, C, H, W) from 0 to 1, with their names."""
    channels, size = opened.facts.channels, opened.facts.image_size
    images = [read_image(path, channels, size) for path in paths]  # (C, H, W) each
    stacked = torch.stack(images) if images else torch.empty(0, channels, size, size)
    return stacked, [path.name for path in paths]


if __name__ == "__main__":
    run_entry(main)
