"""A pre-trained model as its run's checkpoint holds it: weights, vocabulary, settings."""

from __future__ import annotations

from pathlib import Path

from bert.bert_heads import BertForPreTraining
from bert.bert_model import BertModel
from bert.pretraining_config import PretrainConfig
from bert.wordpiece import WordPiece
from tutorial_kit.checkpoints import load_checkpoint
from tutorial_kit.config import config_from_dict
from tutorial_kit.saved_runs import find_run, load_weights


def load_run(folder: Path | str) -> tuple[BertForPreTraining, WordPiece, PretrainConfig]:
    """Loads what ``bert_pretraining`` has saved.

    Args:
        folder: a run's folder, a run's name under outputs/bert/, or a checkpoint file.

    Returns:
        The model in evaluation mode on the CPU, its vocabulary and the settings of its training.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it cannot be read, is no pre-training's, or its parts do not fit together.
    """
    path = find_run("bert", folder)
    checkpoint = load_checkpoint(path, family="bert")
    state = checkpoint["state"]
    if "wordpiece" not in state or "objective" not in checkpoint["config"]:
        raise ValueError(
            f"{path} is a checkpoint of another kind: it lacks the vocabulary and the heads of a "
            "pre-training. Name a run of bert/bert_pretraining.py."
        )
    config = config_from_dict(PretrainConfig, checkpoint["config"])
    pieces = WordPiece.from_dict(state["wordpiece"])
    if pieces.vocab_size != config.model.vocab_size:
        raise ValueError(
            f"{path} holds a vocabulary of {pieces.vocab_size:,} tokens and weights for "
            f"{config.model.vocab_size:,}: they belong to different runs. Train again."
        )
    model = BertForPreTraining(BertModel(config.model))
    load_weights(model, state["model"], path)
    return model.eval(), pieces, config
