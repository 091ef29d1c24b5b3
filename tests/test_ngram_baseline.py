"""The n-gram model against a slow one written from the paper's formula, and its promises."""

import time
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.ngram_baseline import NgramModel, discounts, ngram_bits_per_byte


class SlowModel:
    """Modified Kneser-Ney with dictionaries, for one order; -1 stands before the text."""

    def __init__(self, order, vocab_size, ids):
        self.vocab_size, self.counts, self.discounts = vocab_size, {}, {}
        ids = list(ids)
        for k in range(1, order + 1):
            counts = defaultdict(int)
            for i in range(len(ids) - k + 1):
                counts[tuple(ids[i : i + k])] += 1
            if k < order:
                before = defaultdict(set)
                for i in range(len(ids) - k + 1):
                    before[tuple(ids[i : i + k])].add(ids[i - 1] if i else -1)
                counts = {gram: len(tokens) for gram, tokens in before.items()}
            self.counts[k] = dict(counts)
            self.discounts[k] = discounts(np.array(list(counts.values())))

    def probability(self, token, context):
        k = len(context) + 1
        shorter = 1 / self.vocab_size if k == 1 else self.probability(token, context[1:])
        grams = {g: c for g, c in self.counts[k].items() if g[:-1] == tuple(context)}
        if not grams:
            return shorter
        total = sum(grams.values())
        freed = sum(self.discounts[k][min(c, 3)] for c in grams.values())
        count = grams.get((*context, token), 0)
        return (count - self.discounts[k][min(count, 3)] + freed * shorter) / total


texts = st.integers(1, 4).flatmap(
    lambda vocab_size: st.tuples(
        st.just(vocab_size),
        st.lists(st.integers(0, vocab_size - 1), min_size=5, max_size=60),
        st.lists(st.integers(0, vocab_size - 1), max_size=12),
    )
)


@settings(deadline=None, max_examples=60)
@given(texts, st.integers(1, 5))
def test_equals_the_formula(text, order):
    vocab_size, train, held_out = text
    fast = NgramModel(5, vocab_size).fit(train).log2_prob(held_out, order)
    slow = SlowModel(order, vocab_size, train)
    expected = [
        np.log2(slow.probability(token, held_out[max(0, i - order + 1) : i]))
        for i, token in enumerate(held_out)
    ]
    np.testing.assert_allclose(fast, expected, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(texts, st.integers(1, 5))
def test_probabilities_sum_to_one_and_agree(text, order):
    vocab_size, train, context = text
    model = NgramModel(order, vocab_size + 2).fit(train)  # two tokens that training never shows
    for k in range(1, order + 1):
        distribution = model.distribution(context, k)
        assert distribution.shape == (vocab_size + 2,)
        assert abs(distribution.sum() - 1) < 1e-12 and distribution.min() > 0
        single = [model.log2_prob([*context, w], k)[-1] for w in range(vocab_size + 2)]
        np.testing.assert_allclose(np.log2(distribution), single, atol=1e-12)


def test_the_future_does_not_matter():
    ids = np.random.default_rng(0).integers(0, 5, 300)
    model = NgramModel(4, 5).fit(ids)
    whole = model.log2_prob(ids)
    np.testing.assert_array_equal(model.log2_prob(ids[:200]), whole[:200])
    assert model.log2_prob([]).shape == (0,)


def test_learns_what_there_is_to_learn():
    """A text in which each token follows from the two before it, and one of pure chance."""
    ids = [0, 1]
    for _ in range(3000):
        ids.append((ids[-1] + 2 * ids[-2] + 1) % 7)
    bits = ngram_bits_per_byte(ids[:2000], ids[2000:], len(ids) - 2000, 7, 4)
    assert bits[3] < 0.05 < bits[2] and bits[4] < 0.05
    chance = np.random.default_rng(0).integers(0, 8, 40_000)
    bits = ngram_bits_per_byte(chance[:20_000], chance[20_000:], 20_000, 8, 5)
    assert all(2.999 < value < 3.2 for value in bits.values())


def test_different_contexts_count_below_the_highest_order():
    """Token 1, "Francisco", always follows 0, "San"; after an unknown token it is a bad guess."""
    ids = [0, 1, 2, 0, 1, 3, 0, 1, 4, 2, 3, 2, 4, 3, 4] * 3
    model = NgramModel(2, 7).fit(ids)
    assert model.distribution([0])[1] > 0.8
    after_unknown = model.distribution([6])
    assert after_unknown[1] < after_unknown[2]  # though 1 is as frequent as 2
    assert ids.count(1) == ids.count(2)


def test_discounts_are_the_papers():
    counts = np.repeat([1, 2, 3, 4, 9], [100, 40, 20, 12, 7])
    y = 100 / 180
    expected = [0, 1 - 2 * y * 40 / 100, 2 - 3 * y * 20 / 40, 3 - 4 * y * 12 / 20]
    np.testing.assert_allclose(discounts(counts), expected)
    np.testing.assert_allclose(discounts(np.array([7, 7, 7])), [0, 0.5, 1, 1.5])
    np.testing.assert_allclose(discounts(np.repeat([1, 2, 3, 4], [1, 1, 9, 1])), [0, 0.5, 1, 1.5])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NgramModel(0, 5), "order=0, vocab_size=5: .* Use numbers from 1"),
        (lambda: NgramModel(2, 5).log2_prob([1]), "call fit with training ids first"),
        (lambda: NgramModel(3, 5).fit([1, 2]), "2 tokens hold no 3-gram"),
        (lambda: NgramModel(1, 5).fit([1, 5]), "ids from 1 to 5 with vocab_size=5"),
        (lambda: NgramModel(1, 5).fit([1, -1]), "ids from -1 to 1 with vocab_size=5"),
        (lambda: NgramModel(1, 5).fit([[1, 2]]), r"ids of shape \(1, 2\) and type int64"),
        (lambda: NgramModel(1, 5).fit([0.5, 1]), "ids of shape .* and type float64"),
        (
            lambda: NgramModel(1, 5).fit([0, 1]).log2_prob([0], 2),
            "order=2: this model counted n-grams of 1 to 1",
        ),
    ],
)
def test_bad_input_is_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_three_million_tokens_in_seconds():
    random = np.random.default_rng(0)
    ids = np.minimum(random.zipf(1.3, 3_000_000) - 1, 8191)
    start = time.perf_counter()
    ngram_bits_per_byte(ids, ids[:150_000], 600_000, 8192, 5)
    assert time.perf_counter() - start < 30  # about 8 seconds on two idle cores
