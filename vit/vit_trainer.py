"""Train a Vision Transformer or its rival, the CNN: loop, evaluation, checkpoints, resume.

``python vit/vit_trainer.py --preset standard`` trains the ViT on Fashion-MNIST for the minutes of
its budget; ``--preset cnn`` the CNN, on the same minibatches. The same with ``--resume`` goes on
where a stopped or killed run left off, bit for bit (CPU, same threads, without a time budget).
Under ``torchrun`` every process takes its share of each minibatch. Dosovitskiy et al. 2021,
section 4.1 and appendix B.1.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tutorial_kit.compute import autocast, prepare_device
from tutorial_kit.config import config_to_dict
from tutorial_kit.console import run_entry
from tutorial_kit.distributed import processes
from tutorial_kit.run_reporter import RunReporter
from tutorial_kit.saved_runs import load_weights
from tutorial_kit.training import InterruptGuard, check_loss, read_metrics, run_folder
from vit.cnn_baseline import ResidualCNN
from vit.image_data import ImageData, load_image_data
from vit.saved_model import DataFacts, fit_to_data, load_run
from vit.train_config import TrainConfig, build_parser, config_from_argv
from vit.train_state import TrainState
from vit.vit_evaluation import Scores, answers_in_words, averaged, evaluate
from vit.vit_model import ViT

__all__ = ["TrainResult", "build_parser", "main", "train"]


@dataclass(frozen=True)
class TrainResult:
    """What a training returns; the numbers are those of the best checkpoint."""

    model: ViT | ResidualCNN  # in evaluation mode, averaged weights
    folder: Path  # outputs/vit/<run>
    validation_accuracy: float  # 0 to 1; what the checkpoint was chosen by
    test_accuracy: float  # 0 to 1; measured once, when the training is over
    test_loss: float  # nats per picture
    history: list[dict[str, Any]]  # rows of metrics.jsonl
    steps: int  # updates done in the whole run
    seconds: float  # spent in training steps


def train(
    config: TrainConfig,
    data: ImageData,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
) -> TrainResult:
    """Trains a model and returns it as it was at its best on the validation split.

    Args:
        config: what to do; image size, channels and classes are taken from the data.
        data: the pictures.
        folder: where ``config.json``, ``metrics.jsonl`` and ``checkpoints/`` go.
        resume: go on from ``checkpoints/last.pt``.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        ValueError: the loss is no longer a number, the checkpoint does not fit, or the pictures do
            not fit the model.
        FileNotFoundError: ``resume`` without a checkpoint.
        KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
    """
    target = prepare_device(device, config.threads)
    config = fit_to_data(config, DataFacts.of(data))
    with processes(target) as group, InterruptGuard() as guard:
        state = TrainState(config, data, group)
        last = folder / "checkpoints" / "last.pt"
        if resume:
            state.restore(last)
        reporter = _Reporter(state, folder, resume)
        network: nn.Module = state.model
        if group.count > 1:
            network = DistributedDataParallel(network)
        network.train()

        while state.share_done < 1.0:
            started = time.perf_counter()
            factor = state.set_learning_rates()
            loss = torch.zeros((), device=group.device)
            for b in state.minibatch():
                with autocast(config.precision, group.device):
                    logits = network(b.images)  # (B, classes)
                part = b.loss(logits.float(), config.label_smoothing) / config.accumulation
                part.backward()
                loss += part.detach()
            if config.clip:
                nn.utils.clip_grad_norm_(state.model.parameters(), config.clip)
            for optimizer in state.optimizers:
                optimizer.step()
                optimizer.zero_grad()
            state.step += 1
            if state.average:
                state.average.update(state.model, state.step)

            train_loss = group.average(loss).item()
            check_loss(train_loss, state.step, last)
            state.add_loss(train_loss)
            state.seconds += group.average(torch.tensor(time.perf_counter() - started)).item()
            reporter.show_step(train_loss, factor)

            finished = state.share_done >= 1.0
            stopped = group.average(torch.tensor(float(guard.requested))).item() > 0
            if finished or state.step % config.eval_every == 0:
                reporter.evaluate()
            if finished or stopped or state.step % config.checkpoint_every == 0:
                reporter.save(last)
            if stopped:
                reporter.say_how_to_resume()
                raise KeyboardInterrupt
        return reporter.result()


class _Reporter(RunReporter):
    """What the loop tells and keeps; only the main process speaks, and only it saves."""

    def __init__(self, state: TrainState, folder: Path, resume: bool) -> None:
        self.state, data = state, state.data
        self.facts = DataFacts.of(data)
        self.best = folder / "checkpoints" / "best.pt"
        count = sum(weight.numel() for weight in state.model.parameters())
        super().__init__(
            state, folder, config_to_dict(state.config), resume=resume, speaks=state.group.is_main,
            headline=f"{count:,} parameters; training on {state.group.device}: "
            f"{state.config.architecture}, {len(data.train.labels):,} pictures of {data.name}",
        )  # fmt: skip

    def show_step(self, loss: float, factor: float) -> None:
        """Moves the progress bar: loss, learning rate as a share of its peak, pictures a second."""
        speed = self.state.step * self.state.config.batch_size / max(self.state.seconds, 1e-9)
        self.move_bar(loss=f"{loss:.3f}", lr=f"{factor:.2f}", images_per_s=f"{speed:,.0f}")

    def evaluate(self) -> None:
        """Scores the validation split, prints one line and one sample, keeps the best."""
        state = self.state
        train_loss = state.take_mean_loss()
        if not self.speaks:
            return
        split = state.data.validation
        with averaged(state.model, state.average):
            scores, answers = evaluate(state.model, split, self.facts)
        self.show_evaluation(
            train_loss, scores.loss, f"accuracy {scores.accuracy:6.2%}",
            f"    answers: {answers_in_words(split.labels, answers, self.facts.classes)}",
            {"validation_accuracy": scores.accuracy,
             "epochs": state.step * state.config.batch_size / len(state.data.train.labels)},
            unit="nats",
        )  # fmt: skip
        if state.is_best(scores.accuracy):
            state.save(self.best)

    def save(self, path: Path) -> None:
        """Writes the checkpoint that ``--resume`` goes on from."""
        if self.speaks:
            self.state.save(path)

    def result(self) -> TrainResult:
        """Closes the bar, goes back to the best checkpoint, scores the test split once."""
        self.close()
        state = self.state
        test, history = Scores(float("nan"), float("nan")), []
        if self.speaks:
            model, _, _ = load_run(self.best)
            load_weights(state.model, model.state_dict(), self.best)
            test, _ = evaluate(state.model, state.data.test, self.facts)
            history = read_metrics(self.folder / "metrics.jsonl")
        return TrainResult(
            state.model.eval(), self.folder, state.best_accuracy, test.accuracy, test.loss,
            history, state.step, state.seconds,
        )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> TrainResult:
    """Trains as the command line says, reports the test split; returns the result."""
    config, args = config_from_argv(argv)
    folder = run_folder("vit", args.name or args.preset)
    data = load_image_data(config.dataset, image_size=config.model.image_size)
    result = train(config, data, folder, resume=args.resume, device=args.device)
    if result.history:  # of several processes the main one alone has it
        print(
            f"test: accuracy {result.test_accuracy:.2%}, loss {result.test_loss:.4f} nats, at the "
            f"best validation accuracy, {result.validation_accuracy:.2%}"
        )
    return result


if __name__ == "__main__":
    run_entry(main)
