"""The word vectors of a run of ``cbow_trainer``, from its checkpoint."""

from __future__ import annotations

from pathlib import Path

from cbow.cbow_data import Vocabulary
from cbow.embeddings import Embeddings
from tutorial_kit.checkpoints import load_checkpoint
from tutorial_kit.saved_runs import find_run


def load_run(name: Path | str) -> Embeddings:
    """Loads what ``cbow_trainer`` has saved last; a run that was stopped has vectors, too.

    Args:
        name: a run's name under outputs/cbow/, its folder, or a checkpoint file.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it cannot be read, or its parts do not fit together.
    """
    path = find_run("cbow", name)
    state = load_checkpoint(path, family="cbow")["state"]
    words, vectors = Vocabulary.from_dict(state["vocabulary"]).words, state["model"]["input"]
    if len(words) != len(vectors):
        raise ValueError(
            f"{path} holds {len(words):,} words and vectors for {len(vectors):,}: they belong to "
            "different runs. Train again."
        )
    return Embeddings(words, vectors)
