"""The model that everything starts from: a GPT that knows words, and has never seen a request.

gpt's own trainer trains it on the lines of ``base_text.py``. It is kept in the cache folder under a
fingerprint of all it depends on, so that the next call takes a second and a change of the text or
the settings trains a new one.

``python instruction_tuning/base_model.py --preset quick`` trains it, or says where it is.
"""

from __future__ import annotations

if __name__ == "__main__" and __spec__ is None:  # started as a file: import from the root
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    import tutorial_kit  # noqa: F401 - before torch: how its threads wait

import argparse
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from gpt.generation import load_model
from gpt.gpt_config import RECIPES, GPTConfig
from gpt.gpt_model import GPT
from gpt.train_config import TRAINING_RECIPES, TrainConfig
from gpt.train_gpt import train
from instruction_tuning.base_text import base_lines, base_text
from instruction_tuning.world_tokenizer import build_tokenizer
from tutorial_kit.checkpoints import load_checkpoint
from tutorial_kit.config import config_to_dict, override
from tutorial_kit.console import OneLineParser, run_entry
from tutorial_kit.datasets import cache_folder
from tutorial_kit.entry_parsers import add_device
from tutorial_kit.files import folder_lock
from tutorial_kit.word_tokenizer import WordTokenizer

CODE_VERSION = 1
"""Counted up when gpt or the kit change so that the same settings train other weights."""

SAMPLED_LINES = 1000  # of the base text, in the fingerprint
WAIT_S = 900.0  # for another process that trains the same model


@dataclass(frozen=True)
class BasePreset:
    """How much text, and how it is learned."""

    documents: int  # lines of the text
    training: TrainConfig  # of gpt


def _preset(documents: int, model: dict[str, Any], **training: Any) -> BasePreset:
    config = override(TrainConfig(dataset="base_text"), RECIPES["modern"])
    config = override(config, TRAINING_RECIPES["modern"])
    shape = replace(config.model, max_len=96, **model)
    return BasePreset(documents, replace(config, model=shape, **training))


PRESETS: dict[str, BasePreset] = {
    # Seconds on any machine; a test that everything runs, no result.
    "smoke": _preset(
        400, {"d_model": 32, "n_heads": 2, "n_kv_heads": 2, "n_layers": 2, "d_ff": 64},
        batch_size=8, max_steps=8, eval_every=8, checkpoint_every=8,
    ),
    # The base of quick_start.py, 0.8 million parameters.
    "quick": _preset(
        60_000, {"d_model": 128, "n_heads": 4, "n_kv_heads": 4, "n_layers": 4, "d_ff": 512},
        batch_size=32, max_steps=700, eval_every=350, checkpoint_every=350,
    ),
    # Twice as wide and four times as long.
    "standard": _preset(
        240_000, {"d_model": 192, "n_heads": 6, "n_kv_heads": 6, "n_layers": 6, "d_ff": 768},
        batch_size=64, max_steps=1500, eval_every=500, checkpoint_every=500,
    ),
}  # fmt: skip


def base_name(preset: str, seed: int = 0) -> str:
    """Returns the name under which ``saved_model.load_policy`` finds a base model.

    >>> base_name("quick"), base_name("quick", 2)
    ('quick', 'quick:2')
    """
    return f"{preset}:{seed}" if seed else preset


def parse_base_name(name: str) -> tuple[str, int] | None:
    """Returns preset and seed of a base model's name; None if it is no such name."""
    match = re.fullmatch(r"(\w+)(?::(\d+))?", name)
    if match is None or match[1] not in PRESETS:
        return None
    return match[1], int(match[2] or 0)


def base_model(
    preset: str = "quick", seed: int = 0, device: str = "auto"
) -> tuple[GPT, WordTokenizer, Path]:
    """Returns a base model, trained now if it is not in the cache yet.

    A training that was killed goes on where it left off. Of several processes one trains and the
    others wait for it.

    Args:
        preset: "smoke", "quick" or "standard".
        seed: of its weights and of its text.
        device: where to train: "auto", "cpu", "cuda" or "mps".

    Returns:
        The model, in evaluation mode on the CPU; its tokenizer; its folder.

    Raises:
        ValueError: there is no such preset.
    """
    if preset not in PRESETS:
        raise ValueError(
            f"there is no base model {preset!r}: nothing says how to train it. "
            f"Use one of {', '.join(PRESETS)}."
        )
    documents = PRESETS[preset].documents
    settings = replace(PRESETS[preset].training, seed=seed)
    folder = cache_folder() / "base_models" / f"{preset}-{_fingerprint(settings, documents)}"
    last = folder / "checkpoints" / "last.pt"
    notice = f"another process trains the base model in {folder}; waiting for it"
    with folder_lock(folder, WAIT_S, notice):
        if _steps(last) < settings.max_steps:
            data = base_text(documents, seed)
            train(settings, data, folder, resume=last.is_file(), device=device)
    model, tokenizer = load_model(last)
    return model, cast(WordTokenizer, tokenizer), folder


def _fingerprint(settings: TrainConfig, documents: int) -> str:
    """Returns what the weights depend on as 16 hexadecimal digits.

    The whole text would take longer to write than the model to load: its first lines stand for it.
    """
    sample = base_lines(SAMPLED_LINES, "train", settings.seed)
    described = [CODE_VERSION, config_to_dict(settings), build_tokenizer().to_dict(), documents]
    text = json.dumps([*described, sample], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _steps(checkpoint: Path) -> int:
    """Returns the steps that a checkpoint has behind it; -1 if there is none."""
    if not checkpoint.is_file():
        return -1
    return int(load_checkpoint(checkpoint, family="gpt")["state"]["step"])


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    parser = OneLineParser(description="Train the base model of all tunings, or find it.")
    parser.add_argument("--preset", choices=list(PRESETS), default="quick", help="which one")
    parser.add_argument("--seed", type=int, default=0, help="initial weights and text")
    add_device(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> Path:
    """Trains or finds the base model, prints where it is, returns its folder."""
    args = build_parser().parse_args(argv)
    model, tokenizer, folder = base_model(args.preset, args.seed, args.device)
    config: GPTConfig = model.config
    print(
        f"base model {base_name(args.preset, args.seed)}: {config.n_layers} layers of "
        f"{config.d_model}, {tokenizer.vocab_size} tokens, in {folder}"
    )
    return folder


if __name__ == "__main__":
    run_entry(main)
