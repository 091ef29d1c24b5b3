"""What can be read off a Transformer on one sentence pair: where heads look, who aligns with whom.

Shapes: source length S (with ``<eos>``), target length T (``<bos> w1 .. wn``), encoder layers L,
decoder layers M, heads H. Everything returned is on the CPU. In words, layers and heads count
from 1.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer.beam_search import evaluating
from transformer.transformer_model import Transformer
from tutorial_kit.tokenizers import Tokenizer

ENCODER_PATTERNS = ("the token before", "the token after", "the token itself", "<eos>")
DECODER_PATTERNS = ("the token before", "the token itself", "<bos>")


@dataclass(frozen=True)
class Insides:
    """One forward pass over one sentence pair, taken apart."""

    source: list[int]  # S ids
    target: list[int]  # T ids, what the decoder reads
    labels: list[int]  # T ids, what it has to write: the target one place to the left, then <eos>
    encoder: Tensor  # (L, H, S, S), attention of the source to itself
    decoder: Tensor  # (M, H, T, T), causal attention of the target to itself
    cross: Tensor  # (M, H, T, S), attention of the target to the source
    best: Tensor  # (T, 5), the likeliest next tokens
    best_share: Tensor  # (T, 5), their probabilities


def look_inside(
    model: Transformer, tokenizer: Tokenizer, source: Sequence[int], written: Sequence[int]
) -> Insides:
    """Runs the model once and keeps what the pictures show.

    Args:
        model: any.
        tokenizer: the model's.
        source: ids of the source, ``<eos>`` included.
        written: ids of a translation, without ``<bos>`` and ``<eos>``; cut to what the model holds.
    """
    bos, eos = tokenizer.special_tokens["<bos>"], tokenizer.special_tokens["<eos>"]
    target = [bos, *written][: model.config.max_len]
    device = next(model.parameters()).device
    with evaluating(model):
        rows = [torch.tensor([list(ids)], device=device) for ids in (source, target)]
        logits, named = model(*rows, return_intermediates=True)
    shares, best = logits[0].float().softmax(dim=-1).topk(min(5, logits.shape[-1]))

    def stack(name: str) -> Tensor:
        layers = [weights for key, weights in named.items() if key.startswith(name)]
        return torch.cat(layers).float().cpu()

    return Insides(
        source=list(source),
        target=target,
        labels=[*target[1:], eos],
        encoder=stack("encoder.attention."),
        decoder=stack("decoder.attention."),
        cross=stack("cross.attention."),
        best=best.cpu(),
        best_share=shares.cpu(),
    )


def head_patterns(weights: Tensor, causal: bool) -> Tensor:
    """Returns the mean share of its attention that a token gives to each simple pattern.

    Counted where the patterns are different tokens, so a text needs 4 tokens, or 3 if ``causal``.

    Args:
        weights: (L, H, T, T), of self-attention.
        causal: False gives `ENCODER_PATTERNS`, True `DECODER_PATTERNS`.

    Returns:
        (L, H, 4) or (L, H, 3); what is missing to 1 goes to other tokens.
    """
    before = weights.diagonal(-1, -2, -1)  # (L, H, T - 1), row 1 is first
    itself = weights.diagonal(0, -2, -1)  # (L, H, T)
    if causal:
        parts = [before[..., 1:], itself[..., 2:], weights[..., 2:, 0]]  # rows 2 .. T - 1
    else:
        after, last = weights.diagonal(1, -2, -1), weights[..., -1]  # (L, H, T - 1), (L, H, T)
        rows = slice(1, weights.shape[-1] - 2)  # 1 .. T - 3
        parts = [before[..., :-2], after[..., rows], itself[..., rows], last[..., rows]]
    return torch.stack([part.mean(dim=-1) for part in parts], dim=-1)


def describe_heads(weights: Tensor, causal: bool) -> str:
    """Says which head follows a simple pattern most clearly; weights as in `head_patterns`."""
    name = "Decoder, causal" if causal else "Encoder"
    if weights.shape[-1] < (3 if causal else 4):
        return f"{name}: {weights.shape[-1]} tokens are too few to tell what a head looks for"
    patterns = head_patterns(weights, causal)
    share, place = patterns.flatten().max(dim=0)
    head, pattern = divmod(int(place), patterns.shape[-1])
    layer, head = divmod(head, patterns.shape[1])
    names = DECODER_PATTERNS if causal else ENCODER_PATTERNS
    if share < 0.3:
        return f"{name}: no head gives 0.30 of its weight to {', '.join(names[:-1])} or {names[-1]}"
    return (
        f"{name}: head {head + 1} of layer {layer + 1} looks at {names[pattern]} "
        f"({share:.2f} of its weight)"
    )


def describe_cross(weights: Tensor) -> str:
    """Says which head of the attention to the source, (M, H, T, S), points most sharply."""
    peaks = weights.amax(dim=-1).mean(dim=-1)  # (M, H)
    layer, head = divmod(int(peaks.argmax()), peaks.shape[1])
    even = 1 / weights.shape[-1]
    return (
        f"Attention to the source: head {head + 1} of layer {layer + 1} points most sharply, its "
        f"largest weight is {peaks[layer, head]:.2f} on average (an even spread: {even:.2f})"
    )


@dataclass(frozen=True)
class Alignment:
    """How much each word of a translation looked at each word of the source when it was written."""

    source: list[str]  # words, the last is <eos>
    target: list[str]  # words, or characters where there are no spaces; the last is <eos>
    weights: Tensor  # (len(target), len(source)), each row sums to 1

    def describe(self) -> str:
        """States how the order changes, and the clearest link; ``<eos>`` left out."""
        words, weights = self.target[:-1], self.weights[:-1, :-1]
        if not words or not weights.numel():
            return "There are no words to align"
        places = weights.argmax(dim=1).tolist()
        back = sum(b < a for a, b in zip(places, places[1:], strict=False))
        best, column = divmod(int(weights.argmax()), weights.shape[1])
        order = "Attention never jumps back in the source"
        if back:
            times = "once" if back == 1 else f"{back} times"
            order = f"Attention jumps back in the source {times} in {len(words) - 1} steps"
        return (
            f"{order}; the clearest link is {words[best].strip()} to {self.source[column].strip()} "
            f"({weights[best, column]:.2f})"
        )


def align(inside: Insides, tokenizer: Tokenizer) -> Alignment:
    """Joins tokens to words, and the attention of all decoder heads to one table.

    From a word to a word: the sum over the tokens looked at, the mean over those that look (Clark
    et al. 2019, section 4.1). The row of a token is that of the step which wrote it.
    """
    columns, rows = words(tokenizer, inside.source), words(tokenizer, inside.labels)
    tokens = inside.cross.mean(dim=(0, 1))  # (T, S)
    looked = torch.stack([tokens[:, places].sum(dim=1) for _, places in columns], dim=1)
    weights = torch.stack([looked[places].mean(dim=0) for _, places in rows])
    return Alignment([text for text, _ in columns], [text for text, _ in rows], weights)


def words(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Groups tokens to words: (text, places of its tokens).

    A word begins at a space, at a punctuation mark, at a special token, and at every token of a
    script without spaces; the bytes of one character are never separated.
    """
    groups: list[tuple[bytes, list[int]]] = []
    special = set(tokenizer.special_tokens.values())
    for place, token in enumerate(tokens):
        raw = tokenizer.decode_bytes([token])
        alone = token in special or (place > 0 and tokens[place - 1] in special)
        if groups and not alone and _continues(groups[-1][0], raw):
            groups[-1] = (groups[-1][0] + raw, [*groups[-1][1], place])
        else:
            groups.append((raw, [place]))
    return [(raw.decode("utf-8", errors="replace"), places) for raw, places in groups]


def _continues(before: bytes, raw: bytes) -> bool:
    """Tells whether a token's bytes go on with the word whose bytes stand before it."""
    try:
        left = before.decode("utf-8")[-1]
    except UnicodeDecodeError:
        return True  # a character is not yet complete
    if left.isspace():
        return not raw[:1].isspace()
    right = raw.decode("utf-8", errors="ignore")[:1]
    if not right:  # the first bytes of a character that several tokens make up
        return not _stands_alone(left) and raw[0] < 0xE0  # two bytes a character: a letter
    return not _stands_alone(left) and not _stands_alone(right)


def _stands_alone(character: str) -> bool:
    """Tells whether a character is no part of a longer word: space, punctuation, ideograph."""
    if character == "'":
        return False  # the boy's
    return unicodedata.category(character)[0] in "PZC" or unicodedata.category(character) == "Lo"
