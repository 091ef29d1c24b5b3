"""A text of twenty words, and models of it: small enough to check every number of a training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import nn

from cbow.cbow_config import TrainConfig
from cbow.cbow_data import CBOWData, Corpus, Vocabulary
from cbow.cbow_model import CBOW
from cbow.step_data import Batch, StretchDrawer
from tutorial_kit.config import override

SMALL = override(
    TrainConfig(
        window=2,
        shared_by=4,
        shared_draws=3,
        words_per_step=16,
        summed_updates=4,
        sample=0.0,
        min_count=1,
    ),
    {"d_model": 8, "gradient": "exact", "lr": 0.05},
)


def toy_corpus(words: int = 400, seed: int = 0) -> Corpus:
    """Returns sentences in which a word depends on its neighbors: they count up, with gaps."""
    random = np.random.default_rng(seed)
    first = random.integers(0, 20, words // 8)
    steps = np.cumsum(random.integers(1, 3, (words // 8, 8)), axis=1)
    sentences = [[f"w{number % 20}" for number in row] for row in first[:, None] + steps]
    vocabulary = Vocabulary.count(sentences, 1)
    tokens = np.array([vocabulary.index[w] for s in sentences for w in s], dtype=np.int32)
    starts = np.arange(0, len(tokens) + 1, 8, dtype=np.int64)
    return Corpus("toy", vocabulary, tokens, starts)


def toy_data(words: int = 1000) -> CBOWData:
    """Returns a text to learn from and another of the same kind to measure on."""
    train, other = toy_corpus(words), toy_corpus(800, seed=1)
    names = np.array([train.vocabulary.index[word] for word in other.vocabulary.words])
    held_out = replace(other, vocabulary=train.vocabulary, tokens=names[other.tokens])
    return CBOWData("toy", train, held_out)


def toy_model(config: TrainConfig = SMALL) -> CBOW:
    """Returns a model whose vectors are all far from zero."""
    torch.manual_seed(0)
    model = CBOW(config.model, toy_corpus().vocabulary.counts.tolist(), config.negatives)
    for matrix in model.parameters():
        nn.init.normal_(matrix, std=0.5)
    return model


def toy_batch(config: TrainConfig = SMALL, n: int = 14) -> Batch:
    """Returns a batch of a toy text; its last group of targets is not full."""
    return StretchDrawer(toy_corpus(), config).draw(0, 0).part(config.shared_by, n)


def designs() -> Iterator[TrainConfig]:
    """Yields the settings of every kind of fast training."""
    for architecture, (combine, gradient), shared_by in product(
        ("cbow", "skipgram"), (("mean", "exact"), ("mean", "word2vec"), ("sum", "exact")), (1, 4)
    ):
        values = {"architecture": architecture, "combine": combine, "gradient": gradient}
        yield override(SMALL, {**values, "shared_by": shared_by})
