"""GPT's parts against torch's own, by hand on small numbers, and by their gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.elementwise import gelu, rms_norm, squared_relu
from gpt.gpt_components import (
    CausalSelfAttention,
    FeedForward,
    RMSNorm,
    attend_fused,
    attend_written_out,
    rotary_table,
    rotate,
)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_elementwise_functions_equal_torch() -> None:
    x = double(5, 16)
    assert torch.allclose(gelu(x), F.gelu(x, approximate="tanh"), atol=1e-14)
    assert torch.allclose(squared_relu(x), F.relu(x).square(), atol=0)
    assert torch.allclose(rms_norm(x), F.rms_norm(x, (16,), eps=1e-6), atol=1e-14)
    norm = RMSNorm(16).double()
    norm.weight.data.normal_()
    assert torch.allclose(norm(x), F.rms_norm(x, (16,), norm.weight, 1e-6), atol=1e-13)


@pytest.mark.parametrize("function", [gelu, squared_relu, rms_norm])
def test_hand_written_gradients(function: object) -> None:
    assert torch.autograd.gradcheck(function, (double(4, 6),))  # type: ignore[arg-type]


def test_gelu_survives_large_inputs() -> None:
    x = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4], requires_grad=True)
    y = gelu(x)
    y.sum().backward()
    assert y.tolist() == [0.0, 0.0, 0.0, 50.0, 1e4]
    assert x.grad is not None and x.grad.isfinite().all()


def test_rotation_by_hand_and_relative() -> None:
    table = rotary_table(8, 4)
    x = torch.tensor([1.0, 0.0, 0.0, 2.0], dtype=torch.float64).expand(1, 1, 8, 4)
    turned = rotate(x, table)
    slow = 10_000.0**-0.5
    expected = [math.cos(3), math.sin(3), -2 * math.sin(3 * slow), 2 * math.cos(3 * slow)]
    assert turned[0, 0, 3].tolist() == pytest.approx(expected)
    q, k = torch.randn(2, 1, 1, 1, 4, dtype=torch.float64)
    turned_q = rotate(q.expand(1, 1, 8, 4), table)[0, 0]
    turned_k = rotate(k.expand(1, 1, 8, 4), table)[0, 0]
    products = turned_q @ turned_k.T  # (8, 8): depends on the distance alone
    for distance in range(-7, 8):
        diagonal = products.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-12)


def test_attention_on_two_tokens_by_hand() -> None:
    q = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).view(1, 1, 2, 2)
    v = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 1, 2, 2)
    mask = torch.ones(2, 2).tril().bool()
    mixed, weights = attend_written_out(q, q, v, mask)
    second = 1.0 / (1.0 + math.exp(-4.0 / math.sqrt(2.0)))  # scores 0 and 4 / sqrt(2)
    assert weights[0, 0].tolist() == [[1.0, 0.0], pytest.approx([1 - second, second])]
    assert torch.allclose(mixed[0, 0], weights[0, 0])


def test_both_ways_of_attention_agree_with_their_gradients() -> None:
    q, k, v = (double(2, 3, 7, 8) for _ in range(3))
    any_mask = torch.rand(2, 1, 7, 7) < 0.5
    any_mask |= torch.eye(7, dtype=torch.bool)
    for mask, causal in ((torch.ones(7, 7).tril().bool(), True), (any_mask, False), (None, False)):
        ours, weights = attend_written_out(q, k, v, mask)
        fused = attend_fused(q, k, v, mask, causal)
        assert torch.allclose(ours, fused, atol=1e-12)
        if mask is not None:
            assert (weights.masked_select(~mask.expand_as(weights)) == 0).all()
        direction = torch.randn_like(ours)
        for a, b in zip(
            torch.autograd.grad(ours, (q, k, v), direction),
            torch.autograd.grad(fused, (q, k, v), direction),
            strict=True,
        ):
            assert torch.allclose(a, b, atol=1e-12)


def test_multi_head_attention_equals_torch() -> None:
    ours = CausalSelfAttention(24, 3, 3, bias=True, qk_norm=False).double()
    theirs = nn.MultiheadAttention(24, 3, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.output.weight,
            "out_proj.bias": ours.output.bias,
        }
    )
    x, mask = double(2, 5, 24), torch.ones(5, 5).tril().bool()
    expected, expected_weights = theirs(x, x, x, attn_mask=~mask, average_attn_weights=False)
    mixed, weights = ours(x, mask, need_weights=True)
    assert torch.allclose(mixed, expected, atol=1e-13)
    assert torch.allclose(weights, expected_weights, atol=1e-13)
    with torch.no_grad():  # without gradients the fused way is taken
        assert torch.allclose(ours(x, mask)[0], expected, atol=1e-13)


def test_grouped_heads_equal_full_heads_with_copied_keys_and_values() -> None:
    grouped = CausalSelfAttention(24, 4, 2, bias=False, qk_norm=True).double()
    full = CausalSelfAttention(24, 4, 4, bias=False, qk_norm=True).double()
    q, k, v = grouped.qkv.weight.split(grouped.rows)
    repeated = [w.view(2, 6, 24).repeat_interleave(2, 0).reshape(24, 24) for w in (k, v)]
    full.qkv.weight.data = torch.cat([q, *repeated])
    full.output.weight.data = grouped.output.weight.data
    x, mask = double(2, 5, 24), torch.ones(5, 5).tril().bool()
    turns = rotary_table(5, 6)
    assert torch.allclose(grouped(x, mask, turns)[0], full(x, mask, turns)[0], atol=1e-13)


def test_swiglu_by_its_equation() -> None:
    layer = FeedForward(6, 10, "swiglu", bias=False).double()
    x = double(3, 6)
    gate, up = layer.expand.weight.split(10)
    expected = (F.silu(x @ gate.T) * (x @ up.T)) @ layer.contract.weight.T
    assert torch.allclose(layer(x), expected, atol=1e-14)
