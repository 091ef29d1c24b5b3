"""The device a trainer computes on, and the precision of its forward pass."""

from __future__ import annotations

import pytest
import torch

from tutorial_kit.compute import autocast, prepare_device


def test_the_cpu_is_made_ready_with_as_many_threads_as_asked() -> None:
    before = torch.get_num_threads()
    try:
        assert prepare_device("cpu", threads=1) == torch.device("cpu")
        assert torch.get_num_threads() == 1
        prepare_device("cpu")
        assert torch.get_num_threads() == 1, "0 changes nothing"
    finally:
        torch.set_num_threads(before)
    with pytest.raises(ValueError, match="unknown"):
        prepare_device("abacus")


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("float32", torch.float32), ("auto", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_precision_on_a_cpu(precision: str, kind: torch.dtype) -> None:
    x = torch.ones(2, 2)
    with autocast(precision, torch.device("cpu")):
        assert (x @ x).dtype == kind
