"""Induction heads appearing in training (Olsson et al. 2022).

An induction head completes "A B ... A" with B: it looks for the earlier A and copies what came
after it. That takes two layers: a head of the first marks every token with its predecessor, a head
of the second looks for the mark (Elhage et al. 2021, "Induction Heads"). Here a two-layer and a
one-layer model without feed-forward learn random blocks that repeat; every sequence is new, so only
the context can tell what comes.

Shapes: sequences B, length T, heads H, layers L.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advanced_topics.induction_heads import head_scores, heads_by_role, without_heads
from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT, next_token_loss
from tutorial_kit.device import mixed_seed, seed_everything
from tutorial_kit.optimizers import decay_groups, fused_adamw
from tutorial_kit.training import check_loss

MODELS = {"one layer": 1, "two layers": 2}


@dataclass(frozen=True)
class InductionSettings:
    """One training; all of its sequences are drawn anew."""

    vocab_size: int = 64  # tokens, V
    max_len: int = 64  # tokens of a sequence, T
    shortest: int = 8  # tokens of the shortest block that repeats
    longest: int = 32  # tokens of the longest
    d_model: int = 64  # width, D
    n_heads: int = 4  # heads of a layer, H
    batch_size: int = 32  # sequences of a minibatch
    max_steps: int = 800  # updates
    warmup: int = 20  # updates with a rising learning rate; then it stays
    lr: float = 3e-3  # AdamW's
    eval_every: int = 25  # updates between two measurements
    eval_sequences: int = 128  # held-out sequences


PRESETS = {
    "standard": InductionSettings(),
    "tour": InductionSettings(max_steps=400, n_heads=2, max_len=32, vocab_size=32, shortest=4,
                              longest=16),
    "smoke": InductionSettings(vocab_size=16, max_len=16, shortest=3, longest=6, d_model=16,
                               n_heads=2, batch_size=4, max_steps=4, eval_every=2,
                               eval_sequences=4),
}  # fmt: skip


class NoFeedForward(nn.Module):
    """Stands where the feed-forward was and adds nothing: attention does all the work."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D), zeros."""
        return torch.zeros_like(x)


def attention_only(settings: InductionSettings, n_layers: int) -> GPT:
    """Returns gpt's model with its feed-forwards taken out, freshly initialized."""
    s = settings
    # Normalized queries and keys would bound the scores by sqrt(K): no narrow head looks sharply.
    recipe = RECIPES["modern"] | {"qk_norm": False}
    model = GPT(GPTConfig(**recipe, vocab_size=s.vocab_size, max_len=s.max_len, d_model=s.d_model,
                          n_heads=s.n_heads, n_kv_heads=s.n_heads, n_layers=n_layers,
                          d_ff=1))  # fmt: skip
    for block in model.blocks:
        block.feed_forward = NoFeedForward()
    return model


def repeated_blocks(
    settings: InductionSettings, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draws blocks of different random tokens, each repeated until the sequence is full.

    The block's length differs from row to row. If it were always the same, looking back a fixed
    number of places would do, and one layer is enough for that.

    Returns:
        Tokens (B, T + 1), and (B, T), True where the next token has been seen in this place of the
        block before, so that it can be known.
    """
    s = settings
    periods = torch.randint(s.shortest, s.longest + 1, (count, 1), generator=generator)  # (B, 1)
    shuffled = torch.rand(count, s.vocab_size, generator=generator).argsort(dim=1)  # (B, V)
    places = torch.arange(s.max_len + 1)  # (T + 1,)
    return shuffled.gather(1, places % periods), places[1:] >= periods


@torch.no_grad()
def context_loss(model: GPT, tokens: Tensor, known: Tensor) -> float:
    """Returns the loss in nats where the context tells the next token.

    Args:
        model: scores next tokens.
        tokens: (B, T + 1), see ``repeated_blocks``.
        known: (B, T).
    """
    return next_token_loss(model(tokens[:, :-1]), tokens[:, 1:].masked_fill(~known, -100)).item()


def train_and_watch(
    model: GPT, settings: InductionSettings, seed: int, held_out: tuple[Tensor, Tensor]
) -> dict[str, list[float]]:
    """Trains a model and looks at its heads again and again.

    Args:
        model: learns.
        settings: how.
        seed: of the training sequences.
        held_out: from ``repeated_blocks``, other sequences than those of the training.

    Returns:
        Four lists over the training: "steps"; "loss", of ``context_loss``; "score", of the best
        head; "previous", the most attention that a head of layer 1 pays to the previous token.
    """
    s = settings
    generator = torch.Generator().manual_seed(mixed_seed(seed, 1))
    optimizer = fused_adamw(decay_groups(model, 0.0), s.lr, (0.9, 0.99))
    curves: dict[str, list[float]] = {"steps": [], "loss": [], "score": [], "previous": []}
    for step in range(s.max_steps + 1):
        if step % s.eval_every == 0:
            scores, previous = head_scores(model, held_out[0][:, :-1])
            best, marking = scores.max().item(), previous[0].max().item()
            measured = (float(step), context_loss(model, *held_out), best, marking)
            for name, value in zip(curves, measured, strict=True):
                curves[name].append(value)
        if step == s.max_steps:  # the last step only measures
            break
        tokens, _ = repeated_blocks(s, s.batch_size, generator)
        loss = next_token_loss(model(tokens[:, :-1]), tokens[:, 1:])
        check_loss(loss.item(), step)
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = s.lr * min(1.0, (step + 1) / s.warmup)
        optimizer.step()
    return curves


def step_of_turn(steps: Sequence[float], values: Sequence[float]) -> float:
    """Returns the first step at which a curve has gone half the way from its first to its last.

    >>> step_of_turn([0, 10, 20, 30], [4.0, 3.9, 0.5, 0.1])
    20
    """
    half = (values[0] + values[-1]) / 2
    rises = values[-1] > values[0]
    return next(
        s for s, v in zip(steps, values, strict=True) if (v >= half if rises else v <= half)
    )


def measure_induction(seed: int, settings: InductionSettings) -> dict[str, Any]:
    """Trains both models, then takes heads out of the one with two layers.

    Args:
        seed: of initial weights and of all sequences.
        settings: of the trainings.

    Returns:
        For each of `MODELS` its curves (``train_and_watch``); "removed": loss in nats without
        each of `ROLES`.
    """
    held_out = repeated_blocks(
        settings, settings.eval_sequences, torch.Generator().manual_seed(mixed_seed(seed, 2))
    )
    outcome: dict[str, Any] = {}
    for name, n_layers in MODELS.items():
        seed_everything(mixed_seed(seed, 3 + n_layers))
        model = attention_only(settings, n_layers)
        outcome[name] = train_and_watch(model, settings, seed, held_out)
    scores, previous = head_scores(model, held_out[0][:, :-1])  # of the last, with two layers
    outcome["removed"] = {}
    for role, heads in heads_by_role(scores, previous).items():
        with without_heads(model, heads):
            outcome["removed"][role] = context_loss(model, *held_out)
    return outcome
