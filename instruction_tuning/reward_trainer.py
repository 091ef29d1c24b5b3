"""Train a reward model: of two replies to a request, the one that people prefer gets more.

Only comparisons are known, so only differences are trained: -log sigmoid(r_chosen - r_rejected),
the negative log-likelihood of the Bradley-Terry model (Ouyang et al. 2022, eq. 1). All pairs of a
request stand in one minibatch; the request is read once, and each of its replies is scored once.
The body goes on learning to write the best replies, so that it does not forget what it knew: for
reward models of large language models Yang et al. 2024 found the same to help.

``python instruction_tuning/reward_trainer.py --preset quick`` trains one on replies of the run
quick_sft; with ``--resume`` it goes on where it left off, bit for bit (CPU, same threads).
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gpt.gpt_model import GPT
from instruction_tuning.instruction_data import WORLD
from instruction_tuning.losses import reward_loss
from instruction_tuning.preference_data import Comparisons, compare, preferences_of
from instruction_tuning.reply_batch import ReplyBatch, make_reply_batch
from instruction_tuning.reward_model import RewardModel, score_replies
from instruction_tuning.saved_model import load_policy
from instruction_tuning.tuning_batches import parts_of
from instruction_tuning.tuning_config import (
    REWARD_PRESETS,
    RewardConfig,
    config_from_argv,
    tuning_parser,
)
from instruction_tuning.tuning_reporter import TuningReporter
from instruction_tuning.tuning_state import TrainResult, TuningState
from tutorial_kit.compute import autocast, prepare_device
from tutorial_kit.console import run_entry
from tutorial_kit.training import InterruptGuard, check_loss, run_folder
from tutorial_kit.word_tokenizer import WordTokenizer

__all__ = ["RewardData", "build_parser", "load_reward_data", "main", "train"]


@dataclass(frozen=True)
class RewardData:
    """What a reward model learns from and what it is measured on."""

    train: Sequence[Comparisons]  # one entry a request
    validation: Sequence[Comparisons]  # of held-out requests


def train(
    config: RewardConfig,
    policy: GPT,
    tokenizer: WordTokenizer,
    data: RewardData,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
) -> TrainResult[RewardModel]:
    """Trains a reward model whose body begins as a copy of a policy.

    Args:
        config: what to do.
        policy: the model to begin with; it stays as it is.
        tokenizer: its tokenizer.
        data: the comparisons.
        folder: where ``config.json``, ``metrics.jsonl`` and ``checkpoints/`` go.
        resume: go on from ``checkpoints/last.pt``.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        ValueError: the loss is no longer a number, or the checkpoint does not fit.
        FileNotFoundError: ``resume`` without a checkpoint.
        KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
    """
    target = prepare_device(device, config.threads)
    with InterruptGuard() as guard:
        lengths = [len(each.prompt) + sum(map(len, each.replies)) for each in data.train]
        model = RewardModel(copy.deepcopy(policy), config.own_likelihood)
        state = TuningState(config, model, tokenizer, "reward", lengths, target)
        if resume:
            state.restore(folder / "checkpoints" / "last.pt")
        reporter = _Reporter(state, data, folder, resume)

        while state.share_done < 1.0:
            started = time.perf_counter()
            factor = state.set_learning_rates()
            chosen = [data.train[number] for number in state.sampler.next_rows()]
            n_pairs = sum(len(each.pairs) for each in chosen)  # of the whole minibatch
            n_best = max(1, sum(map(best_tokens, chosen)))  # tokens of the best replies
            loss = torch.zeros((), device=target)
            for part in parts_of(chosen, config.accumulation):
                batch = batch_of(part, policy.config.max_len).to(target)
                with autocast(config.precision, target):
                    scores, log_probs = state.model(batch)  # (R,), (R, L)
                better, worse = pair_places(part)  # (P,), (P,): places among the R
                best = torch.tensor([is_best for each in part for is_best in each.best])  # (R,)
                # The means over the minibatch's pairs and tokens, not over those of its parts.
                part_loss = reward_loss(scores[better], scores[worse]) * (len(better) / n_pairs)
                part_loss -= config.likelihood * log_probs[best.to(target)].sum() / n_best
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


def batch_of(groups: Sequence[Comparisons], max_len: int) -> ReplyBatch:
    """Returns all R replies to some requests, each request read once for all of them.

    Equal to a row for each reply, in less than half of the time.

    Args:
        groups: one entry a request.
        max_len: the model's context window, tokens.
    """
    prompts, replies = [group.prompt for group in groups], [group.replies for group in groups]
    return make_reply_batch(prompts, replies, max_len)


def best_tokens(group: Comparisons) -> int:
    """Returns how many tokens the best replies to a request have."""
    return sum(len(reply) for reply, best in zip(group.replies, group.best, strict=True) if best)


def pair_places(groups: Sequence[Comparisons]) -> tuple[Tensor, Tensor]:
    """Returns where the replies of all pairs stand among the R replies of some requests.

    Args:
        groups: one entry a request, P pairs in all.

    Returns:
        (P,), the places of the better ones; (P,), of the worse ones.
    """
    places, before = [], 0
    for group in groups:
        places += [(before + chosen, before + rejected) for chosen, rejected in group.pairs]
        before += len(group.replies)
    better, worse = torch.tensor(places).unbind(1)
    return better, worse


def evaluate(model: RewardModel, groups: Sequence[Comparisons]) -> tuple[float, float, Tensor]:
    """Scores held-out comparisons.

    Args:
        model: the reward model.
        groups: one entry a request, P pairs in all.

    Returns:
        Mean loss in nats; share of the pairs whose better reply gets more, of equals half;
        margins (P,), how much more.
    """
    prompts, replies = [group.prompt for group in groups], [group.replies for group in groups]
    scores = score_replies(model, prompts, replies)  # (R,)
    better, worse = pair_places(groups)
    loss = reward_loss(scores[better], scores[worse])
    margins = scores[better] - scores[worse]  # (P,)
    right = (margins > 0).float() + 0.5 * (margins == 0).float()
    return float(loss), float(right.mean()), margins


class _Reporter(TuningReporter[RewardModel]):
    """What the loop tells and keeps."""

    def __init__(
        self, state: TuningState[RewardModel], data: RewardData, folder: Path, resume: bool
    ) -> None:
        self.data = data
        pairs = sum(len(group.pairs) for group in data.train)
        learned_from = f"{pairs:,} pairs of replies to {len(data.train):,} requests"
        super().__init__(state, folder, learned_from, resume=resume)

    def evaluate(self) -> None:
        """Scores the validation pairs, prints one line and one sample."""
        state = self.state
        loss, accuracy, margins = evaluate(state.model, self.data.validation)
        logged = {
            "accuracy": accuracy, "margin": float(margins.mean()), "epochs": state.sampler.epochs,
        }  # fmt: skip
        self.show_evaluation(
            state.take_mean_loss(), loss,
            f"pairs right {accuracy:6.2%}  margin {logged['margin']:5.2f}", self._sample(),
            logged, unit="nats/pair",
        )  # fmt: skip
        self.keep_best(accuracy)

    def _sample(self) -> str:
        """Returns two replies to a held-out request with their scores."""
        state, groups = self.state, self.data.validation
        group = groups[state.step // state.config.eval_every % len(groups)]
        replies = [group.replies[place] for place in group.pairs[0]]
        scores = score_replies(state.model, [group.prompt], [replies]).tolist()
        texts = [" ".join(state.tokenizer.decode(group.prompt + r).split()) for r in replies]
        return "\n".join(
            f"    {name}: {score:+.2f}  {text[:100]}"
            for name, score, text in zip(("better", "worse "), scores, texts, strict=True)
        )


def load_reward_data(config: RewardConfig, policy: GPT, tokenizer: WordTokenizer) -> RewardData:
    """Returns the comparisons that the settings name; see ``preferences_of``.

    Args:
        config: data set, numbers, noise and seed of the comparisons.
        policy: whose replies are compared.
        tokenizer: its tokenizer.

    Raises:
        ValueError: the file cannot be used, or there is no pair.
        FileNotFoundError: there is no such file.
    """
    of_file, max_len = config.dataset != WORLD, policy.config.max_len
    parts = [
        compare(
            preferences_of(config, policy, tokenizer, split), tokenizer, max_len, drop_long=of_file
        )
        for split in ("train", "validation")
    ]
    return RewardData(*parts)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return tuning_parser(
        RewardConfig, REWARD_PRESETS, "Train a reward model on comparisons; resume it."
    )


def main(argv: Sequence[str] | None = None) -> TrainResult[RewardModel]:
    """Trains as the command line says; returns the result."""
    config, args = config_from_argv(build_parser(), RewardConfig, REWARD_PRESETS, argv)
    policy, tokenizer = load_policy(config.base)
    data = load_reward_data(config, policy, tokenizer)
    folder = run_folder("instruction_tuning", args.name)
    return train(config, policy, tokenizer, data, folder, resume=args.resume, device=args.device)


if __name__ == "__main__":
    run_entry(main)
