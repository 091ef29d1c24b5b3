"""Attention, dropout and layers: against torch's own, by hand, and by their statistics."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.attention import (
    MultiHeadAttention,
    as_addend,
    attend_fused,
    attend_written_out,
    causal_mask,
)
from transformer.transformer_components import AddNorm, FeedForward
from transformer.transformer_config import TransformerConfig
from tutorial_kit.dropout import (
    AddDroppedFunction,
    DropFunction,
    Dropout,
    dropped_levels,
    keep_mask,
)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_attention_on_two_tokens_by_hand() -> None:
    q = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).view(1, 1, 2, 2)
    v = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 1, 2, 2)
    mixed, weights = attend_written_out(q, q, v, causal_mask(2))
    second = 1.0 / (1.0 + math.exp(-4.0 / math.sqrt(2.0)))  # scores 0 and 4 / sqrt(2)
    assert weights[0, 0].tolist() == [[1.0, 0.0], pytest.approx([1 - second, second])]
    assert torch.allclose(mixed[0, 0], weights[0, 0])
    unscaled = attend_written_out(q, q, v, causal_mask(2), scale=1.0)[1]
    assert unscaled[0, 0, 1, 1].item() == pytest.approx(1.0 / (1.0 + math.exp(-4.0)))


def masks() -> list[Tensor | None]:
    any_mask = torch.rand(2, 1, 7, 7) < 0.5
    any_mask |= torch.eye(7, dtype=torch.bool)
    padding = (torch.arange(7) < torch.tensor([[7], [3]]))[:, None, None]  # (B, 1, 1, S)
    return [None, causal_mask(7), padding, any_mask]


@pytest.mark.parametrize("scale", [None, 1.0])
def test_both_ways_of_attention_agree_with_their_gradients(scale: float | None) -> None:
    torch.manual_seed(0)
    q, k, v = (double(2, 3, 7, 8) for _ in range(3))
    for mask in masks():
        ours, weights = attend_written_out(q, k, v, mask, scale)
        fused = attend_fused(q, k, v, mask, scale)
        assert torch.allclose(ours, fused, atol=1e-12)
        if mask is not None:
            assert (weights.masked_select(~mask.expand_as(weights)) == 0).all()
            prepared = as_addend(mask, q.dtype)
            assert torch.equal(attend_written_out(q, k, v, prepared, scale)[0], ours)
        direction = torch.randn_like(ours)
        for a, b in zip(
            torch.autograd.grad(ours, (q, k, v), direction),
            torch.autograd.grad(fused, (q, k, v), direction),
            strict=True,
        ):
            assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_without_any_key_averages_and_makes_no_nan(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 8, dtype=dtype, requires_grad=True) for _ in range(3))
    nothing = torch.zeros(2, 1, 1, 5, dtype=torch.bool)
    average = v.mean(dim=2, keepdim=True).expand_as(v)
    for mixed in (attend_written_out(q, k, v, nothing)[0], attend_fused(q, k, v, nothing)):
        assert torch.allclose(mixed, average, atol=1e-6)
        for gradient in torch.autograd.grad(mixed.square().sum(), (q, k, v), retain_graph=True):
            assert gradient.isfinite().all()


def torch_attention(ours: MultiHeadAttention, n_heads: int) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(ours.d_model, n_heads, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.output.weight,
            "out_proj.bias": ours.output.bias,
        }
    )
    return theirs


def test_multi_head_attention_equals_torch() -> None:
    torch.manual_seed(0)
    ours = MultiHeadAttention(24, 3).double()
    ours.qkv.bias.data.normal_()
    theirs = torch_attention(ours, 3)
    x, memory, causal = double(2, 5, 24), double(2, 9, 24), causal_mask(5)
    padding = torch.arange(9) < torch.tensor([[9], [2]])  # (B, S)
    itself = theirs(x, x, x, attn_mask=~causal, average_attn_weights=False)
    other = theirs(x, memory, memory, key_padding_mask=~padding, average_attn_weights=False)
    for need_weights in (False, True):
        mixed, weights = ours(x, x, causal, need_weights)
        assert torch.allclose(mixed, itself[0], atol=1e-13)
        assert (weights is not None) == need_weights
    assert torch.allclose(weights, itself[1], atol=1e-13)
    mixed, weights = ours(x, memory, padding[:, None, None], need_weights=True)
    assert torch.allclose(mixed, other[0], atol=1e-13)
    assert torch.allclose(weights, other[1], atol=1e-13)
    held = ours.attend(x, *ours.project_memory(memory), padding[:, None, None])[0]
    assert torch.allclose(held, other[0], atol=1e-13)


def test_attention_over_the_same_values_in_two_tensors_is_self_attention() -> None:
    """The one product for q, k and v gives what separate products give, gradients too."""
    torch.manual_seed(0)
    ours, x = MultiHeadAttention(24, 3).double(), double(2, 5, 24)
    one, two = ours(x, x, None)[0], ours(x, x.clone(), None)[0]
    assert torch.allclose(one, two, atol=1e-13)
    weights = list(ours.parameters())
    for a, b in zip(
        torch.autograd.grad(one.square().sum(), [x, *weights]),
        torch.autograd.grad(two.square().sum(), [x, *weights]),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-11)


def test_feed_forward_by_its_equation() -> None:
    layer, x = FeedForward(6, 10).double(), double(3, 6)
    hidden = (x @ layer.expand.weight.T + layer.expand.bias).clamp(min=0)
    expected = hidden @ layer.contract.weight.T + layer.contract.bias
    assert torch.allclose(layer(x), expected, atol=1e-14)
    assert torch.autograd.gradcheck(layer, (x,))


def test_add_norm_puts_the_norm_where_the_paper_or_its_successors_do() -> None:
    x, y = double(2, 3, 8), double(2, 3, 8)
    post = AddNorm(TransformerConfig(d_model=8, norm="post")).double().eval()
    pre = AddNorm(TransformerConfig(d_model=8, norm="pre")).double().eval()
    assert torch.equal(post.enter(x), x) and torch.equal(pre.leave(x, y), x + y)
    assert torch.allclose(post.leave(x, y), F.layer_norm(x + y, (8,)), atol=1e-14)
    assert torch.allclose(pre.enter(x), F.layer_norm(x, (8,)), atol=1e-14)


@pytest.mark.parametrize(("p", "levels"), [(0.1, 26), (0.5, 128), (0.001, 1), (0.999, 255)])
def test_dropout_keeps_the_share_and_the_mean(p: float, levels: int) -> None:
    torch.manual_seed(0)
    dropout, n = Dropout(p), 1_000_003  # not a multiple of eight
    assert dropped_levels(p) == levels
    kept = 1 - levels / 256
    y = dropout(torch.ones(n))
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / kept).item()}
    error = 5 * math.sqrt(kept * (1 - kept) / n)  # five standard deviations
    assert abs((y > 0).double().mean().item() - kept) < error
    assert abs(y.double().mean().item() - 1) < error / kept


def test_decisions_are_independent_of_their_neighbors() -> None:
    """Every byte of a word and of the next one: no byte is read twice or is short of a bit."""
    torch.manual_seed(0)
    keep = keep_mask(torch.Size([200_000, 8]), 128).double()
    assert (keep.mean(0) - 0.5).abs().max() < 5 * 0.5 / math.sqrt(200_000)
    correlation = torch.corrcoef(keep.T) - torch.eye(8)
    assert correlation.abs().max() < 5 / math.sqrt(200_000)
    words = keep[:-1] - 0.5, keep[1:] - 0.5
    assert (words[0].T @ words[1] / len(words[0])).abs().max() < 5 * 0.25 / math.sqrt(200_000)


def test_dropout_repeats_with_the_seed_and_differs_without() -> None:
    dropout, x = Dropout(0.3), torch.randn(5, 7)
    torch.manual_seed(3)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first) and not torch.equal(first, second)


def test_dropout_does_nothing_where_it_should_not() -> None:
    x, y = torch.randn(2, 4, 9), torch.randn(2, 4, 9)
    for dropout in (Dropout(0.3).eval(), Dropout(0.0)):
        assert torch.equal(dropout(x), x) and torch.equal(dropout.add(x, y), x + y)


def test_dropout_has_the_right_gradient() -> None:
    torch.manual_seed(0)
    x, residual, keep = double(3, 5), double(3, 5), keep_mask(torch.Size([3, 5]), 100)
    scale = 256 / 156
    assert torch.autograd.gradcheck(lambda x: DropFunction.apply(x, keep, scale), (x,))
    assert torch.autograd.gradcheck(
        lambda r, x: AddDroppedFunction.apply(r, x, keep, scale), (residual, x)
    )
    dropped = DropFunction.apply(x, keep, scale)
    assert torch.equal(dropped, torch.where(keep, x * scale, 0.0))
    together = AddDroppedFunction.apply(residual, x, keep, scale)
    assert torch.allclose(together, residual + dropped, atol=1e-15)


def test_adding_and_dropping_at_once_is_dropping_then_adding() -> None:
    dropout, x, y = Dropout(0.3), torch.randn(4, 33), torch.randn(4, 33)
    torch.manual_seed(5)
    once = dropout.add(x, y)
    torch.manual_seed(5)
    assert torch.allclose(once, x + dropout(y), atol=1e-6)
