"""The Transformer in about a minute, offline: data, tokens, training, unseen sentences, pictures.

English to Chinese, from a grammar of the project's own. The words that are printed stand in
``texts/en.json``; the numbers are measured while you watch.
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

import torch

from transformer.attention_visualization import (
    cross_attention_figure,
    font_hint,
    training_curve_figure,
    write_page,
)
from transformer.decoding import text_of, translate_n_best
from transformer.train_config import PRESETS
from transformer.train_transformer import TEST_BEAMS, score_split, train
from transformer.transformer_config import parameter_count
from transformer.transformer_model import Transformer
from transformer.translation_data import TranslationData, load_translation_data
from tutorial_kit.console import run_entry
from tutorial_kit.demo import DemoResult
from tutorial_kit.entry_parsers import quick_start_parser
from tutorial_kit.model_diagram import model_diagram
from tutorial_kit.plotting import save_figure
from tutorial_kit.texts import Texts
from tutorial_kit.tokenizers import token_names
from tutorial_kit.training import run_folder

SHOWN_PAIRS = 3  # held-out sentences shown at the beginning
SHOWN_MISTAKES = 2
UNTRAINED_TOKENS = 10


def show_data(data: TranslationData, texts: Texts) -> None:
    """Prints some held-out pairs and the tokens of the first."""
    pairs = "\n".join(
        texts.get("quick.pair", source=source, target=target)
        for source, target in data.pairs["test"][:SHOWN_PAIRS]
    )
    sizes = {split: len(data.pairs[split]) for split in ("train", "test")}
    texts.say("quick.data", pairs=pairs, **sizes)
    source, target = (
        "|".join(token_names(data.tokenizer, data.tokenizer.encode(text)))
        for text in data.pairs["test"][0]
    )
    texts.say("quick.tokens", vocab_size=data.tokenizer.vocab_size, source=source, target=target)


def show_result(model: Transformer, data: TranslationData, texts: Texts) -> tuple[float, float]:
    """Prints the scores on the unseen combinations and some mistakes; returns exact match, BLEU."""
    by_greedy, translations = score_split(model, data, "test")
    by_beam, _ = score_split(model, data, "test", beams=TEST_BEAMS)
    texts.say(
        "quick.result",
        sentences=by_greedy.sentences,
        exact=by_greedy.exact_match,
        bleu=by_greedy.bleu,
        beams=TEST_BEAMS,
        beam_exact=by_beam.exact_match,
        beam_bleu=by_beam.bleu,
        signature=by_beam.signature,
    )
    mistakes = [
        texts.get("quick.mistake", source=source, reference=reference, ours=ours)
        for (source, reference), ours in zip(data.pairs["test"], translations, strict=True)
        if ours != reference
    ]
    if mistakes:
        texts.say("quick.mistakes", mistakes="\n".join(mistakes[:SHOWN_MISTAKES]))
    else:
        texts.say("quick.no_mistakes")
    return by_greedy.exact_match, by_greedy.bleu


def draw(model: Transformer, data: TranslationData, source: str, folder: Path) -> list[Path]:
    """Saves the pictures of a trained model into its run's folder; returns their paths."""
    figures = folder / "figures"
    return [
        save_figure(
            cross_attention_figure(model, data.tokenizer, source), figures / "cross_attention.png"
        ),
        save_figure(
            training_curve_figure(folder / "metrics.jsonl"), figures / "training_curve.png"
        ),
        save_figure(model_diagram(model, "Transformer"), figures / "structure.png"),
        write_page(model, data.tokenizer, source, figures / "attention.html"),
    ]


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return quick_start_parser("The Transformer in about a minute, offline.")


def main(argv: Sequence[str] | None = None) -> DemoResult:
    """Tells the story; returns its result."""
    args = build_parser().parse_args(argv)
    started = time.perf_counter()
    texts = Texts(Path(__file__).parent)
    config = replace(PRESETS[args.preset], seed=args.seed)
    folder = run_folder("transformer", f"quick_start_{args.preset}")

    data = load_translation_data(config.dataset, config.bpe_tokens, config.model.max_len)
    show_data(data, texts)
    source = data.pairs["test"][0][0]
    torch.manual_seed(args.seed)
    untrained = Transformer(replace(config.model, vocab_size=data.tokenizer.vocab_size))
    written = translate_n_best(untrained, data.tokenizer, [source], beams=1)[0][0].tokens
    tokens = "|".join(token_names(data.tokenizer, written[:UNTRAINED_TOKENS]))
    texts.say("quick.untrained", source=source, tokens=tokens)
    texts.say("quick.training", parameters=parameter_count(untrained.config))
    model = train(config, data, folder, device=args.device).model
    exact, bleu = show_result(model, data, texts)

    texts.say("quick.beam", source=source, beams=TEST_BEAMS)
    for hypothesis in translate_n_best(
        model, data.tokenizer, [source], beams=TEST_BEAMS, n_best=TEST_BEAMS
    )[0]:
        text = text_of(data.tokenizer, hypothesis.tokens)
        texts.say("quick.hypothesis", normalized=hypothesis.normalized, text=text)
    files = [*draw(model, data, source, folder), folder / "checkpoints" / "best.pt"]
    texts.say("quick.files", files="\n".join(f"   {path}" for path in files))
    if hint := font_hint(data.pairs["test"][0]):
        texts.say("quick.font", hint=hint)
    texts.say("quick.next", run=folder.name, source=source)
    return DemoResult(
        family="transformer",
        learned=texts.get("demo.learned"),
        headline=texts.get("demo.headline", exact=exact, bleu=bleu),
        value=100.0 * exact,
        unit="% exact match",
        seconds=time.perf_counter() - started,
        files=tuple(str(path) for path in files),
    )


if __name__ == "__main__":
    run_entry(main)
