"""A policy's replies to many requests at once, and how far it has moved from another policy.

Greedy or sampled, always through the same cached generation as in training. ``scores.py`` says what
the replies that are written here are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gpt.gpt_model import GPT
from gpt.sampling import Sampling
from instruction_tuning.chat import END, chat_tokens, encode_prompt
from instruction_tuning.reply_batch import make_reply_batch, reply_logits
from instruction_tuning.rollout import sample_replies
from instruction_tuning.word_world import Request
from tutorial_kit.tokenizers import Tokenizer

MAX_NEW = 24  # tokens of a reply at most, its end token included; right answers have up to 13
TOGETHER = 512  # replies written or scored at once; more would only need more memory


@dataclass(frozen=True)
class Reply:
    """What a policy wrote after one request."""

    prompt: list[int]  # token ids of the request, up to and with <assistant>
    tokens: list[int]  # token ids of the reply, with <end> if the policy came to an end
    text: str  # the reply without <end>
    finished: bool  # whether it has its end token


def write_replies(
    model: GPT,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    sampling: Sampling,
    *,
    samples: int = 1,
    seed: int = 0,
    max_new: int = MAX_NEW,
) -> list[Reply]:
    """Lets a policy reply to every request.

    Args:
        model: the policy.
        tokenizer: its tokenizer.
        requests: what is asked, N of them.
        sampling: how tokens are chosen: ``GREEDY``, or ``Sampling()`` for temperature 1.
        samples: replies to each request, G.
        seed: of the draws; no two replies share theirs.
        max_new: tokens of a reply at most; a longer one is cut off there.

    Returns:
        N G replies, the G to one request next to each other.

    Raises:
        ValueError: a request leaves no room for a reply.
    """
    end = chat_tokens(tokenizer)[END]
    prompts = [encode_prompt(request.text, tokenizer, model.config.max_len) for request in requests]
    replies: list[Reply] = []
    step = max(1, TOGETHER // samples)  # requests at once
    for start in range(0, len(prompts), step):
        part = prompts[start : start + step]
        groups = sample_replies(
            model, part, samples, max_new, end, seed + start * samples, sampling
        )
        for prompt, group in zip(part, groups, strict=True):
            for tokens in group:
                finished = bool(tokens) and tokens[-1] == end
                text = tokenizer.decode(tokens[:-1] if finished else tokens)
                replies.append(Reply(prompt, tokens, text, finished))
    return replies


@torch.no_grad()
def kl_to(reference: GPT, policy: GPT, replies: Sequence[Reply]) -> list[float]:
    """Estimates KL(policy || reference) from replies that the policy sampled at temperature 1.

    By the chain rule KL(p || q) = E_p sum_t KL(p(. | before t) || q(. | before t)). The inner KL is
    summed exactly over the vocabulary; only what came before is sampled. So it is never negative,
    and less noisy than the log-ratio of the sampled tokens, whose mean is the same.

    Args:
        reference: the policy that one may not run away from, q.
        policy: the one that wrote the replies, p.
        replies: R of them.

    Returns:
        R numbers, nats a reply.
    """
    device = policy.token_embedding.weight.device
    found: list[float] = []
    for start in range(0, len(replies), TOGETHER):
        part = replies[start : start + TOGETHER]
        prompts, tokens = [r.prompt for r in part], [[r.tokens] for r in part]
        batch = make_reply_batch(prompts, tokens, policy.config.max_len).to(device)
        p, q = (reply_logits(m, batch).log_softmax(dim=-1) for m in (policy, reference))  # (N, V)
        each = (p.exp() * (p - q)).sum(dim=-1)  # (N,), N tokens in all replies
        found += batch.spread(each).sum(dim=1).tolist()
    return found
