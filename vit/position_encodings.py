"""How a token knows where its patch lies: learned, sines, rotations, and their interpolation.

Attention treats its tokens as a set, so without these modules a ViT sees an image as a bag of
patches. The paper compares none, learned 1-D (its choice) and learned 2-D (Dosovitskiy et al. 2021,
appendix D.4); sines over two axes are Beyer et al.'s (2022), rotations over two axes Heo et al.'s
(2024, section 3.1), and so is the base of both: 100 where sentences have 10,000, as an axis has
some ten patches and not thousands of words.

Places of another grid are the centers of its patches on the old one, (i + 1/2) old / new - 1/2, so
every encoding can move to images of another size.

Symbols: g patches a side, N = g^2, T tokens (N, or N + 1 with a class token in front), width D.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit.vit_config import ViTConfig

BASE = 100.0  # the slowest wave is 2 pi BASE patches long
INITIAL_STD = 0.02  # of learned positions; the published code's


def interpolate_positions(weight: Tensor, old: int, new: int) -> Tensor:
    """Resamples learned positions to another grid (section 3.2, at its end).

    Bicubic, as published checkpoints are resized. What stands in front of the N patches (the class
    token's) stays as it is.

    Args:
        weight: (T, D), the last N = old^2 rows are the patches, row by row.
        old: patches a side, before.
        new: patches a side, after.

    Returns:
        (T - old^2 + new^2, D); the same numbers if the grid is the same.
    """
    if old == new:
        return weight.clone()
    front, patches = weight[: -(old**2)], weight[-(old**2) :]
    maps = patches.unflatten(0, (1, old, old)).permute(0, 3, 1, 2)  # (1, D, old, old)
    maps = F.interpolate(maps, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([front, maps.flatten(2)[0].T])  # (T', D)


def places_on(old: int, new: int) -> Tensor:
    """Returns where the ``new`` patches of a side lie on a side of ``old`` patches, (new,).

    >>> places_on(2, 2), places_on(2, 4)
    (tensor([0., 1.]), tensor([-0.2500,  0.2500,  0.7500,  1.2500]))
    """
    return (torch.arange(new) + 0.5) * (old / new) - 0.5


def axis_angles(places: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns place times frequency of every patch, for its row and for its column.

    Args:
        places: (g,), places along a side, in patches.
        count: frequencies, BASE^(-i / count) for i = 0 .. count - 1, in radians a patch.

    Returns:
        Two of (N, count), patches row by row.
    """
    frequencies = BASE ** (-torch.arange(count) / count)  # (count,)
    angles = places[:, None] * frequencies  # (g, count)
    g = len(places)
    return angles.repeat_interleave(g, dim=0), angles.repeat(g, 1)


class NoPositions(nn.Module):
    """Adds nothing: patches are a set."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return x

    def resized(self, old: int, new: int) -> NoPositions:
        """Returns the encoding of another grid."""
        return self


class LearnedPositions(nn.Module):
    """A learned vector for every token, counted row by row: the paper's (eq. 1)."""

    def __init__(self, n_tokens: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_tokens, d_model))  # (T, D)
        nn.init.normal_(self.weight, std=INITIAL_STD)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return x + self.weight

    def table(self, n_patches: int) -> Tensor:
        """Returns the vectors of the patches, (N, D)."""
        return self.weight[-n_patches:]

    @torch.no_grad()
    def resized(self, old: int, new: int) -> LearnedPositions:
        """Returns the encoding of another grid."""
        weight = interpolate_positions(self.weight, old, new)
        made = LearnedPositions(*weight.shape).to(weight)
        made.weight.copy_(weight)
        return made


class LearnedPositions2D(nn.Module):
    """Half of the width says the row, half the column, both learned (appendix D.4)."""

    def __init__(self, grid: int, d_model: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(grid, d_model // 2))  # (g, D / 2)
        self.columns = nn.Parameter(torch.empty(grid, d_model // 2))  # (g, D / 2)
        for weight in (self.rows, self.columns):
            nn.init.normal_(weight, std=INITIAL_STD)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return add_to_patches(x, self.table(len(self.rows) ** 2))

    def table(self, n_patches: int) -> Tensor:
        """Returns the vectors of the patches, (N, D)."""
        g = len(self.rows)
        return torch.cat([self.rows.repeat_interleave(g, dim=0), self.columns.repeat(g, 1)], dim=-1)

    @torch.no_grad()
    def resized(self, old: int, new: int) -> LearnedPositions2D:
        """Returns the encoding of another grid."""
        made = LearnedPositions2D(new, 2 * self.rows.shape[1]).to(self.rows)
        for ours, theirs in ((self.rows, made.rows), (self.columns, made.columns)):
            line = ours.T[None, :, :, None]  # (1, D / 2, old, 1)
            line = F.interpolate(line, size=(new, 1), mode="bicubic", align_corners=False)
            theirs.copy_(line[0, :, :, 0].T if new != old else ours)
        return made


class SinePositions2D(nn.Module):
    """Sines and cosines of the row, then of the column; nothing to learn."""

    vectors: Tensor

    def __init__(self, places: Tensor, d_model: int) -> None:
        super().__init__()
        waves = [part for angle in axis_angles(places, d_model // 4) for part in both_waves(angle)]
        self.register_buffer("vectors", torch.cat(waves, dim=-1))  # (N, D)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return add_to_patches(x, self.vectors)

    def table(self, n_patches: int) -> Tensor:
        """Returns the vectors of the patches, (N, D)."""
        return self.vectors

    def resized(self, old: int, new: int) -> SinePositions2D:
        """Returns the encoding of another grid."""
        made = SinePositions2D(places_on(old, new), self.vectors.shape[1])
        return made.to(self.vectors)


class RotaryPositions2D(nn.Module):
    """Turns queries and keys by angles that grow with row and column (Su et al. 2021; Heo 2024).

    The product of a turned query and a turned key depends on the difference of their places alone.
    The first half of a head's pairs turns with the row, the second with the column. A class token
    lies nowhere: it is not turned.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, places: Tensor, d_head: int, n_front: int) -> None:
        super().__init__()
        angles = torch.cat(axis_angles(places, d_head // 4), dim=-1)  # (N, K / 2)
        angles = F.pad(angles, (0, 0, n_front, 0))  # (T, K / 2), 0 for the class token
        sine, cosine = both_waves(angles)
        self.register_buffer("cosine", cosine)  # (T, K / 2)
        self.register_buffer("sine", sine)  # (T, K / 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D), as it is: attention calls ``rotate``."""
        return x

    def rotate(self, x: Tensor) -> Tensor:
        """Turns the pairs (x_i, x_{i + K/2}) of queries or keys, (B, H, T, K) -> (B, H, T, K)."""
        first, second = x.chunk(2, dim=-1)  # (B, H, T, K / 2) each
        turned = (
            first * self.cosine - second * self.sine,
            second * self.cosine + first * self.sine,
        )
        return torch.cat(turned, dim=-1)

    def resized(self, old: int, new: int) -> RotaryPositions2D:
        """Returns the encoding of another grid."""
        tokens, pairs = self.cosine.shape
        made = RotaryPositions2D(places_on(old, new), 2 * pairs, tokens - old**2)
        return made.to(self.cosine)


def both_waves(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Returns sine and cosine, of the shape of the angles."""
    return angles.sin(), angles.cos()


def add_to_patches(x: Tensor, vectors: Tensor) -> Tensor:
    """Adds (N, D) to the last N of the T tokens, (B, T, D); a class token in front stays."""
    return x + F.pad(vectors, (0, 0, x.shape[1] - len(vectors), 0))


PositionEncoding = (
    NoPositions | LearnedPositions | LearnedPositions2D | SinePositions2D | RotaryPositions2D
)


def build_positions(config: ViTConfig) -> PositionEncoding:
    """Returns the encoding that the config names."""
    c, places = config, torch.arange(config.grid, dtype=torch.float32)
    match c.positions:
        case "learned":
            return LearnedPositions(c.n_tokens, c.d_model)
        case "learned-2d":
            return LearnedPositions2D(c.grid, c.d_model)
        case "sine-2d":
            return SinePositions2D(places, c.d_model)
        case "rotary-2d":
            return RotaryPositions2D(places, c.d_head, c.n_tokens - c.n_patches)
        case "none":
            return NoPositions()
