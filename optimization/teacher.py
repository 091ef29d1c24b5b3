"""The teacher: a trained GPT that every technique of this chapter starts from.

``gpt``'s trainer trains it. It is kept in the cache folder under a fingerprint of its settings and
its text, so that the next call takes a second, and other settings or other text train a new one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from gpt.generation import load_model
from gpt.gpt_model import GPT
from gpt.text_data import TextData, load_text_data
from gpt.train_config import TrainConfig
from gpt.train_gpt import train
from optimization.optimization_config import TEACHERS
from tutorial_kit.checkpoints import load_checkpoint
from tutorial_kit.config import config_to_dict
from tutorial_kit.datasets import cache_folder
from tutorial_kit.files import folder_lock

CODE_VERSION = 1
"""Counted up when gpt or the kit change so that the same settings train other weights."""

WAIT_S = 1800.0  # for another process that trains the same teacher


def load_data(config: TrainConfig) -> TextData:
    """Returns the text that the settings name, tokenized and split."""
    return load_text_data(config.dataset, config.tokenizer, config.bpe_tokens)


def find_teacher(name: str, data: TextData, seed: int = 0, device: str = "auto") -> GPT:
    """Returns a teacher, in evaluation mode on the CPU.

    Args:
        name: a preset of ``TEACHERS``, trained now if it is not in the cache yet; or a run of gpt:
            a checkpoint file, a folder, or a name under outputs/gpt/.
        data: the student's text: the teacher must have the same tokenizer, and a preset the same
            text.
        seed: of a preset's training.
        device: where to train it.

    Raises:
        ValueError: the teacher's tokens are not those of ``data``.
        FileNotFoundError: there is no such run.
    """
    if name in TEACHERS:
        path = train_teacher(name, data, seed, device)
    else:
        path = Path(name)
    model, tokenizer = load_model(path)
    if tokenizer.to_dict() != data.tokenizer.to_dict():
        raise ValueError(
            f"the teacher {name} has {tokenizer.vocab_size} tokens of its own, and {data.name} is "
            f"cut into {data.tokenizer.vocab_size} others: its probabilities would be about other "
            "text. Use the teacher's --dataset, --tokenizer and --bpe-tokens."
        )
    return model


def train_teacher(name: str, data: TextData, seed: int = 0, device: str = "auto") -> Path:
    """Trains a teacher of ``TEACHERS`` unless it is in the cache; returns its checkpoint.

    A training that was killed goes on where it left off. Of several processes one trains and the
    others wait for it.
    """
    config = replace(TEACHERS[name], seed=seed)
    folder = cache_folder() / "teachers" / f"{name}-{_fingerprint(config, data)}"
    last = folder / "checkpoints" / "last.pt"
    notice = f"another process trains the teacher in {folder}; waiting for it"
    with folder_lock(folder, WAIT_S, notice):
        if _steps(last) < config.max_steps:
            train(config, data, folder, resume=last.is_file(), device=device)
    return last


def _fingerprint(config: TrainConfig, data: TextData) -> str:
    """Returns what the weights depend on as 16 hexadecimal digits."""
    settings = json.dumps([CODE_VERSION, config_to_dict(config)], sort_keys=True)
    content = hashlib.sha256(settings.encode())
    content.update(data.tokens["train"].numpy().tobytes())
    return content.hexdigest()[:16]


def _steps(checkpoint: Path) -> int:
    """Returns the steps that a checkpoint has behind it; -1 if there is none."""
    if not checkpoint.is_file():
        return -1
    return int(load_checkpoint(checkpoint, family="gpt")["state"]["step"])
