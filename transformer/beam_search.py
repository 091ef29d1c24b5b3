"""Beam search: the best whole translation, approximately, instead of the next best token.

Sentences are searched in one batch. Each holds K = ``beams`` hypotheses, finished or open. A step
continues every open one by every token and keeps the K best of everything there is. A finished
hypothesis (it has written ``<eos>``) is frozen: its score stays, it still competes for its place,
and it is never lost. Rank is the score of Wu et al. 2016, eq. 14, without the coverage term:

    score(Y) = log P(Y | X) / lp(Y),    lp(Y) = ((5 + |Y|) / (5 + 1)) ^ alpha

|Y| counts ``<eos>``. alpha = 0 compares plain sums, which favors short translations. A sentence is
done when no open hypothesis can still win. One beam is greedy choice.

Shapes: sentences N, open hypotheses of each W <= K, vocabulary V, tokens written so far T.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer.transformer_model import Transformer

DEAD = -math.inf  # the score of a place that holds no hypothesis
FEW_ROWS = 4  # below, a step is a handful of products of a matrix with a vector


@dataclass(frozen=True)
class Hypothesis:
    """One translation and what the model thinks of it."""

    tokens: list[int]  # without <bos> and <eos>
    score: float  # log P(Y | X) in nats, <eos> included
    normalized: float  # score / lp, what hypotheses are ranked by
    finished: bool = True  # False: it was cut at the limit before it wrote <eos>


@contextmanager
def evaluating(model: Transformer, rows: int = FEW_ROWS) -> Iterator[None]:
    """Turns dropout and gradients off inside a ``with`` block, then restores the model's mode.

    A product of a matrix with fewer than `FEW_ROWS` rows is left to MKL meanwhile: oneDNN, which
    ``tune_cpu`` prefers, takes half the time for many rows and three times as much for one.
    """
    was_training, precision = model.training, torch.get_float32_matmul_precision()
    model.eval()
    if rows < FEW_ROWS and not next(model.parameters()).is_cuda:
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        model.train(was_training)


def length_divisor(length: int, length_penalty: float) -> float:
    """Returns lp for a hypothesis of ``length`` tokens (Wu et al. 2016, eq. 14).

    >>> length_divisor(7, 1.0), length_divisor(7, 0.0)
    (2.0, 1.0)
    """
    return float(((5.0 + length) / 6.0) ** length_penalty)


def check_beams(beams: int, vocab_size: int, n_best: int = 1) -> None:
    """Refuses a number of beams that cannot be filled, or gives too few translations.

    Raises:
        ValueError: ``beams`` is less than 1, or more than the first step has tokens; ``n_best`` is
            not from 1 to ``beams``.
    """
    if not 1 <= beams <= vocab_size:
        why = "at least one hypothesis must be kept"
        if beams > vocab_size:
            why = f"the vocabulary has {vocab_size} tokens, so the first step offers no more"
        raise ValueError(f"beams={beams} is not possible: {why}. Use 1 (greedy), or a few.")
    if not 1 <= n_best <= beams:
        raise ValueError(
            f"n_best={n_best} translations cannot come from beams={beams}: a search ends with as "
            f"many hypotheses as it has beams. Use 1 to {beams}, or more beams."
        )


def beam_search(
    model: Transformer,
    source: Tensor,
    source_mask: Tensor,
    max_new: int,
    bos: int,
    eos: int,
    beams: int = 4,
    length_penalty: float = 1.0,
    n_best: int = 1,
) -> list[list[Hypothesis]]:
    """Searches for the best translations of every sentence of a batch.

    Args:
        model: any; its mode (training or not) is left as it was.
        source: (N, S), token ids.
        source_mask: (N, S), True at tokens, False at padding.
        max_new: most tokens of a translation, ``<eos>`` included.
        bos: id of the token every translation starts from.
        eos: id of the token that ends one.
        beams: K, hypotheses kept at each step.
        length_penalty: alpha, 0 or more; see above.
        n_best: how many translations to return, at most ``beams``; more search longer.

    Returns:
        For each sentence its best hypotheses, best first, ``n_best`` or as many as were found;
        finished ones stand before those cut at ``max_new``.

    Raises:
        ValueError: ``beams``, ``n_best``, ``length_penalty`` or ``max_new`` is out of range.
    """
    check_beams(beams, model.config.vocab_size, n_best)
    if not 0.0 <= length_penalty < math.inf:
        raise ValueError(
            f"length_penalty={length_penalty} is no exponent of the length: it would reward an "
            "early end. Use 0 (none) or more, such as 0.6 or 1."
        )
    if max_new < 1:
        raise ValueError(f"max_new={max_new} leaves no room for a translation. Use 1 or more.")
    beam = Beam(len(source), beams, max_new, eos, length_penalty, n_best, source.device)
    return search(model, source, source_mask, bos, beam)


def search(
    model: Transformer, source: Tensor, source_mask: Tensor, bos: int, beam: Beam
) -> list[list[Hypothesis]]:
    """Runs a prepared search; arguments and result as in `beam_search`."""
    if not len(source):
        return []
    with evaluating(model, len(source) * beam.beams):
        memory = model.encode(source, source_mask)  # (N, S, D)
        cache = model.start_cache(memory, source_mask, beam.max_new, beam.beams)
        tokens = source.new_full((len(source), 1), bos)  # (N, W), W = 1
        while True:
            log_p = model.step(tokens, cache).log_softmax(dim=-1)  # (N, W, V)
            parents, tokens, staying = beam.advance(log_p)
            if not len(tokens):
                return beam.results
            cache.follow(parents)
            if len(staying) < len(parents):
                cache.select(staying)


class Beam:
    """The hypotheses of all sentences of a batch: what `beam_search` keeps between two steps."""

    def __init__(
        self,
        sentences: int,
        beams: int,
        max_new: int,
        eos: int,
        length_penalty: float,
        n_best: int,
        device: torch.device,
    ) -> None:
        self.beams, self.max_new, self.eos = beams, max_new, eos
        self.length_penalty, self.n_best = length_penalty, n_best
        self.length = 0  # T
        self.results: list[list[Hypothesis]] = [[] for _ in range(sentences)]
        self.sentence = torch.arange(sentences, device=device)  # (N,), which result a row is for
        self.sums = torch.zeros(sentences, 1, device=device)  # (N, W), log P of the open ones
        shape = (sentences, 1, max_new)
        self.texts = torch.full(shape, eos, device=device)  # (N, W, max_new), <eos> behind T
        self.frozen = torch.full((sentences, beams), DEAD, device=device)  # (N, K), best first
        self.frozen_texts = self.texts.expand(-1, beams, -1)  # (N, K, max_new)

    def divisor(self, length: int) -> float:
        """Returns lp for ``length`` tokens."""
        return length_divisor(length, self.length_penalty)

    def advance(self, log_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Continues every open hypothesis by one token.

        Args:
            log_p: (N, W, V), log-probabilities of the next token; overwritten.

        Returns:
            Which hypothesis of its sentence each open one now continues, (N, W'); then, for the
            sentences that stay, the tokens they continue with, (N', W'), and their numbers, (N',).
            Sentences that are done may be missing; nobody stays at the end.
        """
        _, width, vocab_size = log_p.shape
        self.length += 1
        totals = log_p.add_(self.sums.unsqueeze(-1))  # (N, W, V)
        ending = totals[..., self.eos] / self.divisor(self.length)  # (N, W), these finish
        totals[..., self.eos] = DEAD
        room = min(self.beams, width * (vocab_size - 1))  # W'
        going = totals.flatten(1).topk(room)  # (N, W'), these go on
        opened = going.values / self.divisor(self.length)

        # The K best of frozen, finishing and open ones keep a place.
        rivals = torch.cat([self.frozen, ending, opened], dim=1)  # (N, K + W + W')
        losers = torch.ones_like(rivals, dtype=torch.bool)
        losers.scatter_(1, rivals.topk(self.beams).indices, False)
        _, ending_lost, opened_lost = losers.split([self.beams, width, room], dim=1)
        self._freeze(ending.masked_fill(ending_lost, DEAD))
        self.sums = going.values.masked_fill(opened_lost, DEAD)  # (N, W')

        parents = going.indices.div(vocab_size, rounding_mode="floor")  # (N, W'), 0 .. W - 1
        tokens = going.indices - parents * vocab_size
        self.texts = self.texts.gather(1, parents.unsqueeze(-1).expand(-1, -1, self.max_new))
        self.texts[..., self.length - 1] = tokens
        staying = self._retire()
        return parents, tokens[staying], staying

    def _freeze(self, ending: Tensor) -> None:
        """Adds those of ``ending`` (N, W) that are not `DEAD` to the frozen hypotheses."""
        if bool((ending == DEAD).all()):
            return
        best = torch.cat([self.frozen, ending], dim=1).topk(self.beams)  # (N, K)
        texts = torch.cat([self.frozen_texts, self.texts], dim=1)  # (N, K + W, max_new)
        self.frozen = best.values
        self.frozen_texts = texts.gather(1, best.indices.unsqueeze(-1).expand(-1, -1, self.max_new))

    def _retire(self) -> Tensor:
        """Stores the results of sentences that are done; returns which of N stay, (N',)."""
        if self.length == self.max_new:
            done = torch.ones_like(self.sentence, dtype=torch.bool)
        else:
            # A sum only falls, and the longest text divides it by most: nobody gets better.
            hope = self.sums.amax(dim=1) / self.divisor(self.max_new)  # (N,)
            done = self.frozen[:, self.n_best - 1] >= hope
        leaving = int(done.count_nonzero())
        if 4 * leaving < len(done) or not leaving:  # copying the cache costs more than a few rows
            return torch.arange(len(done), device=done.device)
        for place in done.nonzero()[:, 0].tolist():
            self.results[int(self.sentence[place])] = self._hypotheses(place)
        kept = (~done).nonzero()[:, 0]
        for name in ("sentence", "sums", "texts", "frozen", "frozen_texts"):
            setattr(self, name, getattr(self, name)[kept])
        return kept

    def _hypotheses(self, place: int) -> list[Hypothesis]:
        """Returns the best hypotheses of one sentence: finished ones, then open ones."""
        found = []
        for normalized, text in zip(
            self.frozen[place].tolist(), self.frozen_texts[place].tolist(), strict=True
        ):
            if normalized > DEAD:
                length = text.index(self.eos) if self.eos in text else len(text)
                score = normalized * self.divisor(length + 1)
                found.append(Hypothesis(text[:length], score, normalized))
        for score, text in zip(self.sums[place].tolist(), self.texts[place].tolist(), strict=True):
            if score > DEAD:
                normalized = score / self.divisor(self.length)
                found.append(Hypothesis(text[: self.length], score, normalized, finished=False))
        return found[: self.n_best]
