"""What a stage is worth in numbers, and the points of the over-optimization curve.

All of it is measured on requests of the test split, which no training has seen; settings are chosen
by the validation split, and the points on a training's own curve are of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from gpt.gpt_model import GPT
from instruction_tuning.preference_data import compare
from instruction_tuning.preferences import VISIBLE, label_pairs
from instruction_tuning.reward_figures import Point
from instruction_tuning.reward_model import RewardModel
from instruction_tuning.reward_trainer import evaluate as evaluate_pairs
from instruction_tuning.sample_statistics import best_of_n_kl
from instruction_tuning.scores import sample_numbers, sample_often
from instruction_tuning.word_world import Request
from tutorial_kit.training import read_evaluations
from tutorial_kit.word_tokenizer import WordTokenizer

COMPARED = 4  # replies to each test request whose pairs a reward model is tested on


def measure_reward_model(
    model: RewardModel,
    policy: GPT,
    tokenizer: WordTokenizer,
    requests: Sequence[Request],
    samples: int,
    seed: int,
) -> dict[str, float]:
    """Asks a reward model what it was made for: which reply is better, and which of n is best.

    Args:
        model: the reward model.
        policy: writes the replies, at temperature 1: the one whose replies it has learned from.
        tokenizer: of both.
        requests: held-out ones.
        samples: replies to each, G.
        seed: of the replies.

    Returns:
        "accuracy": pairs in which the better reply gets more, by a labeler that never errs (half
        where there is no pair); "accuracy_all": the same of all pairs with any difference, which no
        labeler sees; "mean" and "std" of the scores; and what ``sample_numbers`` returns.
    """
    drawn = sample_often(policy, tokenizer, requests, samples, seed, reward_model=model)
    assert drawn.rewards is not None
    groups = [texts[:COMPARED] for texts in drawn.texts]

    def accuracy(visible: float) -> float:
        pairs = label_pairs(requests, groups, noise=0.0, visible=visible)
        compared = compare(pairs, tokenizer, policy.config.max_len)
        return evaluate_pairs(model, compared)[1] if compared else 0.5

    return {
        "accuracy": accuracy(VISIBLE),
        "accuracy_all": accuracy(0.0),
        "mean": float(drawn.rewards.mean()),
        "std": float(drawn.rewards.std()),
        **sample_numbers(drawn),
    }


def best_of_curve(numbers: dict[str, float]) -> list[Point]:
    """Returns best-of-n as points, n = 1, 2, 4 ...; rewards in standard deviations from the mean.

    Args:
        numbers: from ``measure_reward_model``.
    """
    sizes = sorted(int(name.rpartition(".")[2]) for name in numbers if name.startswith("best_of."))
    return [
        Point(
            best_of_n_kl(n),
            (numbers[f"reward_of.{n}"] - numbers["mean"]) / max(numbers["std"], 1e-6),
            numbers[f"judge_of.{n}"],
        )
        for n in sizes
    ]


def training_curve(folder: Path, rewarded: bool = True) -> list[Point]:
    """Returns the points of a PPO or GRPO run, from before the first step on.

    Args:
        folder: the run's, with its ``metrics.jsonl``.
        rewarded: whether the reward is a reward model's, in standard deviations from what the
            policy had at the start; False leaves it out, because it is another measure.

    Raises:
        FileNotFoundError: the run has no log.
        ValueError: the log holds no evaluation.
    """
    return [
        Point(
            max(0.0, row["validation_kl"]),
            row["validation_reward"] if rewarded else math.nan,
            row["judge"],
        )
        for row in read_evaluations(folder / "metrics.jsonl")
    ]


def reward_point(
    policy: GPT,
    tokenizer: WordTokenizer,
    requests: Sequence[Request],
    seed: int,
    *,
    reward_model: RewardModel,
    numbers: dict[str, float],
    kl: float,
) -> Point:
    """Returns where a policy stands in the eyes of a reward model that it was not trained on.

    Args:
        policy: any.
        tokenizer: its tokenizer.
        requests: held-out ones.
        seed: of the replies.
        reward_model: scores them.
        numbers: the reward model's, from ``measure_reward_model``.
        kl: the policy's, nats a reply.
    """
    drawn = sample_often(policy, tokenizer, requests, 1, seed, reward_model=reward_model)
    assert drawn.rewards is not None
    reward = (float(drawn.rewards.mean()) - numbers["mean"]) / max(numbers["std"], 1e-6)
    return Point(kl, reward, float(drawn.judged.mean()))
