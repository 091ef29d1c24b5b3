"""What the exercises on the ViT are checked with: by hand, and by the chapter's code."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tutorial_kit.exercise_cases import Case, Exercise
from vit import attention_maps
from vit.patch_embedding import to_patches
from vit.position_encodings import interpolate_positions


def token_count_cases() -> Iterator[Case]:
    """A square image, one without a class token, one that is wider than high."""
    yield Case((32, 32, 8, True), 17, "both")
    yield Case((28, 28, 7, False), 16, "class")
    yield Case((32, 48, 16, True), 7, "both")


def add_class_token_cases() -> Iterator[Case]:
    """One image by hand; a batch."""
    patches, front = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([9.0, 8.0])
    positions = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    expected = torch.tensor([[[9.1, 8.2], [1.3, 2.4], [3.5, 4.6]]])
    yield Case((patches, front, positions), expected, "positions")
    batch = torch.cat([patches, 2 * patches, 3 * patches])
    expected = torch.stack([torch.vstack([front, image]) + positions for image in batch])
    yield Case((batch, front, positions), expected, "batch")


def cut_patches_cases() -> Iterator[Case]:
    """The chapter's two strokes; colors; an image that is wider than high."""
    strokes = torch.tensor([[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]).float()
    yield Case((strokes[None, None], 2), to_patches(strokes[None, None], 2), "squares")
    for channels, width, clue in ((3, 4, "channels"), (1, 6, "rows")):
        images = torch.arange(2.0 * channels * 4 * width).view(2, channels, 4, width)
        yield Case((images, 2), to_patches(images, 2), clue)


def mixed_targets_cases() -> Iterator[Case]:
    """Two classes; twice the same class; a batch."""
    yield Case(
        (torch.tensor([0]), torch.tensor([2]), torch.tensor([0.7]), 3),
        torch.tensor([[0.7, 0.0, 0.3]]), "share",
    )  # fmt: skip
    yield Case(
        (torch.tensor([1]), torch.tensor([1]), torch.tensor([0.7]), 3),
        torch.tensor([[0.0, 1.0, 0.0]]), "same",
    )  # fmt: skip
    yield Case(
        (torch.tensor([1, 0]), torch.tensor([0, 1]), torch.tensor([1.0, 0.25]), 2),
        torch.tensor([[0.0, 1.0], [0.25, 0.75]]), "share",
    )  # fmt: skip


def resize_positions_cases() -> Iterator[Case]:
    """The same grid; a larger one; a smaller one."""
    table = torch.randn(1 + 16, 2, generator=torch.Generator().manual_seed(0))
    for new, clue in ((4, "front"), (6, "image"), (2, "image")):
        yield Case((table, new), interpolate_positions(table, 4, new), clue)


def attention_distance_cases() -> Iterator[Case]:
    """All look at themselves; at the patch across; anywhere."""
    yield Case((torch.eye(4), 2, 4), 0.0, "itself")
    yield Case((torch.eye(4).flip(0), 2, 4), 32**0.5, "straight")  # 4 down and 4 to the side
    rows = torch.rand(9, 9, generator=torch.Generator().manual_seed(0)).softmax(-1)
    expected = attention_maps.attention_distance(rows[None, None, None], 3, 8).item()
    yield Case((rows, 3, 8), expected, "pixels")


def rollout_cases() -> Iterator[Case]:
    """One layer by hand; two heads; three layers."""
    look = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    yield Case((look,), torch.tensor([[0.5, 0.5], [0.0, 1.0]]), "residual")
    rng = torch.Generator().manual_seed(0)
    for layers, heads, clue in ((1, 2, "heads"), (3, 2, "product")):
        weights = (3 * torch.randn(layers, heads, 3, 3, generator=rng)).softmax(-1)
        yield Case((weights,), attention_maps.rollout(weights), clue)


EXERCISES = (
    Exercise(1, "easy", "token_count", token_count_cases),
    Exercise(2, "easy", "add_class_token", add_class_token_cases),
    Exercise(3, "medium", "cut_patches", cut_patches_cases),
    Exercise(4, "medium", "mixed_targets", mixed_targets_cases),
    Exercise(5, "medium", "resize_positions", resize_positions_cases),
    Exercise(6, "hard", "attention_distance", attention_distance_cases),
    Exercise(7, "hard", "rollout", rollout_cases),
)
