"""Every loss of the family, as pure functions of log-probabilities: nothing here knows a model.

A minibatch has B rows of T tokens. Its log-probabilities have T - 1 columns: column t belongs to
token t + 1, the first one that something comes before. Masks are boolean, True means "trained":
for a batch of chats ``loss_mask[:, 1:]``. Where a mask is False a value never counts, whatever it
is. Logarithms are natural, so losses and divergences are in nats.

Papers: Ouyang et al. 2022 (InstructGPT), Schulman et al. 2016 (GAE) and 2017 (PPO), Rafailov et al.
2023 (DPO), Azar et al. 2023 (IPO), Pang et al. 2024 (the likelihood term), Shao et al. 2024 (GRPO),
Liu et al. 2025 (Dr. GRPO).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WHITEN_EPS = 1e-8  # added to a variance
GROUP_EPS = 1e-4  # added to the standard deviation of a group's rewards


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Each token's log p given the ones before it: z_y - log sum_k exp z_k.

    Args:
        logits: (B, T, V); position t scores the token at t + 1.
        tokens: (B, T).

    Returns:
        (B, T - 1), column t is log p(tokens[:, t + 1] | tokens[:, : t + 1]); at least float32.
    """
    scores = logits[:, :-1].transpose(1, 2)  # (B, V, T - 1)
    wide = torch.promote_types(logits.dtype, torch.float32)
    return -F.cross_entropy(scores.to(wide), tokens[:, 1:], reduction="none")


def sequence_log_probs(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of each reply: the SUM over its tokens, (B, T - 1) -> (B,).

    Not the mean: the losses below are derived for the probability of the whole reply.
    """
    return torch.where(mask, log_probs, 0.0).sum(-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is True, a scalar; 0 if it is True nowhere."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def entropy(logits: Tensor) -> Tensor:
    """- sum_k p_k log p_k of the next token's distribution, (..., V) -> (...)."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def sft_loss(log_probs: Tensor, mask: Tensor) -> Tensor:
    """- mean of log p over all trained tokens of the minibatch (Ouyang et al. 2022, section 3.5).

    Over tokens, not over rows: a long reply counts more than a short one.

    Args:
        log_probs: (B, T - 1), of ``token_log_probs``.
        mask: (B, T - 1).
    """
    return -masked_mean(log_probs, mask)


def reward_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """- mean log sigmoid(r_chosen - r_rejected) (Bradley & Terry 1952; Ouyang et al. 2022, eq. 1).

    Args:
        chosen: (B,), the scores of the better replies.
        rejected: (B,), of the worse ones.
    """
    return -F.logsigmoid(chosen - rejected).mean()


def listwise_reward_loss(scores: Tensor, judged: Tensor) -> Tensor:
    """``reward_loss`` of all pairs of a group, each reply scored once (Ouyang et al. 2022, eq. 1).

    Args:
        scores: (B, G), what the model gives to G replies for each of B requests.
        judged: (B, G), what the judge gave them. Equal replies form no pair, and NaN marks a place
            without a reply.

    Returns:
        The mean over all ordered pairs of the minibatch; 0 if there is none.
    """
    better = judged[:, :, None] > judged[:, None, :]  # (B, G, G): reply i is better than reply j
    margins = scores[:, :, None] - scores[:, None, :]  # (B, G, G)
    return -masked_mean(F.logsigmoid(margins), better)


def kl_k1(log_probs: Tensor, reference: Tensor) -> Tensor:
    """KL(p || q), estimated from tokens drawn from p as log p - log q (Schulman 2020, k1).

    Unbiased, of either sign. Any shape; p is the policy, q the reference.
    """
    return log_probs - reference


def kl_k3(log_probs: Tensor, reference: Tensor) -> Tensor:
    """KL(p || q), estimated as (r - 1) - log r with r = q / p (Schulman 2020, k3).

    Unbiased like k1, but never negative and with less spread where p and q are alike.
    ``expm1`` and not ``exp() - 1``: near the reference the two terms nearly cancel.
    """
    log_ratio = reference - log_probs
    return torch.expm1(log_ratio) - log_ratio


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """- mean log sigmoid(r_chosen - r_rejected), r = beta log(p / q) (Rafailov et al. 2023, eq. 7).

    Args:
        policy_chosen: (B,), log p of the chosen replies, of ``sequence_log_probs``; the others
            likewise.
        policy_rejected: (B,).
        reference_chosen: (B,), log q.
        reference_rejected: (B,).
        beta: the price of leaving the reference; a small one lets the policy go further.

    Returns:
        The loss, and the implicit rewards r of both replies, (B,) each, without gradients.
    """
    chosen = beta * (policy_chosen - reference_chosen)  # (B,)
    rejected = beta * (policy_rejected - reference_rejected)
    return reward_loss(chosen, rejected), chosen.detach(), rejected.detach()


def ipo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
    lengths: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of (h - 1 / (2 beta))^2 (Azar et al. 2023, eq. 17).

    h is log(p / q) of the chosen reply minus that of the rejected one: its target is a fixed
    distance, where DPO would push it on without end.

    Args and returns are those of ``dpo_loss``, and:
        lengths: (B,) and (B,), tokens of the chosen and of the rejected replies: h is then a
            difference of means per token, as in TRL, and long replies no longer miss the target by
            more. None: the paper's sums.
    """
    chosen, rejected = policy_chosen - reference_chosen, policy_rejected - reference_rejected
    rewards = (beta * chosen).detach(), (beta * rejected).detach()
    if lengths is not None:
        chosen, rejected = chosen / lengths[0], rejected / lengths[1]
    loss = (chosen - rejected - 1 / (2 * beta)).square().mean()
    return loss, *rewards


def likelihood_loss(policy_chosen: Tensor, chosen_lengths: Tensor) -> Tensor:
    """- mean of log p(chosen) / its length, to be added to DPO (Pang et al. 2024, section 2).

    DPO sees differences alone: it may lower both replies as long as the rejected one falls faster.
    With a weight, alpha in the paper, this term holds the chosen one up.

    Args:
        policy_chosen: (B,), log p of the chosen replies, of ``sequence_log_probs``.
        chosen_lengths: (B,), their tokens.
    """
    return -(policy_chosen / chosen_lengths).mean()


@torch.no_grad()
def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, discount: float, lam: float
) -> tuple[Tensor, Tensor]:
    """A_t = sum_l (discount lam)^l delta_{t+l}, from the end (Schulman et al. 2016, eq. 16).

    delta_t = r_t + discount V_{t+1} - V_t. After its last token a reply is over: V is 0 there.

    Args:
        rewards: (B, T), what each drawn token earned.
        values: (B, T), V_t, expected before the token was drawn.
        mask: (B, T), True for the reply's tokens, which stand side by side.
        discount: gamma, 0 to 1.
        lam: lambda, 0 (trust the values) to 1 (trust the rewards).

    Returns:
        The advantages A and the values' targets A + V, (B, T) each, 0 outside the replies.
    """
    rewards, values = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(values)
    later = next_value = torch.zeros_like(values[:, 0])  # (B,)
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + discount * next_value - values[:, t]
        later = torch.where(mask[:, t], delta + discount * lam * later, 0.0)
        advantages[:, t], next_value = later, values[:, t]
    return advantages, advantages + values


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """(x - mean) / standard deviation over the True places, 0 elsewhere; any shape."""
    centered = torch.where(mask, values - masked_mean(values, mask), 0.0)
    variance = centered.square().sum() / (mask.sum() - 1).clamp(min=1)
    return centered * (variance + WHITEN_EPS).rsqrt()


def clipped_objective(ratio: Tensor, advantages: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """min(ratio A, clamp(ratio, 1 - clip, 1 + clip) A) (Schulman et al. 2017, eq. 7).

    Returns:
        The objective, which is to rise, and where the clamped term was the smaller: there the
        gradient is 0. Both in the shape of ``ratio``.
    """
    free, clipped = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages
    return torch.minimum(free, clipped), clipped < free


def ppo_policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """- mean over the trained tokens of the clipped objective (Schulman et al. 2017, eq. 7).

    Args:
        log_probs: (B, T), of the policy as it is now.
        old_log_probs: (B, T), of the policy that drew the tokens.
        advantages: (B, T).
        mask: (B, T).
        clip: how far the ratio of the two may move from 1, epsilon.

    Returns:
        The loss, and the share of the tokens that were clipped.
    """
    ratio = (log_probs - old_log_probs).exp()  # (B, T)
    objective, clipped = clipped_objective(ratio, advantages, clip)
    return -masked_mean(objective, mask), masked_mean(clipped.to(ratio.dtype), mask)


def ppo_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float
) -> Tensor:
    """Half the mean of max((V - R)^2, (V clamped to V_old +- clip - R)^2).

    The values' counterpart of the clipping, from the code published with Schulman et al. 2017.
    All tensors are (B, T).
    """
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    worse = torch.maximum((values - returns).square(), (clipped - returns).square())
    return 0.5 * masked_mean(worse, mask)


def group_advantages(rewards: Tensor, unbiased: bool = False) -> Tensor:
    """(r - mean of the group) / its standard deviation (Shao et al. 2024, section 4.1.2).

    Args:
        rewards: (B, G), of G replies to each of B requests.
        unbiased: do not divide: the division lets groups that are nearly always right, or nearly
            always wrong, count more (Liu et al. 2025, section 3).

    Returns:
        (B, G); exactly 0 where all rewards of a group are equal: there is nothing to prefer.
    """
    advantages = rewards - rewards.mean(1, keepdim=True)
    if not unbiased:
        variance = advantages.square().sum(1, keepdim=True) / max(1, rewards.shape[1] - 1)  # (B, 1)
        advantages = advantages / (variance.sqrt() + GROUP_EPS)
    equal = rewards.amax(1, keepdim=True) == rewards.amin(1, keepdim=True)  # (B, 1)
    return advantages.masked_fill(equal, 0.0)  # rounding would leave something of equal rewards


def grpo_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    reference: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    clip: float,
    beta: float,
    unbiased: bool = False,
    max_len: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """- clipped objective + beta k3, averaged over the replies (Shao et al. 2024, eq. 3 and 4).

    Args:
        log_probs: (N, T), of the policy as it is now, N = B G replies.
        old_log_probs: (N, T), of the policy that drew the tokens.
        reference: (N, T); may be None if beta is 0.
        advantages: (N,), one for all tokens of a reply, of ``group_advantages``.
        mask: (N, T).
        clip: how far the ratio may move from 1, epsilon.
        beta: weight of the divergence from the reference.
        unbiased: divide each reply's sum by ``max_len`` and not by its own length, which makes long
            wrong replies cheap (Dr. GRPO: Liu et al. 2025, section 3).
        max_len: the largest number of tokens a reply may have; None means T.

    Returns:
        The loss; the mean of k3 per token, in nats; the share of the tokens that were clipped.
    """
    ratio = (log_probs - old_log_probs).exp()  # (N, T)
    objective, clipped = clipped_objective(ratio, advantages[:, None], clip)
    kl = torch.zeros_like(ratio) if reference is None else kl_k3(log_probs, reference)
    summed = torch.where(mask, beta * kl - objective, 0.0).sum(1)  # (N,)
    lengths = (max_len or mask.shape[1]) if unbiased else mask.sum(1).clamp(min=1)
    share = masked_mean(clipped.to(ratio.dtype), mask)
    return (summed / lengths).mean(), masked_mean(kl.detach(), mask), share
