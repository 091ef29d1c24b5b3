"""An exponential average of the weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017).

The weights of a training jump to and fro around what they aim at; their average does not. It costs
one pass over the weights in each step and is what gets evaluated and kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """The averaged weights of a model, and its averaged running statistics if it has any."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Begins with a copy of the model's weights.

        Args:
            model: whose ``state_dict`` is averaged.
            decay: share of the old average that is kept in each step, such as 0.998.
        """
        self.decay = decay
        self.weights = {
            name: weight.clone()
            for name, weight in model.state_dict().items()
            if weight.is_floating_point()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves the average towards the weights.

        Args:
            model: after the update of its weights.
            step: updates done; early on, the average forgets faster, or it would hold the initial
                weights for long.
        """
        decay = min(self.decay, step / (step + 10))
        now = model.state_dict()
        torch._foreach_lerp_(
            list(self.weights.values()), [now[name] for name in self.weights], 1.0 - decay
        )

    def merged(self, model: nn.Module) -> dict[str, Tensor]:
        """Returns the model's ``state_dict`` with the averages in place of what is averaged."""
        return {**model.state_dict(), **self.weights}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Goes back to averages that were saved."""
        for name, weight in self.weights.items():
            weight.copy_(weights[name])
