"""int8 weights: rounding, its bound, and what it does to a model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gpt.int8_weights import Int8Linear, error_bound, fast_path_works, quantize_rows
from gpt.packed_weights import pack_weights
from gpt.verify_structure import small_model


def test_rounding_by_hand() -> None:
    integers, scales = quantize_rows(torch.tensor([[1.0, -2.54, 0.0], [0.0, 0.0, 0.0]]))
    assert integers.tolist() == [[50, -127, 0], [0, 0, 0]]
    assert scales[0].item() == pytest.approx(0.02)


def test_weights_move_by_at_most_half_a_step() -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 96) * torch.logspace(-3, 3, 64)[:, None]
    integers, scales = quantize_rows(weight)
    error = (integers * scales[:, None] - weight).abs()
    assert (error <= scales[:, None] / 2 * (1 + 1e-5)).all()
    assert error.max() > 0


def test_outputs_stay_within_the_bound() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(96, 64), torch.randn(7, 96)
    layer = Int8Linear(linear, fast=False)
    error = (layer(x) - linear(x)).abs()
    assert (error <= error_bound(x, layer.scales) + 1e-5).all()


@pytest.mark.skipif(not fast_path_works(), reason="this torch has no int8 kernel")
@pytest.mark.parametrize("bias", [True, False])
def test_fast_path_adds_only_the_rounding_of_its_input(bias: bool) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(96, 64, bias=bias), torch.randn(5, 96)
    slow, fast = (Int8Linear(linear, fast=fast) for fast in (False, True))
    step = (x.max() - x.min()) / 127  # 7 bits over the range of the input
    bound = step / 2 * linear.weight.abs().sum(dim=1) * 1.05
    assert ((slow(x) - fast(x)).abs() <= bound).all()


def test_a_model_keeps_its_predictions() -> None:
    model, tokens = small_model("gpt2", torch.float32), torch.randint(50, (4, 16))
    with torch.inference_mode():
        exact = model(tokens).log_softmax(-1)
        rounded = pack_weights(model, "int8")(tokens).log_softmax(-1)
    divergence = (exact.exp() * (exact - rounded)).sum(-1).mean().item()  # KL in nats
    assert 0 < divergence < 0.01
