"""Where a token is, and what each way of saying it does beyond the training length.

| positions | where they enter | beyond the training length |
|---|---|---|
| learned (Radford et al. 2019) | added to the embedding | rows never trained |
| sine (Vaswani et al. 2017, section 3.5) | the same, fixed | combinations never seen |
| rotary (Su et al. 2021) | turn queries and keys | distances never seen |
| rotary, interpolated (Chen et al. 2023) | turn slower by T/T' | all angles known, but finer |
| rotary, NTK-aware (Peng et al. 2023) | turn with another base | only slow pairs are slower |
| ALiBi (Press et al. 2022) | a penalty on the scores | the same rule, larger distances |

Symbols: training length T, evaluated length T', head width K.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advanced_topics.advanced_config import Rescale
from gpt.gpt_components import rotary_table

ROTARY_BASE = 10_000.0


def sine_table(length: int, d_model: int, base: float = 10_000.0) -> Tensor:
    """Sines and cosines of t base^(-2j/D), side by side (Vaswani et al. 2017, section 3.5).

    Returns:
        (length, D), between -1 and 1.
    """
    turns = rotary_table(length, d_model + d_model % 2, base)  # (length, D/2, 2): cosine, sine
    return turns.flip(-1).flatten(1)[:, :d_model].float()  # sine first, as in the paper


def rescaled_rotary_table(
    length: int, d_head: int, trained: int, rescale: Rescale = "none", base: float = ROTARY_BASE
) -> Tensor:
    """Rotary angles for ``length`` positions of a model that was trained on ``trained``.

    With s = length / trained (1 if nothing is longer): "none" extrapolates, angle t w_j.
    "interpolate" turns all pairs slower, t w_j / s, so that no angle is new (Chen et al. 2023,
    section 3.2). "ntk" enlarges the base by s^(K/(K-2)): the slowest pair turns slower by exactly
    s, the fastest as before, so that neighbors stay as far apart as the model knows them (Peng et
    al. 2023, section 3.1).

    Args:
        length: positions that are needed, T'.
        d_head: width of a head, K; even.
        trained: positions that the model was trained on, T.
        rescale: "none", "interpolate" or "ntk".
        base: of the frequencies w_j = base^(-2j/K).

    Returns:
        (length, K/2, 2), float64: cosine and sine.
    """
    stretch = max(1.0, length / trained)
    if rescale == "ntk" and d_head > 2:
        return rotary_table(length, d_head, base * stretch ** (d_head / (d_head - 2)))
    if rescale == "none" or stretch == 1.0:
        return rotary_table(length, d_head, base)
    frequencies = base ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)  # (K/2,)
    places = torch.arange(length, dtype=torch.float64) / stretch  # 0, 1/s, 2/s, ...
    angles = torch.outer(places, frequencies)  # (length, K/2)
    return torch.stack((angles.cos(), angles.sin()), dim=-1)


def alibi_slopes(n_heads: int) -> Tensor:
    """Slope of each head: 2^(-8 (h+1) / H), h = 0 .. H-1 (Press et al. 2022, section 3).

    The paper gives this series for a power of two, and takes other numbers of heads from two such
    series; here the formula is used for all.

    Returns:
        (H,), from steep (sees near tokens) to flat (sees far).
    """
    return 2.0 ** (-8.0 * torch.arange(1, n_heads + 1, dtype=torch.float64) / n_heads)


def alibi_bias(length: int, n_heads: int) -> Tensor:
    """What is added to the scores: minus slope times distance; -inf for the future.

    Returns:
        (H, T, T), float32; row t, column s: -slope_h (t - s) for s <= t.
    """
    places = torch.arange(length, dtype=torch.float64)
    distance = places[:, None] - places[None, :]  # (T, T), t - s
    bias = -alibi_slopes(n_heads)[:, None, None] * distance  # (H, T, T)
    return bias.masked_fill(distance < 0, -math.inf).float()
