"""The roofline: counts by hand on a tiny shape, the roof's corner, what is measured for real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from benchmarks import optimization_server
from gpt.generation import generate
from gpt.gpt_config import RECIPES, GPTConfig, parameter_count
from gpt.gpt_model import GPT
from gpt.int8_weights import Int8Linear
from gpt.packed_weights import pack_weights
from gpt.speculative import speculate
from optimization.roofline import GPT2_SHAPE, PRESETS, TINY_SHAPE, RooflineConfig, measure
from optimization.roofline_counts import (
    Cost,
    Roof,
    cache_bytes,
    decode_cost,
    matrices,
    prefill_cost,
    speculative_cost,
    tokens_per_round,
    weight_bytes,
)
from optimization.roofline_figure import finding, roofline_figure
from optimization.roofline_machine import Machine, in_turns
from optimization.roofline_points import Point, Work, always_right_pair, decoding

# D=4, H=2, K=2, G=1, L=1, F=8, V=10.
# Matrices: q, k, v 8x4 = 32; output 4x4 = 16; expand 8x4 = 32; contract 4x8 = 32; head 10x4 = 40.
TOY = GPTConfig(10, max_len=8, d_model=4, n_heads=2, n_kv_heads=1, n_layers=1, d_ff=8)


def test_weights_by_hand_and_by_the_model() -> None:
    assert matrices(TOY) == [(8, 4), (4, 4), (8, 4), (4, 8), (10, 4)]
    assert weight_bytes(TOY) == 4 * 152
    assert weight_bytes(TOY, "int8") == 152 + 4 * (8 + 4 + 8 + 4 + 10)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_the_matrices_are_those_of_the_model(recipe: str, activation: str) -> None:
    shape = {**RECIPES[recipe], "activation": activation}
    model = GPT(GPTConfig(50, 16, 16, 4, 2, 3, 24, **shape))
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert sum(m.weight.numel() for m in layers) * 4 == weight_bytes(model.config)
    small = pack_weights(model, "int8")
    rounded = [m for m in small.modules() if isinstance(m, Int8Linear)]
    assert weight_bytes(model.config, "int8") == sum(
        m.quantized.nbytes + m.scales.nbytes for m in rounded
    )


def test_the_cache_is_the_models() -> None:
    cache = GPT(TOY).new_cache(1)
    assert cache_bytes(TOY, TOY.max_len) == cache.keys.nbytes + cache.values.nbytes


def test_decoding_by_hand() -> None:
    """S=3: 2 x 152 for the weights, 4 x 1 x 4 x 3 = 48 for attention; cache 4 x 2 x 1 x 2 x 3."""
    assert decode_cost(TOY, 1, 3) == Cost(304 + 48, 608 + 48)
    assert decode_cost(TOY, 8, 3) == Cost(304 + 48, 608 / 8 + 48)
    assert decode_cost(TOY, 1, 3, "int8") == Cost(352, 152 + 136 + 48)
    assert decode_cost(TOY, 1, 3).intensity == pytest.approx(352 / 656)


def test_reading_a_prompt_by_hand() -> None:
    """T=5: the blocks' 224, a fifth of the head's 80, attention to 3 tokens on average: 48."""
    assert prefill_cost(TOY, 5) == Cost(224 + 16 + 48, 608 / 5 + 16)


def test_speculation_by_hand() -> None:
    """k=2: two tokens of the draft, one check of three tokens that reads the weights once."""
    draft = decode_cost(TOY, 1, 3)
    cost = speculative_cost(TOY, TOY, 3, 2, 0.5)
    assert tokens_per_round(0.5, 2) == 1.75
    assert cost.operations == pytest.approx((2 * draft.operations + 3 * 352) / 1.75)
    assert cost.bytes == pytest.approx((2 * draft.bytes + 656 + 2 * 16) / 1.75)


def test_the_mean_of_a_round_is_what_speculation_gives() -> None:
    """Simulated: proposals are taken one by one with probability a; the target adds one."""
    generator = torch.Generator().manual_seed(0)
    taken = torch.rand(200_000, 4, generator=generator) < 0.7
    counts = taken.long().cumprod(dim=1).sum(dim=1) + 1
    assert counts.double().mean().item() == pytest.approx(tokens_per_round(0.7, 4), abs=0.01)


def test_the_roof_has_its_corner_at_the_ridge() -> None:
    roof = Roof(arithmetic=100.0, bandwidth=20.0)
    assert roof.ridge == 5.0
    assert [roof.attainable(i) for i in (1.0, 5.0, 6.0)] == [20.0, 100.0, 100.0]
    assert roof.tokens_per_second(Cost(50.0, 10.0)) == 2.0  # both limits: 100/50 and 20/10
    assert roof.tokens_per_second(Cost(10.0, 10.0)) == 2.0  # memory: 20/10
    assert roof.tokens_per_second(Cost(200.0, 10.0)) == 0.5  # arithmetic: 100/200


def test_124m_parameters_cost_half_a_gigabyte_a_token() -> None:
    """What is not in a matrix of the products: positions, biases, norms; the head is tied."""
    left_out = 256 * 768 + 12 * (9 * 768 + 4 * 768) + 2 * 768
    assert weight_bytes(GPT2_SHAPE) / 4 + left_out == parameter_count(GPT2_SHAPE)
    assert decode_cost(GPT2_SHAPE, 1, 1).intensity == pytest.approx(0.5, abs=0.01)


def test_programs_take_turns_forwards_and_backwards() -> None:
    order: list[str] = []
    seconds = in_turns({name: lambda name=name: order.append(name) for name in "ab"}, 2)
    assert "".join(order) == "ba" + "ab" + "ba"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_the_draft_is_always_right() -> None:
    target, draft = (model.double() for model in always_right_pair(TINY_SHAPE))
    assert (len(target.blocks), len(draft.blocks)) == (3, 1)
    tokens = torch.randint(TINY_SHAPE.vocab_size, (1, 20))
    assert torch.equal(target(tokens), draft(tokens))
    found = speculate(target, draft, [1, 2], 25, draft_tokens=4)
    assert found.acceptance == 1.0 and found.passes == 5
    assert found.tokens == generate(target, [[1, 2]], 25)[0]


def test_every_turn_writes_the_same_tokens() -> None:
    """A turn goes back to the end of the prompts; the next one has the same work."""
    model = always_right_pair(TINY_SHAPE)[0]
    seen: list[tuple[int, int]] = []
    hidden = model.hidden
    model.hidden = lambda tokens, cache: (  # type: ignore[method-assign]
        seen.append((tokens.shape[1], cache.length)) or hidden(tokens, cache)
    )
    run = decoding(model, 2, Work(context=6, steps=4, draft_tokens=2, rounds=1))
    run()
    first = seen.copy()
    run()
    assert seen == [(6, 0), *[(1, length) for length in (6, 7, 8, 9)] * 2]
    assert seen[: len(first)] == first


def test_a_small_machine_is_measured_and_drawn() -> None:
    machine, points = measure(PRESETS["smoke"])
    assert set(machine.memory) == {"read", "copy", "triad"}
    assert set(machine.read) == {weight_bytes(TINY_SHAPE), weight_bytes(TINY_SHAPE, "int8")}
    assert set(machine.arithmetic) == {"float32", "int8"}
    speeds = [*machine.memory.values(), *machine.read.values(), *machine.arithmetic.values()]
    assert min(speeds) > 1e7
    assert {one.name for one in points} == set(optimization_server.POINTS)
    assert all(one.rate > 0 for one in points)
    (axis,) = roofline_figure(machine, points).axes
    assert " ".join(axis.get_title(loc="left").split()) == finding(points)


def test_a_point_says_its_share_and_its_limit() -> None:
    machine = Machine({608: 40.0}, {"read": 20.0, "copy": 10.0}, {"float32": 100.0, "int8": 300.0})
    assert machine.bandwidth == 20.0
    assert machine.roof() == Roof(100.0, 20.0) and machine.roof("int8", 608) == Roof(300.0, 40.0)
    slow = Point("1 stream", Cost(10.0, 10.0), machine.roof(), (1.0, 0.5, 2.0))
    assert (slow.rate, slow.possible, slow.share, slow.limit) == (1.0, 2.0, 50.0, "memory")
    fast = Point("8 streams", Cost(100.0, 10.0), machine.roof(), (1.0,))
    assert (fast.possible, fast.limit) == (1.0, "arithmetic")
    assert finding([slow, fast]) == (
        "One stream is written at 50 % of what reading the weights lets it; eight share the "
        "reading and are written 1.0 times as fast together"
    )


def test_the_benchmark_measures_what_it_promises(tmp_path: Path) -> None:
    found = optimization_server.measure_roof(PRESETS["smoke"], tmp_path)
    promised = {name for name in optimization_server.MEASURES if ".roofline." in name}
    assert {one.name for one in found} == promised
    assert (tmp_path / "roofline.png").is_file()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rounds": 0}, "rounds=0 is not possible. Use 1 or more."),
        ({"context": 250}, "context=250 and steps=30 need 281 places, the context window has 256"),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        RooflineConfig(**changes)
