"""What the chapter's experiments vary; ``run_examples.py`` runs them.

A variant is a recipe that differs from ``BASELINE`` in the named settings alone: same base model,
same held-out requests, same seed. A stage that two variants have in common is trained once. A
training takes well under a minute of one core: experiments are shorter than the quick start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from instruction_tuning.recipes import Changes, Recipe, make_recipe

BASELINE: dict[str, dict[str, Any]] = {
    "sft": {},
    "reward": {},
    "dpo": {"requests": 4000, "max_steps": 200},
    "ppo": {"max_steps": 30, "eval_every": 5},
    "grpo": {"max_steps": 40, "eval_every": 10},
}
"""What differs from the preset "quick"."""

PAPERS = {"own_likelihood": 0.0, "likelihood": 0.0}  # a reward model that is read at <end> alone
WEAK = {"requests": 500, "max_steps": 32, **PAPERS}  # comparisons of so few requests, seen twice

FAST = {"lr": 6e-4, "schedule": "constant"}  # a policy that soon goes wherever the reward leads


@dataclass(frozen=True)
class Measure:
    """One number of a stage, as a result."""

    name: str  # in ``Stages.outcome``
    unit: str
    meaning: str
    factor: float = 1.0  # from the stage's number to the unit
    better: Literal["higher", "lower"] = "higher"
    wanted: bool = True  # whether a variant is the better for it, or it only explains

    @property
    def axis(self) -> str:
        """What is measured, with its unit if it has one."""
        return f"{self.meaning} ({self.unit})" if self.unit else self.meaning


MEASURED = {
    "exact": Measure("exact", "%", "answered exactly, greedy", 100),
    "sampled": Measure("exact_sampled", "%", "answered exactly at temperature 1", 100),
    "judge": Measure("judge_sampled", "", "the judge's mean score at temperature 1"),
    "chatter": Measure("chatter", "%", "replies that chat, at temperature 1", 100, "lower"),
    "kl": Measure("kl", "nats", "KL to the policy after SFT, a reply", 1, "lower", wanted=False),
    "accuracy": Measure("accuracy", "%", "held-out pairs ordered rightly", 100),
    "best_of_4": Measure("best_of.4", "%", "best of 4 by the reward model is exact", 100),
    "best_of_16": Measure("best_of.16", "%", "best of 16 by the reward model is exact", 100),
    "chosen": Measure("last.logps/chosen", "nats", "log-probability of held-out chosen replies"),
    "flat": Measure("last.flat_groups", "%", "groups whose rewards are all equal", 100, "lower"),
}
"""What is recorded -> where it is found."""


@dataclass(frozen=True)
class Experiment:
    """Variants of one stage."""

    question: str  # what it asks
    stage: str  # whose numbers are compared
    measured: tuple[str, ...]  # some of ``MEASURED``; the figure shows the first two
    variants: dict[str, Changes]  # label -> what differs from ``BASELINE``


def _vary(stage: str, variants: Mapping[str, Mapping[str, Any]]) -> dict[str, Changes]:
    return {label: {stage: settings} for label, settings in variants.items()}


EXPERIMENTS = {
    "prompt_mask": Experiment(
        "Is the request trained, too?",
        "sft",
        ("exact", "sampled"),
        _vary("sft", {"the reply alone": {}, "request and reply": {"mask_prompt": False}}),
    ),
    "demonstrations": Experiment(
        "How many demonstrations, and how good? The number of steps is the same.",
        "sft",
        ("exact", "sampled", "chatter"),
        _vary(
            "sft",
            {
                f"{count:,} {kind}": {"requests": count, **sloppiness}
                for kind, sloppiness in (("sloppy", {}), ("clean", {"slips": 0.0, "chatter": 0.0}))
                for count in (500, 3000, 20_000)
            },
        ),
    ),
    "lora": Experiment(
        "LoRA instead of all weights?",
        "sft",
        ("exact", "sampled"),
        _vary(
            "sft",
            {
                "all weights": {},
                **{
                    f"rank {rank}": {
                        "lora_rank": rank, "lora_alpha": 2.0 * rank, "lr": 4e-3,
                    }
                    for rank in (2, 8, 32)
                },
                "rank 8, not in the head": {
                    "lora_rank": 8, "lora_alpha": 16.0, "lr": 4e-3,
                    "lora_layers": "qkv,output,expand,contract",
                },
            },
        ),
    ),
    "reward_data": Experiment(
        "How many requests with compared replies does a reward model need, read where?",
        "reward",
        ("accuracy", "best_of_16", "best_of_4"),
        _vary(
            "reward",
            {f"{count:,}, {kind}": {"requests": count, "max_steps": steps, **settings}
             for kind, settings in (("read at the end", PAPERS), ("and its own likelihood", {}))
             for count, steps in ((500, 32), (2000, 62), (8000, 250))},
        ),
    ),
    "kl": Experiment(
        "What should a nat cost in PPO?",
        "ppo",
        ("sampled", "kl", "exact", "judge"),
        _vary("ppo", {f"{cost:g}": {"kl": cost} for cost in (0.0, 0.1, 0.4, 1.6)}),
    ),
    "hacking": Experiment(
        "PPO without a price of the KL fools a weak reward model. What cures it?",
        "ppo",
        ("judge", "kl", "sampled"),
        {
            "weak reward model": {"reward": WEAK, "ppo": {"kl": 0.0, **FAST}},
            "+ price of the KL": {"reward": WEAK, "ppo": {"kl": 0.4, **FAST}},
            "better reward model": {"ppo": {"kl": 0.0, **FAST}},
            "both": {"ppo": {"kl": 0.4, **FAST}},
            "verifier": {"ppo": {"kl": 0.0, "reward": "verifier", **FAST}},
        },
    ),
    "dpo": Experiment(
        "Which beta, what is the likelihood term worth, and wrong replies that are chosen?",
        "dpo",
        ("exact", "sampled", "kl", "chosen"),
        _vary(
            "dpo",
            {
                "beta 0.1, none": {"beta": 0.1, "likelihood": 0.0},
                "beta 0.3, none": {"likelihood": 0.0},
                "beta 1, none": {"beta": 1.0, "likelihood": 0.0},
                "beta 0.1, likelihood": {"beta": 0.1},
                "beta 0.3, likelihood": {},
                "the same, all pairs": {"accepted": False},
                "likelihood alone": {"loss": "likelihood"},
            },
        ),
    ),
    "group": Experiment(
        "How large a group in GRPO, at the same number of replies?",
        "grpo",
        ("sampled", "exact", "flat"),
        _vary(
            "grpo",
            {f"{256 // size} x {size}": {"batch_size": 256 // size, "group": size}
             for size in (2, 4, 8, 16)},
        ),
    ),
}  # fmt: skip

SHARPENED = {"SFT": "sft", "DPO": "dpo", "PPO": "ppo", "GRPO": "grpo"}
"""Policies whose pass@k is compared: label -> stage."""


def variant_recipe(changes: Changes, seed: int, smoke: bool = False) -> Recipe:
    """Returns the recipe of a variant; cut to a few steps of a tiny model for a smoke test.

    Args:
        changes: what differs from ``BASELINE``.
        seed: of every stage but the base model, which all variants share.
        smoke: whether it is a test that everything runs.
    """
    merged = {stage: {**settings, **changes.get(stage, {})} for stage, settings in BASELINE.items()}
    if not smoke:
        return make_recipe("quick", seed, merged)
    sizes = {"requests", "max_steps", "batch_size", "eval_every"}
    cut = {
        stage: {name: value for name, value in settings.items() if name not in sizes}
        for stage, settings in merged.items()
    }
    return make_recipe("smoke", seed, cut)
