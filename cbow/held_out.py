"""A loss that can be believed: always the same targets, windows and noise, measured apart.

The loss that word2vec trainers sum up while they train mixes early words with late ones, and what
is drawn for them changes. Here the first sentences of the held-out text are drawn once, whatever
the seed of the training, each target with K words of noise of its own. So the numbers of a run, and
of runs with the same settings of the loss, can be compared. Beside it stands the loss on training
text, measured alike: the difference is what has been learned by heart.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cbow.cbow_config import TrainConfig
from cbow.cbow_data import CBOWData, Corpus
from cbow.cbow_model import CBOW
from cbow.step_data import Batch, StretchDrawer

EVALUATED_WORDS = 20_000  # words of each text, before subsampling
_EPOCH = 2**31 - 1  # a number that no epoch of a training has: other draws
_BATCH = 1024  # targets at a time; bounds the memory


class LossMeter:
    """The fixed batches of held-out text and of training text."""

    def __init__(self, data: CBOWData, config: TrainConfig, device: torch.device) -> None:
        """Draws them.

        Args:
            data: if its held-out text has no sentence of two words, training text stands in.
            config: of the training.
            device: where the model is.
        """
        self.is_held_out = bool(np.any(np.diff(data.validation.starts) > 1))
        held_out = data.validation if self.is_held_out else data.train
        fixed = replace(config, seed=0, shared_by=1, lanes=1, shuffle=False)
        self._train, self._held_out = (
            [b.to(device) for b in first_words(corpus, fixed).parts(_BATCH)]
            for corpus in (data.train, held_out)
        )

    def measure(self, model: CBOW) -> tuple[float, float]:
        """Returns the loss on training text and on held-out text, nats per target."""
        with torch.no_grad():
            train, held_out = (
                torch.cat([model(b)[b.has_context] for b in batches]).double().mean().item()
                for batches in (self._train, self._held_out)
            )
        return train, held_out


def first_words(corpus: Corpus, config: TrainConfig) -> Batch:
    """Draws the first words of a corpus, the same in every run of these settings."""
    return StretchDrawer(corpus, config, EVALUATED_WORDS).draw(0, _EPOCH)
