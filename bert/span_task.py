"""Span extraction: which sentence of the text describes this parameter?

The answers cost nothing: docstrings list parameters, each with its description. A question is a
parameter's name ("max_iter"), the text is the first sentences about it and two of its neighbors,
without the names, and the answer is the sentence that belongs to the name. No description says the
name itself, so the answer cannot be found by searching for it; and no test pair of name and
sentence occurs in training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from bert.bert_heads import BertForSpan
from bert.bert_model import BertModel
from bert.docstring_labels import kept_labels, parameters
from bert.finetuning_config import FinetuneConfig
from bert.finetuning_data import Encoded, labeled_batches
from bert.finetuning_loop import EVALUATION_BATCH, span_loss, train_head
from bert.finetuning_recipe import check_vocabulary, copy_encoder
from bert.tagging_task import HeadResult, sample
from bert.wordpiece import WordPiece
from tutorial_kit.compute import prepare_device

SENTENCES = 3
"""Sentences in a text: guessing one of them whole is right in a third of the cases."""


class Question(NamedTuple):
    """A parameter's name, sentences, and which of them describes it."""

    name: str
    sentences: tuple[str, ...]
    answer: int  # 0 to SENTENCES - 1


@dataclass(frozen=True)
class SpanTask:
    """Questions whose answers are stretches of the text."""

    name: str
    train: tuple[Question, ...]
    validation: tuple[Question, ...]
    test: tuple[Question, ...]
    labels: tuple[str, ...] = ()  # spans have none
    baseline_name = "sentence with most shared letters"

    def few(self, n_labels: int, seed: int) -> SpanTask:
        """Returns the task with so many answered questions; 0 means all."""
        if n_labels == 0:
            return self
        count = min(n_labels, len(self.validation))
        return replace(
            self,
            train=sample(self.train, n_labels, f"{seed} train", self.name),
            validation=sample(self.validation, count, f"{seed} validation", ""),
        )

    def texts(self) -> list[str]:
        """The training questions with their texts, for a vocabulary."""
        return [f"{question.name} {' '.join(question.sentences)}" for question in self.train]

    def baseline(self, config: FinetuneConfig) -> dict[str, float]:
        """Scores the rule that learns nothing: the sentence that shares most letters in a row.

        Each part of the name counts the longest beginning (three letters or more) that a word of
        the sentence shares with it; of equals the first sentence wins.
        """
        hits = [q.answer == _most_similar(q.name, q.sentences) for q in self.test]
        share = sum(hits) / len(hits)
        return {"exact match": share, "F1": share}


def _most_similar(name: str, sentences: Sequence[str]) -> int:
    def shared(part: str, word: str) -> int:
        length = next((i for i, (a, b) in enumerate(zip(part, word, strict=False)) if a != b),
                      min(len(part), len(word)))  # fmt: skip
        return length if length >= 3 else 0

    parts = re.findall(r"[a-z]+", name.lower())
    scores = [
        sum(max((shared(p, w) for w in re.findall(r"[a-z]+", s.lower())), default=0) for p in parts)
        for s in sentences
    ]
    return scores.index(max(scores))


def parameter_span_task(only: tuple[str, ...] = ()) -> SpanTask:
    """Returns the questions about the parameters in the documentation.

    The test has the modules of the corpus' test and validation splits, none of which any training
    reads: together some 270 questions. Validation is every twentieth docstring of the others.

    Args:
        only: libraries to read, for tests that must be quick; none means five.
    """
    found = kept_labels("parameters", parameters, only)
    splits: dict[str, list[Question]] = {"train": [], "validation": [], "test": []}
    seen: set[tuple[str, ...]] = set()  # a pair that occurs again, in any split, is left out
    for split in ("train", "validation", "test"):
        for place, rows in enumerate(found[split]):
            fresh = [row for row in dict.fromkeys(map(tuple, rows)) if row not in seen]
            seen.update(fresh)
            goal = "test" if split != "train" else "train" if place % 20 else "validation"
            splits[goal] += questions_about(fresh)
    train, validation, test = (tuple(splits[s]) for s in ("train", "validation", "test"))
    return SpanTask("parameters", train, validation, test)


def questions_about(rows: Sequence[tuple[str, ...]]) -> list[Question]:
    """Makes a question of each (name, sentence) of a docstring, with two neighbors beside it.

    >>> [q.answer for q in questions_about([(name, name.upper()) for name in "abcd"])]
    [0, 1, 2, 2]
    """
    result = []
    for place, (name, sentence) in enumerate(rows):
        start = min(place // SENTENCES * SENTENCES, len(rows) - SENTENCES)
        sentences = tuple(text for _, text in rows[max(0, start) : start + SENTENCES])
        if len(set(sentences)) == SENTENCES:
            result.append(Question(name, sentences, sentences.index(sentence)))
    return result


def encode_questions(
    wordpiece: WordPiece, questions: Sequence[Question], max_len: int
) -> tuple[list[Encoded], int]:
    """Returns "[CLS] name [SEP] sentences [SEP]" as ids, the target [first, last] place.

    The text is cut at ``max_len``; an answer that is cut is given as far as it is there, and one
    that is gone altogether has the target [T - 1, T - 1], the final [SEP].

    Returns:
        The examples, and how many texts lost their end.
    """
    encoded, n_cut = [], 0
    for name, sentences, answer in questions:
        question = wordpiece.encode(name)[: max_len // 2]
        pieces = [wordpiece.encode(sentence) for sentence in sentences]
        room = max_len - len(question) - 3
        text = [piece for sentence in pieces for piece in sentence]
        n_cut += len(text) > room
        tokens, segments = wordpiece.pair(question, text[:room])
        first = len(question) + 2 + sum(map(len, pieces[:answer]))
        last = first + len(pieces[answer]) - 1
        end = len(tokens) - 1  # the final [SEP]
        target = [first, min(last, end - 1)] if first < end else [end, end]
        encoded.append(Encoded(tokens, segments, target))
    return encoded, n_cut


@torch.no_grad()
def predict_spans(
    model: BertForSpan, examples: Sequence[Encoded], pad_id: int, device: torch.device
) -> list[tuple[int, int]]:
    """Returns the first and last place of each answer: the pair i <= j with the largest S_i + E_j.

    Source: Devlin et al. 2018, section 4.2.
    """
    model.eval()
    spans = [(0, 0)] * len(examples)
    for batch in labeled_batches(examples, EVALUATION_BATCH, pad_id):
        batch = batch.to(device)
        allowed = (batch.segments == 1) & batch.mask
        start, end = model(batch.tokens, batch.mask, batch.segments, allowed)  # (B, T) each
        length = start.shape[1]
        sums = start.unsqueeze(2) + end.unsqueeze(1)  # (B, T, T)
        backwards = torch.ones(length, length, device=device, dtype=torch.bool).tril(-1)
        best = sums.masked_fill(backwards, float("-inf")).flatten(1).argmax(1)  # (B,)
        for row, place in zip(batch.rows, best.tolist(), strict=True):
            spans[row] = divmod(place, length)
    return spans


def span_scores(
    guesses: Sequence[tuple[int, int]], truth: Sequence[Sequence[int]]
) -> dict[str, float]:
    """Returns "exact match" and "F1" of the tokens, the means over the questions, 0 to 1.

    >>> span_scores([(3, 5), (8, 8)], [[3, 5], [7, 9]])
    {'exact match': 0.5, 'F1': 0.75}
    """
    f1 = []
    for (first, last), (begin, end) in zip(guesses, truth, strict=True):
        common = max(0, min(last, end) - max(first, begin) + 1)
        f1.append(2 * common / (last - first + end - begin + 2))
    exact = [tuple(guess) == tuple(right) for guess, right in zip(guesses, truth, strict=True)]
    return {"exact match": sum(exact) / len(exact), "F1": sum(f1) / len(f1)}


def fine_tune_span(
    bert: BertModel,
    wordpiece: WordPiece,
    task: SpanTask,
    config: FinetuneConfig,
    *,
    scratch: bool = False,
    device: str = "auto",
) -> HeadResult:
    """Fine-tunes a copy of an encoder to find answers; arguments as ``fine_tune``'s."""
    check_vocabulary(bert, wordpiece)
    task = task.few(config.labels, config.seed)
    target = prepare_device(device, config.threads)
    max_len = min(config.max_len, bert.config.max_len)
    torch.manual_seed(config.seed)
    model = BertForSpan(copy_encoder(bert, config.dropout)).to(target)

    def scores(questions: Sequence[Question]) -> tuple[dict[str, float], int]:
        examples, n_cut = encode_questions(wordpiece, questions, max_len)
        guesses = predict_spans(model, examples, wordpiece.pad_id, target)
        truth = [e.target for e in examples if isinstance(e.target, list)]
        return span_scores(guesses, truth), n_cut

    outcome = train_head(
        model, encode_questions(wordpiece, task.train, max_len)[0], span_loss, config,
        wordpiece.pad_id, target, scratch=scratch,
        validate=lambda: scores(task.validation)[0]["exact match"],
    )  # fmt: skip
    measured, n_truncated = scores(task.test)
    return HeadResult(model, measured, outcome, len(task.train), n_truncated)
