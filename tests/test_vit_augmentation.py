"""Augmentation: what each change does, where its chance comes from, what stays as it was."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vit.augmentation import (
    Augmentation,
    cutout,
    flip,
    mixup,
    random_crop,
    rotate_and_zoom,
    shift,
)

Change = Callable[[Tensor, torch.Generator], Tensor]

CHANGES: dict[str, Change] = {
    "shift": lambda x, g: shift(x, 2, g),
    "flip": flip,
    "rotate_and_zoom": lambda x, g: rotate_and_zoom(x, 15.0, 0.2, g),
    "random_crop": lambda x, g: random_crop(x, 0.5, g),
    "cutout": lambda x, g: cutout(x, 3, g),
    "mixup": lambda x, g: mixup(x, torch.zeros(len(x), dtype=torch.long), 0.4, g)[0],
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(64, 3, 8, 8, generator=seeded(9)) * 0.8 + 0.1  # nothing is black


@pytest.mark.parametrize("name", CHANGES)
def test_chance_comes_from_the_generator_alone(name: str, images: Tensor) -> None:
    change, before = CHANGES[name], images.clone()
    state = torch.get_rng_state()
    first, again = change(images, seeded(1)), change(images, seeded(1))
    assert torch.equal(first, again) and not torch.equal(first, change(images, seeded(2)))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before), "the pictures that were given are not touched"
    assert first.shape == images.shape and first.dtype == images.dtype
    assert first.min() >= 0 and first.max() <= 1


@pytest.mark.parametrize("name", CHANGES)
def test_every_picture_is_changed_by_itself(name: str, images: Tensor) -> None:
    same = images[:1].expand(64, -1, -1, -1)
    labels = torch.arange(64)
    if name == "mixup":  # a mixture with itself shows nothing
        shares = mixup(same, labels, 1.0, seeded())[1][2]
        assert len(shares.unique()) == 64
    else:
        changed = CHANGES[name](same, seeded())
        assert len({picture.numpy().tobytes() for picture in changed}) > 1


def test_shift_moves_by_whole_pixels_in_all_directions(images: Tensor) -> None:
    marked = torch.zeros(500, 1, 7, 7)
    marked[:, :, 3, 3] = 1
    moved = shift(marked, 2, seeded())
    assert moved.flatten(1).sum(dim=1).eq(1).all()
    counts = moved.sum(dim=0)[0]  # (7, 7)
    assert (counts[1:6, 1:6] > 5).all() and counts.sum() == counts[1:6, 1:6].sum()


def test_shift_is_the_slice_of_the_padded_picture(images: Tensor) -> None:
    moved = shift(images, 2, seeded(3))
    down, right = torch.randint(5, (2, 64), generator=seeded(3))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    for row in range(64):
        y, x = int(down[row]), int(right[row])
        assert torch.equal(moved[row], padded[row, :, y : y + 8, x : x + 8])


def test_bytes_are_shifted_flipped_and_covered_too() -> None:
    images = torch.randint(1, 256, (16, 1, 6, 6), dtype=torch.uint8)
    for name in ("shift", "flip", "cutout"):
        assert CHANGES[name](images, seeded()).dtype == torch.uint8


def test_flip_mirrors_about_half(images: Tensor) -> None:
    flipped = flip(images, seeded())
    mirrored = (flipped == images.flip(-1)).flatten(1).all(dim=1)
    kept = (flipped == images).flatten(1).all(dim=1)
    assert (mirrored ^ kept).all() and 16 < mirrored.sum() < 48


def test_no_turn_and_no_zoom_is_the_picture_itself(images: Tensor) -> None:
    torch.testing.assert_close(rotate_and_zoom(images, 0.0, 0.0, seeded()), images)
    torch.testing.assert_close(random_crop(images, 1.0, seeded()), images)


def test_turn_is_a_turn_and_not_a_shear() -> None:
    """A disc in the middle stays what it is; a quarter turn moves a corner to the next."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 41), torch.linspace(-1, 1, 41), indexing="ij")
    disc = ((x**2 + y**2) < 0.3).float().expand(8, 1, 41, 41)
    turned = rotate_and_zoom(disc, 180.0, 0.0, seeded())
    assert (turned - disc).abs().mean() < 0.02
    bar = ((x.abs() < 0.1) & (y.abs() < 0.6)).float().expand(32, 1, 41, 41)
    sums = rotate_and_zoom(bar, 180.0, 0.0, seeded()).flatten(1).sum(dim=1)
    torch.testing.assert_close(sums, bar[0].sum().expand(32), rtol=0.05, atol=0)


def test_zoom_changes_the_size_both_ways() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    disc = ((x**2 + y**2) < 0.25).float().expand(200, 1, 64, 64)
    areas = rotate_and_zoom(disc, 0.0, 0.2, seeded()).flatten(1).sum(dim=1) / disc[0].sum()
    assert 0.6 < areas.min() < 0.7 and 1.35 < areas.max() < 1.46  # 0.8 ** 2 and 1.2 ** 2


def test_crop_stays_inside_and_enlarges() -> None:
    ramp = torch.linspace(0, 1, 32).expand(200, 1, 32, 32)  # brighter to the right
    cropped = random_crop(ramp + 0.5, 0.25, seeded())
    assert cropped[..., 1:-1, 1:-1].min() > 0.49, "no black border"
    span = cropped[:, 0, 16, -2] - cropped[:, 0, 16, 1]
    assert 0.4 < span.min() < 0.55 and span.max() > 0.85  # side 0.5 to 1


def test_cutout_covers_one_square(images: Tensor) -> None:
    covered = cutout(images, 3, seeded()) == 0  # (B, C, H, W)
    assert torch.equal(covered.all(dim=1), covered.any(dim=1)), "all channels alike"
    areas = covered[:, 0].flatten(1).sum(dim=1)
    assert areas.max() == 9 and areas.min() >= 4
    rows, columns = covered[:, 0].any(dim=2).sum(dim=1), covered[:, 0].any(dim=1).sum(dim=1)
    assert torch.equal(rows * columns, areas)
    assert covered[:, 0].any(dim=0).all(), "every place is covered once"


def test_mixup_is_the_sum_by_its_shares(images: Tensor) -> None:
    labels = torch.arange(64)
    mixed, (first, second, share) = mixup(images, labels, 0.4, seeded())
    weight = share.view(-1, 1, 1, 1)
    torch.testing.assert_close(mixed, weight * images[first] + (1 - weight) * images[second])
    assert share.dtype == images.dtype and 0 <= share.min() < 0.2 and 0.8 < share.max() <= 1
    assert (first != second).all()


def test_nothing_chosen_changes_nothing(images: Tensor) -> None:
    labels = torch.arange(64)
    generator = seeded()
    result, (first, second, share) = Augmentation()(images, labels, generator)
    assert result is images and first is labels and second is labels and share.eq(1).all()
    assert torch.equal(generator.get_state(), seeded().get_state()), "nothing is drawn"


@pytest.mark.parametrize(
    "field",
    [{"shift": 2}, {"flip": True}, {"rotate": 9.0}, {"zoom": 0.1}, {"crop": 0.6}, {"cutout": 3},
     {"mixup": 0.2}],
)  # fmt: skip
def test_each_field_switches_its_change_on(field: dict[str, float], images: Tensor) -> None:
    labels = torch.arange(64)
    changed, mix = Augmentation(**field)(images, labels, seeded())  # type: ignore[arg-type]
    assert not torch.equal(changed, images)
    assert bool((mix[2] < 1).any()) == ("mixup" in field)


def test_impossible_changes_are_refused() -> None:
    for field, expected in (
        ({"shift": -1}, "shift=-1 is below 0"),
        ({"zoom": 1.0}, "zoom=1.0 is no share"),
        ({"crop": 0.0}, "crop=0.0 is no share"),
    ):
        with pytest.raises(ValueError, match=expected):
            Augmentation(**field)


def test_a_shift_larger_than_the_picture_is_possible(images: Tensor) -> None:
    assert shift(images, 20, seeded()).shape == images.shape
