"""Pictures of a trained Transformer, and the command that draws all pictures of a run.

``python transformer/attention_visualization.py --checkpoint outputs/transformer/standard --text
"..."`` translates the text and writes into the figures folder of the run: which word looked at
which, every head of the three kinds of attention, positions, structure, training curve, and a page
to look through heads and layers. Layers and heads count from 1 there.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from transformer.alignment import (
    Insides,
    align,
    describe_cross,
    describe_heads,
    look_inside,
)
from transformer.decoding import encode_source, text_of, translate_n_best
from transformer.position_pictures import positions_figure
from transformer.saved_model import EXAMPLES, load_model, untrained_model
from transformer.training_curve import training_curve_figure
from transformer.transformer_model import Transformer
from tutorial_kit.attention_figures import heads_figure
from tutorial_kit.attention_page import AttentionMap, write_attention_page
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.entry_parsers import add_checkpoint
from tutorial_kit.model_diagram import model_diagram
from tutorial_kit.plotting import (
    HEAT_MAP,
    SHADES,
    chinese_font,
    drawable,
    headline,
    label,
    new_figure,
    save_figure,
    share_bar,
    token_label,
)
from tutorial_kit.saved_runs import figures_of, missing_checkpoint
from tutorial_kit.tokenizers import Tokenizer, token_names
from tutorial_kit.training import run_folder

__all__ = ["cross_attention_figure", "head_figures", "main", "training_curve_figure", "write_page"]

BEAMS = 4


def look_at(
    model: Transformer, tokenizer: Tokenizer, text: str, translation: str | None = None
) -> Insides:
    """Takes apart how a sentence is translated.

    Args:
        model: any.
        tokenizer: the model's.
        text: the source.
        translation: what the decoder writes; None means the model's own, by beam search.

    Raises:
        ValueError: the text is empty or too long.
    """
    if translation is None:
        written = translate_n_best(model, tokenizer, [text], beams=BEAMS)[0][0].tokens
    else:
        written = tokenizer.encode(translation)
    return look_inside(model, tokenizer, encode_source(model, tokenizer, text), written)


def cross_attention_figure(model: Transformer, tokenizer: Tokenizer, text: str) -> Figure:
    """Draws which word of the source the model looked at when it wrote each word."""
    return alignment_figure(look_at(model, tokenizer, text), tokenizer)


def alignment_figure(inside: Insides, tokenizer: Tokenizer) -> Figure:
    """Draws the attention of a translation to its source, words against words, mean of all heads.

    A character that no installed font has becomes its number, such as ``U+6211``; `font_hint` says
    how to install one.
    """
    alignment = align(inside, tokenizer)
    columns, rows = ([token_label(word.strip(), 14) for word in side]
                     for side in (alignment.source, alignment.target))  # fmt: skip
    figure, axis = new_figure(
        width=max(5.0, 2.6 + 0.42 * len(columns)), height=max(3.0, 1.8 + 0.34 * len(rows))
    )
    image = axis.imshow(alignment.weights.numpy(), cmap=HEAT_MAP, norm=SHADES, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=60, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(length=0, labelsize=9)
    axis.grid(visible=False)
    label(axis, "", "source", "translation, written from top to bottom")
    share_bar(figure, image, axis, "attention weight (rows sum to 1)")
    headline(figure, alignment.describe())
    return figure


def head_figures(inside: Insides, tokenizer: Tokenizer) -> dict[str, Figure]:
    """Draws all heads: the source among itself, the target among itself, the target at the source.

    Returns:
        "encoder", "decoder" and "cross".
    """
    source, target = (token_names(tokenizer, ids) for ids in (inside.source, inside.target))
    encoder = describe_heads(inside.encoder, causal=False)
    decoder = describe_heads(inside.decoder, causal=True)
    return {
        "encoder": heads_figure(inside.encoder, source, source, encoder),
        "decoder": heads_figure(inside.decoder, target, target, decoder),
        "cross": heads_figure(inside.cross, target, source, describe_cross(inside.cross)),
    }


def write_page(model: Transformer, tokenizer: Tokenizer, text: str, path: Path) -> Path:
    """Writes the interactive page of a text and the model's translation of it."""
    return write_inside_page(look_at(model, tokenizer, text), tokenizer, path)


def write_inside_page(inside: Insides, tokenizer: Tokenizer, path: Path) -> Path:
    """Writes the interactive page: every head of the three kinds of attention, and what is next."""
    source, target, truth = (
        token_names(tokenizer, ids) for ids in (inside.source, inside.target, inside.labels)
    )
    following = [
        list(zip(token_names(tokenizer, best), shares, strict=True))
        for best, shares in zip(inside.best.tolist(), inside.best_share.tolist(), strict=True)
    ]
    n_heads = inside.encoder.shape[1]
    return write_attention_page(
        path,
        title=f"{text_of(tokenizer, inside.source)} → {text_of(tokenizer, inside.target)}",
        maps=[
            AttentionMap("target looks at source", target, inside.cross, source, following, truth),
            AttentionMap("source looks at itself", source, inside.encoder),
            AttentionMap("target looks at itself", target, inside.decoder, None, following, truth),
        ],
        note=f"Transformer with {len(inside.encoder)} encoder and {len(inside.decoder)} decoder "
        f"layers of {n_heads} heads. {describe_cross(inside.cross)}. Layers, heads and tokens "
        "count from 1.",
    )


def font_hint(texts: Iterable[str]) -> str | None:
    """Returns how to get a font if a figure has to write Chinese characters as numbers."""
    if chinese_font() is not None or all(drawable(text).count("U+") == 0 for text in texts):
        return None
    return (
        "no installed font has these characters, so the pictures show their numbers (U+...); the "
        "page attention.html shows them. Install a font such as Noto Sans CJK (Debian, Ubuntu: apt "
        "install fonts-noto-cjk), then delete matplotlib's list of fonts, "
        'python -c "import matplotlib; print(matplotlib.get_cachedir())"'
    )


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Draw how a trained Transformer translates a sentence.")
    add_checkpoint(parser)
    parser.add_argument("--text", help="the sentence to look at; none takes an example")
    parser.add_argument(
        "--translation", help="what the decoder writes; none takes the model's own translation"
    )
    parser.add_argument(
        "--preset", choices=["run", "smoke"], default="run", help="smoke: an untrained model"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Draws every picture of a checkpoint; returns the files."""
    args = build_parser().parse_args(argv)
    if args.preset == "smoke":
        saved = untrained_model()
        figures = run_folder("transformer", "pictures_smoke") / "figures"
    elif args.checkpoint is None:
        raise missing_checkpoint("to look into", "transformer/train_transformer.py")
    else:
        saved, figures = load_model(args.checkpoint), figures_of("transformer", args.checkpoint)
    text = EXAMPLES.get(saved.source_language, EXAMPLES["en"]) if args.text is None else args.text
    inside = look_at(saved.model, saved.tokenizer, text, args.translation)
    files = draw_all(saved.model, saved.tokenizer, inside, figures)
    hint = font_hint([text, text_of(saved.tokenizer, inside.target)])
    print("\n".join([*map(str, files), *([hint] if hint else [])]))
    return files


def draw_all(
    model: Transformer, tokenizer: Tokenizer, inside: Insides, figures: Path
) -> list[Path]:
    """Draws every picture into a folder; the training curve only if the run has a log."""
    heads = head_figures(inside, tokenizer)
    drawn = {
        "cross_attention": alignment_figure(inside, tokenizer),
        **{f"heads_{name}": figure for name, figure in heads.items()},
        "positions": positions_figure(model),
        "structure": model_diagram(model, "Transformer"),
    }
    metrics = figures.parent / "metrics.jsonl"
    if metrics.is_file():
        drawn["training_curve"] = training_curve_figure(metrics)
    files = [save_figure(figure, figures / f"{name}.png") for name, figure in drawn.items()]
    return [*files, write_inside_page(inside, tokenizer, figures / "attention.html")]


if __name__ == "__main__":
    run_entry(main)
