"""How a policy does while it is tuned by preferences or rewards: held-out requests, in one line.

DPO, PPO and GRPO use it. Exact match is measured greedy and at temperature 1: a policy that only
became surer of what it could do already rises in the second and not in the first.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from gpt.gpt_model import GPT
from gpt.sampling import GREEDY
from instruction_tuning.chat_template import encode_prompt
from instruction_tuning.judge import exact_match, judge
from instruction_tuning.replies import write_replies
from instruction_tuning.reply_batch import reply_log_probs
from instruction_tuning.rewards import Reward
from instruction_tuning.rollout import roll_out
from instruction_tuning.tuning_reporter import TuningReporter
from instruction_tuning.tuning_state import TuningState
from instruction_tuning.word_world import Request
from tutorial_kit.tokenizers import Tokenizer


@torch.no_grad()
def score_policy(
    policy: GPT,
    reference: GPT,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    *,
    max_new: int,
    seed: int,
    reward: Reward | None = None,
) -> tuple[dict[str, float], list[str]]:
    """Lets a policy reply to every request twice, greedy and at temperature 1.

    Args:
        policy: the model that is tuned.
        reference: KL is measured to it.
        tokenizer: of both.
        requests: held-out ones.
        max_new: most tokens of a reply.
        seed: of the sampled replies.
        reward: what is maximized, if it is a reward.

    Returns:
        "exact_match", greedy; of the sampled replies "exact_sampled", "judge" and
        "validation_kl" (nats a reply), with a reward "validation_reward"; and the greedy replies.
    """
    surest = write_replies(policy, tokenizer, requests, GREEDY, max_new=max_new)
    prompts = [encode_prompt(request.text, tokenizer) for request in requests]
    rollout = roll_out(policy, tokenizer, prompts, max_new=max_new, seed=seed)
    drawn = list(zip(requests, rollout.texts(tokenizer), rollout.finished.tolist(), strict=True))
    distance = rollout.log_probs - reply_log_probs(reference, rollout.batch)  # (B, L)
    scores = {
        "exact_match": statistics.fmean(
            reply.finished and exact_match(request, reply.text)
            for request, reply in zip(requests, surest, strict=True)
        ),
        "exact_sampled": statistics.fmean(
            end and exact_match(request, text) for request, text, end in drawn
        ),
        "judge": statistics.fmean(judge(request, text) for request, text, _ in drawn),
        "validation_kl": distance.sum(1).mean().item(),
    }
    if reward is not None:
        rewards = reward(requests, [text for _, text, _ in drawn], rollout)
        scores["validation_reward"] = rewards.mean().item()
    return scores, [reply.text for reply in surest]


class PolicyReporter(TuningReporter[GPT]):
    """The reporter of a policy that may not run away from its reference."""

    def __init__(
        self,
        state: TuningState[GPT],
        folder: Path,
        learned_from: str,
        requests: Sequence[Request],
        reference: GPT,
        *,
        reward: Reward | None = None,
        resume: bool,
    ) -> None:
        """Arguments as ``TuningReporter`` and ``score_policy``."""
        self.requests, self.reference, self.reward = requests, reference, reward
        super().__init__(state, folder, learned_from, resume=resume)

    def score(self) -> tuple[dict[str, float], str]:
        """Returns ``score_policy`` on the held-out requests, and one of them with its reply."""
        if not self.requests:
            return {}, "    sample: none, no program can check replies to these data"
        config = self.state.config
        scores, replies = score_policy(
            self.state.model, self.reference, self.state.tokenizer, self.requests,
            max_new=config.max_new, seed=config.seed, reward=self.reward,
        )  # fmt: skip
        shown = self.state.step // config.eval_every % len(self.requests)
        return scores, f"    sample: {self.requests[shown].text} -> {replies[shown]!r}"

    def add(self, metrics: Mapping[str, float]) -> None:
        """Adds a step's metrics to the means of the next evaluation; a checkpoint holds them."""
        sums = self.state.notes.setdefault("sums", {})
        for name, value in {**metrics, "steps": 1.0}.items():
            sums[name] = sums.get(name, 0.0) + value

    def take_means(self) -> dict[str, float]:
        """Returns each metric's mean since the last call, and starts anew."""
        sums = self.state.notes.pop("sums", {})
        steps = sums.pop("steps", 1.0)
        return {name: value / steps for name, value in sums.items()}
