"""GPT in about a minute, offline: data, baselines, training, held-out result, samples, pictures.

The words that it prints are in ``texts/en.json``; the numbers are measured while you watch.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gpt.attention_visualization import attention_figure, write_page
from gpt.generation import generate_text
from gpt.gpt_model import GPT
from gpt.ngram_baseline import ngram_bits_per_byte
from gpt.prediction_visualization import logit_lens_figure, training_curve_figure
from gpt.sampling import Sampling
from gpt.text_data import TextData, WindowSampler, load_text_data
from gpt.train_config import PRESETS, TrainConfig
from gpt.train_gpt import train
from tutorial_kit.console import format_table, run_entry
from tutorial_kit.demo import DemoResult
from tutorial_kit.entry_parsers import quick_start_parser
from tutorial_kit.model_diagram import model_diagram
from tutorial_kit.plotting import save_figure
from tutorial_kit.texts import Texts
from tutorial_kit.tokenizers import Tokenizer
from tutorial_kit.training import run_folder

STRATEGIES = {
    "greedy": Sampling(temperature=0.0),
    "temperature": Sampling(temperature=1.0),
    "cool": Sampling(temperature=0.7),
    "top_k": Sampling(top_k=20),
    "top_p": Sampling(top_p=0.9),
    "min_p": Sampling(min_p=0.1),
}
NGRAM_ORDER = 5
PROMPT = "Returns the"
PICTURED = "The function returns the number of elements in the array."


def text_read(data: TextData, config: TrainConfig) -> np.ndarray:
    """Returns the tokens that a training of ``config`` reads, (N,), in the order of the text."""
    window = config.model.max_len
    sampler = WindowSampler(data.tokens["train"], window, config.batch_size, config.seed)
    starts = sampler.starts[: config.max_steps * config.batch_size].sort().values
    return sampler.tokens[starts[:, None] + torch.arange(window)].flatten().numpy()


def measure_baselines(data: TextData, counted: np.ndarray) -> dict[int, float]:
    """Scores n-gram models on the validation split.

    Args:
        data: the text.
        counted: (N,), the tokens whose n-grams are counted.

    Returns:
        Order -> bits per byte.
    """
    return ngram_bits_per_byte(
        counted,
        data.tokens["validation"].numpy(),
        data.n_bytes["validation"],
        data.tokenizer.vocab_size,
        NGRAM_ORDER,
    )


def show_baselines(data: TextData, config: TrainConfig, texts: Texts) -> tuple[float, float]:
    """Prints the table of n-gram models; returns the best of all text and of the text GPT reads."""
    total = data.n_bytes["train"] / 1e6
    read = text_read(data, config)
    everything = measure_baselines(data, data.tokens["train"].numpy())
    same_text = measure_baselines(data, read)
    megabytes = total * len(read) / len(data.tokens["train"])
    names = {1: texts.get("baseline.unigram"), 2: texts.get("baseline.bigram")}
    rows = [
        (
            names.get(order, texts.get("baseline.ngram", order=order)),
            round(everything[order], 3),
            round(same_text[order], 3),
        )
        for order in everything
    ]
    columns = [texts.get("baseline.of", megabytes=size) for size in (total, megabytes)]
    headers = ["model", *columns]
    texts.say("quick.baselines", table=format_table(headers, rows), megabytes=megabytes)
    return min(everything.values()), min(same_text.values())


def sample(model: GPT, data: TextData, sampling: Sampling, length: int) -> str:
    """Continues ``PROMPT`` by ``length`` tokens; returns the text on one line."""
    text = generate_text(model, data.tokenizer, PROMPT, length, sampling, seed=1)
    return " ".join((PROMPT + text).split())


def draw(model: GPT, tokenizer: Tokenizer, folder: Path) -> list[Path]:
    """Saves the pictures of a trained model into its run's folder; returns their paths."""
    figures = folder / "figures"
    tokens = tokenizer.encode(PICTURED)[: model.config.max_len]
    return [
        save_figure(
            training_curve_figure(folder / "metrics.jsonl"), figures / "training_curve.png"
        ),
        save_figure(attention_figure(model, tokenizer, tokens), figures / "attention.png"),
        save_figure(logit_lens_figure(model, tokenizer, tokens), figures / "logit_lens.png"),
        save_figure(model_diagram(model, "GPT"), figures / "structure.png"),
        write_page(model, tokenizer, tokens, figures / "attention.html"),
    ]


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return quick_start_parser("GPT in about a minute, offline.")


def main(argv: Sequence[str] | None = None) -> DemoResult:
    """Tells the story; returns its result."""
    args = build_parser().parse_args(argv)
    started = time.perf_counter()
    texts = Texts(Path(__file__).parent)
    config = replace(PRESETS[args.preset], seed=args.seed)
    folder = run_folder("gpt", f"quick_start_{args.preset}")

    data = load_text_data(config.dataset, config.tokenizer, config.bpe_tokens)
    sizes = {split: size / 1e6 for split, size in data.n_bytes.items()}
    texts.say("quick.data", train=sizes["train"], held_out=sizes["validation"])
    pieces = [data.tokenizer.decode([token]) for token in data.tokenizer.encode(PICTURED)]
    texts.say(
        "quick.tokens",
        vocab_size=data.tokenizer.vocab_size,
        bytes_per_token=data.n_bytes["train"] / len(data.tokens["train"]),
        pieces="|".join(pieces),
    )
    everything, same_text = show_baselines(data, config, texts)

    torch.manual_seed(args.seed)
    untrained = GPT(replace(config.model, vocab_size=data.tokenizer.vocab_size))
    texts.say("quick.untrained", sample=sample(untrained, data, Sampling(), 12))
    texts.say("quick.training")
    result = train(config, data, folder, device=args.device)
    bits = result.bits_per_byte
    texts.say(
        "quick.result",
        bits=bits,
        same_text=same_text,
        everything=everything,
        share=abs(1.0 - bits / same_text),
        direction=texts.get("quick.below" if bits < same_text else "quick.above"),
    )
    texts.say("quick.sampling", prompt=PROMPT)
    for name, sampling in STRATEGIES.items():
        text = sample(result.model, data, sampling, 30)
        texts.say("quick.strategy", name=texts.get(f"strategy.{name}"), text=text)
    files = draw(result.model, data.tokenizer, folder) + [result.folder / "checkpoints" / "best.pt"]
    texts.say("quick.files", files="\n".join(f"   {path}" for path in files))
    texts.say("quick.next", run=folder.name)
    return DemoResult(
        family="gpt",
        learned=texts.get("demo.learned"),
        headline=texts.get("demo.headline", bits=bits, baseline=same_text),
        value=bits,
        unit="bits per byte",
        seconds=time.perf_counter() - started,
        files=tuple(str(path) for path in files),
    )


if __name__ == "__main__":
    run_entry(main)
