"""Measures the training of ``gpt``: its speed beside two peers, and how far a minute of it goes.

Speed: ours, the textbook version and transformers' GPT2LMHeadModel train on the same random
minibatches (no dropout, AdamW, clipping at 1). Each side has a process of its own, because ours
changes how the C library keeps memory, and they take turns.

Attention: the equation written out beside torch's fused kernel, forward and backward, which decides
which of them a model trains with.

Loss: the textbook version trains 2,000 steps on tinyshakespeare; the modern recipe then gets the
same number of seconds, and after that shares of them, each a run of its own with its schedule
fitted to it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch
from torch import nn

from benchmarks.textbook_gpt import TextbookGPT, textbook_lr, textbook_optimizer, textbook_step
from benchmarks.timing import THREADS, alternate, prepare, ratio
from gpt.gpt_components import attend_fused, attend_written_out
from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT, next_token_loss
from gpt.text_data import TextData, WindowSampler, load_text_data
from gpt.train_config import PRESETS
from gpt.train_gpt import evaluate, train
from tutorial_kit.console import OneLineParser, format_table, progress, run_entry
from tutorial_kit.device import tune_cpu
from tutorial_kit.optimizers import decay_groups, fused_adamw
from tutorial_kit.results import Result, record
from tutorial_kit.training import run_folder

MEASURES = {
    "gpt.training.vs_transformers_4x128": "training tokens/s, 4x128 B12 T64, against transformers",
    "gpt.training.vs_transformers_6x384": "training tokens/s, 6x384 B32 T256, against transformers",
    "gpt.training.vs_textbook_4x128": "training tokens/s, 4x128 B12 T64, against the textbook",
    "gpt.training.vs_textbook_6x384": "training tokens/s, 6x384 B32 T256, against the textbook",
    "gpt.attention.train_64": "attention B12 H4 T64 K32, training, written out against fused",
    "gpt.attention.train_256": "attention B32 H6 T256 K64, training, written out against fused",
    "gpt.attention.train_1024": "attention B4 H12 T1024 K64, training, written out against fused",
    "gpt.shakespeare.validation_loss": "tinyshakespeare, whole validation split in windows of 64, "
    "modern recipe after the textbook version's time for 2,000 steps",
    "gpt.shakespeare.textbook_loss": "the same, textbook version after 2,000 steps",
    "gpt.shakespeare.textbook_seconds": "time of those 2,000 steps",
    "gpt.shakespeare.share": "share of that time in which the modern recipe passes 1.898",
}
SIZES = {  # name: layers, width, heads, minibatch, window, steps a round, rounds
    "4x128": (4, 128, 4, 12, 64, 20, 9),
    "6x384": (6, 384, 6, 32, 256, 1, 5),
}
ATTENTION = {  # name: minibatch, heads, window, head width, calls a round
    "train_64": (12, 4, 64, 32, 100),
    "train_256": (32, 6, 256, 64, 3),
    "train_1024": (4, 12, 1024, 64, 2),
}
GOALS = {"transformers": (1.5, 2.2), "textbook": (1.15, 1.5)}
VOCABULARY = 65
TEXTBOOK_STEPS, WINDOW, MINIBATCH = 2000, 64, 12
TO_PASS = 1.898  # what popular textbook code reaches after 2,000 steps
SHARES = (0.25, 0.12, 0.08)  # of the textbook version's time; the goals are the first two
SEEDS = (0, 1, 2)

Step = Callable[[torch.Tensor, torch.Tensor], float]


def our_step(layers: int, width: int, heads: int, window: int) -> Step:
    """Returns a training step of ``gpt``'s "gpt2" recipe, as ``train_gpt`` does it."""
    tune_cpu()
    config = GPTConfig(
        vocab_size=VOCABULARY, max_len=window, d_model=width, n_heads=heads, n_kv_heads=heads,
        n_layers=layers, d_ff=4 * width,
    )  # fmt: skip
    model = GPT(config)
    optimizer = fused_adamw(decay_groups(model, 0.1), 1e-3, (0.9, 0.99))

    def step(x: torch.Tensor, y: torch.Tensor) -> float:
        loss = next_token_loss(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def their_step(layers: int, width: int, heads: int, window: int) -> Step:
    """Returns a training step of transformers' GPT2LMHeadModel, as its documentation shows it."""
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=window, n_embd=width, n_layer=layers, n_head=heads,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        use_cache=False,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(decay_groups(model, 0.1), lr=1e-3, betas=(0.9, 0.99))

    def step(x: torch.Tensor, y: torch.Tensor) -> float:
        optimizer.zero_grad()
        loss = model(input_ids=x, labels=x).loss  # shifts the labels itself
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def plain_step(layers: int, width: int, heads: int, window: int) -> Step:
    """Returns a training step of the textbook version."""
    model = TextbookGPT(VOCABULARY, window, width, heads, layers)
    optimizer = textbook_optimizer(model)
    return lambda x, y: textbook_step(model, optimizer, x, y)


SIDES = {"ours": our_step, "textbook": plain_step, "transformers": their_step}


def serve(side: str, size: str, pipe: Connection) -> None:
    """Runs in a process of its own: a round of steps for each message, its seconds as answer."""
    torch.set_num_threads(THREADS)
    layers, width, heads, minibatch, window, steps, _ = SIZES[size]
    step = SIDES[side](layers, width, heads, window)
    generator = torch.Generator().manual_seed(0)
    while pipe.recv():
        tokens = torch.randint(VOCABULARY, (steps, minibatch, window + 1), generator=generator)
        started = time.perf_counter()
        for batch in tokens:
            step(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
        pipe.send(time.perf_counter() - started)


def measure_speed(size: str) -> list[Result]:
    """Times the three sides in turns; returns the two ratios."""
    context = get_context("spawn")
    pipes, workers = {}, []
    for side in SIDES:
        pipes[side], theirs = context.Pipe()
        workers.append(context.Process(target=serve, args=(side, size, theirs), daemon=True))
        workers[-1].start()
        theirs.close()  # so that the end of the worker ends a wait for its answer

    def turn(side: str) -> Callable[[], float]:
        def run() -> float:
            pipes[side].send(True)
            return float(pipes[side].recv())

        return run

    *_, minibatch, window, steps, rounds = SIZES[size]
    started = time.perf_counter()
    seconds = alternate({side: turn(side) for side in SIDES}, rounds, warmup=1)
    for side, worker in zip(SIDES, workers, strict=True):
        pipes[side].send(False)
        worker.join()
    speed = {s: minibatch * window * steps / statistics.median(t) for s, t in seconds.items()}
    print(format_table([size, "tokens/s"], [(side, round(rate)) for side, rate in speed.items()]))
    results = []
    for side, (at_least, aim) in GOALS.items():
        value, spread = ratio(seconds[side], seconds["ours"])
        name = f"gpt.training.vs_{side}_{size}"
        results.append(
            Result(name, value, "x", at_least, aim, spread=spread, preset=size, note=MEASURES[name],
                   seconds=time.perf_counter() - started, command=f"python -m benchmarks {name}")
        )  # fmt: skip
    return results


def measure_attention(case: str) -> Result:
    """Times both ways to attend, forward and backward, in turns."""
    minibatch, heads, window, width, calls = ATTENTION[case]
    q, k, v = (torch.randn(minibatch, window, heads, width, requires_grad=True) for _ in range(3))
    gradient = torch.randn(minibatch, heads, window, width)
    mask = torch.ones(window, window, dtype=torch.bool).tril()

    def repeat(attend: Callable[..., torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(calls):
                q_, k_, v_ = (part.transpose(1, 2) for part in (q, k, v))
                attend(q_, k_, v_, mask).backward(gradient)

        return run

    started = time.perf_counter()
    sides = {
        "written out": repeat(lambda q, k, v, mask: attend_written_out(q, k, v, mask)[0]),
        "fused": repeat(lambda q, k, v, mask: attend_fused(q, k, v, mask, causal=True)),
    }
    seconds = alternate(sides, 7)
    name = f"gpt.attention.{case}"
    value, spread = ratio(seconds["fused"], seconds["written out"])
    return Result(
        name, value, "x", spread=spread, note=MEASURES[name],
        command=f"python -m benchmarks {name}", seconds=time.perf_counter() - started,
    )  # fmt: skip


def train_textbook(data: TextData, seed: int) -> tuple[float, float]:
    """Trains the textbook version; returns its validation loss in nats, and its seconds."""
    torch.manual_seed(seed)
    model = TextbookGPT(data.tokenizer.vocab_size, WINDOW, 128, 4, 4)
    optimizer = textbook_optimizer(model)
    sampler = WindowSampler(data.tokens["train"], WINDOW, MINIBATCH, seed)
    seconds = 0.0
    with progress(TEXTBOOK_STEPS, "textbook version", "step") as bar:
        for step in range(TEXTBOOK_STEPS):
            started = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = textbook_lr(step, TEXTBOOK_STEPS)
            textbook_step(model, optimizer, *sampler.next_batch())
            seconds += time.perf_counter() - started
            bar.update()
    return evaluate(model, data.tokens["validation"], WINDOW, torch.device("cpu")), seconds


def train_modern(data: TextData, seed: int, seconds: float) -> float:
    """Trains the "shakespeare" preset for so many seconds; returns its loss as above."""
    config = replace(
        PRESETS["shakespeare"], seed=seed, budget_minutes=seconds / 60, eval_every=10**9,
        checkpoint_every=10**9,
    )  # fmt: skip
    result = train(config, data, run_folder("gpt", "benchmark_shakespeare"), device="cpu")
    return evaluate(result.model, data.tokens["validation"], WINDOW, torch.device("cpu"))


def measure_shakespeare(seeds: Sequence[int]) -> list[Result]:
    """Compares the losses after equal time, for each seed; then shortens the time."""
    data = load_text_data("tinyshakespeare", "characters", 0)
    started = time.perf_counter()
    theirs, times, ours, shares = [], [], [], []
    for seed in seeds:
        # The textbook version runs in a process of its own: ours changes how memory is kept.
        with get_context("spawn").Pool(1, torch.set_num_threads, (THREADS,)) as pool:
            loss, seconds = pool.apply(train_textbook, (data, seed))
        theirs.append(loss)
        times.append(seconds)
        ours.append(train_modern(data, seed, seconds))
        passed = 1.0
        for share in SHARES:
            loss = train_modern(data, seed, share * seconds)
            print(f"seed {seed}: {loss:.4f} after {share:.0%} of {seconds:.1f} s", flush=True)
            if loss > TO_PASS:
                break
            passed = share
        shares.append(100 * passed)
        print(f"seed {seed}: textbook {theirs[-1]:.4f}, modern {ours[-1]:.4f}", flush=True)
    rows = [
        ("gpt.shakespeare.validation_loss", ours, "nats", 1.60, 1.50, "gpt.shakespeare"),
        ("gpt.shakespeare.textbook_loss", theirs, "nats", None, None, "textbook"),
        ("gpt.shakespeare.textbook_seconds", times, "s", None, None, "textbook"),
        ("gpt.shakespeare.share", shares, "%", 25.0, 12.0, "gpt.shakespeare"),
    ]
    return [
        Result(
            name, statistics.mean(values), unit, at_least, aim, "lower", tuple(seeds),
            statistics.stdev(values) if len(values) > 1 else None,
            time.perf_counter() - started, preset=preset, note=MEASURES[name],
            command="python -m benchmarks gpt.shakespeare.validation_loss",
        )
        for name, values, unit, at_least, aim, preset in rows
    ]  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(
        prog="python -m benchmarks.gpt_training", description="Measure the training of gpt."
    )
    parser.add_argument("--only", choices=list(MEASURES), help="measure the part with this result")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="for the losses")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Result]:
    """Measures, prints and records."""
    args = build_parser().parse_args(argv)
    machine = prepare()
    tune_cpu()
    results: list[Result] = []
    for size in SIZES:
        if args.only is None or args.only.endswith(size):  # both ratios of a size come together
            results += measure_speed(size)
    for case in ATTENTION:
        if args.only in (None, f"gpt.attention.{case}"):
            results.append(measure_attention(case))
    if args.only is None or args.only.startswith("gpt.shakespeare"):
        results += measure_shakespeare(args.seeds)
    return record("gpt_training", [replace(result, machine=machine) for result in results])


if __name__ == "__main__":
    run_entry(main)
