"""Pictures of a trained BERT, and the command that draws all pictures of a run.

``python bert/attention_visualization.py --checkpoint outputs/bert/standard --text "..."`` writes
into the figures folder of the run: every head on the text, what heads look at over held-out texts,
structure, training curve, and a page to look through heads and layers, with what is expected in
each place. Layers and heads count from 1 there.
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

from matplotlib.figure import Figure

from bert.attention_insides import Insides, look_inside
from bert.bert_heads import BertForPreTraining
from bert.head_figures import head_statistics_figure
from bert.head_statistics import head_statistics, statistics_of_text
from bert.open_model import open_pretrained
from bert.smoke_model import SENTENCES, untrained_model
from bert.training_figures import training_curve_figure
from bert.wordpiece import WordPiece, is_continuation
from tutorial_kit.attention_figures import heads_figure
from tutorial_kit.attention_page import AttentionMap, write_attention_page
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.documentation_corpus import documentation_corpus
from tutorial_kit.entry_parsers import add_checkpoint
from tutorial_kit.model_diagram import model_diagram
from tutorial_kit.plotting import save_figure
from tutorial_kit.saved_runs import figures_of, missing_checkpoint
from tutorial_kit.training import run_folder

TEXT = "The function returns the number of elements."
SECOND = "An empty array returns zero."
PAIRS = 200  # pairs of held-out paragraphs that habits are averaged over


def attention_figure(inside: Insides, wordpiece: WordPiece) -> Figure:
    """Draws every head's attention in one text as a heat map: one row of pictures per layer."""
    return heads_figure(
        inside.weights, inside.names, inside.names, describe_text(inside, wordpiece), "equal"
    )


def write_page(inside: Insides, wordpiece: WordPiece, path: Path) -> Path:
    """Writes the interactive page: every head, and what is expected where, if it is hidden."""
    n_layers, n_heads = inside.weights.shape[:2]
    names = [_spaced(name) for name in inside.names]
    return write_attention_page(
        path,
        title=describe_text(inside, wordpiece),
        maps=[
            AttentionMap(
                "BERT",
                names,
                inside.weights,
                predictions=[[(_spaced(token), p) for token, p in row] for row in inside.expected],
                truth=[
                    name if row else "" for name, row in zip(names, inside.expected, strict=True)
                ],
                predictions_title="Expected in this place, if its token is masked",
            )
        ],
        note=f"BERT with {n_layers} layers of {n_heads} heads, one text of {len(names)} tokens. "
        "Layers, heads and tokens count from 1.",
    )


def _spaced(name: str) -> str:
    """Returns a token as the page's line of text shows it: a space before what starts a word."""
    return name if is_continuation(name) else f" {name}"


def describe_text(inside: Insides, wordpiece: WordPiece) -> str:
    """Names the head with the clearest habit in one text."""
    return statistics_of_text(inside.weights, inside.tokens, wordpiece).describe()


def held_out_pairs(wordpiece: WordPiece, max_len: int, count: int = PAIRS) -> list[list[int]]:
    """Returns pairs of neighboring paragraphs from modules that no training has seen.

    As in Clark et al. 2019, section 3: two paragraphs between [CLS] and [SEP], cut to 128 tokens.
    They are taken at even distances, so that every library has its share.

    Args:
        wordpiece: the model's.
        max_len: the most tokens that the model reads.
        count: pairs; fewer if there are not so many.
    """
    pairs = [
        pair
        for document in documentation_corpus().documents("test")
        for pair in zip(document.paragraphs[::2], document.paragraphs[1::2], strict=False)
    ]
    chosen = pairs[:: max(1, len(pairs) // count)][:count]
    return [
        wordpiece.pair(wordpiece.encode(a), wordpiece.encode(b), min(max_len, 128))[0]
        for a, b in chosen
    ]


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Draw where the heads of a trained BERT look.")
    add_checkpoint(parser)
    parser.add_argument("--text", help="the text to look at; none takes a pair of examples")
    parser.add_argument("--second", metavar="TEXT", help="a second text behind the first")
    parser.add_argument(
        "--preset", choices=["run", "smoke"], default="run", help="smoke: an untrained model"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Draws every picture of a checkpoint; returns the files."""
    args = build_parser().parse_args(argv)
    if args.checkpoint is None and args.preset != "smoke":
        raise missing_checkpoint("to look into", "bert/bert_pretraining.py")
    text, second = args.text, args.second
    if text is None:
        text, second = TEXT, second or SECOND
    if args.checkpoint is None:
        model, wordpiece = untrained_model()
        figures = run_folder("bert", "pictures_smoke") / "figures"
        pairs = [wordpiece.pair(wordpiece.encode(one), None, 64)[0] for one in SENTENCES]
    else:
        model, wordpiece = open_pretrained(args.checkpoint)
        figures = figures_of("bert", args.checkpoint)
        pairs = held_out_pairs(wordpiece, model.bert.config.max_len)
    inside = look_inside(model, wordpiece, text, second)
    files = draw_all(model, wordpiece, inside, pairs, figures)
    print("\n".join(map(str, files)))
    return files


def draw_all(
    model: BertForPreTraining,
    wordpiece: WordPiece,
    inside: Insides,
    pairs: Sequence[Sequence[int]],
    figures: Path,
) -> list[Path]:
    """Draws every picture into a folder; the training curve only if the run has a log."""
    drawn = {
        "attention": attention_figure(inside, wordpiece),
        "heads": head_statistics_figure(head_statistics(model, wordpiece, pairs)),
        "structure": model_diagram(model, "BERT"),
    }
    metrics = figures.parent / "metrics.jsonl"
    if metrics.is_file():
        drawn["training_curve"] = training_curve_figure(metrics)
    files = [save_figure(figure, figures / f"{name}.png") for name, figure in drawn.items()]
    return [*files, write_page(inside, wordpiece, figures / "attention.html")]


if __name__ == "__main__":
    run_entry(main)
