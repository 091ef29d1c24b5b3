"""The losses and their hand-made gradients, the noise, the tree, word2vec's own arithmetic."""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cbow.cbow_components import (
    by_group,
    combine_context,
    hierarchical_gradients,
    hierarchical_losses,
    negative_sampling_gradients,
    negative_sampling_losses,
    softmax_gradients,
    softmax_losses,
)
from cbow.cbow_config import PRESETS, CBOWConfig, TrainConfig, build_parser
from cbow.huffman import huffman_paths
from cbow.paces import input_paces, kept_shares, node_paces, output_paces
from cbow.step_data import NoiseSampler
from cbow.word2vec_reference import Word2VecRandom, word2vec_update
from tutorial_kit.config import override


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_a_loss_by_hand() -> None:
    hidden, target = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.0]])
    noise = torch.tensor([[[0.0, 1.0], [1.0, -1.0]]])  # scores 2 and -1
    attracted = math.log(1 + math.exp(-0.5))
    repelled = math.log(1 + math.exp(2)) + math.log(1 + math.exp(-1))
    for negatives in (2, 5):
        loss = negative_sampling_losses(hidden, target, noise, negatives, shared_by=1)
        assert loss.item() == pytest.approx(attracted + negatives / 2 * repelled, rel=1e-6)


@pytest.mark.parametrize(("n", "shared_by"), [(1, 1), (6, 1), (8, 4), (7, 4), (33, 32)])
def test_negative_sampling_gradients_are_autograds(n: int, shared_by: int) -> None:
    groups = -(-n // shared_by)
    inputs = [normal(n, 6), normal(n, 6), normal(groups, 3, 6)]
    expected = torch.autograd.grad(negative_sampling_losses(*inputs, 5, shared_by).sum(), inputs)
    with torch.no_grad():
        found = negative_sampling_gradients(*inputs, 5, shared_by)
        twice = negative_sampling_gradients(*inputs, 5, shared_by, scale=-2.0)
    for ours, theirs, scaled in zip(found, expected, twice, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
        torch.testing.assert_close(scaled, -2 * theirs, rtol=0, atol=1e-12)


def test_shared_noise_is_each_targets_own_repeated() -> None:
    hidden, target, noise = normal(6, 5), normal(6, 5), normal(2, 4, 5)
    shared = negative_sampling_losses(hidden, target, noise, 4, 3)
    own = negative_sampling_losses(hidden, target, noise[torch.arange(6) // 3], 4, 1)
    torch.testing.assert_close(shared, own)


def test_groups_are_filled_up_with_zeros() -> None:
    groups = by_group(torch.ones(5, 2), 3)
    assert groups.shape == (2, 3, 2)
    assert groups.sum() == 10 and groups[1, 2].tolist() == [0, 0]


def test_softmax_gradients_are_autograds_and_probabilities_sum_to_one() -> None:
    hidden, output, words = normal(4, 6), normal(9, 6), torch.randint(0, 9, (4,))
    expected = torch.autograd.grad(softmax_losses(hidden, output, words).sum(), [hidden, output])
    with torch.no_grad():
        found = softmax_gradients(hidden, output, words)
        each = torch.stack([softmax_losses(hidden, output, torch.full((4,), w)) for w in range(9)])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    torch.testing.assert_close((-each).exp().sum(dim=0), torch.ones(4, dtype=torch.float64))


def test_hierarchical_gradients_are_autograds_and_leaves_sum_to_one() -> None:
    paths = huffman_paths([40, 20, 9, 9, 5, 2, 1])
    hidden, output, words = normal(4, 6), normal(6, 6), torch.randint(0, 7, (4,))
    nodes, turns, on_path = (part[words] for part in paths)
    vectors = output[nodes]
    expected = torch.autograd.grad(
        hierarchical_losses(hidden, vectors, turns, on_path).sum(), [hidden, vectors]
    )
    with torch.no_grad():
        found = hierarchical_gradients(hidden, vectors, turns, on_path)
        ways = [[part[[w] * 4] for part in paths] for w in range(7)]
        every = [hierarchical_losses(hidden, output[way[0]], *way[1:]) for way in ways]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    total = (-torch.stack(every)).exp().sum(dim=0)
    torch.testing.assert_close(total, torch.ones(4, dtype=torch.float64))


def heap_cost(counts: list[int]) -> int:
    """Returns the least sum of count times length of way, with a heap."""
    heap, cost = list(counts), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        cost += joined
        heapq.heappush(heap, joined)
    return cost


@pytest.mark.parametrize("counts", [[1, 1], [5, 1], [9, 9, 9, 9, 9], list(range(60, 0, -1)),
                                    [2**k for k in range(12, -1, -1)]])  # fmt: skip
def test_the_tree_is_huffmans(counts: list[int]) -> None:
    paths = huffman_paths(counts)
    lengths = paths.on_path.sum(dim=1)
    assert (lengths * torch.tensor(counts)).sum() == heap_cost(counts)
    assert set(paths.nodes[paths.on_path].tolist()) == set(range(len(counts) - 1))
    ways = {tuple(turns[: int(n)].tolist()) for turns, n in zip(paths.turns_left, lengths)}  # noqa: B905
    assert len(ways) == len(counts)  # no two words share a leaf


def test_a_tree_needs_two_words_in_order() -> None:
    for counts in ([3], [1, 2]):
        with pytest.raises(ValueError, match=f"a tree over {len(counts)} words cannot be built"):
            huffman_paths(counts)


@pytest.mark.parametrize("combine", ["mean", "sum"])
def test_context_vectors(combine: str) -> None:
    vectors = normal(3, 4, 2)
    inside = torch.tensor([[1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]).bool()
    hidden = combine_context(vectors, inside, CBOWConfig(combine=combine))  # type: ignore[arg-type]
    first = vectors[0][[0, 1, 3]]
    torch.testing.assert_close(hidden[0], first.mean(0) if combine == "mean" else first.sum(0))
    torch.testing.assert_close(hidden[1], vectors[1, 2])
    assert hidden[2].tolist() == [0, 0]


def test_word2vecs_gradient_is_that_of_the_sum_at_the_value_of_the_mean() -> None:
    vectors, inside = normal(1, 3, 2), torch.ones(1, 3, dtype=torch.bool)
    exact = combine_context(vectors, inside, CBOWConfig(gradient="exact"))
    whole = combine_context(vectors, inside, CBOWConfig(gradient="word2vec"))
    torch.testing.assert_close(whole, exact)
    (of_exact,) = torch.autograd.grad(exact.sum(), vectors)
    (of_whole,) = torch.autograd.grad(whole.sum(), vectors)
    torch.testing.assert_close(of_exact, torch.full_like(of_exact, 1 / 3))
    torch.testing.assert_close(of_whole, torch.ones_like(of_whole))


def test_noise_is_drawn_within_four_sigma() -> None:
    counts = np.array([1000, 300, 100, 30, 10, 1])
    p = counts**0.75 / (counts**0.75).sum()
    n = 200_000
    seen = np.bincount(NoiseSampler(p).draw((n,), np.random.default_rng(0)), minlength=len(p))
    assert len(seen) == len(p)
    assert np.all(np.abs(seen - n * p) < 4 * np.sqrt(n * p * (1 - p)))


def test_presets_and_their_command_line() -> None:
    assert set(PRESETS) == {"smoke", "quick", "standard", "long"}
    assert build_parser().parse_args([]).preset == "quick"
    assert all(isinstance(config, TrainConfig) for config in PRESETS.values())


@pytest.mark.parametrize(("field", "value", "text"), [
    ("lr", 0.0, "lr=0.0 learns nothing"),
    ("window", 0, "window=0 is not possible"),
    ("negatives", 0, "negatives=0 is not possible"),
    ("words_per_step", 1000, "words_per_step=1000 cannot be cut into lanes=2 parts"),
    ("objective", "hinge", "objective='hinge' is not known. Use one of negative"),
])  # fmt: skip
def test_settings_that_cannot_be(field: str, value: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        override(TrainConfig(), {field: value})


def test_our_gradient_is_word2vecs_but_for_its_table() -> None:
    """Both change the same rows by the same, but for the table's steps."""
    random = np.random.default_rng(0)
    vectors, output = (random.normal(0, 0.3, (9, 5)).astype(np.float32) for _ in range(2))
    before = torch.from_numpy(vectors.copy()), torch.from_numpy(output.copy())
    context, target, noise, rate = [1, 2, 3], 4, [5, 6], 0.1
    word2vec_update(vectors, output, context, target, noise, rate)

    hidden = before[0][context].mean(dim=0, keepdim=True)
    ours = negative_sampling_gradients(hidden, before[1][[target]], before[1][noise][None], 2, 1)
    moved = torch.from_numpy(vectors) - before[0]
    for word in context:
        torch.testing.assert_close(moved[word], -rate * ours.hidden[0], rtol=0, atol=2e-3)
    assert not moved[[0, 4, 5, 6, 7, 8]].any()
    changed = torch.from_numpy(output) - before[1]
    torch.testing.assert_close(changed[target], -rate * ours.target[0], rtol=0, atol=2e-3)
    torch.testing.assert_close(changed[noise], -rate * ours.noise[0], rtol=0, atol=2e-3)


def test_gensim_update_for_update() -> None:
    """1,000 words and more: the same vectors as gensim's compiled loop, to 1e-6."""
    gensim_word2vec = pytest.importorskip("gensim.models.word2vec")
    inner = pytest.importorskip("gensim.models.word2vec_inner")
    random = np.random.default_rng(1)
    sentences = [[f"w{w}" for w in random.integers(0, 60, 15)] for _ in range(80)]
    window, negatives, rate = 4, 5, 0.025
    model = gensim_word2vec.Word2Vec(
        vector_size=20, window=window, min_count=1, sg=0, hs=0, negative=negatives, sample=0,
        cbow_mean=1, workers=1, seed=3,
    )  # fmt: skip
    model.build_vocab(sentences)
    start = random.normal(0, 0.2, (2, len(model.wv), 20)).astype(np.float32)
    model.wv.vectors[:], model.syn1neg[:] = start
    vectors, output = start.copy()

    model.random = np.random.RandomState(5)
    work, hidden = (np.zeros(20, dtype=np.float32) for _ in range(2))
    inner.train_batch_cbow(model, sentences, rate, work, hidden, False)

    ours = np.random.RandomState(5)
    state = 2**24 * int(ours.randint(0, 2**24)) + int(ours.randint(0, 2**24))
    noise = Word2VecRandom(state, model.cum_table)
    words = sum(map(len, sentences))
    smaller = iter(ours.randint(0, window, words).tolist())
    assert words > 1000
    for sentence in sentences:
        numbers = [model.wv.key_to_index[word] for word in sentence]
        for place, target in enumerate(numbers):
            width = window - next(smaller)
            context = (
                numbers[max(0, place - width) : place] + numbers[place + 1 : place + 1 + width]
            )
            word2vec_update(vectors, output, context, target, noise.draw(negatives), rate)
    assert np.abs(vectors - start[0]).max() > 0.1  # they have moved
    assert np.abs(vectors - model.wv.vectors).max() < 1e-6
    assert np.abs(output - model.syn1neg).max() < 1e-6


def test_logsigmoid_does_not_overflow() -> None:
    hidden, target = torch.full((1, 1), 1e3), torch.full((1, 1), -1.0)
    loss = negative_sampling_losses(hidden, target, torch.ones(1, 1, 1), 1, 1)
    assert loss.item() == pytest.approx(2000.0)
    assert F.logsigmoid(torch.tensor(-1000.0)).isfinite()


def test_a_frequent_word_moves_by_the_mean_of_its_updates() -> None:
    """Three words with shares of 1/6, 1/2 and 1/3: subsampling thins out the first."""
    shares = kept_shares(np.array([50, 30, 20]), np.array([0.2, 1.0, 1.0]))
    config = TrainConfig(words_per_step=192, shared_by=32, summed_updates=96, window=2, negatives=3)
    paces = input_paces(shares, config)  # 96, 288 and 192 updates: each occurrence brings W + 1
    assert paces.flatten().tolist() == pytest.approx([1.0, 1 / 3, 1 / 2])
    exact = override(config, {"gradient": "exact", "summed_updates": 48})  # 32, 96, 64: one each
    assert input_paces(shares, exact).flatten().tolist() == pytest.approx([1.0, 1 / 2, 3 / 4])
    noise = np.array([0.5, 0.25, 0.25])  # 32 + 288, 96 + 144, 64 + 144
    found = output_paces(shares, noise, config).flatten().tolist()
    assert found == pytest.approx([96 / 320, 96 / 240, 96 / 208])


def test_a_node_is_met_by_all_words_below_it() -> None:
    counts = np.array([5, 2, 1])
    config = TrainConfig(words_per_step=64, shared_by=32, summed_updates=4)
    paces = node_paces(kept_shares(counts, np.ones(3)), config, huffman_paths(counts.tolist()))
    assert sorted(paces.flatten().tolist()) == pytest.approx([4 / 64, 4 / 24])  # the root: all
