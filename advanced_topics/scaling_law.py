"""A scaling law fitted on our own trainings, and tested on the largest of them.

Kaplan et al. 2020 found that a language model's loss falls as a power of its size; Hoffmann et al.
2022 (eq. 2) add what cannot be learned away: L(N) = L_inf + a N^-alpha. Here six sizes of gpt's
model read the same characters in the same order. The law is fitted on the five smaller ones; the
sixth, which the fit has never seen, says whether it is one.

Difference from the papers: the text is the same for all sizes (Hoffmann et al. vary it too), so
L_inf holds the entropy of the text and what so little of it cannot teach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from advanced_topics.text_model import shortened
from advanced_topics.topic import FAMILY
from gpt.gpt_config import parameter_count
from gpt.text_data import TextData, load_text_data
from gpt.train_config import TrainConfig, apply_recipe
from gpt.train_gpt import train
from tutorial_kit.config import override
from tutorial_kit.experiments import kept_outcome, variant_folder

EXPONENTS = (0.01, 3.0)  # between which alpha is looked for
BASE = override(
    apply_recipe(TrainConfig(tokenizer="characters"), "modern"),
    {"max_len": 128, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2},
)


@dataclass(frozen=True)
class ScalingSettings:
    """The sizes that are trained, and for how long."""

    widths: tuple[int, ...] = (16, 20, 28, 40, 56, 80)  # D; the last is the one that is predicted
    max_steps: int = 400  # updates
    batch_size: int = 16  # windows of 128 characters in each
    rate: float = 1.5  # learning rates, in units of the recipe's
    held_out: int = 2**16  # characters of the validation split that are scored
    dataset: str = "documentation"  # the text


PRESETS = {
    "standard": ScalingSettings(),
    "tour": ScalingSettings((16, 20, 28, 40, 56), 120, 8, 1.5, 2**13, "documentation-small"),
    "smoke": ScalingSettings((4, 8, 12, 16, 20), 2, 2, 1.0, 300, "documentation-small"),
}


@dataclass(frozen=True)
class PowerLaw:
    """L(N) = floor + scale N^-exponent (Hoffmann et al. 2022, eq. 2, at a fixed text)."""

    floor: float  # L_inf, nats: what no size takes away
    scale: float  # a, nats
    exponent: float  # alpha

    def predict(self, sizes: Sequence[float] | np.ndarray) -> np.ndarray:
        """Returns the loss of each size, in nats."""
        return self.floor + self.scale * np.asarray(sizes, dtype=float) ** -self.exponent


def fit_power_law(sizes: Sequence[float], losses: Sequence[float]) -> PowerLaw:
    """Fits the three numbers of the law by least squares.

    For a given exponent the law is a straight line in N^-alpha, whose floor and scale have a closed
    formula, so only one number must be searched: on a grid, which is refined around its best point.

    Args:
        sizes: parameters of each model, N.
        losses: its loss in nats.

    Raises:
        ValueError: fewer than four sizes: three numbers would fit any three points.
    """
    if len(set(sizes)) < 4:
        raise ValueError(
            f"{len(set(sizes))} sizes cannot test a law of three numbers, which fits any three "
            "points exactly. Train at least four sizes."
        )
    n, y = np.asarray(sizes, dtype=float), np.asarray(losses, dtype=float)
    low, high = EXPONENTS
    for _ in range(6):
        grid = np.linspace(low, high, 61)
        errors = [_error(_line(n, y, alpha), n, y) for alpha in grid]
        best, step = grid[int(np.argmin(errors))], grid[1] - grid[0]
        low, high = max(EXPONENTS[0], best - step), min(EXPONENTS[1], best + step)
    return _line(n, y, float(best))


def _line(n: np.ndarray, y: np.ndarray, alpha: float) -> PowerLaw:
    """Returns the best floor and scale for an exponent; a loss has no floor below zero."""
    x = (n / n.min()) ** -alpha  # between 0 and 1: the sums stay exact
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    floor = float(y.mean() - slope * x.mean())
    if floor < 0:
        floor, slope = 0.0, float((x * y).sum() / (x * x).sum())
    return PowerLaw(floor, slope * float(n.min()) ** alpha, alpha)


def _error(law: PowerLaw, n: np.ndarray, y: np.ndarray) -> float:
    return float(((law.predict(n) - y) ** 2).sum())


def r_squared(law: PowerLaw, sizes: Sequence[float], losses: Sequence[float]) -> float:
    """Returns the share of the losses' variance that the law explains, at most 1."""
    y = np.asarray(losses, dtype=float)
    variance = max(float(((y - y.mean()) ** 2).sum()), 1e-12)
    return 1.0 - _error(law, np.asarray(sizes, dtype=float), y) / variance


def held_out_error(sizes: Sequence[float], losses: Sequence[float]) -> dict[str, float]:
    """Fits the law without the largest size, then predicts it.

    Losses of neighboring sizes differ little, so an error in percent of the loss would flatter any
    guess. It is also given as a share of the last step, from the second largest model to the
    largest: saying that nothing improves would be 100 % wrong.

    Args:
        sizes: parameters of each model, ascending.
        losses: its loss in nats.

    Returns:
        "predicted" and "measured" in nats, "error" in % of the loss, "step_error" in % of the last
        step, "line_error": the same for a straight line in log N through the two models before it.
    """
    law = fit_power_law(sizes[:-1], losses[:-1])
    predicted, measured = float(law.predict(sizes[-1:])[0]), losses[-1]
    step = max(abs(losses[-2] - measured), 1e-9)
    slope = (losses[-2] - losses[-3]) / math.log(sizes[-2] / sizes[-3])
    line = losses[-2] + slope * math.log(sizes[-1] / sizes[-2])
    return {
        "predicted": predicted,
        "measured": measured,
        "error": 100 * abs(predicted - measured) / measured,
        "step_error": 100 * abs(predicted - measured) / step,
        "line_error": 100 * abs(line - measured) / step,
    }


def scaling_configs(settings: ScalingSettings, seed: int) -> list[TrainConfig]:
    """Returns the training of each size: only the width differs, and with it N.

    Muon's step is relative to a matrix's size, so one rate serves all widths.
    """
    steps, rate = settings.max_steps, settings.rate
    base = replace(
        BASE, dataset=settings.dataset, seed=seed, max_steps=steps, eval_every=steps,
        checkpoint_every=steps, batch_size=settings.batch_size, muon_lr=rate * BASE.muon_lr,
        head_lr=rate * BASE.head_lr, embedding_lr=rate * BASE.embedding_lr,
    )  # fmt: skip
    return [override(base, {"d_model": width, "d_ff": 4 * width}) for width in settings.widths]


def non_embedding_parameters(config: TrainConfig) -> int:
    """Returns N: all parameters but the table of the embedding and the head (Kaplan, section 2.1).

    >>> [non_embedding_parameters(c) for c in scaling_configs(PRESETS["standard"], 0)][:2]
    [6224, 9700]
    """
    tables = 0 if config.model.tie_weights else config.model.vocab_size * config.model.d_model
    return parameter_count(config.model) - config.model.vocab_size * config.model.d_model - tables


def measure_scaling(seed: int, settings: ScalingSettings) -> dict[str, Any]:
    """Trains every size once, fits the law, predicts the largest.

    Args:
        seed: of initial weights and order of the text.
        settings: sizes and length of the trainings.

    Returns:
        "sizes" and "losses", ascending in size; "exponent", "floor" and "r_squared" of the fit
        without the largest; and what ``held_out_error`` gives.
    """
    configs = scaling_configs(settings, seed)
    base = configs[0]
    data = load_text_data(base.dataset, base.tokenizer, base.bpe_tokens)
    data = shortened(data, settings.held_out)
    sizes = [float(non_embedding_parameters(config)) for config in configs]
    losses = [trained_loss(config, data) for config in configs]
    law = fit_power_law(sizes[:-1], losses[:-1])
    return {
        "sizes": sizes,
        "losses": losses,
        "exponent": law.exponent,
        "floor": law.floor,
        "r_squared": r_squared(law, sizes[:-1], losses[:-1]),
        **held_out_error(sizes, losses),
    }


def trained_loss(config: TrainConfig, data: TextData) -> float:
    """Trains one size unless that has been done before; returns its held-out loss in nats."""
    folder = variant_folder(FAMILY, config, data.n_bytes)

    def train_it() -> dict[str, float]:
        return {"loss": train(config, data, folder).validation_loss}

    return kept_outcome(folder, train_it)["loss"]
