"""How good an assistant is: exact match, the judge's score, pass@k, best-of-n, KL, win rate.

Everything is measured on held-out requests, whose words occur in no training. What the numbers mean
stands in ``scores.py`` and ``sample_statistics.py``; this is the command.

    python instruction_tuning/evaluate.py --checkpoint quick_dpo --reference quick_sft
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from instruction_tuning.instruction_data import build_tokenizer
from instruction_tuning.replies import MAX_NEW
from instruction_tuning.sample_statistics import best_of_n, pass_at_k, win_rate
from instruction_tuning.saved_model import load_policy, load_reward_model
from instruction_tuning.score_tables import samples_table, scores_table, tasks_table
from instruction_tuning.scores import Samples, Scores, evaluate, sample_numbers, sample_often
from instruction_tuning.word_world import draw_requests
from tutorial_kit.config import config_parser, read_config
from tutorial_kit.config_checks import check_counts
from tutorial_kit.console import run_entry
from tutorial_kit.device import pick_device
from tutorial_kit.entry_parsers import add_checkpoint, add_device
from tutorial_kit.saved_runs import missing_checkpoint
from tutorial_kit.tokenizers import Tokenizer

__all__ = [
    "Samples",
    "Scores",
    "best_of_n",
    "build_parser",
    "evaluate",
    "main",
    "pass_at_k",
    "sample_often",
    "win_rate",
]


@dataclass(frozen=True)
class EvaluationConfig:
    """What the command line measures on."""

    requests: int = 400  # held-out requests
    split: Literal["validation", "test"] = "test"  # whose words they are about
    samples: int = 16  # replies to each request for pass@k and best-of-n
    max_new: int = MAX_NEW  # most tokens of a reply
    seed: int = 0  # of the requests and of the sampled replies

    def __post_init__(self) -> None:
        """Checks the counts."""
        check_counts(self, "requests", "samples", "max_new")


PRESETS = {
    "standard": EvaluationConfig(),
    "smoke": EvaluationConfig(requests=12, samples=2, max_new=4),  # without --checkpoint: untrained
}


def untrained_model(tokenizer: Tokenizer, seed: int = 0) -> GPT:
    """Returns a tiny model that has learned nothing, to try a script with."""
    torch.manual_seed(seed)
    return GPT(GPTConfig(tokenizer.vocab_size, max_len=96, d_model=32, n_heads=2, n_kv_heads=2,
                         n_layers=1, d_ff=64)).eval()  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = config_parser(EvaluationConfig, PRESETS, "standard", "Measure a tuned model.")
    add_checkpoint(parser)
    add = parser.add_argument
    add("--reference", metavar="RUN", help="KL is measured to this model, such as quick_sft")
    add("--reward-model", metavar="RUN", help="run of a reward model: best-of-n by its scores")
    add("--against", metavar="RUN", help="another model: how often does the first one win?")
    add_device(parser, "where to compute")
    return parser


def main(argv: Sequence[str] | None = None) -> Scores:
    """Prints the tables; returns the model's scores."""
    args = build_parser().parse_args(argv)
    config = read_config(EvaluationConfig, PRESETS, args)
    device = pick_device(args.device)
    if args.checkpoint is not None:
        model, tokenizer = load_policy(args.checkpoint)
    elif args.preset == "smoke":
        tokenizer = build_tokenizer()
        model = untrained_model(tokenizer)
    else:
        raise missing_checkpoint("to evaluate", "instruction_tuning/quick_start.py")
    model.to(device)
    requests = draw_requests(config.requests, config.split, config.seed)
    reference = load_policy(args.reference)[0].to(device) if args.reference else None
    measured = {"seed": config.seed, "max_new": config.max_new}
    scores = evaluate(model, tokenizer, requests, reference=reference, **measured)
    named = {"model": scores.numbers()}
    rival = load_policy(args.against)[0].to(device) if args.against else None
    if rival is not None:
        theirs = evaluate(rival, tokenizer, requests, reference=reference, **measured)
        named["rival"] = theirs.numbers()
    print(f"{config.requests} requests of the {config.split} split\n{scores_table(named)}\n")
    print(f"{tasks_table(named)}\n")
    scorer = load_reward_model(args.reward_model)[0].to(device) if args.reward_model else None
    drawn = sample_often(model, tokenizer, requests, config.samples, config.seed,
                         reward_model=scorer, max_new=config.max_new)  # fmt: skip
    print(samples_table(sample_numbers(drawn)))
    if rival is not None:
        other = sample_often(rival, tokenizer, requests, 1, config.seed, max_new=config.max_new)
        rate = win_rate(drawn.judged[:, 0].tolist(), other.judged[:, 0].tolist())
        print(f"\nThe model wins {rate:.1%} of the comparisons at temperature 1; ties count half.")
    return scores


if __name__ == "__main__":
    run_entry(main)
