"""The interactive page of a ViT's heads, on pictures instead of a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from tutorial_kit.attention_page import MAX_WEIGHTS, AttentionMap, write_attention_page
from vit.attention_maps import vit_of
from vit.open_model import OpenModel
from vit.vit_inference import caption, classify, weights_of

TOP = 3  # classes listed for a picture


def write_page(opened: OpenModel, images: Tensor, names: Sequence[str], path: Path) -> Path:
    """Writes the interactive page: every head, and the classes that the model sees.

    A patch is named by its row and column; each row of patches is a line of the page's text.

    Args:
        opened: its model is a ViT.
        images: (B, C, H, W) of the model's size, from 0 to 1; a tab each, as many as a page holds.
        names: B names of pictures.
        path: the file.
    """
    config = vit_of(opened.model).config
    fit = max(1, MAX_WEIGHTS // (config.n_layers * config.n_heads * config.n_tokens**2))
    images, names = images[:fit], names[:fit]
    weights, answers = weights_of(opened, images), classify(opened, images, TOP)
    maps = [
        AttentionMap(
            name, token_names(config.grid, config.pooling == "cls"), weights[:, place],
            predictions=[answers[place], *[()] * (config.n_tokens - 1)],  # beside the first token
            predictions_title="What the model sees",
        )
        for place, name in enumerate(names)
    ]  # fmt: skip
    note = (
        f"ViT with {config.n_layers} layers of {config.n_heads} heads, {config.grid} x "
        f"{config.grid} patches, named by row and column. Layers, heads, rows and columns count "
        "from 1."
    )
    said = ", ".join(f"{name}: {caption(row)}" for name, row in zip(names, answers, strict=True))
    return write_attention_page(path, title=said, maps=maps, note=note)


def token_names(grid: int, class_token: bool) -> list[str]:
    """Returns a name for each token; the last of a row of patches ends its line.

    >>> token_names(2, class_token=True)
    ['class\\n', ' 1,1', ' 1,2\\n', ' 2,1', ' 2,2\\n']
    """
    width = len(str(grid))
    names = [
        f" {row:>{width}},{column:>{width}}" + ("\n" if column == grid else "")
        for row in range(1, grid + 1)
        for column in range(1, grid + 1)
    ]
    return ["class\n", *names] if class_token else names
