"""The heads of pre-training: what is asked of BERT's vectors before any task is known.

Two questions (Devlin et al. 2019, section 3.1): which token was here before it was hidden (masked
language modeling, MLM), and does the second text follow the first (next sentence prediction, NSP).
The heads of fine-tuning, finetuning_heads.py, can be imported from here too.

Shapes: batch B, length T, width D, vocabulary V, hidden tokens N; "asked" are these and [CLS].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert.asked_places import Places
from bert.bert_model import BertModel, initialize
from bert.finetuning_heads import (
    BertForSequenceClassification,
    BertForSpan,
    BertForTokenClassification,
    mean_pool,
)
from bert.masked_loss import IGNORE, projected_loss

__all__ = [
    "BertForPreTraining",
    "BertForSequenceClassification",
    "BertForSpan",
    "BertForTokenClassification",
    "MaskedTokenHead",
    "PreTrainingOutput",
    "mean_pool",
]


class MaskedTokenHead(nn.Module):
    """Scores the vocabulary: norm(gelu(transform(x))), then the token embedding, transposed.

    The matrix is not a copy of the embedding but the embedding itself ("tied"); the bias is its
    own.
    """

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        c = bert.config
        self.transform = nn.Linear(c.d_model, c.d_model)  # D -> D
        self.norm = nn.LayerNorm(c.d_model, c.norm_eps)
        self.decoder = nn.Linear(c.d_model, c.vocab_size)  # D -> V
        initialize(self, c.initial_std)
        self.decoder.weight = bert.embeddings.token.weight

    def forward(self, rows: Tensor) -> Tensor:
        """(N, D) -> (N, V), logits."""
        return self.decoder(self.prepare(rows))

    def prepare(self, rows: Tensor) -> Tensor:
        """Everything before the decoder, (N, D) -> (N, D)."""
        return self.norm(F.gelu(self.transform(rows)))

    def loss(self, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean cross-entropy in nats and how many labels got the highest score.

        Args:
            rows: (N, D), BERT's vectors at the hidden tokens alone; N may be 0.
            labels: (N,), the tokens that were hidden.
        """
        return projected_loss(self.prepare(rows), self.decoder.weight, self.decoder.bias, labels)


@dataclass(frozen=True)
class PreTrainingOutput:
    """Losses (scalars, mean, nats) and counts of one minibatch, as tensors without items."""

    loss: Tensor  # mlm_loss + nsp_loss, what is trained
    mlm_loss: Tensor  # over the hidden tokens
    nsp_loss: Tensor  # over the pairs; 0 without NSP
    mlm_correct: Tensor  # hidden tokens whose label got the highest score
    n_masked: Tensor  # hidden tokens, N
    nsp_correct: Tensor  # pairs judged rightly
    n_pairs: Tensor  # pairs; 0 without NSP


class BertForPreTraining(nn.Module):
    """BERT and the two heads of its pre-training."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert
        self.masked_head = MaskedTokenHead(bert)
        self.next_head = nn.Linear(bert.config.d_model, 2)  # 0: it follows, 1: it does not
        initialize(self.next_head, bert.config.initial_std)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None,
        segments: Tensor | None,
        labels: Tensor,
        next_labels: Tensor | None = None,
    ) -> PreTrainingOutput:
        """Returns the losses of a minibatch.

        Only the hidden tokens, some 15 % of all, go through the masked-token head, the widest
        layer, and through most of the last encoder layer: the others have no label, so what came
        out would be thrown away.

        Args:
            tokens: (B, T), token ids, some of them hidden.
            mask: (B, T), boolean, False at padding; None means there is none.
            segments: (B, T), 0 or 1; None means all 0.
            labels: (B, T), the tokens that were hidden, -100 elsewhere.
            next_labels: (B,), 0 where the second text follows the first, 1 where it does not; None
                trains without NSP.
        """
        asked = labels != IGNORE  # (B, T)
        if next_labels is not None:
            asked[:, 0] = True  # [CLS]
        places = Places.of(asked)
        rows = self.bert.hidden(tokens, mask, segments, places=places)  # (asked, D)
        wanted = labels.flatten().index_select(0, places.flat)  # (asked,)
        scored = (wanted != IGNORE).nonzero().squeeze(1)  # (N,)
        mlm_loss, mlm_correct = self.masked_head.loss(
            rows.index_select(0, scored), wanted.index_select(0, scored)
        )
        nsp_loss, nsp_correct, pairs = torch.zeros_like(mlm_loss), mlm_correct.new_zeros(()), 0
        if next_labels is not None:
            first = (places.flat % tokens.shape[1] == 0).nonzero().squeeze(1)  # (B,)
            pooled = self.bert.pool(rows.index_select(0, first))  # (B, D)
            logits = self.next_head(pooled).to(mlm_loss.dtype)  # (B, 2)
            nsp_loss, pairs = F.cross_entropy(logits, next_labels), len(next_labels)
            nsp_correct = (logits.argmax(-1) == next_labels).sum()
        counts = torch.tensor([len(scored), pairs], device=tokens.device)
        return PreTrainingOutput(
            mlm_loss + nsp_loss, mlm_loss, nsp_loss, mlm_correct, counts[0], nsp_correct, counts[1]
        )

    def predict_masked(
        self,
        tokens: Tensor,
        mask: Tensor | None,
        segments: Tensor | None,
        positions: tuple[Tensor, ...],
    ) -> Tensor:
        """Scores the vocabulary at chosen places.

        Args:
            tokens: (B, T), token ids.
            mask: (B, T), boolean, False at padding, or None.
            segments: (B, T), 0 or 1, or None.
            positions: rows (N,) and columns (N,), as ``(tokens == mask_id).nonzero(
                as_tuple=True)`` returns them.

        Returns:
            (N, V), logits.
        """
        asked = torch.zeros_like(tokens, dtype=torch.bool)
        asked[positions] = True
        rows = self.bert.hidden(tokens, mask, segments, places=Places.of(asked))  # (asked, D)
        number = asked.flatten().cumsum(0) - 1  # which of the rows a place is
        return cast(Tensor, self.masked_head(rows[number.view_as(tokens)[positions]]))
