"""What is measured of a trained small decoder, on data that it was never trained on."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from advanced_topics.advanced_config import Rescale
from advanced_topics.recall_task import IGNORED, recall_batch
from advanced_topics.small_decoder import SmallDecoder
from gpt.gpt_model import next_token_loss

TOKENS_AT_ONCE = 8192  # tokens scored in one forward
RECALL_SEEDS = {"validation": 982_451_653, "test": 961_748_941}
"""Of held-out recall sequences; training seeds are small. Validation chose the settings."""


@torch.no_grad()
def losses_by_position(
    model: SmallDecoder,
    tokens: Tensor,
    length: int,
    *,
    trained: int | None = None,
    rescale: Rescale = "none",
    stride: int | None = None,
    most_windows: int = 256,
) -> Tensor:
    """Mean cross-entropy at each position of a window, in nats per token.

    Args:
        model: the decoder.
        tokens: (N,), a held-out text.
        length: tokens in a window.
        trained: length of the training windows, for ``rescale``.
        rescale: what to do with rotary positions beyond it.
        stride: tokens from one window's start to the next; None spreads windows that do not overlap
            evenly over the text. With a stride, positions that are a multiple of it apart see the
            same text (but for its ends), so they can be compared.
        most_windows: windows that are scored.

    Returns:
        (length,): entry t is the loss of the token that follows t + 1 tokens of context.

    Raises:
        ValueError: the text is shorter than one window.
    """
    if len(tokens) <= length:
        raise ValueError(
            f"the held-out text has {len(tokens)} tokens, less than one window of {length} and the "
            "token behind it. Use a longer text, or a shorter window."
        )
    last = len(tokens) - 1 - length  # where a window can start at the latest
    if stride:
        starts = torch.arange(0, last + 1, stride)[:most_windows]
    else:
        count = last // length + 1
        starts = torch.linspace(0, count - 1, min(count, most_windows)).round().long() * length
    windows = tokens[starts[:, None] + torch.arange(length + 1)]  # (windows, length + 1)
    device, was_training = model.token_embedding.weight.device, model.training
    model.eval()
    total = torch.zeros(length, dtype=torch.float64)
    for part in windows.split(max(1, TOKENS_AT_ONCE // length)):
        part = part.to(device)
        logits = model(part[:, :-1], trained, rescale)  # (B, T, V)
        losses = F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="none")
        total += losses.view(-1, length).sum(dim=0).double().cpu()
    model.train(was_training)
    return total / len(windows)


@torch.no_grad()
def expert_loads(model: SmallDecoder, tokens: Tensor, window: int, windows: int = 64) -> Tensor:
    """Share of a held-out text's tokens that each expert gets, (L, E); rows sum to 1.

    Args:
        model: a decoder with experts.
        tokens: (N,), the text.
        window: tokens in a window.
        windows: how many are read, from the text's start.
    """
    rows = tokens[: len(tokens) // window * window].view(-1, window)[:windows]
    was_training = model.training
    model.eval()
    model(rows.to(model.token_embedding.weight.device))
    model.train(was_training)
    return torch.stack([part.loads.cpu() for part in model.mixtures()])


@torch.no_grad()
def recall_scores(
    model: SmallDecoder,
    pairs: int,
    keys: int,
    *,
    split: Literal["validation", "test"],
    sequences: int = 64,
) -> tuple[float, float]:
    """Share of the recalled values that are right, 0 to 1, and their cross-entropy in nats.

    Args:
        model: a decoder of the recall task.
        pairs: in each sequence.
        keys: to draw from.
        split: whose sequences are asked; each has a seed of its own.
        sequences: how many.
    """
    generator = torch.Generator().manual_seed(RECALL_SEEDS[split] + pairs)
    tokens, targets = recall_batch(pairs, keys, sequences, generator)  # (B, T) twice
    was_training = model.training
    model.eval()
    device = model.token_embedding.weight.device
    logits = torch.cat([model(part.to(device)).cpu() for part in tokens.split(16)])  # (B, T, V)
    model.train(was_training)
    asked = targets != IGNORED
    right = logits.argmax(dim=-1)[asked] == targets[asked]
    return float(right.double().mean()), next_token_loss(logits, targets).item()


def recall_accuracy(model: SmallDecoder, pairs: int, keys: int, sequences: int = 64) -> float:
    """Share of the test split's values that are right; arguments as ``recall_scores``."""
    return recall_scores(model, pairs, keys, split="test", sequences=sequences)[0]
