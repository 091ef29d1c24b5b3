"""Supervised fine-tuning: the base model imitates demonstrations and becomes an assistant.

The loss is the one of pre-training, -log p(token | tokens before), but only the tokens of the reply
count, its ``<end>`` among them: the model shall learn to answer, not to ask, and to stop. It is the
first of the three stages of Ouyang et al. 2022, section 3.5.

``python instruction_tuning/sft_trainer.py --preset quick`` trains; with ``--resume`` it goes on
where a stopped or killed run left off, bit for bit (CPU, same threads).
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.gpt_model import GPT
from gpt.sampling import GREEDY
from instruction_tuning.chat_template import PAD, ChatBatch, Row, chat_tokens, make_batch
from instruction_tuning.common_config import VALIDATION
from instruction_tuning.instruction_data import WORLD, demonstrations_of, sft_rows
from instruction_tuning.judge import exact_match
from instruction_tuning.losses import sft_loss, token_log_probs
from instruction_tuning.replies import write_replies
from instruction_tuning.saved_model import load_policy
from instruction_tuning.tuning_batches import parts_of
from instruction_tuning.tuning_config import (
    SFT_PRESETS,
    SFTConfig,
    config_from_argv,
    tuning_parser,
)
from instruction_tuning.tuning_reporter import TuningReporter
from instruction_tuning.tuning_state import TrainResult, TuningState
from instruction_tuning.word_world import Request, draw_requests
from tutorial_kit.compute import autocast, prepare_device
from tutorial_kit.console import run_entry
from tutorial_kit.tokenizers import Tokenizer
from tutorial_kit.training import InterruptGuard, check_loss, run_folder
from tutorial_kit.word_tokenizer import WordTokenizer

__all__ = ["SFTData", "build_parser", "load_sft_data", "main", "train"]

ROWS_TOGETHER = 256  # rows scored at once in an evaluation


@dataclass(frozen=True)
class SFTData:
    """What an SFT learns from and what it is measured on."""

    train: Sequence[Row]  # demonstrations: ids, and which of them are trained on
    validation: Sequence[Row]  # the same of held-out words, right and without chatter
    requests: Sequence[Request]  # held-out requests that a program can check; of a file: none


def train(
    config: SFTConfig,
    policy: GPT,
    tokenizer: WordTokenizer,
    data: SFTData,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
) -> TrainResult[GPT]:
    """Tunes a copy of a model on demonstrations.

    Args:
        config: what to do.
        policy: the model to begin with; it stays as it is.
        tokenizer: its tokenizer.
        data: the demonstrations.
        folder: where ``config.json``, ``metrics.jsonl`` and ``checkpoints/`` go.
        resume: go on from ``checkpoints/last.pt``.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        ValueError: the loss is no longer a number, or the checkpoint does not fit.
        FileNotFoundError: ``resume`` without a checkpoint.
        KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
    """
    target, pad = prepare_device(device, config.threads), chat_tokens(tokenizer)[PAD]
    rows = data.train if config.mask_prompt else [(ids, [True] * len(ids)) for ids, _ in data.train]
    with InterruptGuard() as guard:
        lengths = [len(ids) for ids, _ in rows]
        state = TuningState(config, policy, tokenizer, "sft", lengths, target)
        if resume:
            state.restore(folder / "checkpoints" / "last.pt")
        reporter = _Reporter(state, data, folder, resume)

        while state.share_done < 1.0:
            started = time.perf_counter()
            factor = state.set_learning_rates()
            chosen = [rows[number] for number in state.sampler.next_rows()]
            trained = sum(sum(mask[1:]) for _, mask in chosen)  # tokens of the whole minibatch
            loss = torch.zeros((), device=target)
            for part in parts_of(chosen, config.accumulation):
                b = make_batch(part, pad).to(target)
                with autocast(config.precision, target):
                    log_probs = trained_log_probs(state.model, b)  # (B, T - 1)
                mask = b.loss_mask[:, 1:]  # (B, T - 1)
                # The mean over the minibatch's tokens, not over the means of its parts.
                part_loss = sft_loss(log_probs, mask) * (mask.sum() / trained)
                part_loss.backward()
                loss += part_loss.detach()
            if config.clip:
                nn.utils.clip_grad_norm_(state.parameters(), config.clip)
            for optimizer in state.optimizers:
                optimizer.step()
                optimizer.zero_grad()
            state.step += 1

            train_loss = loss.item()
            check_loss(train_loss, state.step, reporter.last)
            state.add_loss(train_loss)
            state.seconds += time.perf_counter() - started
            reporter.show_step(len(chosen), factor, loss=f"{train_loss:.3f}")

            finished = state.share_done >= 1.0
            if finished or state.step % config.eval_every == 0:
                reporter.evaluate()
            if finished or guard.requested or state.step % config.checkpoint_every == 0:
                reporter.save()
            if guard.requested:
                reporter.say_how_to_resume()
                raise KeyboardInterrupt
        return reporter.result()


def trained_log_probs(model: GPT, batch: ChatBatch) -> Tensor:
    """Log p of each token that is trained on, given those before it.

    The vocabulary is scored only where the next token is trained on: the larger part of a
    conversation is request and padding.

    Args:
        model: the policy.
        batch: B conversations.

    Returns:
        (B, T - 1), column t is about token t + 1; 0 where it is not trained on. The first token has
        none before it and is never trained on.
    """
    mask = batch.loss_mask[:, 1:]  # (B, T - 1)
    x = model.hidden(batch.tokens[:, :-1])  # (B, T - 1, D)
    places = mask.flatten().nonzero()[:, 0]  # (N,)
    logits = model.project(x.flatten(0, 1).index_select(0, places)).float()  # (N, V)
    losses = F.cross_entropy(logits, batch.tokens[:, 1:][mask], reduction="none")  # (N,)
    return losses.new_zeros(mask.shape).masked_scatter(mask, -losses)


@torch.no_grad()
def evaluate(model: GPT, rows: Sequence[Row], pad: int) -> tuple[float, float]:
    """Scores demonstrations.

    Args:
        model: the policy.
        rows: ids, and which of them count.
        pad: any id; padding never counts.

    Returns:
        Mean cross-entropy of the tokens that count, in nats; share of them that the model finds
        the most probable.
    """
    device = model.token_embedding.weight.device
    loss, right, count = 0.0, 0, 0
    for part in parts_of(sorted(rows, key=lambda row: len(row[0])), -(-len(rows) // ROWS_TOGETHER)):
        b = make_batch(part, pad).to(device)
        mask = b.loss_mask[:, 1:]  # (B, T - 1)
        logits = model(b.tokens).float()  # (B, T, V)
        loss -= token_log_probs(logits, b.tokens)[mask].sum().item()
        right += int((logits[:, :-1].argmax(dim=-1) == b.tokens[:, 1:])[mask].sum())
        count += int(mask.sum())
    return loss / count, right / count


class _Reporter(TuningReporter[GPT]):
    """What the loop tells and keeps."""

    def __init__(self, state: TuningState[GPT], data: SFTData, folder: Path, resume: bool) -> None:
        self.data = data
        self.pad = chat_tokens(state.tokenizer)[PAD]
        super().__init__(state, folder, f"{len(data.train):,} demonstrations", resume=resume)

    def evaluate(self) -> None:
        """Scores the validation rows, answers requests, prints one line and one sample."""
        state, requests = self.state, self.data.requests
        loss, accuracy = evaluate(state.model, self.data.validation, self.pad)
        scores, logged = f"tokens right {accuracy:6.2%}", {"accuracy": accuracy}
        sample = "    sample: none, no program can check replies to these data"
        if requests:
            replies = write_replies(
                state.model, state.tokenizer, requests, GREEDY, max_new=state.config.max_new
            )
            pairs = zip(requests, replies, strict=True)
            exact = sum(reply.finished and exact_match(ask, reply.text) for ask, reply in pairs)
            logged["exact_match"] = exact / len(requests)
            scores += f"  replies right {logged['exact_match']:6.2%}"
            shown = state.step // state.config.eval_every % len(requests)
            sample = f"    sample: {requests[shown].text} -> {replies[shown].text!r}"
        logged["epochs"] = state.sampler.epochs
        self.show_evaluation(state.take_mean_loss(), loss, scores, sample, logged)
        self.keep_best(-loss)


def load_sft_data(config: SFTConfig, tokenizer: Tokenizer, max_len: int) -> SFTData:
    """Returns what the settings name, as rows.

    Args:
        config: data set, number, sloppiness and seed of the demonstrations.
        tokenizer: of the model that is tuned.
        max_len: its context window, tokens; longer entries of a file are left out, and said.

    Raises:
        ValueError: the file cannot be used, or nothing in it fits.
        FileNotFoundError: there is no such file.
    """
    of_world = config.dataset == WORLD
    learned = demonstrations_of(
        config.dataset, "train", config.requests,
        slips=config.slips, chatter=config.chatter, seed=config.seed,
    )  # fmt: skip
    held_out = demonstrations_of(
        config.dataset, "validation", VALIDATION, slips=0.0, chatter=0.0, seed=config.seed
    )
    rows = [
        sft_rows(part, tokenizer, max_len, drop_long=not of_world) for part in (learned, held_out)
    ]
    requests = draw_requests(VALIDATION, "validation", config.seed) if of_world else []
    return SFTData(rows[0], rows[1], requests)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return tuning_parser(SFTConfig, SFT_PRESETS, "Tune a base model on demonstrations; resume it.")


def main(argv: Sequence[str] | None = None) -> TrainResult[GPT]:
    """Trains as the command line says; returns the result."""
    config, args = config_from_argv(build_parser(), SFTConfig, SFT_PRESETS, argv)
    policy, tokenizer = load_policy(config.base)
    data = load_sft_data(config, tokenizer, policy.config.max_len)
    folder = run_folder("instruction_tuning", args.name)
    return train(config, policy, tokenizer, data, folder, resume=args.resume, device=args.device)


if __name__ == "__main__":
    run_entry(main)
