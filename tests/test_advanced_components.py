"""The parts of the advanced topics: positions, shared heads, experts, tiles, linear attention."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from advanced_topics import verify_advanced_topics
from advanced_topics.grouped_attention import (
    cache_numbers_per_token,
    grouped_attention,
    measured_cache_bytes,
)
from advanced_topics.linear_attention import (
    delta_parallel,
    delta_recurrent,
    linear_parallel,
    state_numbers,
)
from advanced_topics.live_memory import peak_bytes
from advanced_topics.mixture_of_experts import (
    MixtureOfExperts,
    balance_loss,
    loads_of,
    overflow,
)
from advanced_topics.online_softmax import (
    TiledAttention,
    online_softmax_sum,
    plain_attention,
    tiled_attention,
)
from advanced_topics.positions import (
    alibi_bias,
    alibi_slopes,
    rescaled_rotary_table,
    sine_table,
)
from gpt.gpt_components import rotary_table


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_every_claim_of_the_verify_script_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_advanced_topics.main([]) == 0
    assert capsys.readouterr().out.count("PASS") == len(verify_advanced_topics.CHECKS)
    assert verify_advanced_topics.forward_once() == "logits (3, 20, 31)"


def test_the_trace_names_every_tensor(capsys: pytest.CaptureFixture[str]) -> None:
    verify_advanced_topics.main(["--trace"])
    shown = capsys.readouterr().out
    for name in verify_advanced_topics.MEANINGS:
        assert name in shown


# Positions


def test_sine_table_by_hand() -> None:
    table = sine_table(3, 4)
    expected = [math.sin(2.0), math.cos(2.0), math.sin(0.02), math.cos(0.02)]
    assert table[2].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("rescale", ["none", "interpolate", "ntk"])
def test_rescaling_changes_nothing_inside_the_training_length(rescale: str) -> None:
    table = rescaled_rotary_table(8, 6, trained=8, rescale=rescale)  # type: ignore[arg-type]
    assert torch.equal(table, rotary_table(8, 6))
    shorter = rescaled_rotary_table(5, 6, trained=8, rescale=rescale)  # type: ignore[arg-type]
    assert torch.equal(shorter, rotary_table(5, 6))


def test_rescaling_differs_beyond_it() -> None:
    tables = [rescaled_rotary_table(32, 6, 8, how) for how in ("none", "interpolate", "ntk")]  # type: ignore[arg-type]
    for one in range(3):
        for other in range(one):
            assert (tables[one] - tables[other]).abs().max() > 0.1


def test_alibi_slopes_are_the_papers() -> None:
    """Press et al. 2022, section 3: 8 heads have 1/2, 1/4, ..., 1/256."""
    assert alibi_slopes(8).tolist() == [2.0**-n for n in range(1, 9)]
    assert alibi_slopes(16)[:2].tolist() == pytest.approx([2**-0.5, 2**-1.0])


def test_alibi_bias_by_hand() -> None:
    bias = alibi_bias(3, 8)[0]  # slope 1/2
    inf = math.inf
    assert bias.tolist() == [[0.0, -inf, -inf], [-0.5, 0.0, -inf], [-1.0, -0.5, 0.0]]


# Shared heads


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_attention_is_torchs(groups: int) -> None:
    q, k, v = random(2, 4, 9, 8), random(2, groups, 9, 8, seed=1), random(2, groups, 9, 8, seed=2)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    bias = torch.full((9, 9), -math.inf, dtype=torch.float64).triu(1)
    assert torch.allclose(grouped_attention(q, k, v, bias), expected, atol=1e-12)


def test_grouped_attention_without_a_bias_sees_all_keys() -> None:
    q, k, v = random(1, 4, 3, 8), random(1, 2, 5, 8, seed=1), random(1, 2, 5, 8, seed=2)
    expected = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    assert torch.allclose(grouped_attention(q, k, v), expected, atol=1e-12)


def test_the_cache_is_measured() -> None:
    sizes = [measured_cache_bytes(3, groups, 16, 50) for groups in (1, 2, 4)]
    assert sizes == [4 * 50 * cache_numbers_per_token(3, groups, 16) for groups in (1, 2, 4)]
    assert sizes[2] == 4 * sizes[0] == 4 * 50 * 2 * 3 * 4 * 16


# Experts


def test_one_expert_is_a_feed_forward() -> None:
    layer = MixtureOfExperts(8, 16, n_experts=1, top_k=1).double()
    x = random(2, 5, 8)
    assert torch.allclose(layer(x), layer.experts[0](x), atol=1e-12)
    assert layer.loads.tolist() == [1.0] and layer.balance_loss.item() == pytest.approx(1.0)


def test_the_router_learns_from_the_output_and_idle_experts_do_not() -> None:
    torch.manual_seed(0)
    layer = MixtureOfExperts(8, 16, n_experts=4, top_k=1).double()
    layer(random(1, 2, 8)).sum().backward()
    assert layer.router.weight.grad is not None and layer.router.weight.grad.abs().max() > 0
    for expert, load in zip(layer.experts, layer.loads, strict=True):
        weight = expert.expand.weight
        used = weight.grad is not None and bool(weight.grad.abs().max() > 0)
        assert used == bool(load > 0)


def test_loads_and_balance_by_hand() -> None:
    loads = loads_of(torch.tensor([[0], [0], [0], [2]]), 3)
    assert loads.tolist() == [0.75, 0.0, 0.25]
    probabilities = torch.tensor([[0.6, 0.2, 0.2]] * 4)
    assert float(balance_loss(loads, probabilities)) == pytest.approx(3 * (0.45 + 0.05))
    even = torch.full((4, 3), 1 / 3)
    assert float(balance_loss(torch.full((3,), 1 / 3), even)) == pytest.approx(1.0)


def test_the_balancing_loss_moves_the_router_to_equal_loads() -> None:
    """Without it the busiest expert stays busy; with it alone the loads become equal."""
    torch.manual_seed(0)
    layer, x = MixtureOfExperts(8, 4, n_experts=4, top_k=1), torch.randn(4, 64, 8)
    with torch.no_grad():
        layer.router.weight[0] += 1.0
    layer(x + 1.0)
    before = float(layer.loads.max())
    optimizer = torch.optim.Adam(layer.router.parameters(), 0.1)
    for _ in range(30):
        layer(x + 1.0)
        layer.balance_loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert before > 0.8 and float(layer.loads.max()) < 0.45


def test_overflow_is_what_lies_above_the_capacity() -> None:
    assert overflow(torch.tensor([0.25, 0.25, 0.25, 0.25])) == 0.0
    assert overflow(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), capacity=1.0) == pytest.approx(0.25)


# Tiles


def test_the_online_softmax_is_the_softmax_also_of_large_scores() -> None:
    for scale in (1.0, 1000.0):
        scores, values = scale * random(12), random(12, seed=1)
        expected = scores.softmax(0) @ values
        assert float(online_softmax_sum(scores, values)) == pytest.approx(
            float(expected), abs=1e-12
        )


@pytest.mark.parametrize(("length", "tile"), [(1, 8), (16, 16), (33, 8), (40, 64)])
def test_tiles_are_torchs_attention(length: int, tile: int) -> None:
    q, k, v, slope = (random(2, 3, length, 8, seed=i) for i in range(4))
    leaves = [x.requires_grad_() for x in (q, k, v)]
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    tiled = tiled_attention(q, k, v, tile)
    assert torch.allclose(tiled, expected, atol=1e-12, rtol=0)
    for a, b in zip(
        torch.autograd.grad((tiled * slope).sum(), leaves),
        torch.autograd.grad((expected * slope).sum(), leaves),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-12, rtol=0)


def test_gradients_of_tiles_agree_with_finite_differences() -> None:
    inputs = [random(1, 1, 5, 3, seed=i).requires_grad_() for i in range(3)]
    assert torch.autograd.gradcheck(lambda q, k, v: TiledAttention.apply(q, k, v, 2), inputs)


def test_an_empty_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="tile=0 holds no query"):
        tiled_attention(*(random(1, 1, 4, 2) for _ in range(3)), tile=0)


# Memory


def test_the_peak_counts_what_is_alive_at_the_same_time() -> None:
    assert peak_bytes(lambda: torch.zeros(1000)) == 4000
    assert peak_bytes(lambda: (torch.zeros(1000) + 1) * 2) == 8000  # the first is gone by then
    assert peak_bytes(lambda: torch.zeros(1000).view(10, 100).t()) == 4000  # views cost nothing
    assert peak_bytes(lambda: [torch.zeros(1000).add_(1) for _ in range(3)]) == 12000
    kept = torch.zeros(1000)
    assert peak_bytes(lambda: kept.add_(1)) == 0  # made outside


def peak(attend: object, length: int) -> int:
    q, k, v = (torch.randn(1, 1, length, 8, requires_grad=True) for _ in range(3))
    return peak_bytes(lambda: attend(q, k, v).sum().backward())  # type: ignore[operator]


def test_plain_attention_grows_with_the_square_and_tiles_do_not() -> None:
    plain = [peak(plain_attention, length) for length in (256, 512)]
    tiled = [peak(lambda q, k, v: tiled_attention(q, k, v, 32), length) for length in (256, 512)]
    assert plain[0] >= 2 * 4 * 256**2  # at least scores and weights are alive together
    assert 3.7 < plain[1] / plain[0] < 4.1
    assert tiled[1] / tiled[0] < 2.1 and tiled[1] < plain[1] / 30


# Linear attention


def test_linear_attention_of_one_token_is_its_value() -> None:
    q, k, v = random(1, 1, 1, 4).exp(), random(1, 1, 1, 4, seed=1).exp(), random(1, 1, 1, 4, seed=2)
    assert torch.allclose(linear_parallel(q, k, v), v, atol=1e-5)


def test_the_delta_rule_replaces_what_is_stored() -> None:
    """The same key twice: reading it gives the second value; plain addition would give the sum."""
    key = F.normalize(random(1, 1, 1, 4), dim=-1)
    k = key.expand(1, 1, 2, 4)
    v, beta = random(1, 1, 2, 4, seed=1), torch.ones(1, 1, 2, dtype=torch.float64)
    for form in (delta_parallel, delta_recurrent):
        assert torch.allclose(form(k, k, v, beta)[:, :, 1], v[:, :, 1], atol=1e-12)


def test_orthogonal_keys_are_all_recalled() -> None:
    """As many pairs as the head is wide, no more, can be kept without error."""
    k = torch.eye(6, dtype=torch.float64)[None, None]
    v, beta = random(1, 1, 6, 5), torch.ones(1, 1, 6, dtype=torch.float64)
    again = torch.cat([k, k], dim=2)  # written, then written once more: read at the second time
    read = delta_parallel(again, again, torch.cat([v, v], dim=2), beta.repeat(1, 1, 2))
    assert torch.allclose(read[:, :, 6:], v, atol=1e-12)


def test_a_state_does_not_grow() -> None:
    assert [state_numbers(m, 4, 16, 10) for m in ("linear", "delta")] == [
        state_numbers(m, 4, 16, 1000) for m in ("linear", "delta")
    ]
    assert state_numbers("softmax", 4, 16, 1000) == 2 * 1000 * 4 * 16
