"""Proximal policy optimization: sample replies, score them, raise what went better than expected.

One step is a rollout and a few updates on it (Schulman et al. 2017, algorithm 1; Ouyang et al.
2022, section 3.5). The whole reply gets one score, at its last token; every token pays for how much
likelier it has become than under the reference. A second model, the critic, learns what reward is
to be expected at each token. What came beyond it, spread over the tokens by GAE, is the advantage.
The policy's loss is clipped: no update shall move further from the policy that wrote the replies
than their advantages are good for.

Differences from Ouyang et al.: no pre-training gradients are mixed in, the critic's last layer
starts at zero, and the advantages are whitened.

``python instruction_tuning/ppo_trainer.py --preset quick`` tunes the SFT model on the reward
model's scores; with ``--resume`` it goes on where it left off, bit for bit (CPU, same threads).
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from gpt.gpt_model import GPT
from instruction_tuning.losses import gae, kl_k1, ppo_policy_loss, ppo_value_loss, whiten
from instruction_tuning.reply_batch import ReplyBatch, reply_log_probs
from instruction_tuning.request_data import RequestData, load_request_data
from instruction_tuning.reward_model import ValueModel
from instruction_tuning.rewards import ModelReward, Reward, find_reward
from instruction_tuning.rollout import Rollout
from instruction_tuning.rollout_config import PPO_PRESETS, PPOConfig
from instruction_tuning.rollout_steps import RolloutReporter, next_rollout, rollout_metrics
from instruction_tuning.saved_model import load_policy
from instruction_tuning.tuning_config import config_from_argv, tuning_parser
from instruction_tuning.tuning_state import TrainResult, TuningState
from tutorial_kit.compute import autocast, prepare_device
from tutorial_kit.console import run_entry
from tutorial_kit.training import InterruptGuard, check_loss, run_folder
from tutorial_kit.word_tokenizer import WordTokenizer

__all__ = ["build_parser", "main", "train"]

LOSSES = ("policy_loss", "value_loss", "clip_fraction")  # what the loop sums up over a step


def train(
    config: PPOConfig,
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
    target = prepare_device(device, config.threads)
    frozen = copy.deepcopy(reference or policy).to(target).eval()
    # Ouyang et al. begin the critic with the reward model, which knows what is good.
    body = reward.model.body if isinstance(reward, ModelReward) else policy
    with InterruptGuard() as guard:
        state = TuningState(
            config, policy, tokenizer, "ppo", list(map(len, data.prompts)), target,
            sorted_together=1, critic=ValueModel(copy.deepcopy(body)), critic_lr=config.value_lr,
        )  # fmt: skip
        critic = cast(ValueModel, state.critic)
        if resume:
            state.restore(folder / "checkpoints" / "last.pt")
        reporter = RolloutReporter(state, folder, data, frozen, reward, resume=resume)

        while state.share_done < 1.0:
            started = time.perf_counter()
            factor = state.set_learning_rates()
            experience = collect(state, critic, frozen, data, reward)
            losses = torch.zeros(3, device=target)  # policy's, value's, share of clipped tokens
            for chosen in minibatches(config):  # numbers of some of the B replies
                count = experience.rollout.mask[chosen].sum()  # tokens of the minibatch
                for part in chosen.chunk(config.accumulation):
                    batch = experience.rollout.part(part.tolist(), policy.config.max_len).to(target)
                    old_log_probs, old_values, advantages, returns = experience.of(part, batch)
                    with autocast(config.precision, target):
                        log_probs = reply_log_probs(state.model, batch)  # (B', L')
                        values = critic(batch)  # (B', L')
                    policy_loss, clipped = ppo_policy_loss(
                        log_probs, old_log_probs, advantages, batch.mask, config.clip_ratio
                    )
                    value_loss = ppo_value_loss(
                        values, old_values, returns, batch.mask, config.value_clip
                    )
                    share = batch.mask.sum() / count
                    ((policy_loss + value_loss) * share).backward()
                    losses += torch.stack([policy_loss, value_loss, clipped]).detach() * share
                if config.clip:
                    nn.utils.clip_grad_norm_(state.parameters(), config.clip)
                    nn.utils.clip_grad_norm_(critic.parameters(), config.clip)
                for optimizer in state.optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
            state.step += 1

            losses /= config.updates * config.minibatches
            check_loss(losses.sum().item(), state.step, reporter.last)
            reporter.add(experience.metrics | dict(zip(LOSSES, losses.tolist(), strict=True)))
            state.seconds += time.perf_counter() - started
            earned = f"{experience.metrics['reward']:.3f}"
            reporter.show_step(config.batch_size, factor, reward=earned)

            finished = state.share_done >= 1.0
            if finished or state.step % config.eval_every == 0:
                reporter.evaluate()
            if finished or guard.requested or state.step % config.checkpoint_every == 0:
                reporter.save()
            if guard.requested:
                reporter.say_how_to_resume()
                raise KeyboardInterrupt
        return reporter.result()


@dataclass(frozen=True)
class Experience:
    """B replies of the policy and what there is to learn from them; L tokens of the longest."""

    rollout: Rollout
    columns: Tensor  # (4, B, L): log-probabilities, values, advantages and returns of each token
    metrics: dict[str, float]

    def of(self, replies: Tensor, batch: ReplyBatch) -> Tensor:
        """Returns the four columns of some replies, (4, B', L'), cut to their minibatch."""
        return self.columns[:, replies, : batch.mask.shape[1]]


def collect(
    state: TuningState[GPT], critic: ValueModel, reference: GPT, data: RequestData, reward: Reward
) -> Experience:
    """Lets the policy reply to the next requests and works out each token's advantage."""
    config = cast(PPOConfig, state.config)
    rollout, scores = next_rollout(state, data, reward)  # B replies; (B,)
    with torch.no_grad(), autocast(config.precision, state.device):
        reference_log_probs = reply_log_probs(reference, rollout.batch)  # (B, L)
        values = critic(rollout.batch)  # (B, L)
    kl = kl_k1(rollout.log_probs, reference_log_probs)  # (B, L), nats
    rewards = token_rewards(scores, kl, rollout.mask, config.kl)  # (B, L)
    advantages, returns = gae(rewards, values, rollout.mask, config.discount, config.lam)
    advantages = whiten(advantages, rollout.mask)  # (B, L)
    columns = torch.stack([rollout.log_probs, values, advantages, returns])
    return Experience(rollout, columns, rollout_metrics(rollout, scores, kl))


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, weight: float) -> Tensor:
    """Returns what each token earns: - weight kl, and the last one also the reply's score.

    This is Ouyang et al. 2022, eq. 2, without the pre-training term, told token by token.

    Args:
        scores: (B,), one for each reply.
        kl: (B, L), log p - log q of each token.
        mask: (B, L), True where a reply has a token.
        weight: beta, reward per nat.
    """
    rewards = -weight * torch.where(mask, kl, 0.0)  # (B, L)
    last = mask.sum(1, keepdim=True) - 1  # (B, 1)
    return rewards.scatter_add(1, last, scores[:, None])


def minibatches(config: PPOConfig) -> Iterator[Tensor]:
    """Yields the numbers of the replies of each update: every pass shuffles them anew."""
    for _ in range(config.updates):
        yield from torch.randperm(config.batch_size).tensor_split(config.minibatches)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return tuning_parser(PPOConfig, PPO_PRESETS, "Tune a policy on a reward by PPO; resume it.")


def main(argv: Sequence[str] | None = None) -> TrainResult[GPT]:
    """Trains as the command line says; returns the result."""
    config, args = config_from_argv(build_parser(), PPOConfig, PPO_PRESETS, argv)
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
