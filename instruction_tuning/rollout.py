"""Rollouts: replies that the policy writes itself, and how probable it finds each of their tokens.

Replies are drawn from the policy's own distribution: temperature 1, nothing cut off. They are then
scored by one ordinary forward pass, the very computation that the update will do: so the ratio of
new and old probabilities starts at the number 1 it must start at, whatever the rounding of the
cached generation is. Dropout never acts here: the policy is in evaluation mode.

Shapes: B replies, L tokens of the longest one, its end token included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.context_window import Context
from gpt.gpt_model import GPT
from gpt.sampling import Dice, Sampling, choose
from instruction_tuning.chat_template import END, chat_tokens
from instruction_tuning.losses import entropy
from instruction_tuning.reply_batch import ReplyBatch, make_reply_batch, reply_logits
from tutorial_kit.compute import autocast
from tutorial_kit.tokenizers import Tokenizer

SEEDS_OF_A_RUN = 1 << 32  # row i of a rollout draws with its own seed; no two runs share one


@dataclass(frozen=True)
class Rollout:
    """n replies to each prompt and what the policy that wrote them thinks of them."""

    prompts: list[list[int]]  # token ids of each prompt
    replies: list[list[list[int]]]  # [prompt][reply] -> token ids, <end> included if it came
    batch: ReplyBatch  # the same, ready for a model
    log_probs: Tensor  # (B, L), log p of each token; 0 behind a reply's end
    entropy: Tensor  # (B, L), of the distribution that the token was drawn from, nats; 0 behind
    finished: Tensor  # (B,) bool, True where the reply has its end token

    @property
    def mask(self) -> Tensor:
        """(B, L) bool, True where a reply has a token: by place, never by which token it is."""
        return self.batch.mask

    def part(self, prompts: Sequence[int], max_len: int) -> ReplyBatch:
        """Returns the replies to some of the prompts as a batch of their own, on the CPU.

        Args:
            prompts: their numbers.
            max_len: the policy's context window, tokens.
        """
        return make_reply_batch(
            [self.prompts[i] for i in prompts], [self.replies[i] for i in prompts], max_len
        )

    def texts(self, tokenizer: Tokenizer) -> list[str]:
        """Returns the B replies as text, without their end tokens."""
        replies = [reply for group in self.replies for reply in group]
        return [
            tokenizer.decode(reply[:-1] if ended else reply)
            for reply, ended in zip(replies, self.finished.tolist(), strict=True)
        ]


def sample_replies(
    policy: GPT,
    prompts: Sequence[Sequence[int]],
    n: int,
    max_new: int,
    end: int,
    seed: int,
    sampling: Sampling | None = None,
) -> list[list[list[int]]]:
    """Writes n replies to each prompt, all in one batch.

    Args:
        policy: the model that writes; it is put into evaluation mode.
        prompts: token ids of each, up to and with ``<assistant>``; the lengths may differ.
        n: replies to each prompt.
        max_new: most tokens of a reply, its end token included.
        end: id of the end token.
        seed: row i draws with the seed ``seed + i``, rows counted prompt by prompt.
        sampling: None means temperature 1 and nothing cut off, the policy's own distribution.

    Returns:
        [prompt][reply] -> token ids; the last is ``end`` if the policy came to it in time.

    Raises:
        ValueError: a prompt and ``max_new`` tokens do not fit into the context window.
    """
    longest, max_len = max(map(len, prompts)), policy.config.max_len
    if longest + max_new > max_len:  # generation would drop the oldest half: nothing could score it
        raise ValueError(
            f"a prompt of {longest} tokens and max_new={max_new} are {longest + max_new} tokens, "
            f"but the policy sees only {max_len}: a longer reply could not be scored. "
            f"Use max_new={max(1, max_len - longest)}, or shorter requests."
        )
    replies = _write(policy, prompts, n, max_new, end, seed, sampling or Sampling())
    return [replies[start : start + n] for start in range(0, len(replies), n)]


@torch.inference_mode()
def _write(
    policy: GPT,
    prompts: Sequence[Sequence[int]],
    n: int,
    max_new: int,
    end: int,
    seed: int,
    sampling: Sampling,
) -> list[list[int]]:
    """What gpt's ``generate`` writes to each prompt n times, but the prompt is read only once."""
    context = Context(policy, prompts)
    logits = context.scores()[:, -1].repeat_interleave(n, dim=0)  # (B, V)
    if n > 1:
        context.select([row for row in range(len(prompts)) for _ in range(n)])
    going = list(range(n * len(prompts)))  # the replies that are not at their end
    dice = Dice(seed, len(going))
    replies: list[list[int]] = [[] for _ in going]
    for _ in range(max_new):
        tokens = choose(logits, sampling, dice, going)
        for row, token in zip(going, tokens, strict=True):
            replies[row].append(token)
        rest = [place for place, token in enumerate(tokens) if token != end]
        if not rest or len(replies[going[rest[0]]]) == max_new:
            break
        if len(rest) < len(going):
            context.select(rest)
        going = [going[place] for place in rest]
        context.append([tokens[place] for place in rest])
        logits = context.scores()[:, -1]
    return replies


def roll_out(
    policy: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    n: int = 1,
    max_new: int,
    seed: int,
    precision: str = "float32",
) -> Rollout:
    """Lets the policy reply to each prompt n times and scores what it wrote.

    Args:
        policy: the model that writes.
        tokenizer: its tokenizer, for the ids of end and padding.
        prompts: token ids of each, up to and with ``<assistant>``.
        n: replies to each prompt; B = n len(prompts), prompt by prompt.
        max_new: most tokens of a reply, its end token included.
        seed: of the draws, as in ``sample_replies``.
        precision: of the pass that scores the replies, as in the update; they are written in the
            precision of the weights.

    Raises:
        ValueError: a prompt and ``max_new`` tokens do not fit into the context window.
    """
    end = chat_tokens(tokenizer)[END]
    replies = sample_replies(policy, prompts, n, max_new, end, seed)
    device = policy.token_embedding.weight.device
    batch = make_reply_batch(prompts, replies, policy.config.max_len).to(device)
    with torch.no_grad(), autocast(precision, device):
        logits = reply_logits(policy, batch)  # (N, V)
        chosen = logits.log_softmax(dim=-1).gather(-1, batch.targets[:, None])[:, 0]  # (N,)
    finished = [reply[-1] == end for group in replies for reply in group]
    return Rollout(
        [list(prompt) for prompt in prompts], replies, batch,
        batch.spread(chosen), batch.spread(entropy(logits)), torch.tensor(finished, device=device),
    )  # fmt: skip


def rollout_seed(seed: int, step: int, rows: int) -> int:
    """Returns the seed of a step's rollout: none of its rows repeats a draw of another step.

    Args:
        seed: the run's.
        step: updates done before.
        rows: replies in a rollout.
    """
    return seed * SEEDS_OF_A_RUN + step * rows
