"""GPT as textbooks print it: the yardstick that ``gpt/`` is measured against.

The design is GPT-2's, the same as ``gpt``'s "gpt2" recipe, in the usual plain PyTorch: three
separate projections, attention from elementary operations, torch's GELU, torch's default AdamW.
Nothing is slowed down on purpose; nothing is tuned either. The training settings are those that
popular small GPT repositories use on a CPU: lr 1e-3 to 1e-4 by a cosine, 100 warm-up steps, betas
0.9 and 0.99, weight decay 0.1, clipping at 1.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WARMUP_STEPS = 100
PEAK_LR, LAST_LR = 1e-3, 1e-4


class Attention(nn.Module):
    """Causal multi-head attention from elementary operations."""

    mask: Tensor

    def __init__(self, d_model: int, n_heads: int, max_len: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.output = nn.Linear(d_model, d_model)
        self.register_buffer("mask", torch.tril(torch.ones(max_len, max_len)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        b, t, d = x.shape
        q = self.query(x).view(b, t, self.n_heads, d // self.n_heads).transpose(1, 2)
        k = self.key(x).view(b, t, self.n_heads, d // self.n_heads).transpose(1, 2)
        v = self.value(x).view(b, t, self.n_heads, d // self.n_heads).transpose(1, 2)
        scores = q @ k.transpose(-2, -1) / math.sqrt(d // self.n_heads)
        scores = scores.masked_fill(self.mask[:t, :t] == 0, float("-inf"))
        weights = F.softmax(scores, dim=-1)
        return self.output((weights @ v).transpose(1, 2).contiguous().view(b, t, d))


class Block(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, d_model: int, n_heads: int, max_len: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, n_heads, max_len)
        self.norm2 = nn.LayerNorm(d_model)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, 4 * d_model),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * d_model, d_model),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class TextbookGPT(nn.Module):
    """Tokens (B, T) -> logits (B, T, V)."""

    def __init__(
        self, vocab_size: int, max_len: int, d_model: int, n_heads: int, n_layers: int
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(max_len, d_model)
        self.blocks = nn.ModuleList(Block(d_model, n_heads, max_len) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue
            branch = name.endswith(("output.weight", "feed_forward.2.weight"))
            nn.init.normal_(parameter, 0.0, 0.02 / math.sqrt(2 * n_layers) if branch else 0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the logits."""
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def textbook_optimizer(model: nn.Module) -> torch.optim.AdamW:
    """AdamW as torch gives it: one group for matrices, one for the rest."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": 0.1},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_LR, betas=(0.9, 0.99))


def textbook_lr(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine from ``PEAK_LR`` to ``LAST_LR``."""
    if step < WARMUP_STEPS:
        return PEAK_LR * (step + 1) / WARMUP_STEPS
    share = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return LAST_LR + 0.5 * (1.0 + math.cos(math.pi * share)) * (PEAK_LR - LAST_LR)


def textbook_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, tokens: Tensor, targets: Tensor
) -> float:
    """One training step; returns the loss in nats."""
    optimizer.zero_grad()
    logits = model(tokens)
    loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()
