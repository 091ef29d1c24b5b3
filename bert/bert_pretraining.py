"""Pre-train a BERT: the loop, its evaluation on held-out text, checkpoints, resume.

``python bert/bert_pretraining.py --preset standard`` trains by the later recipe; ``--recipe
mlm+nsp`` by the paper's. The same with ``--resume`` goes on where a stopped or killed run left off,
bit for bit (CPU, same threads, without a time budget). Under ``torchrun`` every process takes its
share of each minibatch. Devlin et al. 2019, section 3.1 and appendix A.2.
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
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bert.bert_config import parameter_count
from bert.bert_data import PretrainingBatch
from bert.bert_heads import BertForPreTraining
from bert.pretraining_batches import evaluation_batches
from bert.pretraining_config import PretrainConfig, build_parser, config_from_argv
from bert.pretraining_data import BertData, load_bert_data
from bert.pretraining_evaluation import Scores, evaluate, filled_sample, unigram_loss
from bert.pretraining_state import PretrainState
from bert.wordpiece import WordPiece
from tutorial_kit.compute import autocast, prepare_device
from tutorial_kit.config import config_to_dict
from tutorial_kit.console import run_entry
from tutorial_kit.distributed import processes
from tutorial_kit.run_reporter import RunReporter
from tutorial_kit.training import InterruptGuard, check_loss, read_metrics, run_folder

__all__ = ["PretrainResult", "build_parser", "main", "train"]


@dataclass(frozen=True)
class PretrainResult:
    """What a pre-training returns."""

    model: BertForPreTraining  # in evaluation mode
    wordpiece: WordPiece
    folder: Path  # outputs/bert/<run>
    validation_loss: float  # nats per masked token, whole validation split, fixed masks
    unigram_entropy: float  # the same of the unigram model
    scores: Scores  # everything measured on the validation split
    history: list[dict[str, Any]]  # rows of metrics.jsonl
    steps: int  # updates done
    seconds: float  # spent in training steps


def train(
    config: PretrainConfig,
    data: BertData,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
) -> PretrainResult:
    """Pre-trains a BERT and returns it.

    Args:
        config: what to do; ``config.model.vocab_size`` is taken from the data.
        data: the documents and their vocabulary.
        folder: where ``config.json``, ``vocab.txt``, ``metrics.jsonl`` and ``checkpoints/`` go.
        resume: go on from ``checkpoints/last.pt``.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        ValueError: the loss is no longer a number, the checkpoint does not fit, or there is too
            little text.
        FileNotFoundError: ``resume`` without a checkpoint.
        KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
    """
    target = prepare_device(device, config.threads)
    config = replace(config, model=replace(config.model, vocab_size=data.wordpiece.vocab_size))
    with processes(target) as group, InterruptGuard() as guard:
        state = PretrainState(config, data, group)
        last = folder / "checkpoints" / "last.pt"
        if resume:
            state.restore(last)
        reporter = _Reporter(state, folder, resume)
        network: nn.Module = state.model
        if group.count > 1:  # without pairs the pooler and the head of NSP get no gradient
            unused = config.objective == "mlm"
            network = DistributedDataParallel(network, find_unused_parameters=unused)
        network.train()

        while state.share_done < 1.0:
            started = time.perf_counter()
            factor = state.set_learning_rates()
            parts, n_masked = state.minibatch()
            losses = torch.zeros(2, device=group.device)  # MLM, NSP
            for b in parts:
                with autocast(config.precision, group.device):
                    output = network(b.tokens, b.mask, b.segments, b.labels, b.next_labels)
                # Each part's mean counts by its masked tokens: the mean of means would be another.
                share = output.n_masked * group.count / n_masked
                mlm_loss, nsp_loss = output.mlm_loss * share, output.nsp_loss / len(parts)
                (mlm_loss + nsp_loss).backward()
                losses += torch.stack([mlm_loss, nsp_loss]).detach()
            if config.clip:
                nn.utils.clip_grad_norm_(state.model.parameters(), config.clip)
            for optimizer in state.optimizers:
                optimizer.step()
                optimizer.zero_grad()
            state.step += 1

            mean_mlm, mean_nsp = group.average(losses).tolist()
            check_loss(mean_mlm + mean_nsp, state.step, last)
            state.add_losses(mean_mlm, mean_nsp)
            state.tokens += sum(b.tokens.numel() for b in parts) * group.count
            state.seconds += group.average(torch.tensor(time.perf_counter() - started)).item()
            reporter.show_step(mean_mlm, factor)

            finished = state.share_done >= 1.0
            stopped = group.average(torch.tensor(float(guard.requested))).item() > 0
            if finished or state.step % config.eval_every == 0:
                reporter.evaluate(whole=finished)
            if finished or stopped or state.step % config.checkpoint_every == 0:
                reporter.save(last)
            if stopped:
                reporter.say_how_to_resume()
                raise KeyboardInterrupt
        return reporter.result()


class _Reporter(RunReporter):
    """What the loop tells and keeps; only the main process speaks, and only it saves."""

    def __init__(self, state: PretrainState, folder: Path, resume: bool) -> None:
        self.state, config, data = state, state.config, state.data
        self.scores = Scores(*[float("nan")] * 4)
        self.unigram = float("nan")
        super().__init__(
            state, folder, config_to_dict(config), resume=resume, speaks=state.group.is_main,
            headline=f"{parameter_count(config.model, pretraining_heads=True):,} parameters; "
            f"training on {state.group.device} by {config.objective}, "
            f"{len(data.splits['train'].tokens):,} tokens of {config.dataset}",
        )  # fmt: skip
        if self.speaks:
            data.wordpiece.save(folder)

    def show_step(self, loss: float, factor: float) -> None:
        """Moves the progress bar: MLM loss, learning rate as a share of its peak, tokens/s."""
        speed = self.state.tokens / max(self.state.seconds, 1e-9)
        self.move_bar(mlm=f"{loss:.3f}", lr=f"{factor:.2f}", tokens_per_s=f"{speed:,.0f}")

    def evaluate(self, whole: bool) -> None:
        """Scores held-out text, prints one line and one sample, keeps the best.

        Args:
            whole: the whole validation split, not ``eval_sequences`` of it.
        """
        state, config = self.state, self.state.config
        train_nsp, train_mlm = state.take_mean_nsp_loss(), state.take_mean_loss()
        if not self.speaks:
            return
        batches = self._measure(0 if whole else config.eval_sequences)
        scores = self.scores
        masked, filled = filled_sample(state.model, batches[0], state.data.wordpiece)
        logged = {
            "train_mlm_loss": train_mlm,
            "validation_mlm_loss": scores.mlm_loss,
            "validation_mlm_accuracy": scores.mlm_accuracy,
            "unigram_entropy": self.unigram,
            "tokens": state.tokens,
        }
        line = f"(unigram {self.unigram:.4f})  MLM accuracy {scores.mlm_accuracy:6.1%}"
        if config.objective == "mlm+nsp":
            line += f"  NSP accuracy {scores.nsp_accuracy:6.1%}"
            logged |= {
                "train_nsp_loss": train_nsp,
                "validation_nsp_loss": scores.nsp_loss,
                "validation_nsp_accuracy": scores.nsp_accuracy,
            }
        self.show_evaluation(
            train_mlm, scores.mlm_loss, line, f"    masked: {masked}\n    filled: {filled}",
            logged, unit="nats",
        )  # fmt: skip
        if scores.mlm_loss < state.best:
            state.best = scores.mlm_loss
            state.save(self.folder / "checkpoints" / "best.pt")

    def _measure(self, limit: int) -> list[PretrainingBatch]:
        """Sets ``scores`` and ``unigram``; returns what they were measured on."""
        state, pieces, splits = self.state, self.state.data.wordpiece, self.state.data.splits
        length, objective = state.config.model.max_len, state.config.objective
        batches = evaluation_batches(splits["validation"], pieces, length, objective, limit)
        self.scores = evaluate(state.model, batches)
        self.unigram = unigram_loss(splits["train"].tokens, batches, pieces)
        return batches

    def save(self, path: Path) -> None:
        """Writes the checkpoint that ``--resume`` goes on from."""
        if self.speaks:
            self.state.save(path)

    def result(self) -> PretrainResult:
        """Closes the bar and returns the trained model with its last scores."""
        self.close()
        state, log = self.state, self.folder / "metrics.jsonl"
        if self.speaks and self.scores.mlm_loss != self.scores.mlm_loss:  # resumed when finished
            self._measure(0)
        return PretrainResult(
            state.model.eval(), state.data.wordpiece, self.folder, self.scores.mlm_loss,
            self.unigram, self.scores, read_metrics(log) if self.speaks else [], state.step,
            state.seconds,
        )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> PretrainResult:
    """Trains as the command line says, scores the test split; returns the result."""
    config, args = config_from_argv(argv)
    folder = run_folder("bert", args.name or args.preset)
    data = load_bert_data(config.dataset, config.wordpiece_tokens)
    result = train(config, data, folder, resume=args.resume, device=args.device)
    test, length = data.splits["test"], config.model.max_len
    if len(test.tokens) >= length:
        batches = evaluation_batches(test, data.wordpiece, length, config.objective)
        scores = evaluate(result.model, batches)
        unigram = unigram_loss(data.splits["train"].tokens, batches, data.wordpiece)
        print(f"test: {scores}; the unigram model {unigram:.4f} nats")
    return result


if __name__ == "__main__":
    run_entry(main)
