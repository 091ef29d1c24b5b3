"""Prove the losses: equal to their formulas, zero where nothing is to be learned, blind to padding.

``python instruction_tuning/verify_losses.py`` prints a PASS or FAIL line for each claim of the
chapter; ``--trace`` prints the shape ledger, every tensor from tokens to losses.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.gpt_model import GPT
from instruction_tuning import losses as L
from instruction_tuning.chat_template import encode_chat
from instruction_tuning.lora import (
    add_lora,
    lora_parameters,
    merge_lora,
    unmerge_lora,
    without_lora,
)
from instruction_tuning.policy_checks import CLIP, POLICY_CHECKS
from instruction_tuning.ppo_trainer import token_rewards
from instruction_tuning.reward_model import ValueModel
from instruction_tuning.small_examples import VOCABULARY, draw, slopes, small_batch, small_model
from tutorial_kit.console import run_entry
from tutorial_kit.entry_parsers import verify_parser
from tutorial_kit.verify import Check, Origin, largest, run_checks, shape_ledger

BETA = 0.3
MEANINGS = {
    "tokens": "(B, T) request, reply with its end token, padding",
    "loss_mask": "(B, T) True: a token of the reply or its end",
    "logits": "(B, T, V) position t scores the token at t + 1",
    "log_probs": "(B, T - 1) column t belongs to token t + 1",
    "reference": "(B, T - 1) the same of the frozen copy",
    "reply": "(B,) log-probability of each reply, a sum",
    "entropy": "(B, T) nats; how undecided the policy is",
    "kl": "(B, T - 1) k3 of each token, never negative",
    "rewards": "(B, T - 1) what each token earned: here 1 at the end of a reply",
    "values": "(B, T - 1) what was expected before the token",
    "advantages": "(B, T - 1) better than expected; 0 outside the replies",
    "returns": "(B, T - 1) what the value should have been",
    "group_advantages": "(B, G) a reply against the others to its request",
    "sft_loss": "() mean over the trained tokens",
    "reward_loss": "() mean over the pairs; here with the replies' log-probabilities as scores",
    "dpo_loss": "() mean over the pairs",
    "ppo_policy_loss": "() mean over the trained tokens",
    "ppo_value_loss": "() half a mean square over the trained tokens",
    "grpo_loss": "() mean over the replies",
}
ORIGINS = {
    "tokens": Origin(encode_chat),
    "loss_mask": Origin(encode_chat),
    "logits": Origin(GPT.project),
    "log_probs": Origin(L.token_log_probs),
    "reference": Origin(L.token_log_probs),
    "reply": Origin(L.sequence_log_probs),
    "entropy": Origin(L.entropy),
    "kl": Origin(L.kl_k3, "3"),
    "rewards": Origin(token_rewards, "8"),
    "values": Origin(ValueModel),
    "advantages": Origin(L.gae, "8"),
    "returns": Origin(L.gae, "8"),
    "group_advantages": Origin(L.group_advantages, "10"),
    "sft_loss": Origin(L.sft_loss, "1"),
    "reward_loss": Origin(L.reward_loss, "2"),
    "dpo_loss": Origin(L.dpo_loss, "6"),
    "ppo_policy_loss": Origin(L.ppo_policy_loss, "9"),
    "ppo_value_loss": Origin(L.ppo_value_loss),
    "grpo_loss": Origin(L.grpo_loss, "9"),
}
LOSSES = [name for name in MEANINGS if name.endswith("_loss")]


def check_log_probs() -> float:
    """Column t of the log-probabilities belongs to token t + 1, scored at position t."""
    tokens, _ = small_batch()
    logits = small_model()(tokens)
    expected = logits.log_softmax(-1)[:, :-1].gather(2, tokens[:, 1:, None]).squeeze(2)
    return largest(L.token_log_probs(logits, tokens) - expected)


def check_padding() -> float:
    """Whatever stands behind a reply, and however much: its log-probability stays the same."""
    model, (tokens, mask) = small_model(), small_batch()
    behind = mask.flip(1).cumsum(1).flip(1) == 0  # (B, T): after the last trained token
    other = F.pad(torch.where(behind, (tokens + 7) % VOCABULARY, tokens), (0, 3), value=5)
    longer = F.pad(mask, (0, 3))
    ours = L.sequence_log_probs(L.token_log_probs(model(tokens), tokens), mask[:, 1:])
    theirs = L.sequence_log_probs(L.token_log_probs(model(other), other), longer[:, 1:])
    return largest(ours - theirs)


def check_trained_places() -> float:
    """SFT: logits before a token of the reply or before its end get a gradient, no others do."""
    tokens, mask = small_batch()
    logits = draw(4, 12, VOCABULARY)
    (slope,) = slopes(L.sft_loss(L.token_log_probs(logits, tokens), mask[:, 1:]), logits)
    return float((slope.abs().sum(-1)[:, :-1].gt(0) ^ mask[:, 1:]).sum() + slope[:, -1].abs().sum())


def check_sft() -> float:
    """SFT is cross-entropy with the label -100 everywhere but in the replies, gradients too."""
    tokens, mask = small_batch()
    logits = draw(4, 12, VOCABULARY)
    labels = tokens.masked_fill(~mask, -100)[:, 1:]
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten())
    loss = L.sft_loss(L.token_log_probs(logits, tokens), mask[:, 1:])
    ours, theirs = slopes(loss, logits)[0], slopes(expected, logits)[0]
    return max(largest(loss - expected), largest(ours - theirs))


def check_reward_loss() -> float:
    """Bradley-Terry: equal scores cost ln 2, and a list of two replies is a pair."""
    chosen, rejected = draw(2, 9)
    order = torch.tensor([1.0, 0.0]).expand(9, 2)
    listed = L.listwise_reward_loss(torch.stack((chosen, rejected), 1), order)
    pairs = L.reward_loss(chosen, rejected)
    return largest(torch.stack((L.reward_loss(chosen, chosen) - math.log(2), listed - pairs)))


def check_dpo_start() -> float:
    """DPO costs ln 2 while the policy is the reference, and only differences count."""
    chosen, rejected, shift = draw(3, 9)
    at_start = L.dpo_loss(chosen, rejected, chosen, rejected, BETA)[0]
    loss = L.dpo_loss(chosen, rejected, rejected, chosen, BETA)[0]
    moved = L.dpo_loss(chosen + shift, rejected + shift, rejected, chosen, BETA)[0]
    return largest(torch.stack((at_start - math.log(2), loss - moved)))


def check_dpo_gradient() -> float:
    """DPO's gradient is beta sigmoid(wrongness) / B: up for the chosen reply, as much down."""
    chosen, rejected, old_chosen, old_rejected = draw(4, 9)
    loss, better, worse = L.dpo_loss(chosen, rejected, old_chosen, old_rejected, BETA)
    expected = BETA * torch.sigmoid(worse - better) / 9
    up, down = slopes(loss, chosen, rejected)
    return largest(torch.stack((up + expected, down - expected)))


def check_ipo_target() -> float:
    """IPO is content, loss and gradient 0, at a distance of 1 / (2 beta)."""
    chosen, reference = draw(2, 9)
    rejected = chosen.detach() - 1 / (2 * BETA)
    loss = L.ipo_loss(chosen, rejected, reference, reference, BETA)[0]
    return max(largest(loss), largest(slopes(loss, chosen)[0]))


def check_likelihood_term() -> float:
    """The likelihood term lifts each chosen reply by weight / (B length) and no rejected one."""
    chosen, rejected, reference = draw(3, 9)
    lengths = torch.arange(1, 10).double()
    plain = L.dpo_loss(chosen, rejected, reference, reference, BETA)[0]
    both = plain + 0.5 * L.likelihood_loss(chosen, lengths)
    before, after = slopes(plain, chosen, rejected), slopes(both, chosen, rejected)
    up, down = (b - a for a, b in zip(before, after, strict=True))
    return max(largest(up + 0.5 / (9 * lengths)), largest(down))


def random_lora() -> tuple[GPT, Tensor, Tensor]:
    """Returns a model whose corrections are far from zero, tokens, and its logits before them."""
    model, (tokens, _) = small_model(), small_batch()
    before = model(tokens)
    add_lora(model, ("qkv", "output", "expand"), rank=3, alpha=6.0)
    with torch.no_grad():
        for matrix in lora_parameters(model):
            matrix.normal_(0.0, 0.3)
    return model, tokens, before


def check_lora_start() -> float:
    """LoRA changes nothing at first, and only A and B are trained: r (I + O) numbers a layer."""
    model, (tokens, _) = small_model(), small_batch()
    before = model(tokens)
    names = add_lora(model, ("qkv", "output"), rank=3)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    expected = 2 * 3 * (16 + 48) + 2 * 3 * (16 + 16)
    return largest(model(tokens) - before) + abs(trained - expected) + abs(len(names) - 4)


@torch.no_grad()
def check_lora_merge() -> float:
    """Merged LoRA gives the same logits, and other ones than before the training."""
    model, tokens, before = random_lora()
    tuned = model(tokens)
    merge_lora(model)
    return largest(model(tokens) - tuned) + float(largest(tuned - before) < 0.1)


@torch.no_grad()
def check_lora_reference() -> float:
    """Unmerged or switched off, LoRA leaves the model it started from, bit for bit."""
    model, tokens, before = random_lora()
    merge_lora(model)
    with without_lora(model):
        switched_off = largest(model(tokens) - before)
    tuned = model(tokens)
    unmerge_lora(model)
    with without_lora(model):
        unmerged = largest(model(tokens) - before)
    return max(switched_off, unmerged, float(largest(tuned - before) < 0.1))


CHECKS: list[Check] = [
    (check_log_probs, 1e-12),
    (check_padding, 1e-12),
    (check_trained_places, 0.0),
    (check_sft, 1e-12),
    (check_reward_loss, 1e-12),
    (check_dpo_start, 1e-12),
    (check_dpo_gradient, 1e-12),
    (check_ipo_target, 1e-12),
    (check_likelihood_term, 1e-12),
    *POLICY_CHECKS,
    (check_lora_start, 0.0),
    (check_lora_merge, 1e-12),
    (check_lora_reference, 0.0),
]


@torch.no_grad()
def named_tensors() -> dict[str, Tensor]:
    """Returns every tensor from the tokens to the losses, by the names of ``MEANINGS``."""
    tokens, loss_mask = small_batch()
    mask = loss_mask[:, 1:]
    logits = small_model(torch.float32)(tokens)
    log_probs = L.token_log_probs(logits, tokens)
    reference = L.token_log_probs(small_model(torch.float32, seed=1)(tokens), tokens)
    reply, old_reply = (L.sequence_log_probs(x, mask) for x in (log_probs, reference))
    rewards = (mask & ~F.pad(mask[:, 1:], (0, 1))).float()
    values = torch.full_like(rewards, 0.5)
    advantages, returns = L.gae(rewards, values, mask, 1.0, 0.95)
    group = L.group_advantages(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    arguments = log_probs, reference, reference, group.flatten(), mask, CLIP, 0.01
    return {
        "tokens": tokens,
        "loss_mask": loss_mask,
        "logits": logits,
        "log_probs": log_probs,
        "reference": reference,
        "reply": reply,
        "entropy": L.entropy(logits),
        "kl": L.kl_k3(log_probs, reference),
        "rewards": rewards,
        "values": values,
        "advantages": advantages,
        "returns": returns,
        "group_advantages": group,
        "sft_loss": L.sft_loss(log_probs, mask),
        "reward_loss": L.reward_loss(reply[:2], reply[2:]),
        "dpo_loss": L.dpo_loss(reply[:2], reply[2:], old_reply[:2], old_reply[2:], BETA)[0],
        "ppo_policy_loss": L.ppo_policy_loss(log_probs, reference, advantages, mask, CLIP)[0],
        "ppo_value_loss": L.ppo_value_loss(values, values, returns, mask, CLIP),
        "grpo_loss": L.grpo_loss(*arguments)[0],
    }


def trace() -> str:
    """Returns the shape ledger: every tensor from the tokens to the losses."""
    return shape_ledger(named_tensors(), MEANINGS, ORIGINS)


def forward_once() -> str:
    """Runs the small model and all losses once; returns their values in words."""
    losses = {
        name: value.item()
        for name, value in named_tensors().items()
        if "loss" in name and not value.ndim
    }
    return ", ".join(f"{name} {value:.3f}" for name, value in losses.items())


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return verify_parser("Prove the losses of instruction tuning, claim by claim.")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per check; returns 1 if any failed, else 0."""
    args = build_parser().parse_args(argv)
    if args.trace:
        print(trace())
        return 0
    return run_checks(CHECKS)


if __name__ == "__main__":
    run_entry(main)
