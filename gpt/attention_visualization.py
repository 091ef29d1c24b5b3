"""Pictures of a trained GPT's attention, and the command that draws all pictures of a run.

``python gpt/attention_visualization.py --checkpoint outputs/gpt/standard --text "..."`` writes into
the figures folder of the run: attention, habits of the heads, logit lens, surprise, structure,
training curve, and a page to look through heads and layers. Layers and heads count from 1 there.
"""

from __future__ import annotations

if (
    __name__ == "__main__" and __spec__ is None
):  # started as a file: import from the repository root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from gpt.generation import load_model
from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from gpt.interpretation import PATTERNS, describe_heads, head_patterns, look_inside
from gpt.prediction_visualization import logit_lens_figure, surprise_figure, training_curve_figure
from tutorial_kit.attention_figures import heads_figure
from tutorial_kit.attention_page import AttentionMap, write_attention_page
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.entry_parsers import add_checkpoint
from tutorial_kit.model_diagram import model_diagram
from tutorial_kit.plotting import PALETTE, label, new_figure, save_figure
from tutorial_kit.saved_runs import figures_of, missing_checkpoint
from tutorial_kit.tokenizers import CharTokenizer, Tokenizer, token_names
from tutorial_kit.training import run_folder

TEXT = "The function returns the number of elements in the array."


def attention_figure(model: GPT, tokenizer: Tokenizer, tokens: Sequence[int]) -> Figure:
    """Draws every head's attention as a heat map: one row of pictures per layer.

    Args:
        model: any recipe.
        tokenizer: the model's.
        tokens: ids of a text, 3 to ``max_len``.
    """
    weights = look_inside(model, tokens).weights  # (L, H, T, T)
    names = token_names(tokenizer, tokens)
    return heads_figure(weights, names, names, describe_heads(head_patterns(weights)), "equal")


def head_figure(model: GPT, tokens: Sequence[int]) -> Figure:
    """Draws how each head divides its attention: previous token, itself, first token, others."""
    patterns = head_patterns(look_inside(model, tokens).weights)  # (L, H, 3)
    n_layers, n_heads, _ = patterns.shape
    names = [f"layer {i + 1}, head {j + 1}" for i in range(n_layers) for j in range(n_heads)]
    shares = patterns.flatten(0, 1)  # (L H, 3)
    figure, axis = new_figure(width=7.4, height=1.5 + 0.2 * len(names))
    left = np.zeros(len(names))
    for pattern, (name, color) in enumerate(zip(PATTERNS, PALETTE, strict=False)):
        width = shares[:, pattern].numpy()
        axis.barh(names, width, left=left, color=color, height=0.72, label=name)
        left += width
    axis.barh(names, 1 - left, left=left, color="#e0e0e0", height=0.72, label="other tokens")
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.grid(visible=False)
    label(axis, describe_heads(patterns), "share of attention, mean over the text's tokens")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def write_page(model: GPT, tokenizer: Tokenizer, tokens: Sequence[int], path: Path) -> Path:
    """Writes the interactive page: every head, and what the model expects after each token."""
    inside = look_inside(model, tokens)
    names = token_names(tokenizer, tokens)
    predictions = [
        list(zip(token_names(tokenizer, best), shares, strict=True))
        for best, shares in zip(inside.best.tolist(), inside.best_share.tolist(), strict=True)
    ]
    n_layers, n_heads = inside.weights.shape[:2]
    return write_attention_page(
        path,
        title=describe_heads(head_patterns(inside.weights)),
        maps=[AttentionMap("GPT", names, inside.weights, None, predictions, [*names[1:], ""])],
        note=f"GPT with {n_layers} layers of {n_heads} heads, one text of {len(names)} tokens. "
        "Layers, heads and tokens count from 1.",
    )


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Draw what a trained GPT does with a text.")
    add_checkpoint(parser)
    parser.add_argument("--text", default=TEXT, help="the text to look at")
    parser.add_argument(
        "--preset", choices=["run", "smoke"], default="run", help="smoke: an untrained model"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Draws every picture of a checkpoint; returns the files."""
    args = build_parser().parse_args(argv)
    if args.preset == "smoke":
        tokenizer: Tokenizer = CharTokenizer.from_text(args.text)
        model = GPT(GPTConfig(tokenizer.vocab_size, d_model=32, n_layers=2, d_ff=64))
        figures = run_folder("gpt", "pictures_smoke") / "figures"
    elif args.checkpoint is None:
        raise missing_checkpoint("to look into", "gpt/train_gpt.py")
    else:
        model, tokenizer = load_model(args.checkpoint)
        figures = figures_of("gpt", args.checkpoint)
    tokens = tokenizer.encode(args.text)
    if len(tokens) > model.config.max_len:
        print(f"only the first {model.config.max_len} of {len(tokens)} tokens fit; they are shown")
    files = draw_all(model, tokenizer, tokens[: model.config.max_len], figures)
    print("\n".join(map(str, files)))
    return files


def draw_all(model: GPT, tokenizer: Tokenizer, tokens: Sequence[int], figures: Path) -> list[Path]:
    """Draws every picture into a folder; the training curve only if the run has a log."""
    drawn = {
        "attention": attention_figure(model, tokenizer, tokens),
        "heads": head_figure(model, tokens),
        "logit_lens": logit_lens_figure(model, tokenizer, tokens),
        "surprise": surprise_figure(model, tokenizer, tokens),
        "structure": model_diagram(model, "GPT"),
    }
    metrics = figures.parent / "metrics.jsonl"
    if metrics.is_file():
        drawn["training_curve"] = training_curve_figure(metrics)
    files = [save_figure(figure, figures / f"{name}.png") for name, figure in drawn.items()]
    return [*files, write_page(model, tokenizer, tokens, figures / "attention.html")]


if __name__ == "__main__":
    run_entry(main)
