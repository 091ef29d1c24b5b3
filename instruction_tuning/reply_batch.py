"""Many replies in one forward pass: every prompt read once, and hardly any padding.

DPO compares two replies to a prompt, GRPO eight. A row for each would compute the prompt as often,
and prompts are longer than replies. So in a row here a prompt is followed by its replies, and if
there is room left by the next prompt with its own:

    tokens     p p p a a a b b q q c c    prompt p, its replies a and b; prompt q, its reply c
    positions  0 1 2 3 4 5 3 4 0 1 2 3    every reply goes on where its prompt ends
    sees       its own prompt, and what stands before it in its own reply; nothing else

What comes out is what a row for each reply gives (the tests compare), from a half to a third of the
tokens. What is said of a reply's token stands in (B, L) tensors.

Symbols: rows R, length T, replies B, longest reply L, all replies' tokens N, width D, vocabulary V.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.gpt_model import GPT
from gpt.kv_cache import KVCache

ROW = 64  # tokens of a row, if no single reply needs more: longer rows cost more attention


@dataclass(frozen=True)
class ReplyBatch:
    """Prompts with their replies, ready for a model; made by ``make_reply_batch``."""

    tokens: Tensor  # (R, T), padded on the right
    positions: Tensor  # (R, T), each token's place in its own conversation
    visible: Tensor  # (R, 1, T, T) bool, True where a token may attend to another
    sources: Tensor  # (N,), the place in the flat (R T) where each reply token is predicted
    targets: Tensor  # (N,), the reply tokens
    mask: Tensor  # (B, L) bool, True where a reply has a token: N times, in the order of sources
    ends: Tensor  # (B,), the place in the flat (R T) of each reply's last token

    def to(self, device: torch.device | str) -> ReplyBatch:
        """Returns the batch on a device."""
        return ReplyBatch(*(tensor.to(device) for tensor in vars(self).values()))

    def spread(self, values: Tensor) -> Tensor:
        """Puts N values, one a reply token, into their places in (B, L); 0 is everywhere else."""
        return values.new_zeros(self.mask.shape).masked_scatter(self.mask, values)


@dataclass
class _Row:
    """A row that is being filled; the four lists are equally long."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    prompts: list[int] = field(default_factory=list)  # which prompt a token belongs to
    replies: list[int] = field(default_factory=list)  # which reply, from 1; 0 in the prompt itself

    def add(
        self, prompt: Sequence[int], replies: Sequence[Sequence[int]]
    ) -> tuple[list[int], list[int]]:
        """Appends a prompt and replies.

        Returns:
            Where each token of the replies is predicted; where each reply's last token stands.
        """
        start, number = len(self.tokens), len(self.tokens)  # a number no other prompt here has
        sources, ends = [], []
        for which, part in enumerate([prompt, *replies]):
            here = len(self.tokens)
            if which:  # the prompt's last token predicts the first of every reply
                sources += [start + len(prompt) - 1, *range(here, here + len(part) - 1)]
                ends.append(here + len(part) - 1)
            self.tokens += part
            first = len(prompt) if which else 0
            self.positions += range(first, first + len(part))
            self.prompts += [number] * len(part)
            self.replies += [which] * len(part)
        return sources, ends


def make_reply_batch(
    prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[Sequence[int]]], max_len: int
) -> ReplyBatch:
    """Puts prompts with their replies into rows.

    Args:
        prompts: token ids of each.
        replies: for each prompt one or more replies, each at least one token.
        max_len: the context window, the most that a row may hold.

    Returns:
        The batch, on the CPU; its B replies keep their order.

    Raises:
        ValueError: a prompt with one reply is longer than the context window.
    """
    longest = max(
        len(prompt) + len(reply)
        for prompt, group in zip(prompts, replies, strict=True)
        for reply in group
    )
    if longest > max_len:
        raise ValueError(
            f"a prompt with its reply has {longest} tokens and does not fit into the context of "
            f"{max_len}: it cannot be scored. Use shorter ones."
        )
    rows, places, ends = _fill_rows(prompts, replies, room=min(max_len, max(ROW, longest)))
    width = max(len(row.tokens) for row in rows)  # T

    def padded(name: str, filler: int) -> Tensor:  # (R, T)
        lists = [getattr(row, name) for row in rows]
        return torch.tensor([values + [filler] * (width - len(values)) for values in lists])

    def flat_places(found: list[tuple[int, int]]) -> Tensor:
        return torch.tensor([row * width + column for row, column in found])

    prompt_of, reply_of = padded("prompts", -1), padded("replies", -1)  # -1: no real token sees it
    same_prompt = prompt_of[:, :, None] == prompt_of[:, None]  # (R, T, T)
    same_reply = reply_of[:, :, None] == reply_of[:, None]
    in_prompt = (reply_of == 0)[:, None]  # (R, 1, T)
    past = torch.ones(width, width, dtype=torch.bool).tril()  # (T, T)
    visible = past & same_prompt & (same_reply | in_prompt)  # (R, T, T)
    flat = [reply for group in replies for reply in group]
    lengths = torch.tensor([len(reply) for reply in flat])  # (B,)
    return ReplyBatch(
        padded("tokens", 0), padded("positions", 0), visible[:, None],
        flat_places(places),
        torch.tensor([token for reply in flat for token in reply]),
        torch.arange(int(lengths.max())) < lengths[:, None], flat_places(ends),
    )  # fmt: skip


def _fill_rows(
    prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[Sequence[int]]], room: int
) -> tuple[list[_Row], list[tuple[int, int]], list[tuple[int, int]]]:
    """Puts each prompt with its replies into the first row that has room for them.

    Returns:
        The rows; for each token of all replies the row and the column where it is predicted; for
        each reply those of its last token.
    """
    rows: list[_Row] = []
    places: list[tuple[int, int]] = []
    last: list[tuple[int, int]] = []
    for prompt, group in zip(prompts, replies, strict=True):
        for part in _parts(group, room - len(prompt)):
            size = len(prompt) + sum(map(len, part))
            fitting = (i for i, row in enumerate(rows) if len(row.tokens) + size <= room)
            number = next(fitting, len(rows))
            if number == len(rows):
                rows.append(_Row())
            sources, ends = rows[number].add(prompt, part)
            places += [(number, column) for column in sources]
            last += [(number, column) for column in ends]
    return rows, places, last


def _parts(group: Sequence[Sequence[int]], room: int) -> list[list[Sequence[int]]]:
    """Cuts the replies to a prompt into parts of at most ``room`` tokens, in their order."""
    parts: list[list[Sequence[int]]] = []
    left = -1
    for reply in group:
        if len(reply) > left:
            parts.append([])
            left = room
        parts[-1].append(reply)
        left -= len(reply)
    return parts


class _Places:
    """Stands where a model expects its cache, and says only where tokens are and what they see."""

    length = 0  # tokens remembered from before: none

    def __init__(self, batch: ReplyBatch, n_layers: int) -> None:
        self.batch, self.layers = batch, [None] * n_layers

    def positions(self, new: int) -> Tensor:
        """(R, T)."""
        return self.batch.positions

    def mask(self, new: int) -> Tensor:
        """(R, 1, T, T)."""
        return self.batch.visible

    def advance(self, new: int) -> None:
        """Nothing is remembered."""


def flat_states(model: GPT, batch: ReplyBatch) -> Tensor:
    """Returns the residual stream everywhere, (R T, D), before the norm."""
    places = cast(KVCache, _Places(batch, model.config.n_layers))
    return model.hidden(batch.tokens, places).flatten(0, 1)


def reply_states(model: GPT, batch: ReplyBatch) -> Tensor:
    """Returns the residual stream where a reply's tokens are predicted, (N, D), before the norm.

    Everything later is computed there only: most other places are prompts.
    """
    return flat_states(model, batch).index_select(0, batch.sources)  # (N, D)


def reply_logits(model: GPT, batch: ReplyBatch) -> Tensor:
    """Scores the vocabulary before each token of a reply: (N, V), float32, in reply order."""
    return model.project(reply_states(model, batch)).float()


def reply_log_probs(model: GPT, batch: ReplyBatch) -> Tensor:
    """Returns log p(token | prompt, the reply so far), (B, L); 0 behind a reply's end."""
    return log_probs_of(reply_logits(model, batch), batch)


def log_probs_of(logits: Tensor, batch: ReplyBatch) -> Tensor:
    """Returns log p of each token of a reply, (B, L), from its logits, (N, V)."""
    return batch.spread(-F.cross_entropy(logits, batch.targets, reduction="none"))
