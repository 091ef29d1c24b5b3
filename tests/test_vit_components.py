"""The parts of the ViT, with torch's own layers as the oracle, and the position encodings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit.position_encodings import (
    INITIAL_STD,
    LearnedPositions,
    LearnedPositions2D,
    RotaryPositions2D,
    SinePositions2D,
    build_positions,
    interpolate_positions,
    places_on,
)
from vit.recomputation import made_again
from vit.vit_components import (
    EncoderLayer,
    FeedForward,
    SelfAttention,
    attend_fused,
    attend_lean,
    attend_written_out,
)
from vit.vit_config import POSITIONS, Positions, ViTConfig

CONFIG = ViTConfig(image_size=12, patch_size=4, d_model=32, n_heads=4, n_layers=2, d_ff=48)
B, T = 3, 10


def randomize(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.copy_(0.2 * noise)


def vectors() -> Tensor:
    return torch.randn(B, T, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_fused_and_written_out_attention_agree() -> None:
    q, k, v = torch.randn(3, B, 4, T, 8, dtype=torch.float64)
    mixed, weights = attend_written_out(q, k, v)
    assert (mixed - attend_fused(q, k, v)).abs().max() < 1e-12
    assert (weights.sum(-1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize("tokens", [6, 30])
def test_lean_attention_has_the_vectors_and_gradients_of_the_written_out(tokens: int) -> None:
    """With weights that are kept (fewer than K = 8), and with weights that are made again."""
    given = torch.randn(3, B, 4, tokens, 8, dtype=torch.float64)
    results = []
    for attend in (attend_lean, lambda q, k, v: attend_written_out(q, k, v)[0]):
        q, k, v = (part.clone().requires_grad_() for part in given)
        mixed = attend(q, k, v)
        results.append((mixed, *torch.autograd.grad(mixed.square().sum(), [q, k, v])))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_lean_attention_keeps_no_weights() -> None:
    q, k, v = (torch.randn(2, 2, 30, 8, requires_grad=True) for _ in range(3))
    shapes: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda kept: shapes.append(kept.shape) or kept,  # type: ignore[func-returns-value]
        lambda kept: kept,
    ):
        attend_written_out(q, k, v)
        written_out, shapes = shapes, []
        attend_lean(q, k, v)
    assert any(shape[-2:] == (30, 30) for shape in written_out)
    assert not any(shape[-2:] == (30, 30) for shape in shapes)


def test_attention_equals_torchs() -> None:
    ours = SelfAttention(32, 4).double()
    randomize(ours)
    theirs = nn.MultiheadAttention(32, 4, batch_first=True, dtype=torch.float64)
    state = ours.state_dict()
    names = {"in_proj_": "qkv.", "out_proj.": "output."}
    theirs.load_state_dict(
        {new + kind: state[old + kind] for new, old in names.items() for kind in ("weight", "bias")}
    )
    x = vectors()
    mixed, weights = ours(x, need_weights=True)
    expected, their_weights = theirs(x, x, x, average_attn_weights=False)
    assert (mixed - expected).abs().max() < 1e-12
    assert (weights - their_weights).abs().max() < 1e-12


def test_layer_and_its_gradients_equal_torchs() -> None:
    """So what is made again in the backward pass is what the forward pass had."""
    ours = EncoderLayer(CONFIG).double()
    randomize(ours)
    theirs = nn.TransformerEncoderLayer(
        32, 4, 48, dropout=0.0, activation="gelu", layer_norm_eps=CONFIG.norm_eps,
        batch_first=True, norm_first=True, dtype=torch.float64,
    )  # fmt: skip
    names = {
        "norm1.": "attention_norm.",
        "self_attn.in_proj_": "attention.qkv.",
        "self_attn.out_proj.": "attention.output.",
        "norm2.": "feed_forward_norm.",
        "linear1.": "feed_forward.expand.",
        "linear2.": "feed_forward.contract.",
    }
    pairs = [(old + kind, new + kind) for new, old in names.items() for kind in ("weight", "bias")]
    state = ours.state_dict()
    theirs.load_state_dict({new: state[old] for old, new in pairs})
    x, again = vectors().requires_grad_(), vectors().requires_grad_()
    y, weights = ours(x)
    expected = theirs(again)
    assert (y - expected).abs().max() < 1e-12 and weights is None
    noise = torch.randn_like(y)
    (y * noise).sum().backward()
    (expected * noise).sum().backward()
    ours_by_name, theirs_by_name = dict(ours.named_parameters()), dict(theirs.named_parameters())
    for old, new in pairs:
        a, b = ours_by_name[old].grad, theirs_by_name[new].grad
        assert a is not None and b is not None and (a - b).abs().max() < 1e-11, old
    assert x.grad is not None and again.grad is not None
    assert (x.grad - again.grad).abs().max() < 1e-11


@pytest.mark.parametrize("rotary", [False, True])
def test_the_first_token_alone_has_the_vector_and_gradients_of_all(rotary: bool) -> None:
    layer = EncoderLayer(CONFIG).double()
    randomize(layer)
    turn = RotaryPositions2D(torch.arange(3.0), 8, 1).double() if rotary else None
    results = []
    for alone in (False, True):
        x = vectors().requires_grad_()
        y, _ = layer(x, turn, first_only=alone)
        gradients = torch.autograd.grad(y[:, 0].square().sum(), [x, *layer.parameters()])
        results.append((y[:, :1], *gradients))
    assert results[1][0].shape == (B, 1, 32)
    for a, b in zip(*results, strict=True):
        assert (a - b).abs().max() < 1e-11


def test_feed_forward_is_exact_gelu() -> None:
    layer = FeedForward(32, 48).double()
    x = vectors()
    wide = x @ layer.expand.weight.T + layer.expand.bias
    active = wide * 0.5 * (1 + torch.erf(wide / 2**0.5))
    expected = active @ layer.contract.weight.T + layer.contract.bias
    assert (layer(x) - expected).abs().max() < 1e-12


def test_what_is_made_again_is_not_kept() -> None:
    """The bytes that the graph of a layer keeps, with and without."""
    weight = torch.randn(7, 5, requires_grad=True)
    x = torch.randn(4, 3, 5, requires_grad=True)
    wide = x * 2
    active = F.gelu(wide)
    calls: list[int] = []

    def make() -> Tensor:
        calls.append(1)
        return F.gelu(wide)

    with made_again(active, make):
        y = F.linear(active, weight)
    assert not calls
    ours = torch.autograd.grad(y.sum(), [weight, x])
    assert len(calls) == 1
    theirs = torch.autograd.grad(F.linear(F.gelu(x * 2), weight).sum(), [weight, x])
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)


def test_dropout_acts_in_training_alone() -> None:
    layer = EncoderLayer(ViTConfig(d_model=32, d_ff=48, dropout=0.5)).double()
    x = vectors()
    assert torch.equal(layer.eval()(x)[0], layer(x)[0])
    assert not torch.equal(layer.train()(x)[0], layer(x)[0])


def test_interpolation_to_the_same_grid_is_the_identity() -> None:
    weight = torch.randn(10, 6)
    for front in (0, 1):
        assert torch.equal(interpolate_positions(weight[1 - front :], 3, 3), weight[1 - front :])


def test_interpolation_is_bicubic_over_the_grid_and_leaves_the_class_token() -> None:
    weight = torch.randn(10, 6)
    made = interpolate_positions(weight, 3, 5)
    assert made.shape == (26, 6) and torch.equal(made[0], weight[0])
    maps = weight[1:].T.reshape(1, 6, 3, 3)
    expected = F.interpolate(maps, size=(5, 5), mode="bicubic", align_corners=False)
    assert torch.allclose(made[1:].T.reshape(6, 5, 5), expected[0])
    constant = torch.ones(9, 2).mul_(3.5)
    assert torch.allclose(interpolate_positions(constant, 3, 7), torch.full((49, 2), 3.5))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_resizing_to_the_same_grid_is_the_identity(positions: Positions, pooling: Any) -> None:
    made = build_positions(
        ViTConfig(image_size=12, patch_size=4, d_model=32, positions=positions, pooling=pooling)
    )
    again = made.resized(3, 3)
    state = again.state_dict()
    assert list(state) == list(made.state_dict())
    for name, tensor in made.state_dict().items():
        assert torch.equal(state[name], tensor)
    larger = made.resized(3, 5)
    assert larger(torch.zeros(2, 25 + (pooling == "cls"), 32)).shape == (
        2, 25 + (pooling == "cls"), 32,
    )  # fmt: skip


def test_places_keep_the_images_edges() -> None:
    assert torch.equal(places_on(4, 4), torch.arange(4.0))
    for new in (2, 6, 8):
        places = places_on(4, new)
        half = 2 / new  # half a patch of the new grid, in old patches
        assert places[0] - half == pytest.approx(-0.5) and places[-1] + half == pytest.approx(3.5)


def test_learned_positions_in_two_axes_are_the_row_beside_the_column() -> None:
    made = LearnedPositions2D(3, 8)
    table = made.table(9).view(3, 3, 8)
    assert torch.equal(table[2, 1], torch.cat([made.rows[2], made.columns[1]]))
    x = torch.zeros(2, 10, 8)
    assert torch.equal(made(x)[0, 1:], made.table(9)) and made(x)[:, 0].abs().max() == 0


def test_learned_positions_begin_small_and_have_one_for_the_class_token() -> None:
    made = LearnedPositions(50, 128)
    assert made.weight.std().item() == pytest.approx(INITIAL_STD, rel=0.05)
    assert torch.equal(made.table(49), made.weight[1:])


def test_sines_know_row_and_column_apart() -> None:
    made = SinePositions2D(torch.arange(4.0), 16)
    table = made.table(16).view(4, 4, 16)
    assert torch.equal(table[1, 0, :8], table[1, 3, :8])  # the same row
    assert torch.equal(table[0, 2, 8:], table[3, 2, 8:])  # the same column
    assert table[0, 0, :4].abs().max() == 0 and (table[0, 0, 4:8] == 1).all()
    assert table[1, 0, 0].item() == pytest.approx(torch.tensor(1.0).sin().item())
    assert not list(made.parameters())
    products = made.table(16) @ made.table(16).T
    assert torch.allclose(products.diagonal(), torch.full((16,), 8.0))  # D / 2: all as long


def test_rotations_know_the_distance_alone() -> None:
    made = RotaryPositions2D(torch.arange(5.0), 16, 1).double()
    q, k = torch.randn(2, 16, dtype=torch.float64)
    scores = made.rotate(q.expand(26, 16)) @ made.rotate(k.expand(26, 16)).T
    assert (scores[0, 0] - q @ k).abs() < 1e-12  # the class token is not turned
    patches = scores[1:, 1:].view(5, 5, 5, 5)  # row, column of the query; of the key
    assert torch.allclose(patches[0, 1, 2, 2], patches[2, 3, 4, 4])
    assert not torch.allclose(patches[0, 1, 2, 2], patches[0, 1, 2, 3])
    assert not torch.allclose(patches[0, 1, 2, 2], patches[0, 1, 3, 2])
    lengths = made.rotate(q.expand(26, 16)).norm(dim=-1)
    assert torch.allclose(lengths, q.norm().expand(26))
