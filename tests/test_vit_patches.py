"""Patches and stems: bijective, equal to a strided convolution, on the same grid."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vit.patch_embedding import ConvPatchEmbedding, ConvStem, PatchEmbedding, to_images, to_patches
from vit.torch_reference import convolution_of
from vit.vit_config import ViTConfig, stem_steps


@settings(deadline=None, max_examples=30)
@given(
    patch=st.integers(1, 5), rows=st.integers(1, 4), columns=st.integers(1, 4),
    channels=st.integers(1, 3),
)  # fmt: skip
def test_patches_are_bijective(patch: int, rows: int, columns: int, channels: int) -> None:
    shape = (2, channels, rows * patch, columns * patch)
    images = torch.arange(float(torch.tensor(shape).prod())).view(shape)
    patches = to_patches(images, patch)
    assert patches.shape == (2, rows * columns, channels * patch * patch)
    assert torch.equal(to_images(patches, patch, channels, rows), images)
    if rows == columns:
        assert torch.equal(to_images(patches, patch, channels), images)


def test_a_patch_holds_channel_then_row_then_column() -> None:
    images = torch.arange(2 * 4 * 6.0).view(1, 2, 4, 6)
    patches = to_patches(images, 2)
    assert patches.shape == (1, 6, 8)
    for number, (row, column) in enumerate((r, c) for r in (0, 2) for c in (0, 2, 4)):
        cut = images[0, :, row : row + 2, column : column + 2]
        assert torch.equal(patches[0, number], cut.flatten())


@pytest.mark.parametrize("channels", [1, 3])
def test_reshape_and_convolution_are_the_same_map(channels: int) -> None:
    stem = PatchEmbedding(channels, 4, 16).double()
    images = torch.randn(2, channels, 12, 12, dtype=torch.float64)
    conv = convolution_of(stem, channels)
    assert isinstance(conv, ConvPatchEmbedding)
    assert (stem(images) - conv(images)).abs().max() < 1e-13


def test_gradients_of_both_forms_agree() -> None:
    stem = PatchEmbedding(3, 4, 16).double()
    conv, images = convolution_of(stem, 3), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for module in (stem, conv):
        module(images).square().sum().backward()
    ours, theirs = stem.linear.weight.grad, conv.conv.weight.grad
    assert ours is not None and theirs is not None
    assert (ours - theirs.flatten(1)).abs().max() < 1e-11


@pytest.mark.parametrize(
    ("size", "patch"), [(8, 2), (28, 4), (28, 7), (28, 14), (32, 8), (42, 7), (14, 7), (64, 16)]
)
def test_the_convolutional_stem_reaches_the_grid_of_patches(size: int, patch: int) -> None:
    config = ViTConfig(image_size=size, patch_size=patch, stem="conv", d_model=32, channels=3)
    tokens = ConvStem(3, patch, 32)(torch.randn(2, 3, size, size))
    assert tokens.shape == (2, config.n_patches, 32)


def test_the_stems_steps_double_up_to_the_width() -> None:
    assert stem_steps(7, 128) == stem_steps(8, 128) == ((32, 2), (64, 2), (64, 1), (128, 2))
    assert stem_steps(4, 128) == ((64, 2), (64, 1), (128, 2))
    assert stem_steps(2, 128) == ((64, 1), (128, 2))


def test_the_stem_does_not_mix_images() -> None:
    stem = ConvStem(1, 4, 32).double()
    images = torch.randn(3, 1, 12, 12, dtype=torch.float64)
    whole = stem(images)
    assert (whole[1:2] - stem(images[1:2])).abs().max() < 1e-12


def test_channels_last_changes_the_layout_alone() -> None:
    stem = ConvStem(3, 4, 32)
    images = torch.randn(2, 3, 12, 12)
    expected = stem(images)
    stem.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert torch.allclose(stem(images), expected, atol=1e-5)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size=10 is no multiple of patch_size=4: 2 pixels"):
        to_patches(torch.zeros(1, 1, 10, 10), 4)
    with pytest.raises(ValueError, match="7 patches do not fill 3 rows"):
        to_images(torch.zeros(1, 7, 4), 2, 1)
    with pytest.raises(ValueError, match="a patch of 5 numbers is not 1 channels of 2 x 2"):
        to_images(torch.zeros(1, 9, 5), 2, 1)
