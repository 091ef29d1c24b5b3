"""The shape and design of a Vision Transformer, the published sizes, and its parameters.

A ViT is the encoder of the Transformer over pieces of an image (Dosovitskiy et al. 2021, section
3.1 and table 1). The defaults are the paper's design at a laptop's size: 28 x 28 gray pixels, 49
patches. The switches are the choices that the paper compares in appendix D (positions, pooling) and
one that came later (the stem).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tutorial_kit.config_checks import check_counts, check_heads, check_shares_below_one

Positions = Literal["learned", "learned-2d", "sine-2d", "rotary-2d", "none"]
POSITIONS: tuple[Positions, ...] = ("learned", "learned-2d", "sine-2d", "rotary-2d", "none")


@dataclass(frozen=True)
class ViTConfig:
    """The shape and design of a ViT; the defaults are the paper's design, small."""

    image_size: int = 28  # pixels a side; images are square
    patch_size: int = 4  # pixels a side of a patch, P
    channels: int = 1  # of the images: 1 gray, 3 color; C
    n_classes: int = 10  # what the head tells apart
    d_model: int = 128  # width of the residual stream, D
    n_heads: int = 4  # attention heads, H
    n_layers: int = 6  # encoder layers, L
    d_ff: int = 256  # width inside the feed-forward, F
    dropout: float = 0.0  # share of activations set to zero in training
    positions: Positions = "learned"  # how a token knows where its patch lies
    pooling: Literal["cls", "mean"] = "cls"  # read a class token, or the mean over all patches
    stem: Literal["patches", "conv"] = "patches"  # one linear map, or a few small convolutions
    norm_eps: float = 1e-6  # added to the variance in each norm; the published code's value

    def __post_init__(self) -> None:
        """Checks what the layers assume."""
        check_counts(
            self, "image_size", "patch_size", "channels", "n_classes", "d_model", "n_heads",
            "n_layers", "d_ff",
        )  # fmt: skip
        check_heads(self.d_model, self.n_heads)
        check_shares_below_one(self, "dropout")
        check_grid(self.image_size, self.patch_size)
        self._check_choices()
        if self.norm_eps <= 0:
            raise ValueError(
                f"norm_eps={self.norm_eps} divides by zero where all numbers of a vector are "
                "equal. Use a small number above 0, such as 1e-6."
            )

    def _check_choices(self) -> None:
        """Refuses unknown designs, and widths that a design cannot divide."""
        for name, possible in (
            ("positions", POSITIONS),
            ("pooling", ("cls", "mean")),
            ("stem", ("patches", "conv")),
        ):
            if getattr(self, name) not in possible:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is not known. Use one of "
                    f"{', '.join(possible)}."
                )
        for positions, width, size, parts in (
            ("learned-2d", "d_model", self.d_model, 2),  # row, column
            ("sine-2d", "d_model", self.d_model, 4),  # row, column; sine, cosine
            ("rotary-2d", "d_head", self.d_head, 4),
        ):
            if self.positions == positions and size % parts:
                raise ValueError(
                    f"{width}={size} cannot be cut into {parts} equal parts, which "
                    f"positions={positions} needs. Use a multiple of {parts}, or "
                    "positions=learned."
                )
        if self.stem == "conv":
            check_stem(self.image_size, self.patch_size, self.d_model)

    @property
    def d_head(self) -> int:
        """Width of one head, K."""
        return self.d_model // self.n_heads

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.image_size // self.patch_size

    @property
    def n_patches(self) -> int:
        """Patches of an image, N."""
        return self.grid**2

    @property
    def n_tokens(self) -> int:
        """Length of the sequence, T: the patches and the class token, if there is one."""
        return self.n_patches + (self.pooling == "cls")


def check_grid(image_size: int, patch_size: int) -> None:
    """Refuses an image that patches do not cover exactly.

    Raises:
        ValueError: ``image_size`` is no multiple of ``patch_size``.

    >>> check_grid(28, 8)
    Traceback (most recent call last):
    ValueError: image_size=28 is no multiple of patch_size=8: 4 pixels of each row would belong to \
no patch. Use a patch_size out of 1, 2, 4, 7, 14, 28.
    """
    if image_size % patch_size:
        possible = [p for p in range(1, image_size + 1) if image_size % p == 0]
        raise ValueError(
            f"image_size={image_size} is no multiple of patch_size={patch_size}: "
            f"{image_size % patch_size} pixels of each row would belong to no patch. Use a "
            f"patch_size out of {', '.join(map(str, possible))}."
        )


def stem_steps(patch_size: int, d_model: int) -> tuple[tuple[int, int], ...]:
    """Returns (channels, stride) of each 3 x 3 convolution of a convolutional stem.

    Every stride of 2 halves the image, rounded up, until a cell is as large as a patch, and doubles
    the channels, up to D. One convolution without a stride stands before the last halving.

    >>> stem_steps(8, 128)  # 32 -> 16 -> 8 -> 8 -> 4 pixels a side
    ((32, 2), (64, 2), (64, 1), (128, 2))
    >>> stem_steps(2, 64)
    ((32, 1), (64, 2))
    """
    halvings = (patch_size - 1).bit_length()
    before = [(d_model >> left, 2) for left in range(halvings - 1, 0, -1)]
    return (*before, (d_model // 2, 1), (d_model, 2))


def check_stem(image_size: int, patch_size: int, d_model: int) -> None:
    """Refuses sizes that a convolutional stem cannot have.

    Raises:
        ValueError: halving does not lead to the grid of patches, or a step has no channel.

    >>> check_stem(56, 7, 128)
    Traceback (most recent call last):
    ValueError: a convolutional stem halves 56 pixels 3 times and reaches 7 cells a side, not \
the 8 that patch_size=7 makes. Use a patch_size that is a power of two, or stem=patches.
    """
    halvings = (patch_size - 1).bit_length()
    if halvings == 0:
        raise ValueError(
            "patch_size=1 leaves a convolutional stem nothing to shrink. Use stem=patches, or "
            "patch_size=2 or more."
        )
    reached, grid = -(-image_size // 2**halvings), image_size // patch_size
    if reached != grid:
        raise ValueError(
            f"a convolutional stem halves {image_size} pixels {halvings} times and reaches "
            f"{reached} cells a side, not the {grid} that patch_size={patch_size} makes. Use a "
            "patch_size that is a power of two, or stem=patches."
        )
    if d_model % 2 ** max(halvings - 1, 1):
        raise ValueError(
            f"d_model={d_model} cannot be halved for each step of the convolutional stem. Use a "
            f"multiple of {2 ** max(halvings - 1, 1)}, or stem=patches."
        )


# Dosovitskiy et al. 2021, table 1 (base) and Touvron et al. 2021, table 1 (tiny, small): patches of
# 16 x 16 pixels, heads of 64 numbers, a feed-forward of 4 D, the 1,000 classes of ImageNet.
SIZES: dict[str, ViTConfig] = {
    name: ViTConfig(
        image_size=224, patch_size=16, channels=3, n_classes=1000, d_model=width,
        n_heads=width // 64, n_layers=12, d_ff=4 * width,
    )
    for name, width in {"tiny": 192, "small": 384, "base": 768}.items()
}  # fmt: skip


def parameter_count(config: ViTConfig) -> int:
    """Returns the number of parameters by the closed formula of the chapter.

    With attention A = 4 (D^2 + D), feed-forward M = 2 D F + F + D and norm 2 D::

        stem + [class token] D + positions + L (A + M + 4 D) + 2 D + (D + 1) classes

    stem: C P^2 D + D for patches; with convolutions of b to w channels the sum of 9 b w + 2 w, and
    D^2 + D. Positions: T D for learned, 2 (g D / 2) for learned-2d with g
    patches a side, 0 for the others.

    The paper says "86M" for base (table 1):

    >>> parameter_count(SIZES["base"]), parameter_count(ViTConfig())
    (86567656, 805130)
    """
    c, d = config, config.d_model
    positions = {"learned": c.n_tokens * d, "learned-2d": c.grid * d}.get(c.positions, 0)
    layer = 4 * (d * d + d) + (2 * d * c.d_ff + c.d_ff + d) + 4 * d
    ends = (c.pooling == "cls") * d + 2 * d + (d + 1) * c.n_classes
    return _stem_parameters(c) + positions + c.n_layers * layer + ends


def _stem_parameters(config: ViTConfig) -> int:
    """Returns the parameters of the stem."""
    c = config
    if c.stem == "patches":
        return (c.channels * c.patch_size**2 + 1) * c.d_model
    count, below = (c.d_model + 1) * c.d_model, c.channels  # the last map, 1 x 1
    for width, _ in stem_steps(c.patch_size, c.d_model):
        count += 9 * below * width + 2 * width  # a convolution without a bias, a norm
        below = width
    return count
