"""Direct preference optimization: preferences move the policy, without a reward model (DPO).

A policy p and a frozen reference q have an implicit reward beta log(p / q) for every reply. DPO is
Bradley-Terry's loss on it: the chosen reply shall earn more than the rejected one (Rafailov et al.
2023, eq. 7). IPO asks for a margin of a certain size instead (Azar et al. 2023, eq. 17).

Both see only differences, so both replies may become *less* probable as long as the rejected one
falls faster. The term ``likelihood`` holds the chosen one up (Pang et al. 2024, eq. 1 and 2);
``--loss likelihood`` is that term alone, the control that tells what the comparison adds.

``python instruction_tuning/dpo_trainer.py --preset quick`` tunes the SFT model; with ``--resume``
it goes on where it left off, bit for bit (CPU, same threads).
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
from pathlib import Path

import torch
from torch import Tensor, nn

from gpt.gpt_model import GPT
from instruction_tuning.losses import dpo_loss, ipo_loss, likelihood_loss
from instruction_tuning.pair_data import PairData, load_pair_data, pair_log_probs
from instruction_tuning.policy_scores import PolicyReporter
from instruction_tuning.reply_batch import reply_log_probs
from instruction_tuning.saved_model import load_policy
from instruction_tuning.tuning_batches import parts_of
from instruction_tuning.tuning_config import (
    DPO_PRESETS,
    DPOConfig,
    config_from_argv,
    tuning_parser,
)
from instruction_tuning.tuning_state import TrainResult, TuningState
from tutorial_kit.compute import autocast, prepare_device
from tutorial_kit.console import run_entry
from tutorial_kit.training import InterruptGuard, check_loss, run_folder
from tutorial_kit.word_tokenizer import WordTokenizer

__all__ = ["build_parser", "main", "train"]


def train(
    config: DPOConfig,
    policy: GPT,
    tokenizer: WordTokenizer,
    data: PairData,
    folder: Path,
    *,
    reference: GPT | None = None,
    resume: bool = False,
    device: str = "auto",
) -> TrainResult[GPT]:
    """Tunes a copy of a policy on preferences.

    Args:
        config: what to do.
        policy: the model to begin with; it stays as it is.
        tokenizer: its tokenizer.
        data: the pairs.
        folder: where ``config.json``, ``metrics.jsonl`` and ``checkpoints/`` go.
        reference: the policy that one may not run away from; None means ``policy``.
        resume: go on from ``checkpoints/last.pt``.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        ValueError: the loss is no longer a number, or the checkpoint does not fit.
        FileNotFoundError: ``resume`` without a checkpoint.
        KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
    """
    target = prepare_device(device, config.threads)
    frozen = copy.deepcopy(reference or policy).to(target).eval()
    with InterruptGuard() as guard:
        state = TuningState(config, policy, tokenizer, "dpo", data.train.lengths, target)
        if resume:
            state.restore(folder / "checkpoints" / "last.pt")
        # The reference never changes: what it says of the pairs, (P, 2), is computed once.
        said = pair_log_probs(frozen, data.train, config.precision)
        reporter = _Reporter(state, data, frozen, folder, resume)

        while state.share_done < 1.0:
            started = time.perf_counter()
            factor = state.set_learning_rates()
            rows = state.sampler.next_rows()
            loss = torch.zeros((), device=target)
            for part in parts_of(rows, config.accumulation):
                batch = data.train.batch(part).to(target)  # B pairs in one forward: 2 B replies
                with autocast(config.precision, target):
                    log_probs = reply_log_probs(state.model, batch)  # (2 B, L)
                pairs = log_probs.sum(1).view(-1, 2)  # (B, 2), log p(chosen), log p(rejected)
                lengths = batch.mask.sum(1).view(-1, 2)  # (B, 2), tokens
                part_loss = preference_loss(pairs, said[part], lengths, config)
                part_loss = part_loss * (len(part) / len(rows))
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
            reporter.show_step(len(rows), factor, loss=f"{train_loss:.3f}")

            finished = state.share_done >= 1.0
            if finished or state.step % config.eval_every == 0:
                reporter.evaluate()
            if finished or guard.requested or state.step % config.checkpoint_every == 0:
                reporter.save()
            if guard.requested:
                reporter.say_how_to_resume()
                raise KeyboardInterrupt
        return reporter.result()


def preference_loss(
    policy: Tensor, reference: Tensor, lengths: Tensor, config: DPOConfig
) -> Tensor:
    """Returns the loss that the settings name, over pairs.

    Args:
        policy: (B, 2), log p of the chosen and of the rejected reply.
        reference: (B, 2), log q of the same.
        lengths: (B, 2), their tokens.
        config: loss, beta, weight of the likelihood term.
    """
    likelihood = likelihood_loss(policy[:, 0], lengths[:, 0])  # of the chosen reply
    if config.loss == "likelihood":
        return likelihood
    chosen, rejected = policy.unbind(1)  # (B,), (B,)
    q_chosen, q_rejected = reference.unbind(1)
    if config.loss == "ipo":
        both = (lengths[:, 0], lengths[:, 1])
        loss, _, _ = ipo_loss(chosen, rejected, q_chosen, q_rejected, config.beta, both)
    else:
        loss, _, _ = dpo_loss(chosen, rejected, q_chosen, q_rejected, config.beta)
    return loss + config.likelihood * likelihood


class _Reporter(PolicyReporter):
    """What the loop tells and keeps."""

    def __init__(
        self, state: TuningState[GPT], data: PairData, reference: GPT, folder: Path, resume: bool
    ) -> None:
        self.pairs = data.validation
        self.said = pair_log_probs(reference, data.validation)  # (P, 2)
        counts = data.validation.replies
        self.lengths = torch.tensor([list(map(len, both)) for both in counts])  # (P, 2)
        learned_from = f"{len(data.train):,} pairs of replies"
        super().__init__(state, folder, learned_from, data.requests, reference, resume=resume)

    def evaluate(self) -> None:
        """Scores the validation pairs, answers requests, prints one line and one sample."""
        state, config = self.state, self.state.config
        assert isinstance(config, DPOConfig)
        now = pair_log_probs(state.model, self.pairs)  # (P, 2)
        loss = preference_loss(now, self.said, self.lengths.to(now.device), config).item()
        chosen, rejected = (config.beta * (now - self.said)).unbind(1)  # (P,), implicit rewards
        logged = {
            "rewards/chosen": chosen.mean().item(),
            "rewards/rejected": rejected.mean().item(),
            "rewards/margins": (chosen - rejected).mean().item(),
            "rewards/accuracies": (chosen > rejected).float().mean().item(),
            "logps/chosen": now[:, 0].mean().item(),
            "logps/rejected": now[:, 1].mean().item(),
        }
        scores, sample = self.score()
        shown = (
            f"pairs right {logged['rewards/accuracies']:6.2%}  "
            f"margin {logged['rewards/margins']:5.2f}  log p chosen {logged['logps/chosen']:6.2f}"
        )
        if scores:
            exact, sampled = scores["exact_match"], scores["exact_sampled"]
            shown += f"  exact {exact:6.2%} greedy {sampled:6.2%} at T=1"
        logged |= {**scores, "epochs": state.sampler.epochs}
        self.show_evaluation(state.take_mean_loss(), loss, shown, sample, logged, unit="nats/pair")
        self.keep_best(-loss)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return tuning_parser(DPOConfig, DPO_PRESETS, "Tune a policy on preferences; resume it.")


def main(argv: Sequence[str] | None = None) -> TrainResult[GPT]:
    """Trains as the command line says; returns the result."""
    config, args = config_from_argv(build_parser(), DPOConfig, DPO_PRESETS, argv)
    policy, tokenizer = load_policy(config.base)
    data = load_pair_data(config, policy, tokenizer)
    folder = run_folder("instruction_tuning", args.name)
    return train(config, policy, tokenizer, data, folder, resume=args.resume, device=args.device)


if __name__ == "__main__":
    run_entry(main)
