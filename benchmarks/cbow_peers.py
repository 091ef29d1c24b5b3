"""What ``cbow`` is measured beside: gensim's Word2Vec, on the same words with the same settings.

gensim reads a file with one sentence a line (``corpus_file``, its fastest way). It is written from
our corpus, so both sides have the same vocabulary, the same sentences, and drop the same share of
frequent words. Rate, window, negatives, dimensions and epochs are those of our settings.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cbow.cbow_config import TrainConfig
from cbow.cbow_data import CBOWData
from cbow.corpus import Corpus
from cbow.embeddings import Embeddings

PEER = "gensim"
WORKERS = 2  # of gensim, as many as our threads
SMALLEST_RATE = 1e-4  # gensim's learning rate at the end, its default


@dataclass(frozen=True)
class Trained:
    """What a training did."""

    words: int  # of the text, before frequent ones are thinned out, all epochs
    seconds: float  # of training alone: reading the text and counting words is left out

    @property
    def rate(self) -> float:
        """Words of the text a second."""
        return self.words / self.seconds


@contextmanager
def line_file(corpus: Corpus) -> Iterator[Path]:
    """Writes the corpus as gensim reads it; the file is deleted afterwards."""
    with TemporaryDirectory(prefix="cbow-lines-") as folder:
        path = Path(folder) / "lines.txt"
        corpus.write_lines(path)
        yield path


def build_peer(config: TrainConfig, path: Path, workers: int = WORKERS) -> Any:
    """Returns gensim's untrained model with its vocabulary counted.

    Args:
        config: our settings, of CBOW with negative sampling and the mean of the context.
        path: from ``line_file``.
        workers: threads.

    Raises:
        ValueError: gensim is not installed.
    """
    try:
        from gensim.models import Word2Vec
    except ImportError:
        raise ValueError(
            "gensim is not installed: there is nothing to compare with. Install "
            "requirements-dev.txt."
        ) from None
    model = Word2Vec(
        vector_size=config.model.d_model, window=config.window, negative=config.negatives,
        ns_exponent=config.noise_power, sample=config.sample, alpha=config.lr,
        min_alpha=SMALLEST_RATE, sg=0, hs=0, cbow_mean=1, min_count=1, workers=workers,
        seed=config.seed + 1,
    )  # fmt: skip
    model.build_vocab(corpus_file=str(path))
    return model


def train_peer(model: Any, path: Path, epochs: int) -> Trained:
    """Trains gensim's model; a second call goes on from the vectors, with the rate at its start."""
    started = time.perf_counter()
    _, words = model.train(
        corpus_file=str(path), total_examples=model.corpus_count,
        total_words=model.corpus_total_words, epochs=epochs,
    )  # fmt: skip
    return Trained(int(words), time.perf_counter() - started)


def peer_embeddings(model: Any, words: tuple[str, ...]) -> Embeddings:
    """Returns gensim's vectors in the order of our words."""
    rows = [model.wv.key_to_index[word] for word in words]
    return Embeddings(words, model.wv.vectors[rows])


def share_kept(corpus: Corpus, sample: float) -> float:
    """Returns the expected share of the text that is left when frequent words are thinned out."""
    vocabulary = corpus.vocabulary
    kept = np.dot(vocabulary.counts, vocabulary.keep_probability(sample))
    return float(kept / vocabulary.counts.sum())


def shortened(data: CBOWData, words: int) -> CBOWData:
    """Returns the first sentences of the training text, with the whole text's vocabulary.

    Args:
        data: a text.
        words: the training text is cut after the sentence in which this word stands.
    """
    corpus = data.train
    last = int(np.searchsorted(corpus.starts, words))
    starts = corpus.starts[: last + 1]
    sources = None if corpus.sources is None else corpus.sources[:last]
    tokens = corpus.tokens[: starts[-1]]
    part = Corpus(corpus.name, corpus.vocabulary, tokens, starts, sources, corpus.source_names)
    return CBOWData(data.name, part, data.validation)
