"""How a pre-trained model is measured: hidden tokens of held-out text, and held-out pairs.

The masks are fixed (``evaluation_batches``): models of one objective are asked the same questions.
The number to beat is the loss of the unigram model, which knows how often each token occurs and
nothing of the context, at the same masked places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bert.bert_data import PretrainingBatch
from bert.bert_heads import BertForPreTraining
from bert.masking import IGNORED
from bert.wordpiece import WordPiece

SAMPLE_PIECES = 28  # pieces of the sample that each evaluation prints


@dataclass(frozen=True)
class Scores:
    """Means over a held-out split."""

    mlm_loss: float  # nats per masked token
    mlm_accuracy: float  # share of masked tokens filled in right, 0 to 1
    nsp_loss: float  # nats per pair; NaN if there are no pairs
    nsp_accuracy: float  # share of pairs told right, 0 to 1; NaN if there are no pairs

    def __str__(self) -> str:
        text = f"MLM loss {self.mlm_loss:.4f} nats, accuracy {self.mlm_accuracy:.1%}"
        if self.nsp_accuracy == self.nsp_accuracy:
            text += f"; NSP loss {self.nsp_loss:.4f} nats, accuracy {self.nsp_accuracy:.1%}"
        return text


@torch.no_grad()
def evaluate(model: BertForPreTraining, batches: Sequence[PretrainingBatch]) -> Scores:
    """Scores hidden tokens and pairs; dropout is off, and no random number is drawn.

    Args:
        model: stays in its mode, training or evaluation.
        batches: from ``evaluation_batches``.
    """
    was_training = model.training
    model.eval()
    device = model.next_head.weight.device
    sums = torch.zeros(6, dtype=torch.float64)
    for batch in batches:
        b = batch.to(device)
        o = model(b.tokens, b.mask, b.segments, b.labels, b.next_labels)
        sums += torch.tensor([
            o.mlm_loss * o.n_masked, o.mlm_correct, o.n_masked,
            o.nsp_loss * o.n_pairs, o.nsp_correct, o.n_pairs,
        ], dtype=torch.float64)  # fmt: skip
    model.train(was_training)
    mlm_loss, mlm_right, n_masked, nsp_loss, nsp_right, n_pairs = sums
    return Scores(  # 0 / 0 is NaN here, which is what is wanted without pairs
        float(mlm_loss / n_masked), float(mlm_right / n_masked),
        float(nsp_loss / n_pairs), float(nsp_right / n_pairs),
    )  # fmt: skip


def unigram_loss(train: Tensor, sequences: Sequence[PretrainingBatch], pieces: WordPiece) -> float:
    """Returns the loss of the unigram model at the masked places, in nats per token.

    Args:
        train: (N,), the training tokens, which are counted; each count starts at 1, so that no
            token is impossible.
        sequences: from ``evaluation_batches``.
        pieces: the vocabulary.
    """
    counts = torch.bincount(train.long(), minlength=pieces.vocab_size).double() + 1.0
    counts[list(pieces.special_tokens.values())] = 0.0  # never masked, so never an answer
    labels = torch.cat([batch.labels[batch.labels != IGNORED] for batch in sequences])
    return float(-(counts / counts.sum())[labels].log().mean())


@torch.no_grad()
def filled_sample(
    model: BertForPreTraining, batch: PretrainingBatch, pieces: WordPiece, row: int = 0
) -> tuple[str, str]:
    """Fills in the masks of the beginning of a held-out sequence.

    Args:
        model: stays in its mode.
        batch: from ``evaluation_batches``.
        pieces: the vocabulary.
        row: which sequence.

    Returns:
        The text with masks; and the text with the model's answers, each in brackets: "[array]" if
        it is right, "[list, not array]" if it is wrong.
    """
    was_training = model.training
    model.eval()
    device = model.next_head.weight.device
    b = batch.rows(slice(row, row + 1)).to(device)
    tokens, labels = b.tokens[0, 1 : 1 + SAMPLE_PIECES], b.labels[0, 1 : 1 + SAMPLE_PIECES]
    columns = (labels != IGNORED).nonzero()[:, 0]
    guesses = model.predict_masked(
        b.tokens, b.mask, b.segments, (torch.zeros_like(columns), columns + 1)
    ).argmax(-1)  # (masks,)
    model.train(was_training)
    shown = pieces.tokens(tokens.tolist())
    answers = list(shown)
    for column, guess, truth in zip(
        columns.tolist(), pieces.tokens(guesses.tolist()),
        pieces.tokens(labels[columns].tolist()), strict=True,
    ):  # fmt: skip
        answers[column] = f"[{guess}]" if guess == truth else f"[{guess}, not {truth}]"
    return " ".join(shown).replace(" ##", ""), " ".join(answers).replace(" ##", "")
