"""Small models, minibatches and numbers on which the losses are checked and traced.

All are the same at each call, in float64: what is left of a difference is not rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpt.gpt_components import rotary_table
from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT

VOCABULARY = 20
REPLIES = ((3, 9), (4, 6), (2, 12), (5, 11))  # of each row: where its reply begins and ends


def small_model(dtype: torch.dtype = torch.float64, seed: int = 0) -> GPT:
    """Returns a small random model whose weights are all far from zero."""
    torch.manual_seed(seed)
    shape = GPTConfig(
        vocab_size=VOCABULARY, max_len=16, d_model=16, n_heads=2, n_kv_heads=2, n_layers=2, d_ff=32,
        **RECIPES["modern"],
    )  # fmt: skip
    model = GPT(shape).to(dtype).eval()
    model.turns = rotary_table(shape.max_len, shape.d_head).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model


def small_batch() -> tuple[Tensor, Tensor]:
    """Returns tokens and loss mask, (4, 12) each; what is behind a reply is padding."""
    tokens = torch.randint(VOCABULARY, (4, 12), generator=torch.Generator().manual_seed(1))
    places = torch.arange(12)
    mask = torch.stack([(places >= first) & (places < end) for first, end in REPLIES])
    return tokens, mask


def draw(*shape: int) -> Tensor:
    """Returns the same normal numbers at each call, with gradients wanted."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def slopes(loss: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Returns the gradients of a loss."""
    return torch.autograd.grad(loss, tensors, retain_graph=True)
