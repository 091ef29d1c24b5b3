"""Measures translating with ``transformer`` beside transformers' generate, both with a cache.

One size for both (see ``transformer_peers``), random weights: the speed does not depend on them.
Nobody may end early: each translation has exactly 20 tokens. Sources are as long as Multi30k's. The
two take turns in one process, in which the settings of ``tune_cpu`` hold for both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import alternate, prepare, ratio
from benchmarks.transformer_peers import SIZE, SPECIAL_TOKENS, marian_model, random_pairs
from transformer.batching import Batch, pad_pairs
from transformer.beam_search import DEAD, Beam, search
from transformer.decoding import greedy
from transformer.transformer_model import Transformer
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.device import tune_cpu
from tutorial_kit.results import Result, record

MEASURES = {
    "transformer.decoding.greedy_batch_1": "sentences/s, greedy, one by one, against Marian",
    "transformer.decoding.greedy_batch_64": "sentences/s, greedy, batch 64, against Marian",
    "transformer.decoding.beam4_batch_64": "sentences/s, beam 4, batch 64, against Marian",
}
CASES = {  # name: sentences at once, batches a round, beams, rounds, at least, aim
    "greedy_batch_1": (1, 8, 1, 15, 1.5, 2.5),
    "greedy_batch_64": (64, 3, 1, 11, 1.2, 2.0),
    "beam4_batch_64": (64, 1, 4, 9, 1.5, 2.5),
}
NEW = 20  # tokens of each translation
LENGTH_PENALTY = 1.0  # both sides' default
BOS, EOS = SPECIAL_TOKENS["<bos>"], SPECIAL_TOKENS["<eos>"]
NEVER = -1  # no token's id: greedy choice goes on until its limit


class EndlessBeam(Beam):
    """A beam in which <eos> is impossible, as generate's ``min_new_tokens`` makes it."""

    def advance(self, log_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Continues every hypothesis, see ``Beam.advance``; ``log_p`` is (N, W, V)."""
        log_p[..., self.eos] = DEAD
        return super().advance(log_p)


def translate_ours(model: Transformer, batch: Batch, beams: int, new: int = NEW) -> list[list[int]]:
    """Returns B translations of ``new`` tokens by our decoding."""
    if beams == 1:
        return greedy(model, batch.source, batch.source_mask, new, BOS, NEVER)
    beam = EndlessBeam(
        len(batch.source), beams, new, EOS, LENGTH_PENALTY, 1, batch.source.device
    )  # fmt: skip
    found = search(model, batch.source, batch.source_mask, BOS, beam)
    return [hypotheses[0].tokens for hypotheses in found]


def translate_theirs(model: Any, batch: Batch, beams: int, new: int = NEW) -> Tensor:
    """Returns B translations of ``new`` tokens by Marian's generate, (B, 1 + new) with <bos>."""
    with torch.inference_mode():
        written: Tensor = model.generate(
            batch.source, attention_mask=batch.source_mask.long(), max_new_tokens=new,
            min_new_tokens=new, num_beams=beams, length_penalty=LENGTH_PENALTY, do_sample=False,
            use_cache=True,
        )  # fmt: skip
    return written


def measure_case(name: str) -> Result:
    """Times one row of ``CASES``, both sides in turns.

    Raises:
        ValueError: a translation is not as long as it must be, so that the times say nothing.
    """
    rows, count, beams, rounds, at_least, aim = CASES[name]
    started = time.perf_counter()
    torch.manual_seed(0)
    ours, theirs = Transformer(SIZE).eval(), marian_model(SIZE).eval()
    pairs = random_pairs(rows * count, SIZE.vocab_size, torch.Generator().manual_seed(0))
    batches = [pad_pairs(pairs[at : at + rows], SPECIAL_TOKENS)
               for at in range(0, len(pairs), rows)]  # fmt: skip
    lengths = {len(text) for text in translate_ours(ours, batches[0], beams)}
    if lengths | {translate_theirs(theirs, batches[0], beams).shape[1] - 1} != {NEW}:
        raise ValueError(
            f"{name}: the translations do not all have {NEW} tokens, so the two sides would do "
            "different work. Compare the versions of transformers."
        )

    def run_ours() -> None:
        for batch in batches:
            translate_ours(ours, batch, beams)

    def run_theirs() -> None:
        for batch in batches:
            translate_theirs(theirs, batch, beams)

    sides: dict[str, Callable[[], None]] = {"ours": run_ours, "marian": run_theirs}
    seconds = alternate(sides, rounds)
    rates = [(side, round(len(pairs) / statistics.median(times), 1))
             for side, times in seconds.items()]  # fmt: skip
    print(format_table([name, "sentences/s"], rates), flush=True)
    full = f"transformer.decoding.{name}"
    value, spread = ratio(seconds["marian"], seconds["ours"])
    return Result(
        full, value, "x", at_least, aim, spread=spread, seconds=time.perf_counter() - started,
        note=MEASURES[full], command=f"python -m benchmarks {full}",
    )  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.transformer_decoding",
        description="Measure translating with transformer.",
    )
    parser.add_argument("--only", choices=list(MEASURES), help="measure this one")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints and records."""
    only = build_parser().parse_args(argv).only
    machine = prepare()
    tune_cpu()
    results = [
        measure_case(name) for name in CASES if only in (None, f"transformer.decoding.{name}")
    ]
    return record("transformer_decoding", [replace(row, machine=machine) for row in results])


if __name__ == "__main__":
    run_entry(main)
