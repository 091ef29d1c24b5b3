"""The heads of fine-tuning: one fresh layer on BERT for each kind of question.

A question about the sequence, about each token, or for a span of the text (Devlin et al. 2019,
section 4 and figure 4). All of BERT is trained with the head.

Shapes: batch B, length T, width D.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from bert.bert_model import BertModel, initialize
from tutorial_kit.dropout import Dropout


class BertForSequenceClassification(nn.Module):
    """One question about the whole sequence (figure 4, a and b)."""

    def __init__(
        self, bert: BertModel, n_classes: int, pooling: Literal["cls", "mean"] = "cls"
    ) -> None:
        """Puts a fresh layer on BERT.

        Args:
            bert: the model, which is shared and not copied.
            n_classes: possible answers.
            pooling: "cls", the paper's, asks the pooled vector of [CLS]; "mean" asks the mean of
                all tokens' vectors.

        Raises:
            ValueError: fewer than two classes, or another pooling.
        """
        super().__init__()
        _check_answers("n_classes", n_classes)
        if pooling not in ("cls", "mean"):
            raise ValueError(f"pooling={pooling!r} makes no vector of a sequence. Use cls or mean.")
        self.bert, self.pooling = bert, pooling
        self.dropout = Dropout(bert.config.dropout)
        self.classifier = nn.Linear(bert.config.d_model, n_classes)  # D -> classes
        initialize(self.classifier, bert.config.initial_std)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """(B, T), (B, T), (B, T) -> (B, n_classes), logits."""
        return cast(Tensor, self.classifier(self.dropout(self.features(tokens, mask, segments))))

    def features(
        self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """Returns what the classifier sees, (B, D)."""
        if self.pooling == "cls":
            return self.bert.pool(self.bert.first_vectors(tokens, mask, segments))
        return mean_pool(self.bert.hidden(tokens, mask, segments), mask)


class BertForTokenClassification(nn.Module):
    """One question about each token, such as its part of speech (figure 4, d)."""

    def __init__(self, bert: BertModel, n_tags: int) -> None:
        super().__init__()
        _check_answers("n_tags", n_tags)
        self.bert = bert
        self.dropout = Dropout(bert.config.dropout)
        self.classifier = nn.Linear(bert.config.d_model, n_tags)  # D -> tags
        initialize(self.classifier, bert.config.initial_std)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """(B, T), (B, T), (B, T) -> (B, T, n_tags), logits."""
        hidden = self.bert.hidden(tokens, mask, segments)  # (B, T, D)
        return cast(Tensor, self.classifier(self.dropout(hidden)))


class BertForSpan(nn.Module):
    """Where in the text an answer begins and ends (section 4.2; figure 4, c)."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert
        self.ends = nn.Linear(bert.config.d_model, 2)  # D -> score as the start, score as the end
        initialize(self.ends, bert.config.initial_std)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        segments: Tensor | None = None,
        allowed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Scores each token as the first and as the last of the answer.

        Args:
            tokens: (B, T), "[CLS] question [SEP] text [SEP]".
            mask: (B, T), boolean, False at padding, or None.
            segments: (B, T), 0 or 1, or None.
            allowed: (B, T), boolean, True where an answer may begin or end, so not in the question;
                None allows every token that is not padding.

        Returns:
            Start logits and end logits, (B, T) each, very negative where not allowed.
        """
        logits = self.ends(self.bert.hidden(tokens, mask, segments))  # (B, T, 2)
        allowed = mask if allowed is None else allowed if mask is None else allowed & mask
        if allowed is not None:
            forbidden = torch.finfo(logits.dtype).min / 2
            logits = logits.masked_fill(~allowed.unsqueeze(-1), forbidden)
        start, end = logits.unbind(-1)
        return start, end


def mean_pool(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Averages the vectors of the tokens that are not padding.

    Args:
        hidden: (B, T, D).
        mask: (B, T), boolean, False at padding, or None.

    Returns:
        (B, D); zeros where a sequence is all padding.
    """
    if mask is None:
        return hidden.mean(1)
    share = mask.to(hidden.dtype) / mask.sum(1, keepdim=True).clamp(min=1)  # (B, T)
    return (share.unsqueeze(1) @ hidden).squeeze(1)


def _check_answers(name: str, count: int) -> None:
    """Refuses a question with fewer than two possible answers."""
    if count < 2:
        raise ValueError(f"{name}={count} leaves nothing to decide. Use 2 or more.")
