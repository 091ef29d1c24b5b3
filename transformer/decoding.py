"""From a trained model to translations: greedy choice, sampling, whole lists of sentences.

Every way of writing uses one `DecoderCache`: the source is encoded once, the decoder's keys and
values of past tokens are kept, so a step computes one token a sentence. Sentences that have written
``<eos>`` leave the batch. Beam search and the distribution to draw from have files of their own,
``beam_search`` and ``sampling``.

Shapes: sentences B, source length S, vocabulary V.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from transformer.beam_search import Hypothesis, beam_search, check_beams, evaluating
from transformer.sampling import Sampling, draw, filter_logits
from transformer.transformer_model import Transformer
from tutorial_kit.tokenizers import Tokenizer

__all__ = ["Hypothesis", "Sampling", "beam_search", "greedy", "sample", "translate"]

ROWS = 64  # sentences translated at once


def greedy(
    model: Transformer, source: Tensor, source_mask: Tensor, max_new: int, bos: int, eos: int
) -> list[list[int]]:
    """Takes the most probable token at every step.

    Args:
        model: any; its mode (training or not) is left as it was.
        source: (B, S), token ids.
        source_mask: (B, S), True at tokens, False at padding.
        max_new: most tokens of a translation, ``<eos>`` included.
        bos: id of the token every translation starts from.
        eos: id of the token that ends one.

    Returns:
        The tokens of each translation, without ``<bos>`` and ``<eos>``.
    """
    return _write(
        model, source, source_mask, max_new, bos, eos, lambda logits, rows: logits.argmax(dim=-1)
    )


def sample(
    model: Transformer,
    source: Tensor,
    source_mask: Tensor,
    max_new: int,
    bos: int,
    eos: int,
    sampling: Sampling,
    seed: int | Sequence[int] = 0,
) -> list[list[int]]:
    """Draws every token from the model's distribution.

    The other arguments and the result are those of `greedy`. ``sampling`` says what is left to draw
    from; a temperature of 0 is greedy choice. ``seed`` is one number a row; of a single one, row i
    gets ``seed + i``. A row draws by its own generator on the CPU, so that neither its neighbors
    nor the device change its text.
    """
    if sampling.temperature == 0.0:
        return greedy(model, source, source_mask, max_new, bos, eos)
    seeds = [seed + row for row in range(len(source))] if isinstance(seed, int) else seed
    dice = [torch.Generator().manual_seed(number) for number in seeds]

    def choose(logits: Tensor, rows: Tensor) -> Tensor:
        shares = filter_logits(logits.to("cpu", torch.float64), sampling).softmax(dim=-1)  # (B, V)
        rolls = [torch.rand(1, generator=dice[row], dtype=torch.float64) for row in rows.tolist()]
        return draw(shares, torch.cat(rolls)).to(logits.device)

    return _write(model, source, source_mask, max_new, bos, eos, choose)


def _write(
    model: Transformer,
    source: Tensor,
    source_mask: Tensor,
    max_new: int,
    bos: int,
    eos: int,
    choose: Callable[[Tensor, Tensor], Tensor],
) -> list[list[int]]:
    """Writes token by token; ``choose(logits (B, V), rows (B,))`` returns the next tokens (B,)."""
    if max_new < 1:
        raise ValueError(f"max_new={max_new} leaves no room for a translation. Use 1 or more.")
    written = source.new_full((len(source), max_new), eos)
    with evaluating(model, len(source)):
        rows = torch.arange(len(source), device=source.device)  # those still in the batch
        is_open = torch.ones_like(rows, dtype=torch.bool)
        cache = model.start_cache(model.encode(source, source_mask), source_mask, max_new)
        tokens = torch.full_like(rows, bos)
        for place in range(max_new):
            tokens = choose(model.step(tokens[:, None], cache)[:, 0], rows)
            written[rows, place] = tokens
            is_open &= tokens != eos
            left = int(is_open.count_nonzero())
            if not left:
                break
            if left <= 0.75 * len(rows):  # copying the cache costs more than a few idle rows
                kept = is_open.nonzero()[:, 0]
                cache.select(kept)
                rows, tokens, is_open = rows[kept], tokens[kept], is_open[kept]
    return [text[: text.index(eos)] if eos in text else text for text in written.tolist()]


def encode_source(model: Transformer, tokenizer: Tokenizer, sentence: str) -> list[int]:
    """Returns the ids the encoder reads: those of the sentence, then ``<eos>``.

    Raises:
        ValueError: the sentence is empty, longer than the model can read, or no text.
    """
    text = " ".join(sentence.split())
    if not text:
        raise ValueError("the sentence is empty: there is nothing to translate. Type some words.")
    tokens = [*tokenizer.encode(text), tokenizer.special_tokens["<eos>"]]
    if len(tokens) > model.config.max_len:
        raise ValueError(
            f"the sentence has {len(tokens)} tokens, <eos> included, and the model reads at most "
            f"{model.config.max_len}: it has no trained positions behind them. Translate it in "
            "parts, or train with a larger --max-len."
        )
    return tokens


def most_tokens(model: Transformer, length: int) -> int:
    """Returns how much a source of ``length`` tokens may become: an untrained model never ends."""
    return min(model.config.max_len, 2 * length + 20)


def text_of(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """Returns the text of a translation's tokens, on one line; special tokens have none."""
    special = set(tokenizer.special_tokens.values())
    return " ".join(tokenizer.decode([t for t in tokens if t not in special]).split())


def translate(
    model: Transformer,
    tokenizer: Tokenizer,
    sentences: Sequence[str],
    *,
    beams: int = 1,
    length_penalty: float = 1.0,
    sampling: Sampling | None = None,
    seed: int = 0,
) -> list[str]:
    """Translates sentences, in batches of similar length; the order stays.

    Args:
        model: a trained one, on any device.
        tokenizer: the one it was trained with.
        sentences: of the source language, none empty.
        beams: 1 is greedy choice, more is beam search.
        length_penalty: of beam search.
        sampling: draws instead of searching; sentence i with the seed ``seed + i``.
        seed: for sampling.

    Raises:
        ValueError: a sentence cannot be read, see `encode_source`; more beams than tokens.
    """
    texts = [""] * len(sentences)
    check_beams(beams, model.config.vocab_size)
    for rows, source, mask, limit in _batches(model, tokenizer, sentences):
        marks = tokenizer.special_tokens["<bos>"], tokenizer.special_tokens["<eos>"]
        if sampling is not None:
            seeds = [seed + row for row in rows]
            found = sample(model, source, mask, limit, *marks, sampling, seeds)
        elif beams == 1:
            found = greedy(model, source, mask, limit, *marks)
        else:
            searched = beam_search(model, source, mask, limit, *marks, beams, length_penalty)
            found = [hypotheses[0].tokens for hypotheses in searched]
        for row, length, tokens in zip(rows, mask.sum(dim=1).tolist(), found, strict=True):
            texts[row] = text_of(tokenizer, tokens[: most_tokens(model, length)])
    return texts


def translate_n_best(
    model: Transformer,
    tokenizer: Tokenizer,
    sentences: Sequence[str],
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    n_best: int = 1,
) -> list[list[Hypothesis]]:
    """Returns the ``n_best`` hypotheses of every sentence; arguments as in `translate`."""
    found: list[list[Hypothesis]] = [[] for _ in sentences]
    for rows, source, mask, limit in _batches(model, tokenizer, sentences):
        marks = tokenizer.special_tokens["<bos>"], tokenizer.special_tokens["<eos>"]
        searched = beam_search(model, source, mask, limit, *marks, beams, length_penalty, n_best)
        for row, hypotheses in zip(rows, searched, strict=True):
            found[row] = hypotheses
    return found


def _batches(
    model: Transformer, tokenizer: Tokenizer, sentences: Sequence[str]
) -> Iterator[tuple[list[int], Tensor, Tensor, int]]:
    """Yields (which sentences, source (B, S), mask (B, S), most new tokens), longest first."""
    ids = [encode_source(model, tokenizer, sentence) for sentence in sentences]
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    pad, device = tokenizer.special_tokens["<pad>"], next(model.parameters()).device
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        longest = len(ids[rows[0]])
        source = torch.tensor([ids[row] + [pad] * (longest - len(ids[row])) for row in rows])
        lengths = torch.tensor([len(ids[row]) for row in rows])
        mask = torch.arange(longest) < lengths.unsqueeze(1)  # (B, S)
        yield rows, source.to(device), mask.to(device), most_tokens(model, longest)
