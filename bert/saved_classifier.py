"""A fine-tuned model in its folder: weights, vocabulary, labels, which head; saved and opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bert.bert_config import BertConfig
from bert.bert_heads import (
    BertForSequenceClassification,
    BertForSpan,
    BertForTokenClassification,
)
from bert.bert_model import BertModel
from bert.finetuning_config import FinetuneConfig
from bert.length_batches import encoder_of
from bert.wordpiece import WordPiece
from tutorial_kit.checkpoints import load_checkpoint, save_checkpoint
from tutorial_kit.config import config_from_dict, config_to_dict
from tutorial_kit.saved_runs import find_run, load_weights
from tutorial_kit.training import write_json

HEADS = {
    BertForSequenceClassification: "classification",
    BertForTokenClassification: "tagging",
    BertForSpan: "span",
}


@dataclass(frozen=True)
class SavedModel:
    """What a fine-tuned folder holds."""

    model: nn.Module  # a head on its encoder, in evaluation mode, on the CPU
    wordpiece: WordPiece
    labels: tuple[str, ...]  # classes or tags; empty for spans
    task: str
    kind: str  # "classification", "tagging" or "span"
    max_len: int  # tokens it was fine-tuned with


@dataclass(frozen=True)
class SavedClassifier:
    """A fine-tuned classifier, ready to use."""

    model: BertForSequenceClassification  # in evaluation mode, on the CPU
    wordpiece: WordPiece
    labels: tuple[str, ...]
    task: str
    max_len: int


def save_finetuned(
    folder: Path,
    model: nn.Module,
    wordpiece: WordPiece,
    config: FinetuneConfig,
    task: str,
    labels: Sequence[str],
) -> Path:
    """Writes ``config.json`` and ``checkpoints/last.pt``; returns the checkpoint's path.

    Args:
        folder: the run's.
        model: one of the three heads on its encoder.
        wordpiece: its vocabulary.
        config: the recipe it was fine-tuned by.
        task: the task's name.
        labels: classes or tags in the order of the model's outputs.

    Raises:
        OSError: the folder cannot be written to.
    """
    content: dict[str, Any] = {
        "model": config_to_dict(encoder_of(model).config),
        "finetuning": config_to_dict(config),
        "kind": HEADS[type(model)],
        "task": task,
        "labels": list(labels),
    }
    path = folder / "checkpoints" / "last.pt"
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    state = {"model": weights, "wordpiece": wordpiece.to_dict()}
    write_json(folder / "config.json", content)
    save_checkpoint(path, family="bert", config=content, state=state)
    return path


def load_finetuned(path: Path | str) -> SavedModel:
    """Opens what ``save_finetuned`` wrote.

    Args:
        path: a run's folder, its name under outputs/bert/, or a checkpoint file.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it is no fine-tuned model, or its vocabulary does not match its weights.
    """
    place = find_run("bert", path)
    checkpoint = load_checkpoint(place, family="bert")
    content, state = checkpoint["config"], checkpoint["state"]
    if "kind" not in content:
        raise ValueError(
            f"{place} is a pre-training: it has no head for a task. Fine-tune it first: python "
            f"bert/bert_finetuning.py --run {Path(path).name}."
        )
    sizes = config_from_dict(BertConfig, content["model"])
    recipe = config_from_dict(FinetuneConfig, content["finetuning"])
    wordpiece = WordPiece.from_dict(state["wordpiece"])
    if wordpiece.vocab_size != sizes.vocab_size:
        raise ValueError(
            f"{place} holds a vocabulary of {wordpiece.vocab_size:,} tokens and weights for "
            f"{sizes.vocab_size:,}: they belong to different runs. Fine-tune again."
        )
    bert, labels = BertModel(sizes), tuple(content["labels"])
    model: nn.Module
    if content["kind"] == "classification":
        model = BertForSequenceClassification(bert, len(labels), recipe.pooling)
    elif content["kind"] == "tagging":
        model = BertForTokenClassification(bert, len(labels))
    else:
        model = BertForSpan(bert)
    load_weights(model, state["model"], place)
    max_len = min(recipe.max_len, sizes.max_len)
    return SavedModel(model.eval(), wordpiece, labels, content["task"], content["kind"], max_len)


def load_classifier(path: Path | str) -> SavedClassifier:
    """Opens a fine-tuned classifier.

    Args:
        path: a run's folder, its name under outputs/bert/, or a checkpoint file.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it is a pre-training, or has another head than a classifier's.
    """
    saved = load_finetuned(path)
    if not isinstance(saved.model, BertForSequenceClassification):
        raise ValueError(
            f"{find_run('bert', path)} has the head for {saved.kind} (task {saved.task}), not for "
            "classification: it gives no label to a text. Name a run of --task library, sst2, "
            "polarity or a file of yours."
        )
    return SavedClassifier(saved.model, saved.wordpiece, saved.labels, saved.task, saved.max_len)
