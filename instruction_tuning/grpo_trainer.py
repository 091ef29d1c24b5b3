"""Group relative policy optimization: the replies to one request are each other's yardstick.

PPO's critic is gone. The policy replies G times to a request; a reply's advantage is its reward
minus the group's mean, divided by the group's spread (Shao et al. 2024, section 4.1, algorithm 1).
All tokens of a reply share it. The divergence from the reference is part of the loss (k3), not of
the reward.

A group whose replies all earn the same has nothing to tell: its advantages are 0. The share of such
groups is logged; when it nears 1, the training stands still. The loss itself says nothing: at the
first update on a rollout it is near 0 whatever the policy does, because advantages sum to 0.

``--unbiased`` divides neither by the group's spread nor by a reply's length (Dr. GRPO: Liu et al.
2025, section 3).

``python instruction_tuning/grpo_trainer.py --preset quick`` tunes the SFT model with the verifier;
with ``--resume`` it goes on where it left off, bit for bit (CPU, same threads).
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
from torch import nn

from gpt.gpt_model import GPT
from instruction_tuning.losses import group_advantages, grpo_loss, kl_k1
from instruction_tuning.reply_batch import reply_log_probs
from instruction_tuning.request_data import RequestData, load_request_data
from instruction_tuning.rewards import Reward, find_reward
from instruction_tuning.rollout_config import GRPO_PRESETS, GRPOConfig
from instruction_tuning.rollout_steps import RolloutReporter, next_rollout, rollout_metrics
from instruction_tuning.saved_model import load_policy
from instruction_tuning.tuning_batches import parts_of
from instruction_tuning.tuning_config import config_from_argv, tuning_parser
from instruction_tuning.tuning_state import TrainResult, TuningState
from tutorial_kit.compute import autocast, prepare_device
from tutorial_kit.console import run_entry
from tutorial_kit.training import InterruptGuard, check_loss, run_folder
from tutorial_kit.word_tokenizer import WordTokenizer

__all__ = ["build_parser", "main", "train"]


def train(
    config: GRPOConfig,
    policy: GPT,
    tokenizer: WordTokenizer,
    data: RequestData,
    folder: Path,
    *,
    reward: Reward,
    reference: GPT | None = None,
    resume: bool = False,
    device: str = "auto",
) -> TrainResult[GPT]:
    """Tunes a copy of a policy on the reward of its own replies.

    Args:
        config: what to do.
        policy: the model to begin with; it stays as it is.
        tokenizer: its tokenizer.
        data: the requests.
        folder: where ``config.json``, ``metrics.jsonl`` and ``checkpoints/`` go.
        reward: scores replies.
        reference: the policy that one may not run away from; None means ``policy``.
        resume: go on from ``checkpoints/last.pt``.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        ValueError: a reward or the loss is no number, a reply has no room, or the checkpoint does
            not fit.
        FileNotFoundError: ``resume`` without a checkpoint.
        KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
    """
    target, group = prepare_device(device, config.threads), config.group
    frozen = copy.deepcopy(reference or policy).to(target).eval()
    with InterruptGuard() as guard:
        lengths = list(map(len, data.prompts))
        state = TuningState(config, policy, tokenizer, "grpo", lengths, target, sorted_together=1)
        if resume:
            state.restore(folder / "checkpoints" / "last.pt")
        reporter = RolloutReporter(state, folder, data, frozen, reward, resume=resume)

        while state.share_done < 1.0:
            started = time.perf_counter()
            factor = state.set_learning_rates()
            rollout, rewards = next_rollout(state, data, reward, n=group)  # B = Q G replies; (B,)
            advantages = group_advantages(rewards.view(-1, group), config.unbiased)  # (Q, G)
            with torch.no_grad(), autocast(config.precision, target):
                reference_log_probs = reply_log_probs(frozen, rollout.batch)  # (B, L)
            columns = torch.stack([rollout.log_probs, reference_log_probs])  # (2, B, L)
            losses = torch.zeros(2, device=target)  # the loss, share of clipped tokens
            for _ in range(config.updates):
                for part in parts_of(range(config.batch_size), config.accumulation):
                    batch = rollout.part(part, policy.config.max_len).to(target)
                    theirs = slice(part[0] * group, (part[-1] + 1) * group)  # B' of the replies
                    old_log_probs, q = columns[:, theirs, : batch.mask.shape[1]]  # (B', L') each
                    with autocast(config.precision, target):
                        log_probs = reply_log_probs(state.model, batch)  # (B', L')
                    loss, _, clipped = grpo_loss(
                        log_probs, old_log_probs, q, advantages.flatten()[theirs], batch.mask,
                        config.clip_ratio, config.kl, config.unbiased, config.max_new,
                    )  # fmt: skip
                    share = len(part) / config.batch_size
                    (loss * share).backward()
                    losses += torch.stack([loss.detach(), clipped]) * share / config.updates
                if config.clip:
                    nn.utils.clip_grad_norm_(state.parameters(), config.clip)
                for optimizer in state.optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
            state.step += 1

            check_loss(losses[0].item(), state.step, reporter.last)
            metrics = rollout_metrics(rollout, rewards, kl_k1(*columns))
            flat = (advantages == 0).all(1).float().mean().item()  # groups without variance
            metrics |= {"loss": losses[0].item(), "clip_fraction": losses[1].item()}
            reporter.add(metrics | {"flat_groups": flat})
            state.seconds += time.perf_counter() - started
            reporter.show_step(len(rewards), factor, reward=f"{metrics['reward']:.3f}")

            finished = state.share_done >= 1.0
            if finished or state.step % config.eval_every == 0:
                reporter.evaluate()
            if finished or guard.requested or state.step % config.checkpoint_every == 0:
                reporter.save()
            if guard.requested:
                reporter.say_how_to_resume()
                raise KeyboardInterrupt
        return reporter.result()


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return tuning_parser(GRPOConfig, GRPO_PRESETS, "Tune a policy on a reward by GRPO; resume it.")


def main(argv: Sequence[str] | None = None) -> TrainResult[GPT]:
    """Trains as the command line says; returns the result."""
    config, args = config_from_argv(build_parser(), GRPOConfig, GRPO_PRESETS, argv)
    policy, tokenizer = load_policy(config.base)
    reward = find_reward(config.reward, tokenizer, config.missing_end)
    data = load_request_data(config, tokenizer, policy.config.max_len)
    folder = run_folder("instruction_tuning", args.name)
    return train(
        config, policy, tokenizer, data, folder, reward=reward, resume=args.resume,
        device=args.device,
    )  # fmt: skip


if __name__ == "__main__":
    run_entry(main)
