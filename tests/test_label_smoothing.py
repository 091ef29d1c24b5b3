"""Label smoothing: by hand, against the paper's KL divergence, against torch, and its gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from transformer import label_smoothing
from transformer.label_smoothing import (
    kl_to_smoothed_targets,
    projected_loss,
    smoothed_cross_entropy,
    smoothed_entropy,
    smoothed_targets,
)


def random_case(
    batch: int = 3, length: int = 7, d_model: int = 8, vocab_size: int = 11
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns hidden (B, T, D), weight (V, D), labels (B, T) with padding at the ends, float64."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(batch, length, d_model, dtype=torch.float64, generator=generator)
    weight = torch.randn(vocab_size, d_model, dtype=torch.float64, generator=generator)
    labels = torch.randint(vocab_size, (batch, length), generator=generator)
    for row in range(batch):
        labels[row, length - row :] = -100
    return hidden, weight, labels


def test_three_tokens_by_hand() -> None:
    """With p = (1/2, 1/4, 1/4); the labels are 0, 1 and padding; e = 0.3."""
    logits = torch.tensor([0.5, 0.25, 0.25]).log().expand(1, 3, 3)
    labels = torch.tensor([[0, 1, -100]])
    half, quarter = -math.log(0.5), -math.log(0.25)
    # q = (0.8, 0.1, 0.1), then (0.1, 0.8, 0.1); the mean is over two tokens, not three
    first = 0.8 * half + 0.1 * quarter + 0.1 * quarter
    second = 0.1 * half + 0.8 * quarter + 0.1 * quarter
    by_hand = (first + second) / 2
    assert smoothed_cross_entropy(logits, labels, 0.3).item() == pytest.approx(by_hand, abs=1e-6)
    # the same through the projection: hidden states whose logits these are
    hidden, weight = logits, torch.eye(3)
    assert projected_loss(hidden, weight, labels, 0.3).item() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_it_is_the_papers_divergence_up_to_a_constant(smoothing: float) -> None:
    hidden, weight, labels = random_case()
    logits = (hidden @ weight.T).requires_grad_()
    divergence = kl_to_smoothed_targets(logits, labels, smoothing)
    targets = smoothed_targets(labels[labels >= 0], len(weight), smoothing).double()
    log_p = logits[labels >= 0].log_softmax(-1)
    oracle = F.kl_div(log_p, targets, reduction="batchmean")
    assert divergence.item() == pytest.approx(oracle.item(), abs=1e-6)
    loss = smoothed_cross_entropy(logits, labels, smoothing)
    constant = smoothed_entropy(len(weight), smoothing)
    assert (loss - divergence).item() == pytest.approx(constant, abs=1e-6)
    (first,) = torch.autograd.grad(divergence, logits)
    (second,) = torch.autograd.grad(loss, logits)
    assert torch.allclose(first, second, atol=1e-7)


def test_the_constant_is_the_entropy_of_the_targets() -> None:
    targets = smoothed_targets(torch.tensor([4]), 9, 0.2).double()
    entropy = torch.distributions.Categorical(probs=targets).entropy().item()
    assert smoothed_entropy(9, 0.2) == pytest.approx(entropy, abs=1e-6)
    assert smoothed_entropy(9, 0.0) == 0.0
    assert targets.sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [512, 4, 1])
def test_projected_loss_and_gradients_equal_torchs(
    smoothing: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_smoothing, "CHUNK", chunk)
    hidden, weight, labels = random_case()
    results = []
    for ours in (True, False):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        if ours:
            loss = projected_loss(h, w, labels, smoothing)
        else:
            loss = F.cross_entropy((h @ w.T).flatten(0, 1), labels.flatten(), ignore_index=-100,
                                   label_smoothing=smoothing)  # fmt: skip
        (3.0 * loss).backward()  # also a gradient that is not 1
        results.append((loss.detach(), h.grad, w.grad))
    for mine, theirs in zip(*results, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-12)


def test_projected_loss_without_gradient_and_as_an_untied_leaf() -> None:
    hidden, weight, labels = random_case()
    with torch.no_grad():
        loss = projected_loss(hidden, weight, labels, 0.1)
    expected = smoothed_cross_entropy(hidden @ weight.T, labels, 0.1)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    assert not loss.requires_grad


def test_padding_changes_nothing() -> None:
    hidden, weight, labels = random_case()
    wider = torch.cat([hidden, 100 * torch.ones(3, 4, 8, dtype=torch.float64)], dim=1)
    padded = torch.cat([labels, torch.full((3, 4), -100)], dim=1).long()
    wider.requires_grad_()
    loss = projected_loss(wider, weight, padded, 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(
        projected_loss(hidden, weight, labels, 0.1).item(), abs=1e-12
    )
    assert wider.grad is not None and not wider.grad[padded < 0].any()


def test_large_logits_stay_finite() -> None:
    hidden, weight, labels = random_case()
    loss = projected_loss(1e4 * hidden.float(), weight.float(), labels, 0.1)
    assert math.isfinite(loss.item())


def test_smoothing_rewards_doubt() -> None:
    """A model that is too sure of the right token has a higher smoothed loss than one in doubt."""
    labels = torch.tensor([[0]])
    sure, doubtful = torch.tensor([[[30.0, 0.0, 0.0]]]), torch.tensor([[[3.0, 0.0, 0.0]]])
    plain = [smoothed_cross_entropy(x, labels, 0.0).item() for x in (sure, doubtful)]
    smoothed = [smoothed_cross_entropy(x, labels, 0.1).item() for x in (sure, doubtful)]
    assert plain[0] < plain[1] and smoothed[0] > smoothed[1]
