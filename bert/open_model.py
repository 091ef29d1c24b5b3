"""Open what a user names: a run of our pre-training, published weights, or a fine-tuned folder."""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

from bert.bert_heads import BertForPreTraining
from bert.pretrained import load_pretrained
from bert.saved_classifier import SavedClassifier, load_classifier, load_finetuned
from bert.saved_model import load_run
from bert.wordpiece import WordPiece
from tutorial_kit.checkpoints import load_checkpoint
from tutorial_kit.published_folder import WEIGHTS_FILE
from tutorial_kit.saved_runs import find_run


def open_pretrained(path: Path | str) -> tuple[BertForPreTraining, WordPiece]:
    """Opens a pre-trained model with its heads.

    Args:
        path: a folder with published weights (it holds model.safetensors), a run of
            ``bert_pretraining``, the run's name under outputs/bert/, or a checkpoint file.

    Returns:
        The model on the CPU, in evaluation mode, and its tokenizer.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: it cannot be read, or is a checkpoint of another kind.
    """
    place = find_run("bert", path)
    if (place / WEIGHTS_FILE).is_file():
        return load_pretrained(place, say=lambda line: print(line, file=sys.stderr))
    return load_run(place)[:2]


def open_classifier(path: Path | str) -> SavedClassifier:
    """Opens a fine-tuned classifier of whole texts.

    Args:
        path: what ``bert_finetuning`` has saved: a folder, its name, or a checkpoint file.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: it cannot be read, or its head is of another kind.
    """
    return load_classifier(path)


def open_encoder(path: Path | str) -> tuple[nn.Module, WordPiece]:
    """Opens any model that has BERT's vectors, fine-tuned ones too; errors as `open_pretrained`."""
    place = find_run("bert", path)
    if (place / WEIGHTS_FILE).is_file() or "kind" not in load_checkpoint(place, family="bert")[
        "config"
    ]:
        return open_pretrained(place)
    tuned = load_finetuned(place)
    return tuned.model, tuned.wordpiece
