"""What the exercises on the transformer are checked with: by hand, and by the chapter's code."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from transformer.beam_search import length_divisor
from transformer.label_smoothing import smoothed_cross_entropy
from transformer.positional_encoding import sinusoidal_table
from transformer.scoring import score
from tutorial_kit.exercise_cases import Case, Exercise

PAD, BOS, EOS = 0, 1, 2


def sinusoidal_positions_cases() -> Iterator[Case]:
    """One clock by hand; two; many."""
    by_hand = torch.tensor([[0.0, 1.0], [math.sin(1), math.cos(1)]])
    yield Case((2, 2), by_hand, "waves")
    yield Case((3, 4), sinusoidal_table(3, 4), "neighbors")
    yield Case((20, 16), sinusoidal_table(20, 16), "speed")


def split_heads_cases() -> Iterator[Case]:
    """Two tokens with two heads; then a batch."""
    x = torch.tensor([[[0.0, 1.0, 10.0, 11.0], [2.0, 3.0, 12.0, 13.0]]])
    heads = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]], [[10.0, 11.0], [12.0, 13.0]]]])
    yield Case((x, 2), heads, "tokens")
    x = torch.arange(2 * 5 * 12).float().view(2, 5, 12)
    yield Case((x, 3), torch.stack(x.chunk(3, dim=-1), dim=1), "tokens")


def padding_mask_cases() -> Iterator[Case]:
    """A sentence without padding; two of different lengths."""
    yield Case((torch.tensor([[5, EOS]]), PAD), torch.tensor([[[[True, True]]]]), "meaning")
    rows = torch.tensor([[7, 8, EOS], [9, EOS, PAD]])
    seen = torch.tensor([[[[True, True, True]]], [[[True, True, False]]]])
    yield Case((rows, PAD), seen, "shape")


def teacher_forcing_cases() -> Iterator[Case]:
    """One row; then one with padding."""
    row = torch.tensor([[BOS, 7, 8, EOS]])
    yield Case((row, PAD), (torch.tensor([[BOS, 7, 8]]), torch.tensor([[7, 8, EOS]])), "shift")
    rows = torch.tensor([[BOS, 7, 8, EOS], [BOS, 9, EOS, PAD]])
    inputs = torch.tensor([[BOS, 7, 8], [BOS, 9, EOS]])
    yield Case((rows, PAD), (inputs, torch.tensor([[7, 8, EOS], [9, EOS, -100]])), "padding")


def smoothed_loss_cases() -> Iterator[Case]:
    """No smoothing; smoothing; a row that is not scored."""
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([3, 0, 4, 1])
    for scored, smoothing, clue in (
        (labels, 0.0, "plain"),
        (labels, 0.2, "share"),
        (torch.tensor([3, -100, 4, 1]), 0.1, "ignored"),
    ):
        expected = smoothed_cross_entropy(logits, scored, smoothing).item()
        yield Case((logits, scored, smoothing), expected, clue)


def best_hypothesis_cases() -> Iterator[Case]:
    """The chapter's two hypotheses on both sides of the border; then three."""
    for log_probs, lengths, alpha, clue in (
        ([-2.0, -2.6], [3, 6], 0.0, "plain"),
        ([-2.0, -2.6], [3, 6], 1.0, "divide"),
        ([-4.0, -2.0, -3.0], [9, 2, 8], 0.6, "divide"),
    ):
        pairs = list(zip(log_probs, lengths, strict=True))
        scores = [log_p / length_divisor(length, alpha) for log_p, length in pairs]
        yield Case((log_probs, lengths, alpha), scores.index(max(scores)), clue)


def brevity_penalty_cases() -> Iterator[Case]:
    """Long enough; too short; one short and one long. sacrebleu gives what is expected."""
    for ours, theirs, clue in (
        ([5, 7], [4, 6], "long"),
        ([4, 4], [6, 6], "short"),
        ([3, 9], [6, 6], "together"),
    ):
        texts, references = ([" ".join(["word"] * n) for n in part] for part in (ours, theirs))
        yield Case((ours, theirs), score(texts, references, "en").brevity, clue)


def beam_step_cases() -> Iterator[Case]:
    """The first step of a search; two hypotheses, of which the second is far behind; close ones."""
    first = torch.tensor([[0.2, 0.5, 0.3]]).log()
    kept = (torch.tensor([0.5, 0.3]).log(), torch.tensor([0, 0]), torch.tensor([1, 2]))
    yield Case((torch.zeros(1), first, 2), kept, "best")
    shares = torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]])
    kept = (torch.tensor([0.3, 0.18]).log(), torch.tensor([0, 0]), torch.tensor([0, 1]))
    yield Case((torch.tensor([0.6, 0.05]).log(), shares.log(), 2), kept, "compete")
    kept = (torch.tensor([0.36, 0.3]).log(), torch.tensor([1, 0]), torch.tensor([0, 0]))
    yield Case((torch.tensor([0.6, 0.4]).log(), shares.log(), 2), kept, "sums")


EXERCISES = (
    Exercise(1, "easy", "sinusoidal_positions", sinusoidal_positions_cases),
    Exercise(2, "easy", "split_heads", split_heads_cases),
    Exercise(3, "easy", "padding_mask", padding_mask_cases),
    Exercise(4, "medium", "teacher_forcing", teacher_forcing_cases),
    Exercise(5, "medium", "smoothed_loss", smoothed_loss_cases),
    Exercise(6, "medium", "best_hypothesis", best_hypothesis_cases),
    Exercise(7, "medium", "brevity_penalty", brevity_penalty_cases),
    Exercise(8, "hard", "beam_step", beam_step_cases),
)
