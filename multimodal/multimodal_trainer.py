"""Train two encoders to match pictures and texts, or a language model that sees: one loop for both.

``python multimodal/multimodal_trainer.py --preset standard`` trains the two encoders
(``--task contrastive``); ``--preset standard-bridge`` takes their vision encoder and teaches a GPT
to answer (``--task bridge``). The same with ``--resume`` goes on where a stopped or killed run left
off, bit for bit (CPU, same threads).
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

from multimodal.contrastive_model import DualEncoder
from multimodal.evaluation import evaluate, sample_in_words
from multimodal.multimodal_config import MultimodalConfig, build_parser, config_from_argv
from multimodal.train_state import TrainState
from multimodal.vision_language_model import VisionLanguageModel
from tutorial_kit.compute import prepare_device
from tutorial_kit.config import config_to_dict
from tutorial_kit.console import run_entry
from tutorial_kit.run_reporter import RunReporter
from tutorial_kit.training import InterruptGuard, check_loss, read_metrics, run_folder

__all__ = ["TrainResult", "build_parser", "main", "train"]


@dataclass(frozen=True)
class TrainResult:
    """What a training returns: the model after its last update, and what it can do."""

    model: DualEncoder | VisionLanguageModel  # in evaluation mode
    folder: Path  # outputs/multimodal/<run>
    scores: dict[str, float]  # name -> share, 0 to 1, on held-out pictures; see evaluation.py
    history: list[dict[str, Any]]  # rows of metrics.jsonl
    steps: int  # updates done in the whole run
    seconds: float  # spent in training steps


def train(
    config: MultimodalConfig, folder: Path, *, resume: bool = False, device: str = "auto"
) -> TrainResult:
    """Trains a model and measures it on the test splits, once, at the end.

    Args:
        config: what to do.
        folder: where ``config.json``, ``metrics.jsonl`` and ``checkpoints/`` go.
        resume: go on from ``checkpoints/last.pt``.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        ValueError: the loss is no longer a number, or a checkpoint does not fit.
        FileNotFoundError: ``resume`` without a checkpoint, or an encoder that does not exist.
        KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
    """
    state = TrainState(config, prepare_device(device, config.threads))
    last = folder / "checkpoints" / "last.pt"
    if resume:
        state.restore(last)
    reporter = _Reporter(state, folder, resume)
    state.model.train()
    with InterruptGuard() as guard:
        while state.share_done < 1.0:
            started = time.perf_counter()
            factor = state.set_learning_rates()
            loss = state.loss(state.sampler.next_batch())
            loss.backward()
            for optimizer in state.optimizers:
                optimizer.step()
                optimizer.zero_grad()
            state.step += 1
            train_loss = loss.item()
            check_loss(train_loss, state.step, last)
            state.add_loss(train_loss)
            state.seconds += time.perf_counter() - started
            reporter.show_step(train_loss, factor)

            finished = state.share_done >= 1.0
            if finished or state.step % config.eval_every == 0:
                reporter.evaluate()
            if finished or guard.requested or state.step % config.checkpoint_every == 0:
                state.save(last)
            if guard.requested and not finished:
                reporter.say_how_to_resume()
                raise KeyboardInterrupt
    reporter.close()
    scores = evaluate(state.model, config, "test")
    history = read_metrics(folder / "metrics.jsonl")
    return TrainResult(state.model.eval(), folder, scores, history, state.step, state.seconds)


class _Reporter(RunReporter):
    """What the loop tells and keeps."""

    def __init__(self, state: TrainState, folder: Path, resume: bool) -> None:
        self.state = state
        count = sum(p.numel() for p in state.model.parameters() if p.requires_grad)
        super().__init__(
            state, folder, config_to_dict(state.config), resume=resume,
            headline=f"{count:,} trained parameters; training on {state.device}: "
            f"{state.config.task}, "
            f"{len(state.train_pictures.subjects):,} pictures of {state.config.dataset}",
        )  # fmt: skip

    def show_step(self, loss: float, factor: float) -> None:
        """Moves the progress bar: loss, learning rate as a share of its peak, pictures a second."""
        speed = self.state.step * self.state.config.batch_size / max(self.state.seconds, 1e-9)
        self.move_bar(loss=f"{loss:.3f}", lr=f"{factor:.2f}", images_per_s=f"{speed:,.0f}")

    def evaluate(self) -> None:
        """Scores the validation splits, prints one line and one sample."""
        state, model = self.state, self.state.model
        scores = evaluate(model, state.config, "validation")
        shown = "  ".join(f"{name} {share:6.1%}" for name, share in scores.items())
        train_loss = state.take_mean_loss()
        model.eval()
        self._bar.write(f"step {state.step:>6}  {state.seconds:7.1f} s  train {train_loss:.4f}  "
                        f"{shown}\n    {sample_in_words(model, state.config)}")  # fmt: skip
        self._log.write(
            state.step, seconds=round(state.seconds, 3), train_loss=train_loss, **scores
        )
        model.train()


def main(argv: Sequence[str] | None = None) -> TrainResult:
    """Trains as the command line says, reports the test splits; returns the result."""
    config, args = config_from_argv(argv)
    folder = run_folder("multimodal", args.name or args.preset)
    result = train(config, folder, resume=args.resume, device=args.device)
    print("test:", ", ".join(f"{name} {share:.1%}" for name, share in result.scores.items()))
    return result


if __name__ == "__main__":
    run_entry(main)
