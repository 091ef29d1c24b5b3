"""A trained model as its checkpoint holds it: weights, vocabulary and languages, ready to use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from transformer.transformer_config import TransformerConfig
from transformer.transformer_model import Transformer
from tutorial_kit.byte_bpe import ByteBPE
from tutorial_kit.checkpoints import load_checkpoint
from tutorial_kit.config import config_from_dict
from tutorial_kit.saved_runs import find_run, load_weights
from tutorial_kit.tokenizers import Tokenizer, tokenizer_from_dict

EXAMPLES = {
    "en": "The girl is reading two new books at home.",
    "de": "Ein kleines Mädchen liest zwei Bücher.",
    "zh": "小女孩在看两本书。",
}
"""A sentence of each language, for those who give none."""


@dataclass(frozen=True)
class SavedModel:
    """What is needed to translate."""

    model: Transformer  # in evaluation mode, on the CPU
    tokenizer: Tokenizer  # of both languages
    source_language: str  # "en", "de", "zh" or what the user's files are
    target_language: str


def load_model(path: Path | str) -> SavedModel:
    """Loads what ``train_transformer`` has saved.

    Args:
        path: a checkpoint file, a run's folder, or a run's name under outputs/transformer/.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it cannot be read, is not a Transformer's, or its parts do not fit together.
    """
    path = find_run("transformer", path)
    checkpoint = load_checkpoint(path, family="transformer")
    state = checkpoint["state"]
    model = Transformer(config_from_dict(TransformerConfig, checkpoint["config"]["model"]))
    tokenizer = tokenizer_from_dict(state["tokenizer"])
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"{path} holds a vocabulary of {tokenizer.vocab_size:,} tokens and weights for "
            f"{model.config.vocab_size:,}: they belong to different runs. Train again."
        )
    load_weights(model, state["model"], path)
    source_language, target_language = state["languages"]
    return SavedModel(model.eval(), tokenizer, source_language, target_language)


def untrained_model() -> SavedModel:
    """Returns a tiny model that knows nothing, the same each time: what it does takes no time."""
    special = ("<pad>", "<bos>", "<eos>", "<unk>")
    tokenizer = ByteBPE.train(EXAMPLES.values(), n_merges=24, special_tokens=special)
    config = TransformerConfig(
        tokenizer.vocab_size, max_len=64, d_model=32, n_layers=2, n_decoder_layers=2, d_ff=64
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SavedModel(Transformer(config).eval(), tokenizer, "en", "zh")
