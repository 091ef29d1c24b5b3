"""Measures English to Chinese on Tatoeba: our standard preset beside transformers' Marian model.

Both read the same sentence pairs in the same tokens, train for the same minutes (the clock counts
training steps alone), and translate the same held-out English sentences by beam search; one
function scores both, by characters. The peer is MarianMTModel at the width of the speed benchmark
(d 256, 3 + 3 layers) with the recipe of torch's documentation: Adam, clipping, label smoothing, and
the schedule over the time that ours has too. Its weights are not averaged. Its peak learning rate
is 3e-4: with 1e-3 this post-norm model learned nothing in ten minutes (0.2 BLEU).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import THREADS, prepare
from benchmarks.transformer_decoding import LENGTH_PENALTY
from benchmarks.transformer_peers import SIZE, marian_model
from benchmarks.transformer_quality import load, train_and_score
from benchmarks.transformer_training import BETAS, EPS
from transformer.batching import IGNORE, BatchSampler, batches_of
from transformer.decoding import text_of
from transformer.scoring import Scores, score
from transformer.train_config import PRESETS, TrainConfig
from transformer.train_transformer import TEST_BEAMS
from transformer.translation_data import TranslationData
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.device import tune_cpu
from tutorial_kit.results import Result, format_measured, record
from tutorial_kit.training import check_loss

MINUTES = 10.0  # of training, for each side
PEER_LR = 3e-4  # peak learning rate of the peer
TRANSLATED_TOKENS = 4096  # of a minibatch that the peer translates, padding included
MEASURES = {
    "transformer.tatoeba.bleu": "held-out English sentences to Chinese, by characters, beam 4, "
    f"after {MINUTES:g} minutes of training",
    "transformer.tatoeba.marian_bleu": "the same of transformers' MarianMTModel, d 256, 3+3 "
    "layers, after the same time",
}


def train_marian(config: TrainConfig, data: TranslationData) -> tuple[Any, int]:
    """Trains the peer as ours is trained: same minutes, minibatches, dropout, warm-up.

    Returns:
        The model, and the steps it made.
    """
    tune_cpu()  # both sides get it
    torch.manual_seed(config.seed)
    size = replace(SIZE, vocab_size=data.tokenizer.vocab_size, max_len=config.model.max_len)
    model = marian_model(size, data.tokenizer.special_tokens).train()
    optimizer = torch.optim.Adam(model.parameters(), PEER_LR, BETAS, EPS)
    sampler = BatchSampler(data, config.tokens_per_batch, config.seed)
    budget = 60 * config.budget_minutes
    seconds, steps = 0.0, 0
    while seconds < budget:
        started = time.perf_counter()
        batch = sampler.next_batch()
        optimizer.param_groups[0]["lr"] = PEER_LR * config.rate_factor(seconds / budget)
        optimizer.zero_grad()
        logits = model(
            input_ids=batch.source, attention_mask=batch.source_mask.long(),
            decoder_input_ids=batch.target_in, use_cache=False,
        ).logits  # (B, T, V)  # fmt: skip
        loss = F.cross_entropy(
            logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORE,
            label_smoothing=config.label_smoothing,
        )  # fmt: skip
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        check_loss(loss.item(), steps)
        seconds, steps = seconds + time.perf_counter() - started, steps + 1
        if steps % 500 == 0:
            print(f"marian: step {steps:,}, {seconds:.0f} s, loss {loss.item():.3f}", flush=True)
    return model.eval(), steps


def score_marian(model: Any, data: TranslationData) -> Scores:
    """Translates the test split with the peer's own beam search and scores it as ours is."""
    pairs, texts = data.pairs["test"], {}
    longest = model.config.max_position_embeddings - 1
    for batch in batches_of(data, "test", TRANSLATED_TOKENS):
        with torch.inference_mode():
            written: Tensor = model.generate(
                batch.source, attention_mask=batch.source_mask.long(), num_beams=TEST_BEAMS,
                max_new_tokens=min(2 * batch.source.shape[1] + 20, longest),
                length_penalty=LENGTH_PENALTY, do_sample=False, use_cache=True,
            )  # fmt: skip
        for row, tokens in zip(batch.rows, written[:, 1:].tolist(), strict=True):
            texts[row] = text_of(data.tokenizer, tokens)
    translations = [texts[row] for row in range(len(pairs))]
    return score(translations, [target for _, target in pairs], data.target_language)


def measure(name: str, minutes: float = MINUTES, seed: int = 0, preset: str = "standard") -> Result:
    """Trains one of the two and lets it translate the test split."""
    started = time.perf_counter()
    config = replace(
        PRESETS[preset], dataset="tatoeba", budget_minutes=minutes, seed=seed, bleu_sentences=0,
        checkpoint_every=10**9,
    )  # fmt: skip
    data = load(config)
    if name == "transformer.tatoeba.bleu":
        scores = train_and_score(config, data, f"benchmark_tatoeba_{seed}", TEST_BEAMS).scores
    else:
        model, steps = train_marian(config, data)
        scores = score_marian(model, data)
        print(f"marian: {steps:,} steps; {scores}", flush=True)
    return Result(
        name, scores.bleu, "BLEU", seeds=(seed,), preset=preset,
        seconds=time.perf_counter() - started, command=f"python -m benchmarks {name}",
        note=f"{MEASURES[name]}; {scores.signature}",
    )  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.transformer_tatoeba",
        description="Measure English to Chinese beside Marian; some 25 minutes.",
    )
    parser.add_argument("--only", choices=list(MEASURES), help="measure this one")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints and records."""
    only = build_parser().parse_args(argv).only
    machine = prepare(THREADS)
    results: list[Result] = []
    for name in [only] if only else MEASURES:
        row = replace(measure(name), machine=machine)
        print(f"{row.name}: {format_measured(row)}", flush=True)
        results += record("transformer_tatoeba", row)
    return results


if __name__ == "__main__":
    run_entry(main)
