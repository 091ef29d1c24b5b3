"""A GPT that gives numbers instead of words: a score for a reply, a value for every token.

Both take the body of a policy and put one linear layer on the residual stream, behind the final
norm. The reward model reads it at the last real token, the reply's ``<end>``, where the whole reply
has been seen (Ziegler et al. 2019, section 2; Ouyang et al. 2022, section 3.5). The value model of
PPO reads it everywhere: which score is to be expected from here on (Schulman et al. 2017, section
5).

Difference from the papers: the new layer starts at zero, not at small random numbers. An untrained
reward model calls all replies equal, and its first loss is ln 2.

Shapes: batch B, length T, width D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from gpt.gpt_model import GPT

SCORED_TOGETHER = 256  # replies in one pass of `score_rows`


def _zero_head(body: GPT, *, bias: bool) -> nn.Linear:
    """Returns the new layer, D -> 1, all zero, where the body is."""
    head = nn.Linear(body.config.d_model, 1, bias=bias)
    for weight in head.parameters():
        nn.init.zeros_(weight)
    return head.to(body.token_embedding.weight.device)


class RewardModel(nn.Module):
    """One score for a request with its reply; only differences between scores are trained."""

    def __init__(self, body: GPT) -> None:
        """Puts a fresh layer on a policy.

        Args:
            body: the policy, which is shared and not copied; its own head is not used.
        """
        super().__init__()
        self.body = body
        self.head = _zero_head(body, bias=False)  # D -> 1; a bias would move all scores alike

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Scores every row at its last real token.

        Args:
            tokens: (B, T), conversations, padded on the right.
            lengths: (B,), real tokens of each row. The last one is found by counting, never by
                its id: padding may be any token.

        Returns:
            (B,), the scores.
        """
        x = self.body.hidden(tokens)  # (B, T, D)
        last = x[torch.arange(len(x), device=x.device), lengths - 1]  # (B, D)
        return cast(Tensor, self.head(self.body.final_norm(last))).squeeze(-1)  # (B,)


class ValueModel(nn.Module):
    """The expected score of the finished reply, at every token of it."""

    def __init__(self, body: GPT) -> None:
        """Puts a fresh layer on a policy; ``body`` is shared and not copied."""
        super().__init__()
        self.body = body
        self.head = _zero_head(body, bias=True)  # D -> 1

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T); value t is what is expected after the tokens 0 .. t."""
        x = self.body.final_norm(self.body.hidden(tokens))  # (B, T, D)
        return cast(Tensor, self.head(x)).squeeze(-1)  # (B, T)


@torch.no_grad()
def score_rows(model: RewardModel, rows: Sequence[Sequence[int]]) -> Tensor:
    """Scores conversations of any lengths, without gradients.

    Args:
        model: the reward model.
        rows: token ids of each conversation, its ``<end>`` included.

    Returns:
        (N,), on the CPU, in the order of ``rows``.

    Raises:
        ValueError: there is an empty row, or one longer than the context window.
    """
    if not all(rows):
        raise ValueError(
            "a conversation has 0 tokens, so there is no last one to read a score at. Leave it out."
        )
    device = model.head.weight.device
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)  # (N,)
    scores = torch.empty(len(rows))
    for part in lengths.argsort(stable=True).split(SCORED_TOGETHER):  # like lengths together
        tokens = torch.zeros(len(part), int(lengths[part].max()), dtype=torch.long)  # (B, T)
        for target, row in zip(tokens, part.tolist(), strict=True):
            target[: len(rows[row])] = torch.as_tensor(rows[row])
        scores[part] = model(tokens.to(device), lengths[part].to(device)).float().cpu()
    return scores
