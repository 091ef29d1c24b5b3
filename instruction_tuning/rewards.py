"""Where a reward comes from: a program that checks, a judge that grades, a model that was trained.

All three are one callable, so PPO and GRPO do not know which one they climb: requests, replies and
their rollout in, a number for each reply out. A *verifier* cannot be fooled, but says only right or
wrong. The *judge* gives part marks. A *reward model* needs no program, only preferences, and it can
be fooled: it is right about replies like those it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from instruction_tuning.judge import exact_match, judge
from instruction_tuning.reward_model import RewardModel, score_replies
from instruction_tuning.rollout import Rollout
from instruction_tuning.saved_model import check_same_tokenizer, load_reward_model
from instruction_tuning.word_world import Request
from tutorial_kit.word_tokenizer import WordTokenizer

Reward = Callable[[Sequence[Request], Sequence[str], Rollout], Tensor]
"""(B requests, B replies as text, the rollout that wrote them) -> (B,), float32."""


def verifier_reward(
    requests: Sequence[Request], replies: Sequence[str], rollout: Rollout
) -> Tensor:
    """Gives 1 to a reply that is the answer and comes to an end, 0 to any other.

    Args:
        requests: B of them, one for each reply.
        replies: B texts, without the end token.
        rollout: the same replies as tokens.
    """
    pairs = zip(requests, replies, strict=True)
    right = torch.tensor([float(exact_match(request, reply)) for request, reply in pairs])
    return right * rollout.finished.cpu()  # (B,)


def judge_reward(requests: Sequence[Request], replies: Sequence[str], rollout: Rollout) -> Tensor:
    """Gives what the judge gives, 0 to 1; arguments as ``verifier_reward``."""
    pairs = zip(requests, replies, strict=True)
    return torch.tensor([float(judge(request, reply)) for request, reply in pairs])  # (B,)


class ModelReward:
    """A reward model's scores, moved and scaled so that a KL coefficient means the same for all.

    Bradley-Terry trains only differences, so the scores' zero and unit are accidents of a training.
    Here the replies of the first call, which the policy wrote before any update, get mean 0 and
    standard deviation 1 (so do Ziegler et al. 2019, section 2).
    """

    def __init__(self, model: RewardModel, missing_end: float = 1.0) -> None:
        """Takes the model as it is.

        Args:
            model: a trained reward model.
            missing_end: taken off the score of a reply without an end token, in those standard
                deviations: the model has seen no such reply, and its score means nothing.
        """
        self.model, self.missing_end = model.eval(), missing_end
        self.scale: dict[str, float] = {}  # "mean" and "std" of the first call's scores

    def __call__(
        self, requests: Sequence[Request], replies: Sequence[str], rollout: Rollout
    ) -> Tensor:
        """Scores prompt and reply together; arguments as ``verifier_reward``."""
        scores = score_replies(self.model, rollout.prompts, rollout.replies)  # (B,)
        if not self.scale:
            self.scale |= {"mean": float(scores.mean()), "std": float(scores.std()) + 1e-6}
        scores = (scores - self.scale["mean"]) / self.scale["std"]
        return scores - self.missing_end * ~rollout.finished.cpu()


PROGRAMS: dict[str, Reward] = {"verifier": verifier_reward, "judge": judge_reward}
"""The rewards that need no training, by name."""


def find_reward(name: str, tokenizer: WordTokenizer, missing_end: float = 1.0) -> Reward:
    """Returns the reward that a setting names.

    Args:
        name: verifier, judge, or a reward model's run.
        tokenizer: the policy's.
        missing_end: see ``ModelReward``.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: it is no reward model, or reads other tokens than the policy writes.
    """
    if name in PROGRAMS:
        return PROGRAMS[name]
    model, its_tokenizer = load_reward_model(name)
    check_same_tokenizer(tokenizer, its_tokenizer, "the policy", name)
    return ModelReward(model, missing_end)


def check_rewards(rewards: Tensor, step: int) -> Tensor:
    """Returns the rewards, (B,), if every one is a number.

    Raises:
        ValueError: one is NaN or infinite.
    """
    wrong = rewards[~rewards.isfinite()]
    if len(wrong):
        raise ValueError(
            f"the reward of {len(wrong)} of {len(rewards)} replies is {float(wrong[0])} at step "
            f"{step}: an update with it would turn every weight into NaN. Repair the reward (a "
            "reward model whose training diverged gives NaN), then go on with --resume."
        )
    return rewards
