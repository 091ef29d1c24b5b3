"""The assembled model: the structure checks, initialization, bad settings."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from gpt.gpt_components import CausalSelfAttention
from gpt.gpt_config import RECIPES, GPTConfig, parameter_count
from gpt.gpt_model import GPT, next_token_loss
from gpt.verify_structure import CHECKS, main, small_model, trace


@pytest.mark.parametrize(
    ("check", "tolerance"), CHECKS, ids=lambda item: getattr(item, "__name__", "")
)
def test_structure(check: Callable[[], float], tolerance: float) -> None:
    assert check() <= tolerance


def test_structure_checks_can_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that leaks the future must not pass."""
    forward = CausalSelfAttention.forward

    def leaking(self: CausalSelfAttention, x: torch.Tensor, mask: object, *rest: object) -> object:
        return forward(self, x, None, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(CausalSelfAttention, "forward", leaking)
    assert main([]) == 1
    assert "FAIL  Changing tokens 8 and later" in capsys.readouterr().out


def test_trace_names_every_tensor_with_its_shape() -> None:
    ledger = trace("modern")
    assert "attention.1  (2, 4, 16, 16)" in ledger and "logits       (2, 16, 50)" in ledger


@pytest.mark.parametrize("recipe", RECIPES)
def test_intermediates_end_in_the_same_logits(recipe: str) -> None:
    model, tokens = small_model(recipe), torch.randint(50, (2, 9))
    named = model.intermediates(tokens)
    assert torch.allclose(named["logits"], model(tokens), atol=1e-13)
    assert torch.allclose(model.project(named["block.1"]), named["logits"], atol=1e-13)


def test_initialization_follows_its_table() -> None:
    torch.manual_seed(0)
    gpt2 = GPT(GPTConfig(vocab_size=500, n_layers=2))
    modern = GPT(GPTConfig(vocab_size=500, n_layers=2, **RECIPES["modern"]))
    expected = {
        "token_embedding.weight": (0.02, 1.0),
        "position_embedding.weight": (0.01, None),
        "blocks.0.attention.qkv.weight": (0.02, 1 / math.sqrt(128)),
        "blocks.1.attention.output.weight": (0.01, 0.0),  # 0.02 / sqrt(2 * 2)
        "blocks.1.feed_forward.expand.weight": (0.02, 1 / math.sqrt(128)),
        "blocks.0.feed_forward.contract.weight": (0.01, 0.0),
    }
    for name, (old, new) in expected.items():
        assert gpt2.get_parameter(name).std().item() == pytest.approx(old, rel=0.03)
        if new is not None:
            assert modern.get_parameter(name).std().item() == pytest.approx(new, rel=0.03)
    assert gpt2.blocks[0].attention.qkv.bias.abs().max() == 0
    assert modern.head.weight.abs().max() == 0


def test_masked_loss_on_three_tokens_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, math.log(3.0)], [5.0, -5.0]]])
    loss = next_token_loss(logits, torch.tensor([[0, 1, -100]]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


def test_casting_the_model_keeps_its_rotations() -> None:
    model, tokens = small_model("modern", torch.float32), torch.randint(50, (2, 12))
    assert torch.allclose(model(tokens), model.double()(tokens).float(), atol=1e-5)


def test_published_size() -> None:
    with torch.device("meta"):
        config = GPTConfig(
            vocab_size=50257, max_len=1024, d_model=768, n_heads=12, n_kv_heads=12, n_layers=12,
            d_ff=3072,
        )  # fmt: skip
        model = GPT(config)
    assert sum(p.numel() for p in model.parameters()) == parameter_count(config) == 124_439_808


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"d_model": 130}, "d_model=130 is not divisible by n_heads=4: each head would get 32.5"),
        ({"n_kv_heads": 3}, "n_heads=4 is not divisible by n_kv_heads=3"),
        ({"d_model": 12, "positions": "rotary"}, "heads of 3 numbers cannot be rotated"),
        ({"n_layers": 0}, "n_layers=0 is not possible"),
        ({"dropout": 1.0}, "dropout=1.0 is no share"),
        ({"vocab_size": 0}, "vocab_size=0 gives no token"),
    ],
)
def test_impossible_settings_say_what_to_do(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        GPT(GPTConfig(**{"vocab_size": 10, **wrong}))  # type: ignore[arg-type]


@torch.no_grad()
def test_too_many_tokens_are_refused() -> None:
    model = small_model("gpt2")
    with pytest.raises(ValueError, match="17 tokens do not fit into the context window of 16"):
        model(torch.zeros(1, 17, dtype=torch.long))
    cache = model.new_cache(1)
    model(torch.zeros(1, 16, dtype=torch.long), cache)
    with pytest.raises(ValueError, match="do not fit"):
        model(torch.zeros(1, 1, dtype=torch.long), cache)
