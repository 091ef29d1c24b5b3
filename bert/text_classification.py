"""Ask a fine-tuned classifier: which label, and how sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bert.bert_heads import BertForSequenceClassification
from bert.length_batches import (
    TOKEN_BUDGET,
    device_of,
    encode_texts,
    evaluating,
    length_batches,
)
from bert.wordpiece import WordPiece


class Answer(NamedTuple):
    """A label that a text may have."""

    label: str
    probability: float  # 0 to 1, over all labels


def classify(
    model: BertForSequenceClassification,
    wordpiece: WordPiece,
    labels: Sequence[str],
    texts: Sequence[str],
    max_len: int | None = None,
    budget: int = TOKEN_BUDGET,
) -> list[list[Answer]]:
    """Returns all labels of every text, the most probable first.

    Args:
        model: fine-tuned; its mode (training or not) is left as it was.
        wordpiece: the model's.
        labels: the names of the classes, in the order of the model's outputs.
        texts: any number; of one longer than ``max_len`` the end is left out, which is said.
        max_len: the most tokens read; None means as many as the model has positions for.
        budget: padded tokens computed at once; texts of similar length go together.

    Raises:
        ValueError: a text is empty, or the names do not fit the model.
    """
    if len(labels) != model.classifier.out_features:
        raise ValueError(
            f"{len(labels)} labels were given for a classifier of {model.classifier.out_features} "
            "classes: the names would be wrong. Pass those it was fine-tuned with."
        )
    sequences = encode_texts(wordpiece, texts, max_len or model.bert.config.max_len, "to classify")
    answers: list[list[Answer]] = [[] for _ in texts]
    with evaluating(model):
        for batch in length_batches(sequences, wordpiece.pad_id, budget, device_of(model)):
            shares = model(batch.tokens, batch.mask).float().softmax(dim=-1)  # (B, classes)
            best, places = shares.sort(dim=-1, descending=True)
            for row, values, classes in zip(
                batch.rows, best.tolist(), places.tolist(), strict=True
            ):
                answers[row] = [
                    Answer(labels[place], value)
                    for place, value in zip(classes, values, strict=True)
                ]
    return answers
