"""The device: which one is picked, and tuning that must not change what is computed."""

from __future__ import annotations

import os

import pytest
import torch

from tutorial_kit import device


@pytest.fixture(autouse=True)
def keep_precision():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_tuned_products_are_float32() -> None:
    device.tune_cpu()
    x, w = torch.randn(300, 200), torch.randn(200, 100)
    exact = x.double() @ w.double()
    assert (x @ w - exact).abs().max() < 1e-4
    assert (torch.nn.functional.linear(x, w.T.contiguous()) - exact).abs().max() < 1e-4


def test_the_products_kept_are_bounded_unless_the_user_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    device.bound_compiled_products(5)
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "5"
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"


def test_rounded_products_take_the_setting_back(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(device, "products_are_exact", lambda: False)
    assert not device.multiply_with_onednn()
    assert torch.get_float32_matmul_precision() == "highest"


def test_rounding_to_bfloat16_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.products_are_exact()
    monkeypatch.setattr(
        torch.Tensor,
        "__matmul__",
        lambda a, b: (
            torch.mm(a.bfloat16(), b.bfloat16()).to(a.dtype)
            if a.dtype == torch.float32
            else torch.mm(a, b)
        ),
    )
    assert not device.products_are_exact()


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:first"])
def test_unknown_devices_are_one_clear_line(name: str) -> None:
    with pytest.raises(ValueError, match="is unknown. Use one of: auto, cpu, cuda, mps"):
        device.pick_device(name)
