"""What a policy is worth on held-out requests: exact match, the judge's score, chatter, KL.

Exact match is measured greedy and at temperature 1: reinforcement learning first makes a policy
surer of what it already could do, so the second rises more than the first, and one number alone
would hide that.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from gpt.gpt_model import GPT
from gpt.sampling import GREEDY, Sampling
from instruction_tuning.judge import exact_match, is_chatty, judge
from instruction_tuning.replies import MAX_NEW, Reply, kl_to, write_replies
from instruction_tuning.reward_model import RewardModel, score_replies
from instruction_tuning.sample_statistics import best_of_n, pass_at_k
from instruction_tuning.word_world import TASKS, Request
from tutorial_kit.tokenizers import Tokenizer


@dataclass(frozen=True)
class Scores:
    """What a policy is worth; shares from 0 to 1, over all requests."""

    exact: float  # answered exactly, greedy
    exact_sampled: float  # answered exactly, one reply at temperature 1
    judge: float  # the judge's mean score, greedy
    judge_sampled: float  # the judge's mean score at temperature 1
    chatter: float  # replies at temperature 1 that say more than the answer
    length: float  # tokens of a reply at temperature 1, its end token included
    kl: float | None  # nats a reply from the reference, at temperature 1; None without one
    tasks: dict[str, float]  # task -> answered exactly, greedy
    tasks_sampled: dict[str, float]  # task -> answered exactly at temperature 1

    def numbers(self) -> dict[str, float]:
        """Returns all that was measured, a task as "task.reverse" or "task_sampled.reverse"."""
        whole = {name: value for name, value in asdict(self).items() if isinstance(value, float)}
        whole |= {f"task.{task}": share for task, share in self.tasks.items()}
        return whole | {f"task_sampled.{task}": share for task, share in self.tasks_sampled.items()}


def evaluate(
    model: GPT,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    seed: int = 0,
    *,
    reference: GPT | None = None,
    max_new: int = MAX_NEW,
) -> Scores:
    """Lets a policy reply to every request twice, greedy and at temperature 1, and scores it.

    Args:
        model: the policy.
        tokenizer: its tokenizer.
        requests: held-out ones, at least one.
        seed: of the sampled replies.
        reference: KL is measured to this policy.
        max_new: tokens of a reply at most.

    Raises:
        ValueError: there is no request.
    """
    if not requests:
        raise ValueError("there is no request to evaluate on. Draw at least one.")
    surest = write_replies(model, tokenizer, requests, GREEDY, max_new=max_new)
    drawn = write_replies(model, tokenizer, requests, Sampling(), seed=seed, max_new=max_new)
    kl = statistics.fmean(kl_to(reference, model, drawn)) if reference is not None else None
    right, right_sampled = _right(requests, surest), _right(requests, drawn)
    return Scores(
        exact=statistics.fmean(right),
        exact_sampled=statistics.fmean(right_sampled),
        judge=statistics.fmean(_judged(requests, surest)),
        judge_sampled=statistics.fmean(_judged(requests, drawn)),
        chatter=statistics.fmean(is_chatty(reply.text) for reply in drawn),
        length=statistics.fmean(len(reply.tokens) for reply in drawn),
        kl=kl,
        tasks=_by_task(requests, right),
        tasks_sampled=_by_task(requests, right_sampled),
    )


def _right(requests: Sequence[Request], replies: Sequence[Reply]) -> list[bool]:
    """Tells of each reply whether it is the answer and comes to an end."""
    pairs = zip(requests, replies, strict=True)
    return [reply.finished and exact_match(request, reply.text) for request, reply in pairs]


def _judged(requests: Sequence[Request], replies: Sequence[Reply]) -> list[float]:
    return [judge(request, reply.text) for request, reply in zip(requests, replies, strict=True)]


def _by_task(requests: Sequence[Request], right: Sequence[bool]) -> dict[str, float]:
    """Returns the share of right replies of each task, in the order of ``TASKS``."""
    there = {request.task for request in requests}
    found: dict[str, list[bool]] = {task: [] for task in TASKS if task in there}
    for request, one in zip(requests, right, strict=True):
        found[request.task].append(one)
    return {task: statistics.fmean(values) for task, values in found.items()}


@dataclass(frozen=True)
class Samples:
    """G replies at temperature 1 to each of N requests, and what they are worth."""

    texts: list[list[str]]  # N lists of G replies
    right: Tensor  # (N, G), True where the reply is exact
    judged: Tensor  # (N, G), the judge's scores
    rewards: Tensor | None  # (N, G), a reward model's scores, if there was one


def sample_often(
    model: GPT,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    samples: int,
    seed: int = 0,
    *,
    reward_model: RewardModel | None = None,
    max_new: int = MAX_NEW,
) -> Samples:
    """Samples several replies to each request: what pass@k and best-of-n are computed from.

    Args:
        model: the policy.
        tokenizer: its tokenizer.
        requests: N of them.
        samples: replies to each, G.
        seed: of the samples.
        reward_model: scores every reply, if it is given.
        max_new: tokens of a reply at most.
    """
    replies = write_replies(
        model, tokenizer, requests, Sampling(), samples=samples, seed=seed, max_new=max_new
    )
    texts = [reply.text for reply in replies]
    repeated = [request for request in requests for _ in range(samples)]
    rewards = None
    if reward_model is not None:
        groups = [replies[start : start + samples] for start in range(0, len(replies), samples)]
        prompts = [group[0].prompt for group in groups]
        tokens = [[reply.tokens for reply in group] for group in groups]
        rewards = score_replies(reward_model, prompts, tokens).view(-1, samples)
    return Samples(
        [texts[start : start + samples] for start in range(0, len(texts), samples)],
        torch.tensor(_right(repeated, replies)).view(-1, samples),
        torch.tensor(_judged(repeated, replies)).view(-1, samples),
        rewards,
    )


def sample_numbers(drawn: Samples) -> dict[str, float]:
    """Returns what ``Samples`` tell for n = 1, 2, 4 ... G.

    Returns:
        "pass.n"; with rewards also "best_of.n", the share of exact replies among the chosen ones,
        "judge_of.n", their mean score by the judge, and "reward_of.n", by the reward model.
    """
    numbers = {}
    samples = drawn.right.shape[1]
    for n in [2**i for i in range(samples.bit_length()) if 2**i <= samples]:
        numbers[f"pass.{n}"] = pass_at_k(drawn.right, n)
        if drawn.rewards is not None:
            numbers[f"best_of.{n}"] = best_of_n(drawn.rewards, drawn.right, n)
            numbers[f"judge_of.{n}"] = best_of_n(drawn.rewards, drawn.judged, n)
            numbers[f"reward_of.{n}"] = best_of_n(drawn.rewards, drawn.rewards, n)
    return numbers
