"""Tagging: which words of a paragraph would its author mark as code?

The labels cost nothing: authors write ``axis`` in backquotes, the marks are taken away, and the
model has to say where they were. "None" always is code, "axis" sometimes; "n_samples" can be seen
from its letters, "a" only from the words around it. Authors forget marks, so nobody reaches 100 %.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from bert.bert_heads import BertForTokenClassification
from bert.bert_model import BertModel
from bert.docstring_labels import CODE, PLAIN, MarkedText, kept_labels, marked_texts
from bert.finetuning_config import FinetuneConfig
from bert.finetuning_data import IGNORE, Encoded
from bert.finetuning_loop import Outcome, predictions, tagging_loss, train_head
from bert.finetuning_recipe import check_vocabulary, copy_encoder
from bert.library_task import LOOKS_LIKE_CODE
from bert.wordpiece import WordPiece
from tutorial_kit.compute import prepare_device

TAGS = (PLAIN, CODE)


@dataclass(frozen=True)
class TaggingTask:
    """Words, each with a tag."""

    name: str
    labels: tuple[str, ...]  # the tags
    train: tuple[MarkedText, ...]
    validation: tuple[MarkedText, ...]
    test: tuple[MarkedText, ...]
    baseline_name = "each word's usual tag"

    def few(self, n_labels: int, seed: int) -> TaggingTask:
        """Returns the task with so many labeled paragraphs; 0 means all."""
        if n_labels == 0:
            return self
        return replace(
            self,
            train=sample(self.train, n_labels, f"{seed} train", self.name),
            validation=sample(
                self.validation, min(n_labels, len(self.validation)), f"{seed} validation", ""
            ),
        )

    def texts(self) -> list[str]:
        """The training paragraphs, for a vocabulary."""
        return [" ".join(text.words) for text in self.train]

    def baseline(self, config: FinetuneConfig) -> dict[str, float]:
        """Scores a rule: a word gets its usual training tag; a new one is judged by its letters."""
        few = self.few(config.labels, config.seed)
        counts: Counter[tuple[str, str]] = Counter()
        for text in few.train:
            counts.update((w.strip(".,;:").lower(), t) for w, t in zip(*text, strict=True))
        guesses = []
        for text in few.test:
            for word in text.words:
                bare = word.strip(".,;:")
                code, plain = (counts[bare.lower(), tag] for tag in (CODE, PLAIN))
                is_code = code > plain if code + plain else bool(LOOKS_LIKE_CODE.match(bare))
                guesses.append(CODE if is_code else PLAIN)
        return tag_scores(guesses, [tag for text in few.test for tag in text.tags])


def sample(examples: Sequence, count: int, seed: str, name: str) -> tuple:
    """Draws examples.

    Raises:
        ValueError: there are fewer.
    """
    if count > len(examples):
        raise ValueError(
            f"--labels {count} is not possible: task {name} has {len(examples):,} training "
            "examples. Use fewer, or 0 for all."
        )
    return tuple(random.Random(seed).sample(list(examples), count))


def code_tag_task(only: tuple[str, ...] = ()) -> TaggingTask:
    """Returns the paragraphs of the documentation whose authors marked code; modules are split.

    Args:
        only: libraries to read, for tests that must be quick; none means five.
    """
    found = kept_labels("code-tags", marked_texts, only)
    seen: set[tuple[str, ...]] = set()
    splits: dict[str, list[MarkedText]] = {"train": [], "validation": [], "test": []}
    for split, examples in splits.items():
        for words, tags in (text for texts in found[split] for text in texts):
            if tuple(words) not in seen:  # a copy in a later split would be a leak
                seen.add(tuple(words))
                examples.append(MarkedText(tuple(words), tuple(tags)))
    train, validation, test = (tuple(splits[s]) for s in ("train", "validation", "test"))
    return TaggingTask("code", TAGS, train, validation, test)


def encode_tagged(
    wordpiece: WordPiece, texts: Sequence[MarkedText], max_len: int
) -> tuple[list[Encoded], list[list[int]]]:
    """Returns paragraphs as ids, the tag on the first piece of each word, -100 on the others.

    Returns:
        The examples; and for each word the place of its first piece, -1 if it was cut off.
    """
    encoded, places = [], []
    for words, tags in texts:
        ids: list[int] = []
        targets: list[int] = []
        first: list[int] = []
        for word, tag in zip(words, tags, strict=True):
            pieces = wordpiece.encode(word) or [wordpiece.unk_id]
            fits = len(ids) + len(pieces) <= max_len - 2
            first.append(len(ids) + 1 if fits and (not first or first[-1] >= 0) else -1)
            if first[-1] >= 0:
                ids += pieces
                targets += [TAGS.index(tag), *[IGNORE] * (len(pieces) - 1)]
        tokens, segments = wordpiece.pair(ids)
        encoded.append(Encoded(tokens, segments, [IGNORE, *targets, IGNORE]))
        places.append(first)
    return encoded, places


def tag_scores(guesses: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    """Returns "F1", "precision" and "recall" of the tag "code", word by word, 0 to 1.

    >>> tag_scores(["code", "O", "code"], ["code", "code", "O"])
    {'F1': 0.5, 'precision': 0.5, 'recall': 0.5}
    """
    pairs = Counter(zip(guesses, truth, strict=True))
    hits = pairs[CODE, CODE]
    precision = hits / max(1, hits + pairs[CODE, PLAIN])
    recall = hits / max(1, hits + pairs[PLAIN, CODE])
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"F1": f1, "precision": precision, "recall": recall}


@dataclass(frozen=True)
class HeadResult:
    """A fine-tuned tagger or span head and its scores on the test split, 0 to 1."""

    model: nn.Module  # in evaluation mode, on the device
    scores: dict[str, float]
    outcome: Outcome
    n_labels: int  # labeled examples it learned from
    n_truncated: int  # test examples that lost their end


def fine_tune_tagging(
    bert: BertModel,
    wordpiece: WordPiece,
    task: TaggingTask,
    config: FinetuneConfig,
    *,
    scratch: bool = False,
    device: str = "auto",
) -> HeadResult:
    """Fine-tunes a copy of an encoder to tag words; arguments as ``fine_tune``'s.

    A word that was cut off counts as not tagged.
    """
    check_vocabulary(bert, wordpiece)
    task = task.few(config.labels, config.seed)
    target = prepare_device(device, config.threads)
    max_len = min(config.max_len, bert.config.max_len)
    torch.manual_seed(config.seed)
    model = BertForTokenClassification(copy_encoder(bert, config.dropout), len(TAGS)).to(target)

    def scores(texts: Sequence[MarkedText]) -> tuple[dict[str, float], int]:
        examples, places = encode_tagged(wordpiece, texts, max_len)
        answers = predictions(model, examples, wordpiece.pad_id, target)
        guesses = [
            TAGS[answer[place]] if place >= 0 else PLAIN
            for answer, first in zip(answers, places, strict=True)
            for place in first
        ]
        truth = [tag for text in texts for tag in text.tags]
        return tag_scores(guesses, truth), sum(first[-1] < 0 for first in places)

    outcome = train_head(
        model, encode_tagged(wordpiece, task.train, max_len)[0], tagging_loss, config,
        wordpiece.pad_id, target, scratch=scratch,
        validate=lambda: scores(task.validation)[0]["F1"],
    )  # fmt: skip
    measured, n_truncated = scores(task.test)
    return HeadResult(model, measured, outcome, len(task.train), n_truncated)
