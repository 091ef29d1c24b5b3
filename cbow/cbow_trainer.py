"""Train word vectors: loop, learning rate, held-out loss, checkpoints, resume.

``python cbow/cbow_trainer.py`` trains CBOW on the documentation corpus, ``--preset standard`` on
WikiText-2, ``--dataset my_text.txt`` on a text of yours. The same with ``--resume`` goes on where
a stopped or killed run left off, bit for bit (CPU, any number of threads). ``--readable`` computes
the same vectors with autograd, many times slower. Mikolov et al. 2013b, section 2.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cbow.cbow_config import TrainConfig, build_parser, config_from_argv
from cbow.cbow_data import CBOWData, Vocabulary, load_corpus
from cbow.embeddings import Embeddings
from cbow.fast_rounds import FastRounds
from cbow.held_out import LossMeter
from cbow.readable_steps import ReadableRounds
from cbow.train_state import TrainState
from cbow.vector_files import save_vectors
from tutorial_kit.compute import prepare_device
from tutorial_kit.config import config_to_dict
from tutorial_kit.console import run_entry
from tutorial_kit.run_reporter import RunReporter
from tutorial_kit.training import InterruptGuard, read_metrics, run_folder

__all__ = ["TrainResult", "build_parser", "main", "train"]

WATCHED = ("array", "matrix", "function", "city", "king", "music")  # their neighbors are logged
NEIGHBORS = 8  # of each


@dataclass(frozen=True)
class TrainResult:
    """What a training returns."""

    vectors: Tensor  # (V, D) float32 on the CPU, the input vectors
    output: Tensor  # (V, D) the output vectors; (V - 1, D), of nodes, with hierarchical softmax
    vocabulary: Vocabulary  # row v of the vectors is word v
    folder: Path  # outputs/cbow/<run>
    history: list[dict[str, Any]]  # rows of metrics.jsonl
    validation_loss: float  # nats per held-out target, at the end
    words_per_s: float  # words of the text, before subsampling, a second of training
    words: int  # words of the text read, all epochs
    targets: int  # examples seen, after subsampling
    seconds: float  # spent in training; evaluation is left out


def train(
    config: TrainConfig,
    data: CBOWData,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    fast: bool = True,
) -> TrainResult:
    """Trains word vectors and returns them as they are at the end.

    Args:
        config: what to do.
        data: the text, from ``load_corpus``.
        folder: where ``config.json``, ``metrics.jsonl``, ``checkpoints/`` and the vectors go.
        resume: go on from ``checkpoints/last.pt``.
        device: "auto", "cpu", "cuda" or "mps".
        fast: without autograd (``fast_steps``); False computes the same with it.

    Raises:
        ValueError: the loss is no longer a number, the vocabulary is too small, the objective has
            no fast training, or the checkpoint does not fit.
        FileNotFoundError: ``resume`` without a checkpoint.
        KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
    """
    target = prepare_device(device, config.threads)
    state = TrainState(config, data, target)
    last = folder / "checkpoints" / "last.pt"
    if resume:
        state.restore(last)
    rounds = FastRounds(state, torch.get_num_threads()) if fast else ReadableRounds(state)
    reporter = _Reporter(state, folder, resume)
    if not state.rounds:
        reporter.evaluate()  # before the first step: every score is 0

    with InterruptGuard() as guard, closing(rounds):
        while not state.is_finished:
            started = time.perf_counter()
            steps, targets = rounds.run()
            state.end_round(steps, targets)
            state.seconds += time.perf_counter() - started
            check_vectors(state, last)
            reporter.show_round()

            if state.evaluates or state.is_finished:
                reporter.evaluate()
            if state.evaluates or state.is_finished or guard.requested:
                state.save(last)
            if guard.requested:
                reporter.say_how_to_resume()
                raise KeyboardInterrupt
    return reporter.result()


def check_vectors(state: TrainState, last: Path) -> None:
    """Stops a training whose vectors are no longer numbers.

    Raises:
        ValueError: it names the step and what helps.
    """
    if all(bool(matrix.sum().isfinite()) for matrix in state.model.parameters()):
        return
    kept = f" The last good checkpoint is {last}." if last.is_file() else ""
    raise ValueError(
        f"the vectors hold NaN after step {state.step}: the updates have grown too large, with "
        f"lr={state.config.lr} and {state.config.words_per_step} targets a step. Use a smaller "
        f"--lr (0.05 is usual) or fewer --words-per-step; many negatives need more "
        f"--shared-draws.{kept}"
    )


class _Reporter(RunReporter):
    """What the loop tells and keeps."""

    def __init__(self, state: TrainState, folder: Path, resume: bool) -> None:
        self.state, data = state, state.data
        self.meter = LossMeter(data, state.config, state.device)
        count = sum(matrix.numel() for matrix in state.model.parameters())
        super().__init__(
            state, folder, config_to_dict(state.config), resume=resume,
            headline=f"{count:,} parameters; training on {state.device}: "
            f"{len(data.train.tokens):,} words of {data.name}, {len(data.vocabulary):,} different",
        )  # fmt: skip
        if not self.meter.is_held_out:
            print("note: no text is held out, it is too short; the loss is that on training text")
        index = data.vocabulary.index
        known = [word for word in WATCHED if word in index]
        self.watched = known or list(data.vocabulary.words[:3])

    def show_round(self) -> None:
        """Moves the progress bar: learning rate, words of the text a second."""
        state = self.state
        speed = state.words / max(state.seconds, 1e-9)
        self.move_bar(lr=f"{state.rate(0.0):.4f}", words_per_s=f"{speed:,.0f}")

    def evaluate(self) -> None:
        """Measures both losses; prints one line and the neighbors of a word, and logs them."""
        state = self.state
        train_loss, held_out_loss = self.meter.measure(state.model)
        if not math.isfinite(held_out_loss):
            raise ValueError(
                f"the held-out loss is {held_out_loss} at step {state.step}: the vectors have "
                f"grown too large. Use a smaller --lr than {state.config.lr}."
            )
        embeddings = Embeddings(state.data.vocabulary.words, state.model.input.detach())
        neighbors = {
            word: [near.word for near in embeddings.most_similar(word, NEIGHBORS)]
            for word in self.watched
        }
        word, near = next(iter(neighbors.items()))
        rate = state.rate(0.0)
        logged: dict[str, Any] = {
            "words": state.words, "targets": state.targets, "lr": rate, "neighbors": neighbors,
            "epochs": state.words / len(state.data.train.tokens),
        }  # fmt: skip
        self.show_evaluation(
            train_loss, held_out_loss, f"lr {rate:.4f}",
            f"    near {word}: {', '.join(near)}", logged, unit="nats/target",
        )  # fmt: skip

    def result(self) -> TrainResult:
        """Closes the bar, writes the vectors in word2vec's binary format, returns the result."""
        self.close()
        state = self.state
        vectors, output = (
            m.detach().cpu().clone() for m in (state.model.input, state.model.output)
        )
        vocabulary = state.data.vocabulary
        save_vectors(self.folder / "vectors.bin", vocabulary.words, vectors.numpy(), binary=True)
        history = read_metrics(self.folder / "metrics.jsonl")
        return TrainResult(
            vectors, output, vocabulary, self.folder, history, history[-1]["validation_loss"],
            state.words / max(state.seconds, 1e-9), state.words, state.targets, state.seconds,
        )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> TrainResult:
    """Trains as the command line says, reports speed and loss; returns the result."""
    config, args = config_from_argv(argv)
    folder = run_folder("cbow", args.name or args.preset)
    data = load_corpus(config.dataset, config.min_count, config.max_tokens)
    result = train(
        config, data, folder, resume=args.resume, device=args.device, fast=not args.readable
    )
    print(
        f"held-out loss {result.validation_loss:.4f} nats/target; {result.words:,} words in "
        f"{result.seconds:.1f} s, {result.words_per_s:,.0f} a second; vectors in "
        f"{result.folder / 'vectors.bin'}"
    )
    return result


if __name__ == "__main__":
    run_entry(main)
