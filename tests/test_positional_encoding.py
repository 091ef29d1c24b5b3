"""Positions: the paper's formula, the shift property, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from transformer.positional_encoding import (
    FixedPositions,
    LearnedPositions,
    make_positions,
    shift_matrix,
    sinusoidal_table,
)
from transformer.transformer_config import TransformerConfig


def test_table_is_the_paper_s_formula() -> None:
    table = sinusoidal_table(30, 6)
    for t in (0, 1, 17, 29):
        for j in range(3):
            angle = t / 10_000 ** (2 * j / 6)
            assert table[t, 2 * j].item() == pytest.approx(math.sin(angle), abs=1e-15)
            assert table[t, 2 * j + 1].item() == pytest.approx(math.cos(angle), abs=1e-15)
    assert torch.allclose(table.norm(dim=1), torch.full((30,), math.sqrt(3)).double())


@pytest.mark.parametrize("offset", [-7, 0, 1, 5, 60])
def test_one_matrix_shifts_every_position(offset: int) -> None:
    table, shift = sinusoidal_table(200, 16), shift_matrix(offset, 16)
    shifted = table[10 : 130] @ shift.T  # fmt: skip
    assert torch.allclose(shifted, table[10 + offset : 130 + offset], atol=1e-12)
    assert torch.allclose(shift @ shift.T, torch.eye(16).double(), atol=1e-14)  # a rotation
    assert torch.allclose(shift @ shift_matrix(-offset, 16), torch.eye(16).double(), atol=1e-14)


def test_likeness_of_two_positions_depends_on_their_distance() -> None:
    table = sinusoidal_table(50, 16)
    products = table @ table.T
    for distance in range(1, 50):
        diagonal = products.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-12)


def test_positions_of_a_slice_are_those_of_the_whole() -> None:
    torch.manual_seed(0)
    for positions in (FixedPositions(sinusoidal_table(20, 8)), LearnedPositions(20, 8)):
        for parameter in positions.parameters():
            parameter.data.normal_()
        assert torch.equal(positions(0, 20)[7:9], positions(7, 9))


@pytest.mark.parametrize("kind", ["sinusoidal", "learned", "none"])
def test_more_than_max_len_is_refused(kind: str) -> None:
    positions = make_positions(TransformerConfig(max_len=20, positions=kind))  # type: ignore[arg-type]
    assert positions(0, 20).shape == (20, 128)
    with pytest.raises(ValueError, match="21 tokens do not fit into max_len=20: later positions"):
        positions(20, 21)


def test_without_positions_nothing_is_added() -> None:
    assert make_positions(TransformerConfig(positions="none"))(0, 9).abs().max() == 0


def test_learned_positions_are_trained_and_fixed_ones_are_not() -> None:
    learned = make_positions(TransformerConfig(positions="learned"))
    fixed = make_positions(TransformerConfig())
    assert [p.shape for p in learned.parameters()] == [(128, 128)]
    assert not list(fixed.parameters()) and not fixed.state_dict()
