"""What a tuning has saved, loaded again: a policy, or a reward model.

A run that trained all weights holds them. A LoRA run holds only what it trained, the matrices A and
B, and the name of the model they change; that model is loaded first, and they are merged into it.
Its weights have a fingerprint in the checkpoint: on other weights A and B would be noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from gpt.gpt_config import GPTConfig
from gpt.gpt_model import GPT
from instruction_tuning.base_model import base_model, parse_base_name
from instruction_tuning.lora import add_lora, merge_lora, remove_lora
from instruction_tuning.reward_model import RewardModel
from tutorial_kit.checkpoints import load_checkpoint
from tutorial_kit.config import config_from_dict
from tutorial_kit.saved_runs import find_run, load_weights
from tutorial_kit.tokenizers import Tokenizer, tokenizer_from_dict
from tutorial_kit.word_tokenizer import CHAT_TOKENS, WordTokenizer

FAMILY = "instruction_tuning"


def load_policy(name: Path | str) -> tuple[GPT, WordTokenizer]:
    """Loads a model that writes replies.

    Args:
        name: a run's name under outputs/instruction_tuning/, its folder or a checkpoint file; or a
            base model: "quick", "quick:2" (seed 2), which is trained if it is not in the cache.

    Returns:
        The model, in evaluation mode on the CPU, and its tokenizer.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: it cannot be read, is a reward model, or its tokenizer knows no chat.
    """
    base = parse_base_name(str(name))
    if base is not None and not Path(name).exists():
        model, tokenizer, _ = base_model(*base)
        return model, tokenizer
    path = find_run(FAMILY, name)
    checkpoint = _read(path)
    if checkpoint["state"].get("stage") == "reward":
        raise ValueError(
            f"{path} is a reward model: it gives scores and writes nothing. "
            "Name a run of another trainer."
        )
    loaded, tokenizer = _rebuild(checkpoint, path)
    return cast(GPT, loaded), tokenizer


def load_reward_model(name: Path | str) -> tuple[RewardModel, WordTokenizer]:
    """Loads a model that scores replies, a run of ``reward_trainer``.

    Args:
        name: a run's name under outputs/instruction_tuning/, its folder or a checkpoint file.

    Returns:
        The model, in evaluation mode on the CPU, and its tokenizer.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: it cannot be read, or is no reward model.
    """
    path = find_run(FAMILY, name)
    checkpoint = _read(path)
    if checkpoint["state"].get("stage") != "reward":
        raise ValueError(
            f"{path} is no reward model: it writes replies and scores none. "
            "Train one with python instruction_tuning/reward_trainer.py, then name its run."
        )
    loaded, tokenizer = _rebuild(checkpoint, path)
    return cast(RewardModel, loaded), tokenizer


def _read(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of this family, or of gpt, whose models can be tuned, too."""
    try:
        return load_checkpoint(path, family=FAMILY)
    except ValueError as refused:
        try:
            return load_checkpoint(path, family="gpt")
        except ValueError:
            raise refused from None


def _rebuild(checkpoint: Mapping[str, Any], path: Path) -> tuple[nn.Module, WordTokenizer]:
    """Returns the model and the tokenizer of a checkpoint, LoRA merged."""
    config, state = checkpoint["config"], checkpoint["state"]
    tokenizer = check_chat_tokens(tokenizer_from_dict(state["tokenizer"]), path)
    rank = config.get("lora_rank", 0)
    if rank:
        body, base_tokenizer = load_policy(config["base"])
        check_same_tokenizer(tokenizer, base_tokenizer, path, config["base"])
        _check_base(state["base_weights"], body, config["base"], path)
        add_lora(body, tuple(config["lora_layers"].split(",")), rank, config["lora_alpha"])
    else:
        shape = config["model"] if "model" in config else state["model_config"]
        body = GPT(config_from_dict(GPTConfig, shape))
    model: nn.Module = body
    if state.get("stage") == "reward":
        model = RewardModel(body, config["own_likelihood"])
    if rank:
        load_trained(model, state["model"], path)
        merge_lora(body)
        remove_lora(body)
    else:
        load_weights(model, state["model"], path)
    return model.eval(), tokenizer


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Returns what a training changes: with LoRA, A and B and a new head; without, everything."""
    return {
        name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad
    }


def load_trained(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Puts back what ``trained_weights`` returned; the other weights stay as they are.

    Raises:
        ValueError: they are not those of this model; the text names ``path``.
    """
    if weights.keys() != trained_weights(model).keys():
        odd = sorted(weights.keys() ^ trained_weights(model).keys())[0]
        raise ValueError(
            f"{path} holds trained weights that do not fit its own settings ({odd} is on one side "
            "only): the file was changed. Train again."
        )
    load_weights(model, {**model.state_dict(), **weights}, path)


def weights_fingerprint(model: nn.Module) -> str:
    """Returns 16 hexadecimal digits that change with any weight of the model."""
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check_base(saved: str, body: GPT, base: str, path: Path) -> None:
    """Refuses to put LoRA's matrices onto other weights than they were trained on."""
    here = weights_fingerprint(body)
    if here != saved:
        raise ValueError(
            f"{path} was trained with LoRA on {base!r} with the weights {saved}, but {base!r} has "
            f"the weights {here} now: A and B fit no others. Train the run again."
        )


def check_chat_tokens(tokenizer: Tokenizer, path: Path | str) -> WordTokenizer:
    """Refuses a tokenizer in which no conversation can be written.

    Raises:
        ValueError: a token of the chat template is missing.
    """
    missing = [name for name in CHAT_TOKENS if name not in tokenizer.special_tokens]
    if missing or not isinstance(tokenizer, WordTokenizer):
        lacking = f"lacks {', '.join(missing)}" if missing else "is not this family's"
        raise ValueError(
            f"{path} was trained with a tokenizer that {lacking}: no chat can be written in it. "
            "Tune a base model of python instruction_tuning/base_model.py, or a run that began "
            "with one."
        )
    return tokenizer


def check_same_tokenizer(
    one: WordTokenizer, other: WordTokenizer, first: Path | str, second: Path | str
) -> None:
    """Refuses two models that must read the same tokens and do not.

    Args:
        one: the tokenizer of the model ``first``.
        other: the tokenizer of the model ``second``.
        first: its name, for the text.
        second: likewise.

    Raises:
        ValueError: the tokenizers differ.
    """
    if one.to_dict() != other.to_dict():
        raise ValueError(
            f"{first} and {second} were trained with different tokenizers ({one.vocab_size} and "
            f"{other.vocab_size} tokens): what one writes means something else to the other. "
            "Use models that come from one base."
        )
