"""The trainings behind an experiment: where they are kept and what they give.

A training is kept by its settings and its text, so variants and experiments that need the same one
share it. Only its scores are kept: the vectors of all variants together would fill gigabytes.
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from cbow.cbow_config import TrainConfig
from cbow.cbow_data import CBOWData, load_corpus
from cbow.cbow_trainer import train
from cbow.embeddings import Embeddings, random_embeddings
from cbow.evaluation import score_pairs
from cbow.ppmi import counting_embeddings
from cbow.purity import Homes, homes_of, purity
from cbow.word_tests import load_tests
from tutorial_kit.experiments import kept_outcome, variant_folder

FAMILY = "cbow"
Method = Literal["train", "count", "random"]


@lru_cache(maxsize=4)
def text_of(dataset: str, min_count: int, share: float = 1.0) -> CBOWData:
    """Returns a text, or its first words.

    Args:
        dataset: its name.
        min_count: a rarer word gets no vector.
        share: of the training text, above 0 to 1.
    """
    if share == 1:
        return load_corpus(dataset, min_count)
    words = len(text_of(dataset, min_count).train.tokens)
    return load_corpus(dataset, min_count, max(1, round(share * words)))


@lru_cache(maxsize=2)
def all_homes(dataset: str, min_count: int) -> Homes:
    """Returns which words belong to one library, counted in the whole text."""
    return homes_of(text_of(dataset, min_count))


def run_variant(
    config: TrainConfig, method: Method = "train", share: float = 1.0, smallest: float = 1.0
) -> dict[str, float]:
    """Trains one variant on one text, unless that has been done before.

    Args:
        config: its settings; ``max_tokens`` is made from the share.
        method: "train", "count" (PPMI and SVD) or "random".
        share: of the training text that it learns from, above 0 to 1.
        smallest: the least share that it is compared with: scored are the words that occur there
            often enough, so that all are asked the same questions.

    Returns:
        "purity" in % if the text tells of libraries; "wordsim" and "simlex", 100 times Spearman's
        correlation, for other texts; "speed" in words of the text a second, "seconds", and
        "vocabulary", the number of words.
    """
    data = text_of(config.dataset, config.min_count, share)
    if share < 1:
        config = replace(config, max_tokens=len(data.train.tokens))
    sizes = [len(data.train.tokens), len(data.vocabulary)]
    folder = variant_folder(FAMILY, config, [method, smallest, sizes])

    def make_it() -> dict[str, float]:
        embeddings, words, seconds = _vectors(config, data, method, folder)
        known = text_of(config.dataset, config.min_count, smallest).vocabulary.words
        return {
            **_scores(embeddings, known, config),
            "speed": words / max(seconds, 1e-9),
            "seconds": seconds,
            "vocabulary": float(len(embeddings)),
        }

    return kept_outcome(folder, make_it)


def _vectors(
    config: TrainConfig, data: CBOWData, method: Method, folder: Path
) -> tuple[Embeddings, int, float]:
    """Returns vectors, the words of text that were read, and the seconds that it took."""
    words = data.vocabulary.words
    if method == "random":
        return random_embeddings(words, config.model.d_model, config.seed), 0, 0.0
    if method == "count":
        started = time.perf_counter()
        size = min(config.model.d_model, len(words))
        counted = counting_embeddings(data.train, size, config.window, config.seed)
        return counted, len(data.train.tokens), time.perf_counter() - started
    result = train(config, data, folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for path in folder.glob("vectors*"):
        path.unlink()
    return Embeddings(words, result.vectors), result.words, result.seconds


def _scores(
    embeddings: Embeddings, known: tuple[str, ...], config: TrainConfig
) -> dict[str, float]:
    """Asks what this text can answer, of known words alone."""
    asked = [word for word in known if word in embeddings.index]
    part = Embeddings(asked, embeddings.vectors[[embeddings.index[word] for word in asked]])
    data = text_of(config.dataset, config.min_count)
    if data.train.source_names:
        homes = all_homes(config.dataset, config.min_count)
        return {"purity": 100 * purity(part, _homes_among(homes, data.vocabulary.words, part))}
    tests = load_tests()
    found = {"wordsim": score_pairs(part, tests.wordsim), "simlex": score_pairs(part, tests.simlex)}
    return {name: 100 * (0.0 if math.isnan(score.spearman) else score.spearman)
            for name, score in found.items()}  # fmt: skip


def _homes_among(homes: Homes, words: tuple[str, ...], part: Embeddings) -> Homes:
    """Returns the homes of those words that have a vector, numbered by their rows there."""
    rows = np.array([part.index.get(words[row], -1) for row in homes.rows])
    return Homes(rows[rows >= 0], homes.home[rows >= 0], homes.names)
