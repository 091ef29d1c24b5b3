"""Train a small decoder on text or on recall: the loop, its evaluation, checkpoints, resume.

``python advanced_topics/advanced_trainer.py --positions alibi`` trains one on the documentation
corpus; the same with ``--resume`` goes on where a stopped or killed run left off, bit for bit (CPU,
same threads). ``--preset recall --mixer delta`` learns to recall pairs.
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

import torch
from torch import nn

from advanced_topics.advanced_config import AdvancedConfig, build_parser, config_from_argv
from advanced_topics.evaluation import losses_by_position, recall_accuracy, recall_scores
from advanced_topics.small_decoder import SmallDecoder, parameter_counts
from advanced_topics.topic import FAMILY
from advanced_topics.train_state import TrainState, fit_to_data, load_data
from gpt.gpt_model import next_token_loss
from gpt.text_data import TextData
from tutorial_kit.compute import prepare_device
from tutorial_kit.config import config_to_dict
from tutorial_kit.console import run_entry
from tutorial_kit.run_reporter import RunReporter
from tutorial_kit.training import InterruptGuard, check_loss, run_folder

__all__ = ["TrainResult", "build_parser", "main", "train"]

SAMPLE_TOKENS = 12  # tokens that each evaluation shows


@dataclass(frozen=True)
class TrainResult:
    """What a training run returns."""

    model: SmallDecoder  # in evaluation mode, as it was after the last step
    folder: Path  # outputs/advanced_topics/<run>
    config: AdvancedConfig  # with the vocabulary size of the data
    validation: float  # text: nats per token; recall: share of right answers, 0 to 1
    steps: int  # updates done
    seconds: float  # spent in training steps


def train(
    config: AdvancedConfig,
    data: TextData | None,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
) -> TrainResult:
    """Trains a small decoder and returns it.

    Args:
        config: what to do; the vocabulary size is taken from the data.
        data: the text, from ``load_data``; None for the recall task.
        folder: where ``config.json``, ``metrics.jsonl`` and ``checkpoints/`` go.
        resume: go on from ``checkpoints/last.pt``.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        ValueError: the loss is no longer a number, or the checkpoint does not fit.
        FileNotFoundError: ``resume`` without a checkpoint.
        KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
    """
    target = prepare_device(device, config.threads)
    config = fit_to_data(config, data)
    with InterruptGuard() as guard:
        state = TrainState(config, data, target)
        last = folder / "checkpoints" / "last.pt"
        if resume:
            state.restore(last)
        reporter = _Reporter(state, folder, resume)
        model = state.model.train()

        while state.share_done < 1.0:
            started = time.perf_counter()
            factor = state.set_learning_rate()
            x, y = state.minibatch()  # (B, T), (B, T)
            loss = next_token_loss(model(x), y)  # the target -100 is left out
            objective = loss
            if config.balance:
                objective = loss + config.balance * model.balance_loss()
            objective.backward()
            if config.clip:
                nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            state.optimizer.step()
            state.optimizer.zero_grad()
            state.step += 1

            check_loss(loss.item(), state.step, last)
            state.add_loss(loss.item())
            state.seconds += time.perf_counter() - started
            reporter.move_bar(loss=f"{loss.item():.3f}", lr=f"{factor:.2f}")

            finished = state.share_done >= 1.0
            if finished or state.step % config.eval_every == 0:
                reporter.evaluate()
            if finished or guard.requested or state.step % config.checkpoint_every == 0:
                state.save(last)
            if guard.requested:
                reporter.say_how_to_resume()
                raise KeyboardInterrupt
        reporter.close()
    return TrainResult(
        model.eval(), folder, config, reporter.score, state.step, state.seconds
    )  # fmt: skip


class _Reporter(RunReporter):
    """What the loop tells and keeps."""

    def __init__(self, state: TrainState, folder: Path, resume: bool) -> None:
        self.state = state
        self.score = float("nan")  # of the last evaluation
        every, used = parameter_counts(state.model)
        active = f" ({used:,} used by each token)" if used < every else ""
        what = "recall of pairs" if state.data is None else f"text of {state.data.name}"
        super().__init__(
            state, folder, config_to_dict(state.config), resume=resume,
            headline=f"{every:,} parameters{active}; training on {state.device}: {what}",
        )  # fmt: skip

    def evaluate(self) -> None:
        """Scores the validation data, prints one line and one sample."""
        state, config = self.state, self.state.config
        train_loss = state.take_mean_loss()
        if state.data is None:
            self.score, loss = recall_scores(
                state.model, config.pairs, config.keys, split="validation"
            )
            scores = f"{self.score:.1%} of {config.pairs} pairs recalled"
            sample, logged = "    (no text to show)", {"accuracy": self.score}
        else:
            tokens = state.data.tokens["validation"]
            loss = float(losses_by_position(state.model, tokens, config.window).mean())
            self.score, scores, logged = loss, f"{state.data.name}", {}
            sample = f"    sample: {self._continuation()}"
        self.show_evaluation(train_loss, loss, scores, sample, logged)

    @torch.no_grad()
    def _continuation(self) -> str:
        """Returns the validation text's first words and what the model thinks comes next."""
        state = self.state
        assert state.data is not None
        tokens = state.data.tokens["validation"][: state.config.window // 2].to(state.device)
        start = len(tokens)
        for _ in range(min(SAMPLE_TOKENS, state.config.window - start)):
            tokens = torch.cat([tokens, state.model(tokens[None])[0, -1:].argmax(dim=-1)])
        shown = [
            state.data.tokenizer.decode(part.tolist())
            for part in (tokens[:start][-20:], tokens[start:])
        ]
        return " | ".join(" ".join(text.split()) for text in shown)


def main(argv: Sequence[str] | None = None) -> TrainResult:
    """Trains as the command line says; reports the score on data never trained on."""
    config, args = config_from_argv(argv)
    folder = run_folder(FAMILY, args.name or args.preset)
    data = load_data(config)
    result = train(config, data, folder, resume=args.resume, device=args.device)
    if data is None:
        share = recall_accuracy(result.model, config.pairs, config.keys)
        print(f"test: {share:.1%} of {config.pairs} pairs recalled")
    else:
        loss = losses_by_position(result.model, data.tokens["test"], config.window).mean()
        print(f"test: {loss:.4f} nats/token in windows of {config.window} tokens")
    return result


if __name__ == "__main__":
    run_entry(main)
