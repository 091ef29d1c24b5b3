"""What the exercises on word vectors are checked with: by hand, and by the chapter's code."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cbow import cbow_components, ppmi
from cbow.embeddings import TOY
from cbow.evaluation import answer
from cbow.vocabulary import Vocabulary
from tutorial_kit.exercise_cases import Case, Exercise

SENTENCE = ["the", "cat", "drinks", "cold", "milk", "today"]


def vocabulary_of(counts: Tensor) -> Vocabulary:
    """Returns words that occur so often, (V,)."""
    return Vocabulary(tuple(f"word{i}" for i in range(len(counts))), counts.numpy())


def noise_distribution_cases() -> Iterator[Case]:
    """The counts themselves; all alike; the paper's power."""
    counts = torch.tensor([81, 16, 1])
    for power, clue in ((1.0, "sum"), (0.0, "sum"), (0.75, "power")):
        expected = torch.from_numpy(vocabulary_of(counts).noise(power))
        yield Case((counts, power), expected, clue)


def context_of_cases() -> Iterator[Case]:
    """In the middle of a sentence, at its start, near its end."""
    yield Case((SENTENCE, 2, 1), ["cat", "cold"], "target")
    yield Case((SENTENCE, 1, 3), ["the", "drinks", "cold", "milk"], "start")
    yield Case((SENTENCE, 5, 2), ["cold", "milk"], "target")


def keep_probability_cases() -> Iterator[Case]:
    """Frequent words; then a rare one."""
    for counts, sample, clue in (([600, 300, 100], 1e-3, "formula"), ([990, 9, 1], 1e-2, "most")):
        numbers = torch.tensor(counts)
        kept = torch.from_numpy(vocabulary_of(numbers).keep_probability(sample))
        yield Case((numbers, sample), kept, clue)


def negative_sampling_loss_cases() -> Iterator[Case]:
    """Vectors of zeros; random ones; scores whose exp overflows."""
    zeros = torch.zeros(2), torch.zeros(2), torch.zeros(5, 2)
    yield Case(zeros, 6 * math.log(2), "count")
    rng = torch.Generator().manual_seed(0)
    hidden, target, noise = (torch.randn(*s, generator=rng) for s in ((4,), (4,), (3, 4)))
    expected = cbow_components.negative_sampling_losses(
        hidden[None], target[None], noise[None], negatives=3, shared_by=1
    )
    yield Case((hidden, target, noise), expected.item(), "signs")
    far = torch.tensor([200.0]), torch.tensor([-1.0]), torch.tensor([[1.0]])
    yield Case(far, 400.0, "overflow")


def solve_analogy_cases() -> Iterator[Case]:
    """A plain question; one that a word of its own would win; the same with other lengths."""
    words, unit = list(TOY), torch.tensor(list(TOY.values()), dtype=torch.float32)
    unit = unit / unit.norm(dim=1, keepdim=True)  # (V, D)
    lengths = torch.linspace(3.0, 0.2, len(words))[:, None]  # (V, 1)
    for question, vectors, clue in (
        (("man", "boy", "queen"), unit, "arrow"),
        (("man", "king", "apple"), unit, "exclude"),
        (("man", "king", "apple"), lengths * unit, "length"),
    ):
        a, b, c = map(words.index, question)
        expected = int(answer(unit, torch.tensor([[a, b, c]]), "add"))
        yield Case((vectors, a, b, c), expected, clue)


def positive_pmi_cases() -> Iterator[Case]:
    """Words that meet by chance; words that meet more often; never."""
    from scipy.sparse import csr_matrix

    for counts, clue in (
        ([[2.0, 4.0], [1.0, 2.0]], "chance"),
        ([[4.0, 1.0], [1.0, 4.0]], "positive"),
        ([[0.0, 3.0, 1.0], [3.0, 0.0, 2.0], [1.0, 2.0, 0.0]], "never"),
    ):
        expected = ppmi.ppmi(csr_matrix(np.array(counts)), smoothing=1.0).toarray()
        yield Case((torch.tensor(counts),), torch.from_numpy(expected), clue)


def negative_sampling_gradients_cases() -> Iterator[Case]:
    """Vectors of zeros but for one; then random ones."""
    one = torch.tensor([1.0, 0.0]), torch.zeros(2), torch.zeros(1, 2)
    by_hand = torch.zeros(2), torch.tensor([-0.5, 0.0]), torch.tensor([[0.5, 0.0]])
    yield Case(one, by_hand, "error")
    rng = torch.Generator().manual_seed(0)
    hidden, target, noise = (torch.randn(*s, generator=rng) for s in ((4,), (4,), (3, 4)))
    expected = cbow_components.negative_sampling_gradients(
        hidden[None], target[None], noise[None], negatives=3, shared_by=1
    )
    gradients = expected.hidden[0], expected.target[0], expected.noise[0]
    yield Case((hidden, target, noise), gradients, "sum")


EXERCISES = (
    Exercise(1, "easy", "noise_distribution", noise_distribution_cases),
    Exercise(2, "easy", "context_of", context_of_cases),
    Exercise(3, "easy", "keep_probability", keep_probability_cases),
    Exercise(4, "medium", "negative_sampling_loss", negative_sampling_loss_cases),
    Exercise(5, "medium", "solve_analogy", solve_analogy_cases),
    Exercise(6, "medium", "positive_pmi", positive_pmi_cases),
    Exercise(7, "hard", "negative_sampling_gradients", negative_sampling_gradients_cases),
)
