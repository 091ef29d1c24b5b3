"""Measures writing with ``gpt`` beside transformers' generate, both with a cache, in turns.

Greedy choice behind a prompt of 16 tokens, 200 new ones, random weights: the speed does not depend
on them. Ours writes with packed weights (``gpt.packed_weights``), as its command line does.
Speculative decoding needs models that agree, so a pair is trained on tinyshakespeare first (kept in
outputs/).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.timing import alternate, prepare, ratio
from gpt.generation import generate, load_model
from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from gpt.packed_weights import pack_weights
from gpt.sampling import GREEDY, Sampling
from gpt.speculative import speculate
from gpt.text_data import load_text_data
from gpt.train_config import PRESETS
from gpt.train_gpt import train
from tutorial_kit.config import override
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.results import Result, record
from tutorial_kit.training import run_folder

MEASURES = {
    "gpt.generation.6x384_batch_1": "tokens/s, 6x384, batch 1, against transformers",
    "gpt.generation.6x384_batch_8": "tokens/s, 6x384, batch 8, against transformers",
    "gpt.generation.6x384_int8": "tokens/s, 6x384, batch 1, int8, against transformers",
    "gpt.generation.124m_batch_1": "tokens/s, 124M shape, batch 1, against transformers",
    "gpt.generation.124m_int8": "tokens/s, 124M shape, batch 1, int8, against transformers",
    "gpt.generation.speculative_greedy": "tokens/s with a draft, greedy, against plain cached",
    "gpt.generation.speculative_sampled": "tokens/s with a draft, sampled, against plain cached",
}
PROMPT, NEW = 16, 200
BABY = GPTConfig(65, max_len=256, d_model=384, n_heads=6, n_kv_heads=6, n_layers=6, d_ff=1536)
LARGE = GPTConfig(50257, max_len=256, d_model=768, n_heads=12, n_kv_heads=12, n_layers=12,
                  d_ff=3072)  # fmt: skip
CASES: list[tuple[str, GPTConfig, int, str, float | None, float | None, int]] = [
    # name, model, batch, weights, at least, aim, rounds
    ("6x384_batch_1", BABY, 1, "float32", 2.5, 4.0, 7),
    ("6x384_batch_8", BABY, 8, "float32", 1.6, 3.0, 5),
    ("6x384_int8", BABY, 1, "int8", None, None, 7),
    ("124m_batch_1", LARGE, 1, "float32", 1.2, 1.4, 3),
    ("124m_int8", LARGE, 1, "int8", 1.5, 2.5, 3),
]
PAIR = {  # trained for so many minutes each
    "target": (4.0, {"d_model": 512, "n_heads": 8, "n_kv_heads": 8, "n_layers": 6, "d_ff": 2048}),
    "draft": (1.0, {"d_model": 128, "n_heads": 4, "n_kv_heads": 4, "n_layers": 1, "d_ff": 512}),
}


def their_model(config: GPTConfig) -> Any:
    """Returns transformers' GPT-2 of the same shape."""
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.max_len,
            n_embd=config.d_model,
            n_layer=config.n_layers,
            n_head=config.n_heads,
            n_inner=config.d_ff,
            bos_token_id=None,
            eos_token_id=None,
        )  # fmt: skip
    ).eval()


def measure_case(name: str) -> Result:
    """Times one row of ``CASES``, both sides in turns."""
    config, batch, weights, at_least, aim, rounds = next(c[1:] for c in CASES if c[0] == name)
    torch.manual_seed(0)
    ours, theirs = pack_weights(GPT(config), weights), their_model(config)
    prompts = torch.randint(config.vocab_size, (batch, PROMPT))

    def run_theirs() -> None:
        with torch.inference_mode():
            theirs.generate(
                prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=NEW,
                min_new_tokens=NEW, do_sample=False, use_cache=True, pad_token_id=0,
                eos_token_id=None,
            )  # fmt: skip

    sides: dict[str, Callable[[], None]] = {
        "ours": lambda: void(generate(ours, prompts, NEW, GREEDY)),
        "transformers": run_theirs,
    }
    started = time.perf_counter()
    seconds = alternate(sides, rounds)
    rates = [(side, round(batch * NEW / statistics.median(t))) for side, t in seconds.items()]
    print(format_table([name, "tokens/s"], rates), flush=True)
    return result(name, *ratio(seconds["transformers"], seconds["ours"]), at_least, aim, started)


def void(_: object) -> None:
    """Throws a value away: ``alternate`` would take a number for seconds."""


def result(
    name: str,
    value: float,
    spread: float,
    at_least: float | None,
    aim: float | None,
    started: float,
) -> Result:
    """Returns a ratio as a result."""
    full = f"gpt.generation.{name}"
    return Result(
        full, value, "x", at_least, aim, spread=spread, seconds=time.perf_counter() - started,
        note=MEASURES[full], command=f"python -m benchmarks {full}",
    )  # fmt: skip


def trained(role: str) -> GPT:
    """Returns a model of the pair, trained now or earlier."""
    minutes, shape = PAIR[role]
    base = PRESETS["shakespeare"]
    settings = {
        "max_len": 256, "batch_size": 8, "budget_minutes": minutes, "activation": "relu2", **shape,
    }  # fmt: skip
    config = override(base, {**settings, "eval_every": 10**6, "checkpoint_every": 10**6})
    folder = run_folder("gpt", f"benchmark_{role}")
    if not (folder / "checkpoints" / "last.pt").is_file():
        data = load_text_data(config.dataset, config.tokenizer, config.bpe_tokens)
        train(config, data, folder, device="cpu")
    return load_model(folder)[0]


def measure_speculative(name: str, sampling: Sampling) -> Result:
    """Times the trained target with and without its draft."""
    target, draft = pack_weights(trained("target")), pack_weights(trained("draft"))
    held_out = load_text_data("tinyshakespeare", "characters", 0).tokens["validation"]
    prompts = [held_out[at : at + PROMPT].tolist() for at in range(0, 4000, 1000)]
    started, shares = time.perf_counter(), []

    def plain() -> None:
        for seed, prompt in enumerate(prompts):
            generate(target, [prompt], NEW, sampling, seed=seed)

    def speculative() -> None:
        for seed, prompt in enumerate(prompts):
            done = speculate(target, draft, prompt, NEW, sampling, seed=seed, draft_tokens=4)
            shares.append(done.acceptance)

    seconds = alternate({"plain": plain, "speculative": speculative}, 5)
    rates = [(s, round(len(prompts) * NEW / statistics.median(t))) for s, t in seconds.items()]
    print(format_table([name, "tokens/s"], rates))
    print(f"accepted: {statistics.mean(shares):.0%}", flush=True)
    return result(name, *ratio(seconds["plain"], seconds["speculative"]), 1.2, 2.0, started)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.gpt_generation", description="Measure writing with gpt."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="measure this one")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints and records."""
    only = build_parser().parse_args(argv).only
    machine = prepare()
    results = [
        measure_case(name)
        for name, *_ in CASES
        if only in (None, f"gpt.generation.{name}")
    ]  # fmt: skip
    strategies = {"speculative_greedy": GREEDY, "speculative_sampled": Sampling()}
    results += [
        measure_speculative(name, sampling)
        for name, sampling in strategies.items()
        if only in (None, f"gpt.generation.{name}")
    ]
    return record("gpt_generation", [replace(row, machine=machine) for row in results])


if __name__ == "__main__":
    run_entry(main)
