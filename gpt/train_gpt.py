"""Train a GPT: the loop, its evaluation on the whole validation split, checkpoints, resume.

``python gpt/train_gpt.py --preset standard`` trains; the same with ``--resume`` goes on where a
stopped or killed run left off, bit for bit (CPU, same threads, without a time budget). Under
``torchrun`` every process takes its share of each minibatch.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gpt.generation import generate_text
from gpt.gpt_config import parameter_count
from gpt.gpt_model import GPT, next_token_loss
from gpt.sampling import Sampling
from gpt.text_data import TextData, load_text_data
from gpt.train_config import TrainConfig, build_parser, config_from_args
from gpt.train_state import TrainState
from tutorial_kit.compute import autocast, prepare_device
from tutorial_kit.config import config_to_dict
from tutorial_kit.console import run_entry
from tutorial_kit.distributed import processes
from tutorial_kit.run_reporter import RunReporter
from tutorial_kit.training import InterruptGuard, check_loss, run_folder

__all__ = ["build_parser", "evaluate", "main", "train"]

EVALUATION_TOKENS = 8192  # tokens scored at once
SAMPLE_TOKENS = 40  # tokens of the sample that each evaluation prints


@dataclass(frozen=True)
class TrainResult:
    """What a training run returns."""

    model: GPT
    folder: Path  # outputs/gpt/<run>
    validation_loss: float  # nats per token, whole validation split
    bits_per_byte: float  # the same in bits per byte of text
    steps: int  # updates done
    seconds: float  # spent in training steps


@torch.no_grad()
def evaluate(model: nn.Module, tokens: Tensor, window: int, device: torch.device) -> float:
    """Mean cross-entropy over a whole split, in nats per token.

    The split is cut into windows that do not overlap, so a token has between 0 and window - 1
    tokens of context; every token but the first is scored exactly once.

    Args:
        model: tokens (B, T) -> logits (B, T, V).
        tokens: (N,), the split.
        window: tokens in a window, T.
        device: where the model is.
    """
    was_training = model.training
    model.eval()
    inputs, targets = tokens[:-1], tokens[1:]
    whole = len(inputs) // window * window  # the last window may be shorter
    rows = max(1, EVALUATION_TOKENS // window)
    parts = list(zip(inputs[:whole].view(-1, window).split(rows),
                     targets[:whole].view(-1, window).split(rows), strict=True))  # fmt: skip
    parts.append((inputs[None, whole:], targets[None, whole:]))
    total = 0.0
    for x, y in parts:
        if x.numel():
            total += next_token_loss(model(x.to(device)), y.to(device)).item() * y.numel()
    model.train(was_training)
    return total / len(targets)


def train(
    config: TrainConfig, data: TextData, folder: Path, *, resume: bool = False, device: str = "auto"
) -> TrainResult:
    """Trains a GPT and returns it.

    Args:
        config: what to do; ``config.model.vocab_size`` is taken from the data.
        data: the text.
        folder: where ``config.json``, ``metrics.jsonl`` and ``checkpoints/`` go.
        resume: go on from ``checkpoints/last.pt``.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        ValueError: the loss is no longer a number, or the checkpoint does not fit.
        FileNotFoundError: ``resume`` without a checkpoint.
        KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
    """
    target = prepare_device(device, config.threads)
    config = replace(config, model=replace(config.model, vocab_size=data.tokenizer.vocab_size))
    with processes(target) as group, InterruptGuard() as guard:
        state = TrainState(config, data, group)
        last = folder / "checkpoints" / "last.pt"
        if resume:
            state.restore(last)
        reporter = _Reporter(state, folder, resume)
        network: nn.Module = torch.compile(state.model) if config.compile else state.model  # type: ignore[assignment]
        if group.count > 1:
            network = DistributedDataParallel(network)
        network.train()

        while state.share_done < 1.0:
            started = time.perf_counter()
            factor = state.set_learning_rates()
            x, y = state.minibatch()  # (B, T), (B, T)
            loss = torch.zeros((), device=group.device)
            for x_part, y_part in zip(
                x.chunk(config.accumulation), y.chunk(config.accumulation), strict=True
            ):
                with autocast(config.precision, group.device):
                    part = next_token_loss(network(x_part), y_part) / config.accumulation
                part.backward()
                loss += part.detach()
            if config.clip:
                nn.utils.clip_grad_norm_(state.model.parameters(), config.clip)
            for optimizer in state.optimizers:
                optimizer.step()
                optimizer.zero_grad()
            state.step += 1

            train_loss = group.average(loss).item()
            check_loss(train_loss, state.step, last)
            state.add_loss(train_loss)
            state.seconds += group.average(torch.tensor(time.perf_counter() - started)).item()
            reporter.show_step(train_loss, factor, x.numel() * group.count)

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
        self.state, config = state, state.config
        super().__init__(
            state, folder, config_to_dict(config), resume=resume, speaks=state.group.is_main,
            headline=f"{parameter_count(config.model):,} parameters; training on "
            f"{state.group.device}, {len(state.data.tokens['train']):,} tokens",
        )  # fmt: skip

    def show_step(self, loss: float, factor: float, tokens: int) -> None:
        """Moves the progress bar: loss, learning rate as a share of its peak, tokens a second."""
        speed = tokens * self.state.step / max(self.state.seconds, 1e-9)
        self.move_bar(loss=f"{loss:.3f}", lr=f"{factor:.2f}", tokens_per_s=f"{speed:,.0f}")

    def evaluate(self) -> None:
        """Scores the whole validation split, prints one line and one sample, keeps the best."""
        state = self.state
        train_loss = state.take_mean_loss()
        if not self.speaks:
            return
        validation = state.data.tokens["validation"]
        window = state.config.model.max_len
        loss = evaluate(state.model, validation, window, state.group.device)
        bits = state.data.bits_per_byte(loss, "validation")
        state.model.eval()  # no dropout while it writes, and back again below
        prompt = state.data.tokenizer.decode(validation[: window // 2].tolist())
        sample = generate_text(
            state.model, state.data.tokenizer, prompt, SAMPLE_TOKENS, Sampling(temperature=0.8),
            seed=state.step,
        )  # fmt: skip
        state.model.train()
        self.show_evaluation(
            train_loss, loss, f"{bits:.4f} bits/byte",
            f"    sample: {' '.join(sample.split())[:100]}",
            {"bits_per_byte": bits, "tokens": state.step * state.config.batch_size * window},
        )  # fmt: skip
        if loss < state.best:
            state.best = loss
            state.save(self.folder / "checkpoints" / "best.pt")

    def save(self, path: Path) -> None:
        """Writes the checkpoint that ``--resume`` goes on from."""
        if self.speaks:
            self.state.save(path)

    def result(self) -> TrainResult:
        """Closes the bar and returns the trained model with its last validation loss."""
        self.close()
        state = self.state
        state.model.eval()
        bits = state.data.bits_per_byte(self.validation_loss, "validation")
        return TrainResult(
            state.model, self.folder, self.validation_loss, bits, state.step, state.seconds
        )


def main(argv: Sequence[str] | None = None) -> TrainResult:
    """Trains as the command line says; returns the result."""
    args = build_parser().parse_args(argv)
    config = config_from_args(args)
    folder = run_folder("gpt", args.name or args.preset)
    data = load_text_data(config.dataset, config.tokenizer, config.bpe_tokens)
    result = train(config, data, folder, resume=args.resume, device=args.device)
    if len(data.tokens["test"]) > 1:
        device = next(result.model.parameters()).device
        loss = evaluate(result.model, data.tokens["test"], config.model.max_len, device)
        print(f"test: {loss:.4f} nats/token, {data.bits_per_byte(loss, 'test'):.4f} bits/byte")
    return result


if __name__ == "__main__":
    run_entry(main)
