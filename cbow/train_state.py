"""Everything a training run consists of at one moment, and how it is saved and brought back.

The unit of the work is the **round**: one stretch of text for each lane. What is drawn for a
stretch depends on its number alone (``cbow.step_data``), so the two matrices and the number of
rounds are all that a run needs to go on bit for bit.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import torch

from cbow.cbow_config import TrainConfig
from cbow.cbow_data import CBOWData, Vocabulary
from cbow.cbow_model import CBOW
from cbow.paces import input_paces, kept_shares, node_paces, output_paces
from cbow.step_data import Batch, StretchDrawer
from tutorial_kit.checkpoints import load_checkpoint, save_checkpoint
from tutorial_kit.config import config_to_dict
from tutorial_kit.device import seed_everything
from tutorial_kit.run_progress import RunProgress, check_same_settings
from tutorial_kit.saved_runs import load_weights

MAY_DIFFER = {"evals_per_epoch", "threads"}
"""Settings that a resumed run may change: its vectors do not depend on them."""
SENTENCES_AT_ONCE = 10_000  # are in memory while the text is read


class TrainState(RunProgress):
    """One run: model, place in the text, counters."""

    COUNTERS = (*RunProgress.COUNTERS, "rounds", "words", "targets")

    def __init__(self, config: TrainConfig, data: CBOWData, device: torch.device) -> None:
        """Starts a run at its first round, seeded.

        Args:
            config: the settings.
            data: the text.
            device: where the matrices are.

        Raises:
            ValueError: the vocabulary is too small for the noise.
        """
        check_vocabulary(data.vocabulary, config)
        self.config, self.data, self.device = config, data, device
        seed_everything(config.seed)
        counts = data.vocabulary.counts.tolist()
        self.model = CBOW(config.model, counts, config.negatives).to(device)
        self.drawer = StretchDrawer(data.train, config)
        self._set_paces()
        self.stretches = len(self.drawer.slices)  # in an epoch
        self.rounds_per_epoch = -(-self.stretches // config.lanes)
        self.total_words = config.epochs * len(data.train.tokens)  # of text, all epochs
        super().__init__(max_steps=config.epochs * self.rounds_per_epoch)
        self.rounds = 0  # done
        self.words = 0  # of the text read, before subsampling
        self.targets = 0  # examples seen, after it

    def _set_paces(self) -> None:
        """Lets frequent words take smaller steps."""
        model, config, vocabulary = self.model, self.config, self.data.vocabulary
        shares = kept_shares(vocabulary.counts, self.drawer.keep)
        model.input_pace.copy_(input_paces(shares, config))
        if model.paths is None:
            noise = vocabulary.noise(config.noise_power)
            model.output_pace.copy_(output_paces(shares, noise, config))
        else:
            model.output_pace.copy_(node_paces(shares, config, model.paths))

    @property
    def share_done(self) -> float:
        """How much of the text has been read, 0 to 1."""
        return self.rounds / self.max_steps

    @property
    def is_finished(self) -> bool:
        """Whether the last round is over."""
        return self.rounds >= self.max_steps

    @property
    def lane_stretches(self) -> list[int | None]:
        """The stretch of each lane in the coming round; None if the text is at its end."""
        first = self.rounds % self.rounds_per_epoch * self.config.lanes
        numbers = range(first, first + self.config.lanes)
        return [number if number < self.stretches else None for number in numbers]

    @property
    def round_words(self) -> int:
        """Words of the text in the coming round."""
        return sum(self.drawer.words(n) for n in self.lane_stretches if n is not None)

    @property
    def evaluates(self) -> bool:
        """Whether the round that has just ended is one of ``evals_per_epoch``."""
        wanted, per_epoch = self.config.evals_per_epoch, self.rounds_per_epoch
        return self.rounds * wanted // per_epoch > (self.rounds - 1) * wanted // per_epoch

    def draw(self, lane: int) -> Batch | None:
        """Draws a lane's stretch of the coming round."""
        number = self.lane_stretches[lane]
        if number is None:
            return None
        return self.drawer.draw(number, self.rounds // self.rounds_per_epoch)

    def rate(self, share_of_round: float) -> float:
        """Returns the learning rate, which falls linearly with the words read, as in word2vec.c.

        Args:
            share_of_round: how much of the coming round is done, 0 to 1.
        """
        read = self.words + share_of_round * self.round_words
        return self.config.lr * max(self.config.floor, 1.0 - read / self.total_words)

    def end_round(self, steps: int, targets: int) -> None:
        """Counts a round."""
        self.words += self.round_words
        self.rounds, self.step, self.targets = (
            self.rounds + 1, self.step + steps, self.targets + targets,
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Writes a checkpoint from which a run goes on bit for bit."""
        state = {
            "model": self.model.state_dict(),
            "vocabulary": self.data.vocabulary.to_dict(),
            "text": fingerprint(self.data),
            **self.counters(),
        }
        save_checkpoint(path, family="cbow", config=config_to_dict(self.config), state=state)

    def restore(self, path: Path) -> None:
        """Goes back to what ``save`` wrote.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it cannot be read, or it belongs to other settings or another text.
        """
        checkpoint = load_checkpoint(path, family="cbow")
        state = checkpoint["state"]
        check_same_settings(checkpoint["config"], config_to_dict(self.config), path, MAY_DIFFER)
        if state["text"] != fingerprint(self.data):
            raise ValueError(
                f"cannot resume {path}: the text has changed since, and the result would be of "
                "neither. Start a new --name."
            )
        load_weights(self.model, state["model"], path)
        self.restore_counters(state)


def check_vocabulary(vocabulary: Vocabulary, config: TrainConfig) -> None:
    """Refuses a vocabulary that has no room for a target and its noise.

    Raises:
        ValueError: there are not more words than negatives.
    """
    if config.model.objective == "negative" and len(vocabulary) <= config.negatives:
        raise ValueError(
            f"negatives={config.negatives} are drawn from a vocabulary of {len(vocabulary)} words: "
            "every word would be noise for every other, all the time. "
            f"Use --negatives {max(1, len(vocabulary) - 1)} or less, a longer text, or a smaller "
            "--min-count."
        )


def fingerprint(data: CBOWData) -> int:
    """Returns a number that changes when the training text does; it reads the text once."""
    checksum = 0
    for begin in range(0, len(data.train), SENTENCES_AT_ONCE):
        tokens, _ = data.train.stretch(slice(begin, begin + SENTENCES_AT_ONCE))
        checksum = zlib.crc32(tokens.tobytes(), checksum)
    return zlib.crc32(data.train.starts.tobytes(), checksum)
