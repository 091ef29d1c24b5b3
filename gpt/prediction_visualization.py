"""Pictures of what a GPT predicts: the training curve, the logit lens, the surprise of a text.

One function per figure; each title states what was found. Layers count from 1 in pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from gpt.gpt_model import GPT
from gpt.interpretation import look_inside, settled_after
from tutorial_kit.plotting import (
    HEAT_MAP,
    INK,
    PALETTE,
    SHADES,
    headline,
    label,
    new_figure,
    share_bar,
    token_label,
)
from tutorial_kit.tokenizers import Tokenizer, token_names
from tutorial_kit.training import read_evaluations

MAX_COLUMNS = 20  # tokens of a logit lens
ROW_TOKENS, MAX_ROWS = 40, 6  # bars in a row of the surprise figure, and rows


def training_curve_figure(metrics: Path) -> Figure:
    """Draws training and validation loss over the steps of a run.

    Args:
        metrics: the run's ``metrics.jsonl``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no evaluation yet.
    """
    rows = read_evaluations(metrics)
    steps = [row["step"] for row in rows]
    validation = [row["validation_loss"] for row in rows]
    best, last = min(rows, key=lambda row: row["validation_loss"]), rows[-1]
    figure, axis = new_figure()
    style = {"marker": "o", "markersize": 3} if len(rows) <= 25 else {}
    train = [row["train_loss"] for row in rows]
    axis.plot(steps, train, label="training (mean since the last)", color=PALETTE[4], **style)
    axis.plot(steps, validation, label="validation (whole split)", color=PALETTE[0], **style)
    axis.plot(best["step"], best["validation_loss"], "o", color=PALETTE[1], label="best")
    scale = last["bits_per_byte"] / last["validation_loss"]  # one text, so one factor
    right = axis.secondary_yaxis("right", functions=(lambda y: y * scale, lambda y: y / scale))
    right.set_ylabel("validation loss (bits per byte)", fontsize=9)
    right.tick_params(labelsize=8)
    finding = (
        f"Validation loss falls from {validation[0]:.2f} to {best['validation_loss']:.2f} nats per "
        f"token ({best['bits_per_byte']:.3f} bits per byte) in {best['step']:,} steps, "
        f"{best['seconds']:.0f} s"
    )
    if last["validation_loss"] > best["validation_loss"] + 0.01:
        finding += f"; then it rises to {last['validation_loss']:.2f}: the model learns by heart"
    label(axis, finding, "step", "loss (nats per token)")
    axis.legend(frameon=False, fontsize=8)
    return figure


def logit_lens_figure(model: GPT, tokenizer: Tokenizer, tokens: Sequence[int]) -> Figure:
    """Draws what the model would guess if it ended after each block (nostalgebraist 2020).

    The color is the probability, at that depth, of the token that the whole model guesses in the
    end. Of a long text the last `MAX_COLUMNS` tokens are shown.
    """
    inside = look_inside(model, tokens)
    n_layers, length = model.config.n_layers, len(tokens)
    settled = settled_after(inside.guesses).float().median()
    shares = inside.final_share.mean(dim=1)
    first = max(0, length - MAX_COLUMNS)
    shown = inside.final_share[:, first:].numpy()
    figure, axis = new_figure(width=1.6 + 0.62 * shown.shape[1], height=1.7 + 0.34 * len(shown))
    image = axis.imshow(shown, cmap=HEAT_MAP, norm=SHADES, aspect="auto", origin="lower")
    for depth, guesses in enumerate(inside.guesses[:, first:].tolist()):
        for place, name in enumerate(token_names(tokenizer, guesses)):
            color = "white" if SHADES(shown[depth, place]) > 0.6 else INK
            axis.text(
                place, depth, token_label(name), ha="center", va="center", fontsize=6.5, color=color
            )
    names = [token_label(name) for name in token_names(tokenizer, tokens[first:])]
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(
        range(n_layers + 1), ["embedding"] + [f"block {i + 1}" for i in range(n_layers)]
    )
    axis.grid(visible=False)
    share_bar(figure, image, axis, "probability of\nthe final guess")
    where = f"after block {settled:.0f} of {n_layers}" if settled >= 1 else "at the embedding"
    label(
        axis,
        f"Half of the final guesses stand {where}; their mean probability is "
        f"{shares[0]:.2f} at the embedding and {shares[-1]:.2f} at the end",
        "token read so far (each column guesses the next one)",
        "the model cut off after",
    )
    return figure


def surprise_figure(model: GPT, tokenizer: Tokenizer, tokens: Sequence[int]) -> Figure:
    """Draws the surprise at each token of a text, and the surprise that the model expected.

    A bar is -log2 p of the token that came; the mark is the mean over the model's own distribution.
    Where a bar ends far above its mark, the model was sure of something else. A long text continues
    on the next row; of a very long one the last `MAX_ROWS` rows are shown.
    """
    inside = look_inside(model, tokens)
    names = token_names(tokenizer, tokens)
    bits, expected = inside.surprise.numpy(), inside.expected_surprise.numpy()
    n_rows = min(MAX_ROWS, -(-len(bits) // ROW_TOKENS))
    first = max(0, len(bits) - n_rows * ROW_TOKENS)
    figure, _ = new_figure(1, n_rows, width=max(6.4, 1.2 + 0.2 * min(len(bits), ROW_TOKENS)),
                           height=1.1 + 1.7 * n_rows)  # fmt: skip
    for row, axis in enumerate(figure.axes):
        place = np.arange(first + row * ROW_TOKENS, min(len(bits), first + (row + 1) * ROW_TOKENS))
        axis.bar(place, bits[place], color=PALETTE[0], width=0.75, label="surprise")
        axis.plot(place, expected[place], "_", color=PALETTE[1], markersize=8, markeredgewidth=2,
                  label="expected by the model")  # fmt: skip
        axis.set_xticks(place, [token_label(names[i + 1]) for i in place], rotation=90)
        axis.set_xlim(place[0] - 0.7, place[0] + min(len(bits), ROW_TOKENS) - 0.3)
        axis.set_ylim(0, 1.05 * max(bits.max(), expected.max()))
        axis.grid(visible=False, axis="x")
        axis.set_ylabel("surprise (bits)")
    figure.axes[-1].set_xlabel("token that came")
    worst = int(bits.argmax())
    guess = token_names(tokenizer, inside.best[worst, :1].tolist())[0]
    headline(
        figure,
        f"{bits.mean():.1f} bits of surprise a token; the most at {names[worst + 1]!r} "
        f"({bits[worst]:.1f} bits), where the model expected {guess!r} "
        f"({inside.best_share[worst, 0]:.2f})",
    )
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower right", ncols=2,
                  frameon=False, fontsize=8)  # fmt: skip
    return figure
