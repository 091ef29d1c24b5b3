"""The losses of instruction tuning: the structure checks, values by hand, masks, bad numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from instruction_tuning import losses
from instruction_tuning.losses import (
    dpo_loss,
    entropy,
    gae,
    group_advantages,
    grpo_loss,
    ipo_loss,
    kl_k1,
    kl_k3,
    likelihood_loss,
    listwise_reward_loss,
    masked_mean,
    ppo_policy_loss,
    ppo_value_loss,
    reward_loss,
    sequence_log_probs,
    sft_loss,
    token_log_probs,
    whiten,
)
from instruction_tuning.verify_losses import CHECKS, MEANINGS, forward_once, main, named_tensors

NAN = math.nan


def close(actual: Tensor | float, expected: object) -> bool:
    return torch.allclose(
        torch.as_tensor(actual).double(), torch.tensor(expected).double(), atol=1e-6
    )


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def mask(*values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


@pytest.mark.parametrize(
    ("check", "tolerance"), CHECKS, ids=lambda item: getattr(item, "__name__", "")
)
def test_structure(check: Callable[[], float], tolerance: float) -> None:
    assert check() <= tolerance


def unshifted(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits.log_softmax(-1).gather(2, tokens[..., None]).squeeze(2)[:, 1:]


def mean_log_probs(log_probs: Tensor, mask: Tensor) -> Tensor:
    return (log_probs * mask).mean(-1)


@pytest.mark.parametrize(
    ("name", "wrong", "claim"),
    [
        ("token_log_probs", unshifted, "Column t of the log-probabilities"),
        ("sequence_log_probs", mean_log_probs, "Whatever stands behind a reply"),
        ("kl_k3", lambda p, q: (p - q).square() / 2, "Averaged over all tokens"),
        ("group_advantages", lambda r, u: r - r.mean() + 1e-7, "A group whose replies"),
        ("gae", lambda r, v, m, d, lam: (r, r), "GAE from the end"),
    ],
    ids=lambda item: item if isinstance(item, str) and " " not in item else "",
)
def test_structure_checks_can_fail(
    name: str,
    wrong: object,
    claim: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A label that is not shifted, a mean for a sum, ...: each is seen."""
    monkeypatch.setattr(losses, name, wrong)
    assert main([]) == 1
    assert f"FAIL  {claim}" in capsys.readouterr().out


def test_trace_names_every_tensor_with_its_shape(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(named_tensors()) == list(MEANINGS)
    assert main(["--trace"]) == 0
    ledger = capsys.readouterr().out
    assert re.search(r"logits +\(4, 12, 20\) .* \(B, T, V\)", ledger) and "grpo_loss" in ledger
    assert forward_once().count("_loss ") == 6


def test_log_probs_and_sft_on_three_tokens_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, math.log(3.0)], [5.0, -5.0]]])
    log_probs = token_log_probs(logits, torch.tensor([[1, 0, 1]]))
    assert close(log_probs, [[math.log(1 / 2), math.log(3 / 4)]])
    assert close(sft_loss(log_probs, mask([1, 1])), -(math.log(1 / 2) + math.log(3 / 4)) / 2)
    assert close(sft_loss(log_probs, mask([0, 1])), -math.log(3 / 4))
    assert close(sequence_log_probs(log_probs, mask([1, 1])), [math.log(3 / 8)])
    assert close(entropy(logits[0, :2]), [math.log(2), 0.25 * math.log(4) - 0.75 * math.log(0.75)])


def test_the_mean_is_over_the_tokens_of_the_minibatch_and_not_over_its_rows() -> None:
    log_probs = rows([-1.0, -1.0, -1.0], [-5.0, 0.0, 0.0])
    assert close(sft_loss(log_probs, mask([1, 1, 1], [1, 0, 0])), 8 / 4)


def test_half_precision_logits_are_widened() -> None:
    logits = torch.randn(2, 5, 7, dtype=torch.bfloat16)
    tokens = torch.randint(7, (2, 5))
    log_probs = token_log_probs(logits, tokens)
    assert log_probs.dtype == torch.float32
    assert torch.equal(log_probs, token_log_probs(logits.float(), tokens))


def test_what_is_masked_never_counts_whatever_it_is() -> None:
    values = rows([1.0, NAN, math.inf]).requires_grad_()
    loss = masked_mean(values, mask([1, 0, 0])) + sequence_log_probs(values, mask([1, 0, 0])).sum()
    loss.backward()
    assert close(loss.detach(), 2.0) and values.grad is not None
    assert close(values.grad, [[2.0, 0.0, 0.0]])
    assert close(whiten(rows([1.0, 3.0, NAN]), mask([1, 1, 0])), [[-0.7071068, 0.7071068, 0.0]])


def test_nothing_to_train_on_is_zero_and_not_nan() -> None:
    nothing, values = mask([0, 0]), rows([1.0, 2.0])
    assert masked_mean(values, nothing) == 0 and sft_loss(values, nothing) == 0
    assert whiten(values, nothing).abs().sum() == 0
    assert grpo_loss(values, values, values, rows([1.0])[0], nothing, 0.2, 0.1)[0] == 0
    assert listwise_reward_loss(values, torch.ones(1, 2)) == 0


def test_reward_loss_by_hand() -> None:
    chosen, rejected = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0])
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    assert close(reward_loss(chosen, rejected), expected)
    assert reward_loss(chosen + 100, rejected + 100) == reward_loss(chosen, rejected)


def test_listwise_loss_is_the_mean_over_all_ordered_pairs() -> None:
    scores = rows([0.5, -1.0, 2.0, 9.0], [1.0, 0.0, 0.3, 0.2])
    judged = rows([1.0, 0.6, 0.6, NAN], [0.0, 0.5, 0.2, 1.0])
    pairs = [(0.5, -1.0), (0.5, 2.0)]  # equal replies form no pair, a missing one neither
    pairs += [(0.0, 1.0), (0.3, 1.0), (0.2, 1.0), (0.0, 0.3), (0.2, 0.0), (0.2, 0.3)]
    expected = sum(math.log(1 + math.exp(worse - better)) for better, worse in pairs) / len(pairs)
    assert close(listwise_reward_loss(scores, judged), expected)


def test_kl_estimators_by_hand_and_near_zero() -> None:
    policy, reference = torch.tensor([math.log(0.5)]), torch.tensor([math.log(0.25)])
    assert close(kl_k1(policy, reference), [math.log(2)])
    assert close(kl_k3(policy, reference), [0.5 - 1 + math.log(2)])
    tiny = kl_k3(torch.zeros(1), torch.tensor([1e-4]))  # exp(x) - 1 - x is rounding noise there
    assert tiny.item() == pytest.approx(5e-9, rel=0.01)


def test_dpo_by_hand() -> None:
    numbers = [torch.tensor([x]) for x in (-2.0, -7.0, -3.0, -5.0)]
    loss, chosen, rejected = dpo_loss(*numbers, beta=0.1)
    assert close(chosen, [0.1]) and close(rejected, [-0.2])
    assert close(loss, math.log(1 + math.exp(-0.3)))
    assert close(likelihood_loss(torch.tensor([-2.0, -9.0]), torch.tensor([4, 3])), (0.5 + 3) / 2)


def test_ipo_by_hand() -> None:
    numbers = [torch.tensor([x]) for x in (-2.0, -7.0, -3.0, -5.0)]
    loss, chosen, rejected = ipo_loss(*numbers, beta=0.1)
    assert close(loss, (1 + 2 - 5.0) ** 2)
    assert close(chosen, [0.1]) and close(rejected, [-0.2])
    per_token = ipo_loss(*numbers, beta=0.1, lengths=(torch.tensor([4]), torch.tensor([2])))
    assert close(per_token[0], (1 / 4 + 2 / 2 - 5) ** 2)


def test_implicit_rewards_carry_no_gradient() -> None:
    numbers = [torch.randn(3, requires_grad=True) for _ in range(4)]
    for _, chosen, rejected in (dpo_loss(*numbers, 0.1), ipo_loss(*numbers, 0.1)):
        assert not chosen.requires_grad and not rejected.requires_grad


def test_dpo_alone_lets_the_chosen_reply_fall_and_the_likelihood_term_does_not() -> None:
    """Two replies that share a parameter: what lowers the rejected one lowers the chosen one."""
    shared = torch.zeros(1, requires_grad=True)
    zero, one = torch.zeros(1), torch.ones(1)
    alone = dpo_loss(0.2 * shared, shared, zero, zero, 0.5)[0]
    held = alone + 2.0 * likelihood_loss(0.2 * shared, one)
    down, up = (torch.autograd.grad(loss, shared, retain_graph=True)[0] for loss in (alone, held))
    assert down > 0 > up  # a step goes against the gradient: down without the term, up with it


def test_gae_by_hand() -> None:
    """Two tokens behind a prompt of one; whatever stands outside the reply is not read."""
    rewards, values = rows([7.0, 0.0, 1.0, NAN]), rows([7.0, 0.5, 0.4, NAN])
    advantages, returns = gae(rewards, values, mask([0, 1, 1, 0]), 0.9, 0.5)
    last = 1.0 - 0.4
    first = (0.9 * 0.4 - 0.5) + 0.9 * 0.5 * last
    assert close(advantages, [[0.0, first, last, 0.0]])
    assert close(returns, [[0.0, first + 0.5, 1.0, 0.0]])


def test_ppo_by_hand() -> None:
    old, ratio = rows([-1.0, -2.0, -3.0]), rows([1.5, 0.5, 1.1])
    loss, share = ppo_policy_loss(
        old + ratio.log(), old, rows([1.0, -2.0, 3.0]), mask([1, 1, 1]), 0.2
    )
    assert close(loss, -(1.2 - 2 * 0.8 + 3 * 1.1) / 3)
    assert close(share, 2 / 3)
    first, none = ppo_policy_loss(old, old, rows([1.0, -2.0, 3.0]), mask([1, 1, 0]), 0.2)
    assert close(first, 0.5) and none == 0


def test_ppo_value_loss_by_hand() -> None:
    old, new, returns = rows([0.0, 0.0, 9.0]), rows([0.5, 0.1, 9.0]), rows([1.0, 1.0, 0.0])
    expected = 0.5 * ((1 - 0.2) ** 2 + (1 - 0.1) ** 2) / 2  # the first one moved beyond the clip
    assert close(ppo_value_loss(new, old, returns, mask([1, 1, 0]), 0.2), expected)


def test_group_advantages_by_hand() -> None:
    rewards = rows([1.0, 0.0, 0.0, 0.0], [0.3, 0.3, 0.3, 0.3])
    deviation = 0.5  # sqrt((0.75^2 + 3 * 0.25^2) / 3)
    expected = [[0.75, -0.25, -0.25, -0.25], [0.0] * 4]
    assert close(group_advantages(rewards, unbiased=True), expected)
    scaled = [[x / (deviation + 1e-4) for x in row] for row in expected]
    assert close(group_advantages(rewards), scaled)
    assert torch.equal(group_advantages(torch.full((3, 7), 0.6)), torch.zeros(3, 7))
    assert torch.equal(group_advantages(torch.ones(3, 1)), torch.zeros(3, 1))


@pytest.mark.parametrize("unbiased", [False, True])
def test_a_reward_that_is_not_a_number_stays_visible(unbiased: bool) -> None:
    advantages = group_advantages(rows([1.0, NAN], [1.0, 0.0]), unbiased)
    assert advantages[0].isnan().all() and advantages[1].isfinite().all()


def test_grpo_by_hand() -> None:
    """Two replies of 1 and 2 tokens; the longer one was moved beyond the clip."""
    old = rows([-1.0, 0.0], [-1.0, -1.0])
    ratio, reference = rows([1.0, 1.0], [1.5, 0.9]), rows([-1.0, 0.0], [-1.0, -2.0])
    new, trained = old + ratio.log(), mask([1, 0], [1, 1])
    advantages = torch.tensor([-1.0, 2.0])
    k3 = kl_k3(new, reference)
    first = 1.0 + 0.1 * k3[0, 0].item()
    second = -2.4 - 1.8 + 0.1 * k3[1].sum().item()
    arguments = new, old, reference, advantages, trained, 0.2, 0.1
    loss, kl, clipped = grpo_loss(*arguments)
    assert close(loss, (first + second / 2) / 2)
    assert close(kl, k3[trained].mean().item()) and close(clipped, 1 / 3)
    unbiased = grpo_loss(*arguments, unbiased=True, max_len=8)[0]
    assert close(unbiased, (first + second) / (2 * 8))
    assert close(grpo_loss(*arguments, unbiased=True)[0], (first + second) / (2 * 2))
    alone = grpo_loss(new, old, None, advantages, trained, 0.2, 0.0)
    assert close(alone[0], (1.0 - 4.2 / 2) / 2) and alone[1] == 0
