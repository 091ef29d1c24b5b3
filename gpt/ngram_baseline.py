"""N-gram language models: counting instead of learning, and the baseline that a GPT has to beat.

An n-gram model of order n predicts a token w from the n - 1 tokens h before it, by how often w came
after h in training. Most contexts are rare, so the counts are smoothed: a discount D is taken from
every count, and the mass this frees goes to the prediction from a context that is one token shorter
(modified Kneser-Ney, Chen and Goodman 1998, section 3; h' is h without its first token):

    p_k(w | h) = (c_k(h w) - D_k(c_k(h w))) / sum_v c_k(h v)  +  b_k(h) p_{k-1}(w | h')

b_k(h) is the mass that the discounts free, so that p_k sums to 1; p_0 = 1 / V. At the highest order
c is a count of occurrences. Below it, c_k counts the *different* tokens seen before the k-gram:
"Francisco" is frequent but follows one word only, so it is a bad guess in an unknown context.
Our text is one stream: its first k-grams count as preceded by one more, otherwise unused token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_USUAL_DISCOUNTS = (0.0, 0.5, 1.0, 1.5)  # for texts too short or too regular to estimate them


@dataclass(frozen=True)
class _Estimate:
    """What one kind of count gives the n-grams of one length."""

    seen: Floats  # (number of k-grams,): (count - discount) / sum of counts in its context
    back_off: Floats  # (number of contexts,): the mass left for the shorter context


@dataclass(frozen=True)
class _Level:
    """The k-grams of the training text. A k-gram is named by its rank among those of its length."""

    keys: (
        Ids  # (number of k-grams,), sorted: rank of the first k - 1 tokens * vocab_size + last one
    )
    highest: _Estimate  # from counts of occurrences: used if k is the model's order
    lower: _Estimate  # from counts of different tokens before: used if the order is larger


def discounts(counts: Ids) -> Floats:
    """Estimates how much to take from counts of 0, 1, 2 and of 3 or more.

    With n_r the number of n-grams whose count is r, and Y = n_1 / (n_1 + 2 n_2), the discount of r
    is r - (r + 1) Y n_{r+1} / n_r (Chen and Goodman 1998, eq. 26).

    Args:
        counts: (number of n-grams,) positive counts.

    Returns:
        (4,) discounts; that of 0 is 0, that of r lies between 0 and r.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(np.float64)
    if n[1:5].all():
        y = n[1] / (n[1] + 2 * n[2])
        result = np.array([0.0, *(r - (r + 1) * y * n[r + 1] / n[r] for r in (1, 2, 3))])
        if (result[1:] > 0).all():
            return result
    return np.array(_USUAL_DISCOUNTS)


class NgramModel:
    """An interpolated modified Kneser-Ney model of any order over token ids.

    One fit serves all orders up to the given one, because they share their lower levels.

    Args:
        order: longest n-gram, in tokens; 1 looks at no context.
        vocab_size: V; ids are 0 to V - 1.

    Raises:
        ValueError: a number is below 1.

    >>> model = NgramModel(order=2, vocab_size=3).fit(np.array([0, 1, 0, 1, 0, 2]))
    >>> bool(model.distribution([0])[1] > model.distribution([0])[2])
    True
    """

    def __init__(self, order: int, vocab_size: int) -> None:
        if order < 1 or vocab_size < 1:
            raise ValueError(
                f"order={order}, vocab_size={vocab_size}: an n-gram has at least one token and a "
                "vocabulary at least one entry. Use numbers from 1."
            )
        self.order = order
        self.vocab_size = vocab_size
        self.levels: list[_Level] = []

    def fit(self, ids: npt.ArrayLike) -> NgramModel:
        """Counts the n-grams of a text; a former fit is forgotten.

        Args:
            ids: (T,) token ids of the training text, one stream.

        Raises:
            ValueError: the ids are not a flat list of 0 to V - 1, or fewer than the order.
        """
        tokens = self._checked(ids)
        if len(tokens) < self.order:
            raise ValueError(
                f"{len(tokens)} tokens hold no {self.order}-gram to count. Give more text."
            )
        self.levels = []
        n_contexts = 1  # the empty context
        keys, _, ranks, counts = _distinct(tokens)
        for k in range(1, self.order + 1):
            # ranks[i] names the k-gram that begins at position i.
            contexts, level_keys = keys // self.vocab_size, keys
            highest = lower = _estimate(counts, contexts, n_contexts)
            n_contexts = len(keys)
            if k < self.order:
                keys, places, longer, counts = _distinct(ranks[:-1] * self.vocab_size + tokens[k:])
                before = np.bincount(ranks[places + 1], minlength=len(level_keys))
                before[ranks[0]] += 1  # what stands before the first k-gram of the text
                lower = _estimate(before, contexts, len(highest.back_off))
                ranks = longer
            self.levels.append(_Level(level_keys, highest, lower))
        return self

    def log2_prob(self, ids: npt.ArrayLike, order: int | None = None) -> Floats:
        """Returns how well a text is predicted, token by token.

        Args:
            ids: (T,) token ids, each predicted from those before it, at most order - 1.
            order: use n-grams up to this length only, by default the model's order.

        Returns:
            (T,) base-2 logarithms of probabilities, in bits. Their sum, negated, is the number of
            bits that an arithmetic coder needs for the text; none is minus infinity.

        Raises:
            ValueError: the ids or the order do not fit the model, or `fit` was not called.
        """
        levels = self._used_levels(order)
        tokens = self._checked(ids)
        contexts = [ranks[:-1] for ranks in self._contexts(tokens, levels)]
        return np.log2(self._probabilities(tokens, contexts, levels))

    def distribution(self, context: npt.ArrayLike, order: int | None = None) -> Floats:
        """Returns the probability of every token after a context.

        Args:
            context: (T,) token ids, may be empty; only the last `order` - 1 matter.
            order: use n-grams up to this length only, by default the model's order.

        Returns:
            (V,) probabilities, all positive; their sum is 1.
        """
        levels = self._used_levels(order)
        ranks = self._contexts(self._checked(context), levels)
        contexts = [np.repeat(rank[-1:], self.vocab_size) for rank in ranks]
        return self._probabilities(np.arange(self.vocab_size), contexts, levels)

    def _contexts(self, tokens: Ids, levels: list[_Level]) -> list[Ids]:
        """Returns, for k = 0, 1, ..., the ranks (T + 1,) of the k tokens before each position."""
        result = [np.zeros(len(tokens) + 1, dtype=np.int64)]  # the empty context
        for level in levels[:-1]:
            result.append(np.concatenate([[-1], self._rank(level, result[-1][:-1], tokens)]))
        return result

    def _probabilities(self, tokens: Ids, contexts: list[Ids], levels: list[_Level]) -> Floats:
        """Evaluates the equation at the top of this module, from the empty context upwards.

        `tokens` (M,) are predicted; `contexts` are their contexts' ranks (M,) for each level.
        """
        result = np.full(len(tokens), 1 / self.vocab_size)
        for context, level in zip(contexts, levels, strict=True):
            estimate = level.highest if level is levels[-1] else level.lower
            rank = self._rank(level, context, tokens)
            own = np.where(rank >= 0, estimate.seen[rank], 0.0)
            result = own + np.where(context >= 0, estimate.back_off[context], 1.0) * result
        return result

    def _rank(self, level: _Level, contexts: Ids, tokens: Ids) -> Ids:
        """Returns the rank of each k-gram, -1 if training has none; a context of -1 is unknown."""
        wanted = contexts * self.vocab_size + tokens
        places = np.minimum(np.searchsorted(level.keys, wanted), len(level.keys) - 1)
        return np.where((contexts >= 0) & (level.keys[places] == wanted), places, -1)

    def _used_levels(self, order: int | None) -> list[_Level]:
        if not self.levels:
            raise ValueError("this model has no counts yet: call fit with training ids first.")
        if order is not None and not 1 <= order <= self.order:
            raise ValueError(
                f"order={order}: this model counted n-grams of 1 to {self.order} tokens. Use these."
            )
        return self.levels[: order or self.order]

    def _checked(self, ids: npt.ArrayLike) -> Ids:
        array = np.asarray(ids)
        tokens = array.astype(np.int64)
        if tokens.ndim != 1 or (tokens != array).any():
            raise ValueError(
                f"ids of shape {array.shape} and type {array.dtype}: a text is a flat list of whole"
                " numbers. Give one id for each token."
            )
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < self.vocab_size:
            raise ValueError(
                f"ids from {tokens.min()} to {tokens.max()} with vocab_size={self.vocab_size}: the "
                "model counts ids below vocab_size only. Use the tokenizer's vocabulary size."
            )
        return tokens


def _distinct(keys: Ids) -> tuple[Ids, Ids, Ids, Ids]:
    """Returns the sorted distinct keys, a place of each, the rank of every key, and the counts."""
    order = np.argsort(keys)  # np.unique would use a stable sort, which takes several times as long
    in_order = keys[order]
    starts = np.flatnonzero(np.diff(in_order, prepend=-1))
    ranks = np.empty_like(order)
    counts = np.diff(starts, append=len(keys))
    ranks[order] = np.repeat(np.arange(len(starts)), counts)
    return in_order[starts], order[starts], ranks, counts


def _estimate(counts: Ids, contexts: Ids, n_contexts: int) -> _Estimate:
    """Turns the counts of k-grams, which begin with `contexts`, into an estimate."""
    discount = discounts(counts)[np.minimum(counts, 3)]
    sums = np.bincount(contexts, counts, n_contexts)  # 0 after the text's last tokens
    freed = np.bincount(contexts, discount, n_contexts)
    back_off = np.divide(freed, sums, out=np.ones(n_contexts), where=sums > 0)
    return _Estimate((counts - discount) / sums[contexts], back_off)


def ngram_bits_per_byte(
    train_ids: npt.ArrayLike, held_out_ids: npt.ArrayLike, n_bytes: int, vocab_size: int, order: int
) -> dict[int, float]:
    """Trains on one text and measures another with every order.

    Args:
        train_ids: (T,) ids of the training split.
        held_out_ids: (S,) ids of the held-out split.
        n_bytes: length of the held-out text in bytes: it makes tokenizers comparable.
        vocab_size: V.
        order: the largest order.

    Returns:
        Order -> held-out bits per byte; 1 is the unigram, 2 the bigram.
    """
    model = NgramModel(order, vocab_size).fit(train_ids)
    return {
        k: float(-model.log2_prob(held_out_ids, k).sum() / n_bytes) for k in range(1, order + 1)
    }
