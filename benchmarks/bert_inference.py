"""Measures reading text with ``bert`` beside transformers' BertModel: vectors of all tokens.

Equal lengths: minibatches of 32 sequences of 128 tokens on both sides. Real lengths: paragraphs of
the documentation's test modules, cut at 128 tokens; ours goes through ``length_batches``, sorting
included, theirs pads 32 paragraphs in the given order to the longest of them, as its documentation
shows. Splitting text into tokens is left out on both sides. Random weights: the speed does not
depend on them.

Each side has a process of its own, and they take turns. Theirs runs twice, as it comes and after
``tune_cpu``, the kit's settings of the processor: what is left of the ratio then is the model's.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import torch
from torch import Tensor

from benchmarks.bert_peers import PEER, SIDES, SIZES, SPECIAL, TUNED, import_peer, peer_config
from benchmarks.side_processes import race
from benchmarks.timing import THREADS, prepare, ratio
from bert.bert_config import BertConfig
from bert.bert_model import BertModel
from bert.length_batches import encode_texts, length_batches
from bert.pretraining_data import load_bert_data
from tutorial_kit.console import OneLineParser, format_table, run_entry
from tutorial_kit.device import tune_cpu
from tutorial_kit.documentation_corpus import documentation_corpus
from tutorial_kit.results import Result, record

MEASURES = {
    "bert.inference.equal_128x4": "tokens/s, 128x4, 32 sequences of 128 tokens, against "
    "transformers' BertModel",
    "bert.inference.equal_256x4": "tokens/s, 256x4, 32 sequences of 128 tokens, against "
    "transformers' BertModel",
    "bert.inference.equal_tuned_128x4": "the same at 128x4, transformers after tune_cpu",
    "bert.inference.equal_tuned_256x4": "the same at 256x4, transformers after tune_cpu",
    "bert.inference.real_128x4": "tokens/s, 128x4, paragraphs sorted by length, against "
    "transformers' BertModel in the given order",
    "bert.inference.real_256x4": "tokens/s, 256x4, paragraphs sorted by length, against "
    "transformers' BertModel in the given order",
    "bert.inference.real_tuned_128x4": "the same at 128x4, transformers after tune_cpu",
    "bert.inference.real_tuned_256x4": "the same at 256x4, transformers after tune_cpu",
}
GOALS = {"equal": (1.0, 1.1), "real": (1.5, 2.5)}  # at least, aim
ROWS = 32  # sequences in a minibatch; ours sorts into minibatches of its own
PARAGRAPHS = 512  # of a round, the same in each
PADDING = 0  # the id of [PAD]

Sequences = list[list[int]]
Read = Callable[[Sequences], object]


@dataclass(frozen=True)
class Plan:
    """What every process does, see ``side_processes.Contest``."""

    model: BertConfig
    sequences: Sequences = field(repr=False)  # what is read in each round
    sort: bool  # ours sorts by length; else it reads minibatches as they are
    rounds: int = 11  # timed, after one that is not
    threads: int = THREADS
    sides: tuple[str, ...] = SIDES

    def load(self, side: str) -> None:
        """Imports transformers where it is needed."""
        import_peer(side)

    def turns(self) -> list[list[Sequences]]:
        """Returns the same sequences for every round, all at once."""
        return [[self.sequences]] * (self.rounds + 1)

    def start(self, side: str) -> Read:
        """Returns what a side does with sequences."""
        if side in ("ours", TUNED):
            tune_cpu()
        return reader(side, self.model, self.sort)

    def amount(self, batch: Sequences) -> int:
        """Returns the tokens of a round, padding left out."""
        return sum(map(len, batch))


def reader(side: str, config: BertConfig, sort: bool) -> Callable[[Sequences], list[Tensor]]:
    """Returns a function that computes the vectors of all tokens, minibatch by minibatch.

    Args:
        side: "ours" or a peer.
        config: the model's shape.
        sort: let ours sort the sequences by length.
    """
    if side == "ours":
        model = BertModel(config).eval()

        def read(sequences: Sequences) -> list[Tensor]:
            batches: Iterable[tuple[Tensor, Tensor | None]] = in_order(sequences)
            if sort:
                found = length_batches(sequences, PADDING)
                batches = ((batch.tokens, batch.mask) for batch in found)
            with torch.inference_mode():
                return [model(tokens, mask)[0] for tokens, mask in batches]

        return read

    from transformers import BertModel as Peer

    peer = Peer(peer_config(config)).eval()

    def read_peer(sequences: Sequences) -> list[Tensor]:
        with torch.inference_mode():
            return [
                peer(input_ids=tokens, attention_mask=mask).last_hidden_state
                for tokens, mask in in_order(sequences)
            ]

    return read_peer


def in_order(sequences: Sequences, rows: int = ROWS) -> list[tuple[Tensor, Tensor]]:
    """Returns minibatches in the given order, padded: tokens (B, T) and mask (B, T)."""
    batches = []
    for at in range(0, len(sequences), rows):
        part = [torch.tensor(ids) for ids in sequences[at : at + rows]]
        tokens = torch.nn.utils.rnn.pad_sequence(part, batch_first=True, padding_value=PADDING)
        lengths = torch.tensor([len(ids) for ids in part])
        batches.append((tokens, torch.arange(tokens.shape[1]) < lengths[:, None]))
    return batches


def equal_sequences(config: BertConfig, minibatches: int = 4) -> Sequences:
    """Returns random sequences that all have ``max_len`` tokens."""
    shape, generator = (minibatches * ROWS, config.max_len), torch.Generator().manual_seed(0)
    tokens = torch.randint(SPECIAL, config.vocab_size, shape, generator=generator)
    return [[int(token) for token in row] for row in tokens]


def real_sequences(config: BertConfig, count: int = PARAGRAPHS) -> Sequences:
    """Returns paragraphs of the documentation's test modules as token ids, in random order."""
    pieces = load_bert_data("documentation", config.vocab_size).wordpiece
    documents = documentation_corpus().documents("test")
    texts = list(chain.from_iterable(document.paragraphs for document in documents))
    return encode_texts(pieces, random.Random(0).sample(texts, count), config.max_len)


def measure(case: str, size: str, plan: Plan) -> list[Result]:
    """Times one case at one size, prints a table, returns both ratios."""
    started = time.perf_counter()
    found = race(plan)
    rows = [(side, round(statistics.median(found.rates(side)))) for side in plan.sides]
    print(format_table([f"{case} lengths, {size}", "tokens/s"], rows), flush=True)
    results = []
    for peer, name in (
        (PEER, f"bert.inference.{case}_{size}"),
        (TUNED, f"bert.inference.{case}_tuned_{size}"),
    ):
        at_least, aim = GOALS[case] if peer == PEER else (None, None)
        value, half_range = ratio(found.seconds[peer], found.seconds["ours"])
        results.append(
            Result(
                name, value, "x", at_least, aim, spread=half_range, note=MEASURES[name],
                seconds=time.perf_counter() - started, command=f"python -m benchmarks {name}",
            )
        )  # fmt: skip
    return results


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.bert_inference", description="Measure reading with bert."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="measure the case with this result")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints and records."""
    only = build_parser().parse_args(argv).only
    machine = prepare()
    results: list[Result] = []
    for case in GOALS:
        for size, config in SIZES.items():
            if only is not None and not re.fullmatch(rf".*\.{case}(_tuned)?_{size}", only):
                continue
            real = case == "real"
            sequences = real_sequences(config) if real else equal_sequences(config)
            found = measure(case, size, Plan(config, sequences, sort=real))
            results += record("bert_inference", [replace(row, machine=machine) for row in found])
    return results


if __name__ == "__main__":
    run_entry(main)
