"""CBOW in seconds, offline: text, task, training, the rival that counts, what is near, pictures.

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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cbow.cbow_config import PRESETS, TrainConfig
from cbow.cbow_data import CBOWData, load_corpus
from cbow.cbow_trainer import TrainResult, train
from cbow.embedding_visualization import draw_training, draw_words
from cbow.embeddings import Embeddings, random_embeddings
from cbow.ppmi import counting_embeddings
from cbow.purity import chance, homes_of, purity
from cbow.windows import PADDING, context_windows
from cbow.word_groups import known_relations
from tutorial_kit.console import format_table, run_entry
from tutorial_kit.demo import DemoResult
from tutorial_kit.entry_parsers import quick_start_parser
from tutorial_kit.plotting import save_figure
from tutorial_kit.texts import Texts
from tutorial_kit.training import run_folder

NEIGHBORS = 6  # shown of a word
ASKED = ("matrix", "random", "returns", "gradient", "axes")  # whose neighbors are shown, if known
ODD = ("red", "blue", "green", "integer")
SENTENCE_WORDS = (9, 14)  # of the sentence that shows the task


@dataclass(frozen=True)
class QuickNumbers:
    """What the demo measures."""

    purity: float  # of CBOW: share of the 10 nearest words from the same library, 0 to 1
    counting_purity: float  # of PPMI and SVD
    chance: float  # of random neighbors
    validation_loss: float  # nats per held-out target
    words_per_s: float  # of the text, while it trains
    seconds: float  # of training
    counting_seconds: float
    files: tuple[Path, ...]


def show_data(data: CBOWData, config: TrainConfig, texts: Texts) -> None:
    """Prints what the text is."""
    words = data.vocabulary.words
    rare = words[:: -max(len(words) // 50, 1)][:5]  # equally rare ones stand in order of letters
    texts.say(
        "quick.data", words=len(data.train.tokens), sentences=len(data.train),
        held_out=len(data.validation.tokens), vocabulary=len(words), min_count=config.min_count,
        frequent=", ".join(words[:6]), rare=", ".join(rare),
    )  # fmt: skip


def show_task(data: CBOWData, config: TrainConfig, seed: int, texts: Texts) -> None:
    """Prints one target of a held-out sentence with its context and its noise."""
    words, generator = data.vocabulary.words, np.random.default_rng(seed)
    lengths = np.diff(data.validation.starts)
    fitting = np.flatnonzero((lengths >= SENTENCE_WORDS[0]) & (lengths <= SENTENCE_WORDS[1]))
    number = int(generator.choice(fitting)) if len(fitting) else int(lengths.argmax())
    tokens, starts = data.validation.stretch(slice(number, number + 1))
    contexts, _, _ = context_windows(tokens, starts, config.window, generator)  # (n, 2 W)
    place = int(data.vocabulary.counts[tokens].argmin())  # the rarest word says most
    noise = generator.choice(len(words), config.negatives, p=data.vocabulary.noise())
    sentence = [words[token] for token in tokens]
    texts.say(
        "quick.task", target=sentence[place],
        before="".join(f"{word} " for word in sentence[:place]),
        after="".join(f" {word}" for word in sentence[place + 1 :]),
        context=" ".join(words[token] for token in contexts[place] if token != PADDING),
        noise=", ".join(words[token] for token in noise), window=config.window,
    )  # fmt: skip


def in_words(embeddings: Embeddings, word: str) -> str:
    """Returns the nearest words with their cosines, as a line."""
    near = embeddings.most_similar(word, NEIGHBORS)
    return ", ".join(f"{one.word} {one.similarity:.2f}" for one in near)


def contest(
    cbow: Embeddings, trained_in: float, data: CBOWData, config: TrainConfig, texts: Texts
) -> dict[str, float]:
    """Compares CBOW with counting and with random vectors; prints the table.

    Returns:
        "cbow", "ppmi" and "random" -> purity; "chance", and "seconds" of counting.
    """
    started = time.perf_counter()
    counted = counting_embeddings(data.train, config.model.d_model, config.window, config.seed)
    seconds = time.perf_counter() - started
    homes = homes_of(data)
    rivals = {
        "cbow": cbow, "ppmi": counted,
        "random": random_embeddings(cbow.words, config.model.d_model, config.seed),
    }  # fmt: skip
    found = {name: purity(embeddings, homes) for name, embeddings in rivals.items()}
    took = {"cbow": trained_in, "ppmi": seconds, "random": 0.0}
    rows = [(texts.get(f"quick.{name}"), round(100 * share, 1), round(took[name], 1))
            for name, share in found.items()]  # fmt: skip
    headers = [texts.get(f"quick.{name}") for name in ("method", "purity", "seconds")]
    texts.say("quick.counting", table=format_table(headers, rows))
    return {**found, "chance": chance(homes), "seconds": seconds}


def show_neighbors(embeddings: Embeddings, texts: Texts) -> None:
    """Prints neighbors of some words, an analogy, and the odd one out."""
    texts.say("quick.nearest")
    for word in probes(embeddings):
        texts.say("quick.neighbors", word=word, neighbors=in_words(embeddings, word))
    for pairs in known_relations(embeddings.index, most=2).values():
        (a, b), (c, _) = pairs[:2]
        answers = ", ".join(near.word for near in embeddings.analogy(a, b, c, n=3))
        texts.say("quick.analogy", a=a, b=b, c=c, answers=answers)
    if all(word in embeddings for word in ODD):
        odd = embeddings.odd_one_out(list(ODD))
        texts.say("quick.odd", words=", ".join(ODD), odd=odd)


def probes(embeddings: Embeddings) -> list[str]:
    """Returns the words of ``ASKED`` that are known; of a tiny text the most frequent word."""
    return [word for word in ASKED if word in embeddings] or list(embeddings.words[:1])


def draw(result: TrainResult, embeddings: Embeddings) -> list[Path]:
    """Saves the pictures of a training into its run's folder; returns their paths."""
    drawn = draw_words(embeddings) | draw_training(result.history)
    return [
        save_figure(figure, result.folder / "figures" / f"{name}.png")
        for name, figure in drawn.items()
    ]


def tell(preset: str, seed: int, device: str, texts: Texts) -> QuickNumbers:
    """Tells the story and returns its numbers.

    Args:
        preset: "quick" or "smoke".
        seed: of initial vectors, subsampling, windows and noise.
        device: "auto", "cpu", "cuda" or "mps".
        texts: the words.
    """
    config = replace(PRESETS[preset], seed=seed)
    data = load_corpus(config.dataset, config.min_count, config.max_tokens)
    words = data.vocabulary.words
    show_data(data, config, texts)
    show_task(data, config, seed, texts)
    untrained = random_embeddings(words, config.model.d_model, seed)
    word = probes(untrained)[0]
    texts.say("quick.untrained", word=word, neighbors=in_words(untrained, word))

    texts.say("quick.training")
    result = train(config, data, run_folder("cbow", f"quick_start_{preset}"), device=device)
    embeddings = Embeddings(words, result.vectors)
    found = contest(embeddings, result.seconds, data, config, texts)
    show_neighbors(embeddings, texts)
    files = (*draw(result, embeddings), *sorted(result.folder.glob("vectors*")))
    texts.say("quick.files", files="\n".join(f"   {path}" for path in files))
    texts.say("quick.next", run=result.folder.name)
    return QuickNumbers(
        found["cbow"], found["ppmi"], found["chance"], result.validation_loss,
        result.words_per_s, result.seconds, found["seconds"], files,
    )  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    return quick_start_parser("Word vectors by CBOW in seconds, offline.")


def main(argv: Sequence[str] | None = None) -> DemoResult:
    """Tells the story; returns its result."""
    args = build_parser().parse_args(argv)
    started = time.perf_counter()
    texts = Texts(Path(__file__).parent)
    numbers = tell(args.preset, args.seed, args.device, texts)
    return DemoResult(
        family="cbow",
        learned=texts.get("demo.learned"),
        headline=texts.get("demo.headline", cbow=numbers.purity, chance=numbers.chance,
                           counting=numbers.counting_purity),
        value=100.0 * numbers.purity,
        unit="%",
        seconds=time.perf_counter() - started,
        files=tuple(str(path) for path in numbers.files),
    )  # fmt: skip


if __name__ == "__main__":
    run_entry(main)
