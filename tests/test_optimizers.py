"""Muon against its definition by singular values; parameter groups."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutorial_kit.optimizers import Muon, decay_groups, fused_adamw, orthogonalize


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 16), (2, 16, 4)])
def test_orthogonalize_keeps_directions_and_levels_lengths(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalize(matrices)
    inside = u.mT @ result @ v.mT  # diagonal if the singular directions are unchanged
    lengths = inside.diagonal(dim1=1, dim2=2)
    assert torch.allclose(inside, torch.diag_embed(lengths), atol=1e-9)
    assert lengths.min() > 0.5 and lengths.max() < 1.3


def test_orthogonalize_of_zero_is_zero() -> None:
    assert orthogonalize(torch.zeros(1, 4, 4)).abs().max() == 0


def test_first_step_by_definition() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 4))
    before, gradient = weight.detach().clone(), torch.randn(8, 4)
    weight.grad = gradient
    Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.5).step()
    # momentum = g, Nesterov: g + 0.9 g points along g; 8 rows on 4 columns give sqrt(2)
    update = orthogonalize(gradient[None])[0] * 2**0.5
    assert torch.allclose(weight, before * (1 - 0.1 * 0.5) - 0.1 * update, atol=1e-6)


def test_a_fused_weight_is_orthogonalized_part_by_part() -> None:
    torch.manual_seed(0)
    fused, gradient = nn.Parameter(torch.zeros(12, 4)), torch.randn(12, 4)
    fused.muon_splits = (8, 2, 2)  # type: ignore[attr-defined]
    fused.grad = gradient
    Muon([fused], lr=1.0).step()
    parts = [nn.Parameter(torch.zeros(rows, 4)) for rows in (8, 2, 2)]
    for part, part_gradient in zip(parts, gradient.split((8, 2, 2)), strict=True):
        part.grad = part_gradient
    Muon(parts, lr=1.0).step()
    assert torch.allclose(fused, torch.cat([part.detach() for part in parts]), atol=1e-6)


def test_state_resumes_bit_for_bit() -> None:
    def run(steps: int, interrupted: bool) -> torch.Tensor:
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(6, 4))
        optimizer = Muon([weight], lr=0.1)
        for step in range(steps):
            if interrupted and step == 2:
                state = optimizer.state_dict()
                optimizer = Muon([weight], lr=0.5)
                optimizer.load_state_dict(state)
            weight.grad = torch.full_like(weight, float(step + 1)) * weight.detach()
            optimizer.step()
        return weight.detach()

    assert torch.equal(run(5, interrupted=True), run(5, interrupted=False))


def test_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="Muon takes matrices"):
        Muon([nn.Parameter(torch.zeros(3))], lr=0.1)


def test_norms_and_biases_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    matrices, vectors = decay_groups(model, 0.1)
    assert [p.ndim for p in matrices["params"]] == [2] and matrices["weight_decay"] == 0.1
    assert [p.ndim for p in vectors["params"]] == [1, 1, 1] and vectors["weight_decay"] == 0.0
    optimizer = fused_adamw([matrices, vectors], lr=0.1, betas=(0.9, 0.99))
    assert optimizer.defaults["fused"]
