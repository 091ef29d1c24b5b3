"""A map of held-out sentences before and after fine-tuning, colored by what they are about.

    python bert/embedding_visualization.py --before RUN --checkpoint FINETUNED --method tsne

RUN is what was fine-tuned: a run of ``bert_pretraining`` or a folder with published weights.
FINETUNED is a classifier saved by ``bert_finetuning``; its task gives the sentences and labels, and
the picture goes into its figures folder.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from bert.finetuning_tasks import load_task
from bert.open_model import open_classifier, open_encoder
from bert.sentence_embeddings import embed_sentences
from bert.sentence_map import (
    MIN_SENTENCES,
    Method,
    SentenceMap,
    embedding_map_figure,
    map_points,
    neighbor_agreement,
)
from bert.smoke_model import SENTENCES, untrained_model
from bert.wordpiece import WordPiece
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.device import tune_cpu
from tutorial_kit.entry_parsers import add_checkpoint
from tutorial_kit.plotting import save_figure
from tutorial_kit.saved_runs import figures_of, missing_checkpoint
from tutorial_kit.training import run_folder

__all__ = [
    "SentenceMap",
    "draw_map",
    "embedding_map_figure",
    "main",
    "map_points",
    "neighbor_agreement",
]

Examples = Sequence[tuple[str, str]]


def draw_map(
    before: tuple[nn.Module, WordPiece],
    after: tuple[nn.Module, WordPiece],
    examples: Examples,
    path: Path,
    kind: str = "label",
    method: Method = "pca",
) -> Path:
    """Writes the map of the same sentences by two models.

    Args:
        before: the pre-trained model and its tokenizer.
        after: the fine-tuned model and its tokenizer.
        examples: held-out (text, label).
        path: the PNG.
        kind: what the labels are, such as "library".
        method: "pca" or "tsne".

    Returns:
        ``path``.
    """
    texts, labels = [text for text, _ in examples], [name for _, name in examples]
    old, new = (embed_sentences(model, wordpiece, texts) for model, wordpiece in (before, after))
    return save_figure(embedding_map_figure(old, new, labels, kind, method), path)


def spread_out(examples: Examples, count: int) -> Examples:
    """Returns about ``count`` examples, taken at even distances: every label has its share."""
    return list(examples[:: max(1, len(examples) // count)][:count])


def held_out(task: str) -> Examples:
    """Returns the test examples of a task, by the name that a checkpoint holds, or of a file."""
    if task.startswith("polarity-"):  # the number says which tenth is the test
        return load_task("polarity", int(task.removeprefix("polarity-"))).test
    return load_task(task).test


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Draw sentences before and after fine-tuning.")
    add_checkpoint(parser)
    parser.add_argument(
        "--before", type=Path, metavar="RUN", help="the pre-trained model that was fine-tuned"
    )
    parser.add_argument("--task", help="a task or file with test sentences; none takes its own")
    parser.add_argument("--method", choices=["pca", "tsne"], default="pca", help="of the map")
    parser.add_argument("--sentences", type=int, default=800, help="how many, held out")
    parser.add_argument(
        "--preset", choices=["run", "smoke"], default="run", help="smoke: untrained models"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> Path:
    """Draws the map; returns the file."""
    args = build_parser().parse_args(argv)
    if args.sentences < MIN_SENTENCES:
        raise ValueError(
            f"--sentences {args.sentences} shows nothing. Use {MIN_SENTENCES} or more."
        )
    tune_cpu()
    before: tuple[nn.Module, WordPiece]
    after: tuple[nn.Module, WordPiece]
    examples: Examples
    if args.checkpoint is None and args.preset == "smoke":
        folder = run_folder("bert", "map_smoke") / "figures"
        examples = [(text, "matrix" if "matrix" in text else "other") for text in SENTENCES]
        before, after, kind = untrained_model(0), untrained_model(1), "subject"
    elif args.checkpoint is None:
        raise missing_checkpoint("to look into", "bert/bert_finetuning.py")
    elif args.before is None:
        raise ValueError(
            "--before is missing: a map shows what fine-tuning changed. Name the run that was "
            "fine-tuned."
        )
    else:
        tuned = open_classifier(args.checkpoint)
        folder, after = figures_of("bert", args.checkpoint), (tuned.model, tuned.wordpiece)
        before = open_encoder(args.before)
        kind = "library" if tuned.task == "library" else "label"
        examples = spread_out(held_out(args.task or tuned.task), args.sentences)
    path = folder / f"sentence_map_{args.method}.png"
    draw_map(before, after, examples, path, kind, args.method)
    print(path)
    return path


if __name__ == "__main__":
    run_entry(main)
