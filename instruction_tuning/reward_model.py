"""A GPT that gives numbers instead of words: a score for a reply, a value for every token.

Both take the body of a policy and put one linear layer on the residual stream, behind the final
norm. The reward model reads it at the last token, the reply's ``<end>``, where the whole reply has
been seen (Ziegler et al. 2019, section 2; Ouyang et al. 2022, section 3.5). The value model of PPO
reads it before every token: which score is to be expected from here on (Schulman et al. 2017,
section 5).

Differences from the papers: the new layer starts at zero, not at small random numbers. And a reward
model of this size cannot learn in a minute to check a reply, though its body can write one. So what
the body would have written counts, too: the mean log-probability of the reply's tokens is added to
the score. That the likelihoods of a language model can serve as a reward is the idea of Rafailov et
al. 2023, section 4. With ``own_likelihood=0`` it is the papers' model.

Shapes: replies B, tokens of the longest one L, width D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from gpt.gpt_model import GPT
from instruction_tuning.reply_batch import (
    ReplyBatch,
    flat_states,
    log_probs_of,
    make_reply_batch,
    reply_states,
)

SCORED_TOGETHER = 64  # requests, with all their replies, in one pass of `score_replies`


def _zero_head(body: GPT, *, bias: bool) -> nn.Linear:
    """Returns the new layer, D -> 1, all zero, where the body is."""
    head = nn.Linear(body.config.d_model, 1, bias=bias)
    for weight in head.parameters():
        nn.init.zeros_(weight)
    return head.to(body.token_embedding.weight.device)


class RewardModel(nn.Module):
    """One score for a reply to a request; only differences between scores are trained."""

    def __init__(self, body: GPT, own_likelihood: float = 0.0) -> None:
        """Puts a fresh layer on a policy.

        Args:
            body: the policy, which is shared and not copied.
            own_likelihood: weight of the mean log-probability of a reply's tokens, c.
        """
        super().__init__()
        self.body = body
        self.own_likelihood = own_likelihood
        self.head = _zero_head(body, bias=False)  # D -> 1; a bias would move all scores alike

    def forward(self, batch: ReplyBatch) -> tuple[Tensor, Tensor]:
        """Scores replies: r = w . h_end + c / |y| sum_t log p(y_t | x, y_<t).

        Args:
            batch: B replies behind their requests.

        Returns:
            The scores, (B,); what the body itself thinks of the tokens, log p, (B, L), 0 behind a
            reply's end.
        """
        x = flat_states(self.body, batch)  # (R T, D)
        logits = self.body.project(x.index_select(0, batch.sources)).float()  # (N, V)
        log_probs = log_probs_of(logits, batch)  # (B, L)
        end = self.body.final_norm(x.index_select(0, batch.ends))  # (B, D)
        scores = cast(Tensor, self.head(end)).squeeze(-1).float()  # (B,)
        mean = log_probs.sum(1) / batch.mask.sum(1)  # (B,)
        return scores + self.own_likelihood * mean, log_probs


class ValueModel(nn.Module):
    """The expected score of the finished reply, before every token of it."""

    def __init__(self, body: GPT) -> None:
        """Puts a fresh layer on a policy; ``body`` is shared and not copied."""
        super().__init__()
        self.body = body
        self.head = _zero_head(body, bias=True)  # D -> 1

    def forward(self, batch: ReplyBatch) -> Tensor:
        """Returns the value before each token of a reply is written, (B, L); 0 behind its end."""
        x = self.body.final_norm(reply_states(self.body, batch))  # (N, D)
        return batch.spread(self.head(x)[:, 0].float())  # (B, L)


@torch.no_grad()
def score_replies(
    model: RewardModel,
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Sequence[Sequence[int]]],
) -> Tensor:
    """Scores any number of replies, without gradients.

    Args:
        model: the reward model.
        prompts: token ids of each request, up to and with ``<assistant>``.
        replies: for each of them the token ids of one or more replies, ``<end>`` included.

    Returns:
        (N,), on the CPU, in the order of the replies.

    Raises:
        ValueError: a reply is empty, or does not fit into the context window.
    """
    if not all(reply for group in replies for reply in group):
        raise ValueError(
            "a reply has 0 tokens, so there is no last one to read a score at. Leave it out."
        )
    found = [torch.empty(0)]
    for start in range(0, len(prompts), SCORED_TOGETHER):
        part = slice(start, start + SCORED_TOGETHER)
        batch = make_reply_batch(prompts[part], replies[part], model.body.config.max_len)
        found.append(model(batch.to(model.head.weight.device))[0].cpu())
    return torch.cat(found)
