"""What a token costs, by counting: operations, and bytes that come from memory.

A machine does at most P operations and moves at most W bytes a second. A program that needs so many
of both can run no faster than the slower of the two lets it (Williams et al. 2009, "Roofline"):

    operations a second <= min(P, W * intensity)         intensity = operations / bytes

Left of the ridge P / W the memory is the limit, right of it the arithmetic. Counted are the matrix
products, attention, the weights and the key/value cache. Left out, because they are small or stay
in the processor's own caches: embeddings, norms, biases, activations, the softmax.

Symbols: width D, feed-forward F, layers L, key/value heads G of width K, vocabulary V, batch B,
context S (tokens that are attended to).
"""

from __future__ import annotations

from dataclasses import dataclass

from gpt.gpt_config import GPTConfig

FLOAT = 4  # bytes of a float32 number


@dataclass(frozen=True)
class Cost:
    """Of one token; add two for one after the other, multiply for several."""

    operations: float  # multiplications and additions, each counted
    bytes: float  # read from memory or written to it

    @property
    def intensity(self) -> float:
        """Operations per byte: the place on the roofline's horizontal axis."""
        return self.operations / self.bytes

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.operations + other.operations, self.bytes + other.bytes)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.operations * times, self.bytes * times)


@dataclass(frozen=True)
class Roof:
    """What a machine can do at most."""

    arithmetic: float  # operations a second, P
    bandwidth: float  # bytes a second, W

    @property
    def ridge(self) -> float:
        """Operations per byte above which the arithmetic is the limit, P / W."""
        return self.arithmetic / self.bandwidth

    def attainable(self, intensity: float) -> float:
        """Returns the most operations a second of a program with this intensity.

        >>> [Roof(100.0, 20.0).attainable(intensity) for intensity in (0.5, 5.0, 50.0)]
        [10.0, 100.0, 100.0]
        """
        return min(self.arithmetic, self.bandwidth * intensity)

    def tokens_per_second(self, cost: Cost) -> float:
        """Returns the most tokens a second that cost so much each."""
        return self.attainable(cost.intensity) / cost.operations


def matrices(config: GPTConfig) -> list[tuple[int, int]]:
    """Returns (rows, columns) of every matrix that a token is multiplied by; the head is last."""
    c = config
    expanded = 2 * c.d_ff if c.activation == "swiglu" else c.d_ff
    layer = [
        (c.d_model + 2 * c.n_kv_heads * c.d_head, c.d_model),  # queries, keys, values
        (c.d_model, c.d_model),  # output
        (expanded, c.d_model),
        (c.d_model, c.d_ff),
    ]
    return [*layer * c.n_layers, (c.vocab_size, c.d_model)]


def weight_bytes(config: GPTConfig, weights: str = "float32") -> int:
    """Returns the bytes of all matrices.

    Args:
        config: the model's shape.
        weights: "float32", or "int8": one byte a number and one float32 scale a row.
    """
    count = sum(rows * columns for rows, columns in matrices(config))
    if weights == "float32":
        return FLOAT * count
    return count + FLOAT * sum(rows for rows, _ in matrices(config))


def cache_bytes(config: GPTConfig, context: float) -> float:
    """Returns the bytes of one row's keys and values: 2 L G K S numbers."""
    return FLOAT * 2 * config.n_layers * config.n_kv_heads * config.d_head * context


def decode_cost(config: GPTConfig, batch: int, context: float, weights: str = "float32") -> Cost:
    """Returns what a token costs where B rows write one each, with the cache.

    2 operations for each weight and 4 L D S for attention (D S multiplications and additions for
    the scores, as many for the sum of the values); the weights are read once for all B rows, the
    cache once for each.

    Args:
        config: the model's shape.
        batch: rows, B.
        context: tokens each row attends to, itself included, S.
        weights: "float32" or "int8".
    """
    products = 2 * sum(rows * columns for rows, columns in matrices(config))
    attention = 4 * config.n_layers * config.d_model * context
    return Cost(
        products + attention, weight_bytes(config, weights) / batch + cache_bytes(config, context)
    )


def prefill_cost(config: GPTConfig, length: int, weights: str = "float32") -> Cost:
    """Returns what a token of a prompt costs; the whole prompt is read in one pass.

    Only the last token is projected onto the vocabulary. A token attends to (T + 1) / 2 tokens on
    average; keys and values are written.

    Args:
        config: the model's shape.
        length: tokens of the prompt, T.
        weights: "float32" or "int8".
    """
    *blocks, head = [2 * rows * columns for rows, columns in matrices(config)]
    attention = 4 * config.n_layers * config.d_model * (length + 1) / 2
    return Cost(
        sum(blocks) + head / length + attention,
        weight_bytes(config, weights) / length + cache_bytes(config, 1),
    )


def tokens_per_round(acceptance: float, draft_tokens: int) -> float:
    """Returns the mean tokens of a round of speculative decoding (Leviathan et al. 2023, eq. 1).

    (1 - a^(k+1)) / (1 - a): the proposals up to the first that is refused, and one of the target's.

    >>> [tokens_per_round(acceptance, 4) for acceptance in (0.0, 0.5, 1.0)]
    [1.0, 1.9375, 5.0]
    """
    return sum(acceptance**power for power in range(draft_tokens + 1))


def speculative_cost(
    target: GPTConfig, draft: GPTConfig, context: float, draft_tokens: int, acceptance: float
) -> Cost:
    """Returns what a token costs that a draft proposes and the target checks.

    A round: k tokens of the draft, one pass of the target over k + 1 tokens, which reads its
    weights and its cache once.

    Args:
        target: the large model.
        draft: the small one.
        context: tokens attended to, S.
        draft_tokens: proposals a round, k.
        acceptance: probability that a proposal is taken, 0 to 1.
    """
    one, checked = decode_cost(target, 1, context), draft_tokens + 1
    check = Cost(one.operations * checked, one.bytes + cache_bytes(target, 1) * draft_tokens)
    round_ = decode_cost(draft, 1, context) * draft_tokens + check
    return round_ * (1 / tokens_per_round(acceptance, draft_tokens))
