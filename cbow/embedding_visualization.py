"""Pictures of word vectors, and the command that draws all pictures of a run.

``python cbow/embedding_visualization.py --run quick`` writes into the figures folder of the run:
two maps of words, pairs of the same relation as arrows, the matrix of cosines, how the neighbors of
a word change during training, the curve of the training; and for the documentation corpus a map of
the words that belong to one library. With ``WORD...`` behind it the maps and the matrix show these
words and their neighbors. ``--vectors FILE`` draws vectors in word2vec's format, of any origin.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cbow.cbow_config import PRESETS, TrainConfig
from cbow.cbow_data import load_corpus
from cbow.cbow_example import open_vectors
from cbow.cbow_trainer import train
from cbow.embedding_figures import analogy_figure, map_figure, similarity_figure
from cbow.embeddings import Embeddings
from cbow.purity import homes_of
from cbow.training_figures import neighbors_figure, training_figure
from cbow.word_groups import LEAST, known_groups, known_relations
from tutorial_kit.config import config_from_dict
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.plotting import save_figure
from tutorial_kit.saved_runs import figures_of, find_run
from tutorial_kit.training import read_evaluations, run_folder

__all__ = ["build_parser", "draw_libraries", "draw_training", "draw_words", "main", "word_groups"]

AROUND = 9  # neighbors drawn with each word that is asked for
MOMENTS = 6  # of a training, at which the neighbors are shown; the first and the last among them
OF_LIBRARY = 24  # words of each library on its map; as many are named as find a place


def word_groups(embeddings: Embeddings, words: Sequence[str] = ()) -> dict[str, list[str]]:
    """Returns what is drawn: each word with its neighbors, or the groups that the text knows best.

    A word that is near to two of them belongs to the first; a text that knows no group of
    ``word_groups`` is shown around its most frequent words.

    Raises:
        ValueError: a word is unknown.
    """
    groups = {} if words else known_groups(embeddings.index)
    if len(groups) >= 2:
        return groups
    taken: set[str] = set()
    for word in words or embeddings.words[:LEAST]:
        near = [word, *(one.word for one in embeddings.most_similar(word, AROUND))]
        groups[word] = [one for one in dict.fromkeys(near) if one not in taken]
        taken.update(groups[word])
    return {name: group for name, group in groups.items() if group}


def draw_words(embeddings: Embeddings, words: Sequence[str] = ()) -> dict[str, Figure]:
    """Draws maps and matrix of some words, and arrows of the relations that are known.

    Args:
        embeddings: their vectors.
        words: to be drawn with their neighbors; none takes groups of words.

    Returns:
        Name of the file, without its ending -> figure.

    Raises:
        ValueError: a word is unknown.
    """
    groups = word_groups(embeddings, words)
    figures = {
        "projection": map_figure(embeddings, groups, "pca"),
        "map": map_figure(embeddings, groups, "tsne"),
        "similarity": similarity_figure(embeddings, groups),
    }
    if relations := known_relations(embeddings.index):
        figures["analogies"] = analogy_figure(embeddings, relations)
    return figures


def draw_training(rows: Sequence[Mapping[str, Any]], word: str = "") -> dict[str, Figure]:
    """Draws how a training went.

    Args:
        rows: of its ``metrics.jsonl``.
        word: whose neighbors are followed; none takes the first that was watched.
    """
    figures = {"training": training_figure(rows)}
    watched = rows[-1]["neighbors"]  # word -> its nearest words
    if watched and (not word or word in watched):
        word = word or next(iter(watched))
        last = len(rows) - 1
        moments = sorted({round(last * part / (MOMENTS - 1)) for part in range(MOMENTS)})
        shown = [rows[moment] for moment in moments]
        figures["neighbors"] = neighbors_figure(
            word, [row["words"] / 1e6 for row in shown], [row["neighbors"][word] for row in shown]
        )
    return figures


def draw_libraries(embeddings: Embeddings, config: TrainConfig) -> dict[str, Figure]:
    """Draws the words that belong to one library, if the text tells of libraries.

    Args:
        embeddings: what was trained.
        config: of the training.
    """
    data = load_corpus(config.dataset, config.min_count, config.max_tokens)
    if len(data.train.source_names) < 2:
        return {}
    owned = homes_of(data).words_of(data.vocabulary.words, OF_LIBRARY)
    groups = {
        name: [word for word in words if word in embeddings.index] for name, words in owned.items()
    }
    groups = {name: words for name, words in groups.items() if words}
    return {"libraries": map_figure(embeddings, groups, "tsne", kind="library")}


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Draw word vectors: maps, arrows, neighbors, similarities.")
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="drawn with their neighbors; none takes groups"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--run", metavar="NAME", help="run of cbow_trainer: name or folder")
    which.add_argument("--vectors", type=Path, metavar="FILE",
                       help="vectors in word2vec's text or binary format")  # fmt: skip
    parser.add_argument("--preset", choices=["run", "smoke"], default="run",
                        help="smoke: train for a second and draw that")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Draws every picture of a run or of a vector file; returns the files."""
    args = build_parser().parse_args(argv)
    if args.preset == "smoke" and args.run is None and args.vectors is None:
        args.run = str(_smoke_run())
    embeddings = open_vectors(args)
    drawn = draw_words(embeddings, args.words)
    folder = run_folder("cbow", "pictures") / "figures"
    if args.run is not None:
        run = find_run("cbow", args.run)
        folder = figures_of("cbow", run)
        drawn |= _draw_run(run, embeddings, args.words)
    files = [save_figure(figure, folder / f"{name}.png") for name, figure in drawn.items()]
    print("\n".join(map(str, files)))
    return files


def _draw_run(run: Path, embeddings: Embeddings, words: Sequence[str]) -> dict[str, Figure]:
    """Draws what a run's folder tells beside the vectors."""
    config = config_from_dict(TrainConfig, json.loads((run / "config.json").read_text("utf-8")))
    rows = read_evaluations(run / "metrics.jsonl")
    figures = draw_training(rows, words[0] if words else "")
    return figures if words else figures | draw_libraries(embeddings, config)


def _smoke_run() -> Path:
    """Trains for a second; returns the run's folder."""
    config, folder = PRESETS["smoke"], run_folder("cbow", "pictures_smoke")
    train(config, load_corpus(config.dataset, config.min_count), folder, device="cpu")
    return folder


if __name__ == "__main__":
    run_entry(main)
