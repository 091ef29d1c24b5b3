"""What ``verify_losses.py`` claims of reinforcement learning: divergences, GAE, PPO, GRPO.

Each function returns how far its claim, the docstring, is from the truth.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from instruction_tuning import losses as L
from instruction_tuning.small_examples import REPLIES, VOCABULARY, draw, slopes, small_batch
from tutorial_kit.verify import Check, largest

CLIP = 0.2


def check_kl_estimators() -> float:
    """Averaged over all tokens k1 and k3 are KL(policy || reference); k3 is never negative."""
    log_p, log_q = draw(2, VOCABULARY).log_softmax(-1)
    kl = F.kl_div(log_q, log_p, reduction="sum", log_target=True)
    k1, k3 = L.kl_k1(log_p, log_q), L.kl_k3(log_p, log_q)
    errors = torch.stack([(log_p.exp() * k).sum() - kl for k in (k1, k3)])
    return max(largest(errors), float((k3 < 0).sum()))


def gae_inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Returns rewards, values and mask, (4, 12) each."""
    rewards, values = draw(2, 4, 12).detach()
    return rewards, values, small_batch()[1]


def check_gae_double_sum() -> float:
    """GAE from the end equals its definition, sum over l of (discount lambda)^l delta."""
    rewards, values, mask = gae_inputs()
    expected = torch.zeros_like(values)
    for row, (first, end) in enumerate(REPLIES):
        r, v = rewards[row, first:end], F.pad(values[row, first:end], (0, 1))
        delta = r + 0.9 * v[1:] - v[:-1]
        for t in range(end - first):
            weights = (0.9 * 0.8) ** torch.arange(end - first - t, dtype=torch.float64)
            expected[row, first + t] = (weights * delta[t:]).sum()
    return largest(L.gae(rewards, values, mask, 0.9, 0.8)[0] - expected)


def check_gae_closed_forms() -> float:
    """Lambda 1: returns are the rewards to come. Lambda 0: advantages are one-step errors."""
    rewards, values, mask = gae_inputs()
    rewards, values = rewards * mask, values * mask
    to_come = rewards.flip(1).cumsum(1).flip(1) * mask
    one_step = (rewards + 0.9 * F.pad(values[:, 1:], (0, 1)) - values) * mask
    of_one = L.gae(rewards, values, mask, 1.0, 1.0)[1] - to_come
    return max(largest(of_one), largest(L.gae(rewards, values, mask, 0.9, 0.0)[0] - one_step))


def check_ppo_start() -> float:
    """PPO's first gradient is the plain policy gradient, - A / tokens for each trained token."""
    log_probs, advantages = draw(2, 4, 12)
    mask = small_batch()[1]
    old = log_probs.detach()
    loss, clipped = L.ppo_policy_loss(log_probs, old, advantages, mask, CLIP)
    (slope,) = slopes(loss, log_probs)
    return max(largest(slope + advantages * mask / mask.sum()), clipped.item())


def check_ppo_clip() -> float:
    """Beyond the clip nothing pulls a token further, but everything may pull it back."""
    moved = torch.tensor([[0.5, -0.5, 0.5, -0.5]], dtype=torch.float64).requires_grad_()
    advantages = torch.tensor([[1.0, -1.0, -1.0, 1.0]], dtype=torch.float64)
    mask = torch.ones(1, 4, dtype=torch.bool)
    loss, share = L.ppo_policy_loss(moved, torch.zeros_like(moved), advantages, mask, CLIP)
    expected = torch.tensor([[0.0, 0.0, 0.5, -0.5]], dtype=torch.float64)
    expected = expected.sign() * expected.exp() / 4
    return max(largest(slopes(loss, moved)[0] - expected), abs(share.item() - 0.5))


def check_equal_rewards() -> float:
    """A group whose replies are all worth the same gives a gradient of exactly zero."""
    log_probs, mask = draw(4, 12), small_batch()[1]
    worst = 0.0
    for unbiased in (False, True):
        advantages = L.group_advantages(torch.full((1, 4), 0.6), unbiased)[0].double()
        loss = L.grpo_loss(
            log_probs, log_probs.detach(), None, advantages, mask, CLIP, 0.0, unbiased
        )[0]
        worst = max(worst, largest(slopes(loss, log_probs)[0]))
    return worst


def check_length_bias() -> float:
    """GRPO: a token weighs 1 / (N length). Its unbiased variant: 1 / (N max_len), however long."""
    log_probs, mask = draw(4, 12), small_batch()[1]
    arguments = log_probs, log_probs.detach(), None, torch.ones(4).double(), mask, CLIP, 0.0
    (biased,) = slopes(L.grpo_loss(*arguments)[0], log_probs)
    (unbiased,) = slopes(L.grpo_loss(*arguments, unbiased=True, max_len=20)[0], log_probs)
    lengths = mask.sum(1, keepdim=True).double()
    return max(largest(biased + mask / (4 * lengths)), largest(unbiased + mask.double() / (4 * 20)))


def check_whiten() -> float:
    """Whitened values have mean 0 and variance 1 where the mask is True, and are 0 elsewhere."""
    values, mask = draw(4, 12) * 7 + 3, small_batch()[1]
    white = L.whiten(values, mask)
    errors = torch.stack((white[mask].mean(), white[mask].var() - 1, white[~mask].abs().sum()))
    return largest(errors)


def check_entropy() -> float:
    """The entropy of equal scores is ln V, the highest there is."""
    spread = L.entropy(draw(9, VOCABULARY))
    even = largest(L.entropy(torch.full((VOCABULARY,), 3.0).double()) - math.log(VOCABULARY))
    return even + float((spread >= math.log(VOCABULARY)).sum())


POLICY_CHECKS: list[Check] = [
    (check_kl_estimators, 1e-12),
    (check_entropy, 1e-12),
    (check_gae_double_sum, 1e-12),
    (check_gae_closed_forms, 1e-12),
    (check_whiten, 1e-7),
    (check_ppo_start, 1e-12),
    (check_ppo_clip, 1e-12),
    (check_equal_rewards, 0.0),
    (check_length_bias, 1e-12),
]
