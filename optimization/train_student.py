"""Train a student: a small GPT that learns from a teacher, or alone (``--soft-weight 0``).

``python optimization/train_student.py --preset quick`` trains the teacher if it is not there yet,
then the student; the same with ``--resume`` goes on where a stopped run left off. A student is an
ordinary GPT: ``gpt/generation.py`` loads it, also as the draft of its teacher.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gpt.generation import generate_text
from gpt.gpt_config import parameter_count
from gpt.gpt_model import GPT, next_token_loss
from gpt.sampling import Sampling
from gpt.text_data import TextData
from gpt.train_gpt import evaluate
from gpt.train_state import TrainState
from optimization.distillation import distillation_loss
from optimization.optimization_config import FAMILY, PRESETS, StudentConfig, build_parser
from optimization.teacher import find_teacher, load_data
from tutorial_kit.compute import autocast, prepare_device
from tutorial_kit.config import config_to_dict, read_config
from tutorial_kit.console import run_entry
from tutorial_kit.distributed import processes
from tutorial_kit.run_reporter import RunReporter
from tutorial_kit.training import InterruptGuard, check_loss, run_folder

__all__ = ["build_parser", "main", "train_student"]

PROMPT, SAMPLE_TOKENS = "Returns the", 30


@dataclass(frozen=True)
class StudentResult:
    """What the training of a student returns."""

    model: GPT
    folder: Path  # outputs/optimization/<run>
    validation_loss: float  # nats per token, whole validation split
    steps: int  # updates done
    seconds: float  # spent in training steps, the teacher's part included


def train_student(
    config: StudentConfig,
    data: TextData,
    teacher: GPT | None,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
) -> StudentResult:
    """Trains a student and returns it.

    Args:
        config: what to do; ``config.model.vocab_size`` is taken from the data.
        data: the text.
        teacher: whose logits the loss compares with; not needed, and not computed, if
            ``soft_weight`` is 0. It stays as it is.
        folder: where ``config.json``, ``metrics.jsonl`` and ``checkpoints/`` go.
        resume: go on from ``checkpoints/last.pt``.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        ValueError: there is no teacher to learn from, or it sees less text than the student; the
            loss is no longer a number; the checkpoint does not fit.
        FileNotFoundError: ``resume`` without a checkpoint.
        KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
    """
    target = prepare_device(device, config.threads)
    config = replace(config, model=replace(config.model, vocab_size=data.tokenizer.vocab_size))
    _check_teacher(config, teacher)
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
        guide = None  # a copy: the caller's teacher stays where it is
        if teacher is not None and config.soft_weight:
            guide = copy.deepcopy(teacher).to(group.device).eval()

        while state.share_done < 1.0:
            started = time.perf_counter()
            factor = state.set_learning_rates()
            x, y = state.minibatch()  # (B, T), (B, T)
            loss = torch.zeros((), device=group.device)
            for x_part, y_part in zip(
                x.chunk(config.accumulation), y.chunk(config.accumulation), strict=True
            ):
                with autocast(config.precision, group.device):
                    logits = network(x_part)  # (B, T, V)
                    if guide is None:
                        part = next_token_loss(logits, y_part)
                    else:
                        with torch.no_grad():
                            wanted = guide(x_part)  # (B, T, V)
                        part = distillation_loss(
                            logits, wanted, y_part, config.temperature, config.soft_weight
                        )
                (part / config.accumulation).backward()
                loss += part.detach() / config.accumulation
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
            reporter.move_bar(loss=f"{train_loss:.3f}", lr=f"{factor:.2f}")

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


def _check_teacher(config: StudentConfig, teacher: GPT | None) -> None:
    """Refuses a student that has nobody to learn from, or reads further than its teacher."""
    if not config.soft_weight:
        return
    if teacher is None:
        raise ValueError(
            f"soft_weight={config.soft_weight} compares with a teacher, and there is none. "
            "Give one, or use soft_weight=0 for a student alone."
        )
    if config.model.max_len > teacher.config.max_len:
        raise ValueError(
            f"max_len={config.model.max_len} is more than the teacher's "
            f"{teacher.config.max_len}: it has no opinion about the later tokens. "
            f"Use --max-len {teacher.config.max_len} or less."
        )


class _Reporter(RunReporter):
    """What the loop tells and keeps; only the main process speaks, and only it saves."""

    def __init__(self, state: TrainState, folder: Path, resume: bool) -> None:
        self.state, config = state, state.config
        assert isinstance(config, StudentConfig)
        alone = "alone" if not config.soft_weight else f"with the teacher {config.teacher}"
        super().__init__(
            state, folder, config_to_dict(config), resume=resume, speaks=state.group.is_main,
            headline=f"a student {alone}: {parameter_count(config.model):,} parameters; "
            f"training on {state.group.device}",
        )  # fmt: skip

    def evaluate(self) -> None:
        """Scores the whole validation split, prints one line and one sample, keeps the best."""
        state = self.state
        train_loss = state.take_mean_loss()
        if not self.speaks:
            return
        tokens, tokenizer = state.data.tokens["validation"], state.data.tokenizer
        loss = evaluate(state.model, tokens, state.config.model.max_len, state.group.device)
        state.model.eval()  # no dropout while it writes, and back again below
        sample = generate_text(
            state.model, tokenizer, PROMPT, SAMPLE_TOKENS, Sampling(temperature=0.8),
            seed=state.step,
        )  # fmt: skip
        state.model.train()
        text = " ".join((PROMPT + sample).split())[:100]
        self.show_evaluation(train_loss, loss, "", f"    sample: {text}", {})
        if loss < state.best:
            state.best = loss
            state.save(self.folder / "checkpoints" / "best.pt")

    def save(self, path: Path) -> None:
        """Writes the checkpoint that ``--resume`` goes on from."""
        if self.speaks:
            self.state.save(path)

    def result(self) -> StudentResult:
        """Closes the bar and returns the trained model with its last validation loss."""
        self.close()
        model = self.state.model.eval()
        return StudentResult(
            model, self.folder, self.validation_loss, self.state.step, self.state.seconds
        )


def main(argv: Sequence[str] | None = None) -> StudentResult:
    """Trains as the command line says; returns the result."""
    args = build_parser().parse_args(argv)
    config = read_config(StudentConfig, PRESETS, args)
    folder = run_folder(FAMILY, args.name or f"student_{args.preset}")
    data = load_data(config)
    teacher = None
    if config.soft_weight:
        teacher = find_teacher(config.teacher, data, config.teacher_seed, args.device)
    result = train_student(config, data, teacher, folder, resume=args.resume, device=args.device)
    if len(data.tokens["test"]) > 1:
        device = next(result.model.parameters()).device
        loss = evaluate(result.model, data.tokens["test"], config.model.max_len, device)
        print(f"test: {loss:.4f} nats/token")
    return result


if __name__ == "__main__":
    run_entry(main)
