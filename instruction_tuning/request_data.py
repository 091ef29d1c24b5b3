"""What PPO and GRPO learn from: requests alone, because the policy writes the replies itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from instruction_tuning.chat_template import encode_prompt
from instruction_tuning.common_config import VALIDATION
from instruction_tuning.instruction_data import WORLD, demonstrations_of
from instruction_tuning.rollout_config import RolloutConfig
from instruction_tuning.word_world import Request, Split, draw_requests
from tutorial_kit.tokenizers import Tokenizer

OTHER_REQUESTS = 14_002  # added to the seed: neither SFT's requests nor the reward model's


@dataclass(frozen=True)
class RequestData:
    """Requests of the training and held-out ones, with their prompts as tokens."""

    train: Sequence[Request]
    prompts: Sequence[list[int]]  # of ``train``, up to and with <assistant>
    validation: Sequence[Request]

    @classmethod
    def of(
        cls, train: Sequence[Request], validation: Sequence[Request], tokenizer: Tokenizer
    ) -> RequestData:
        """Encodes the requests' texts."""
        return cls(train, [encode_prompt(each.text, tokenizer) for each in train], validation)


def load_request_data(config: RolloutConfig, tokenizer: Tokenizer, max_len: int) -> RequestData:
    """Returns the requests that the settings name.

    Args:
        config: data set, number, seed; of a file the replies in it are the verifier's answers.
        tokenizer: the policy's.
        max_len: its context window, tokens; a file's requests that leave no room for a reply of
            ``config.max_new`` are left out, and said.

    Raises:
        ValueError: the file cannot be used, or nothing in it fits.
        FileNotFoundError: there is no such file.
    """
    found = {}
    splits: dict[Split, int] = {"train": config.requests, "validation": VALIDATION}
    for split, count in splits.items():
        if config.dataset == WORLD:
            found[split] = draw_requests(count, split, config.seed + OTHER_REQUESTS)
        else:
            found[split] = _requests_of_file(config, split, count, tokenizer, max_len)
    return RequestData.of(found["train"], found["validation"], tokenizer)


def _requests_of_file(
    config: RolloutConfig, split: Split, count: int, tokenizer: Tokenizer, max_len: int
) -> list[Request]:
    """Returns a file's requests that leave room for a reply."""
    entries = demonstrations_of(config.dataset, split, count)
    room = max_len - config.max_new  # tokens of a prompt
    kept = [
        Request(each.prompt, each.reply, "instruction", "")
        for each in entries
        if len(encode_prompt(each.prompt, tokenizer)) <= room
    ]
    if not kept:
        raise ValueError(
            f"none of the {len(entries)} {split} requests of {config.dataset} leaves room for a "
            f"reply of max_new={config.max_new} tokens in a context of {max_len}. "
            "Use a smaller max_new, or a base model with a larger max_len."
        )
    cut = len(entries) - len(kept)
    if cut:
        print(f"note: {cut:,} of {len(entries):,} {split} requests are left out, because they "
              f"leave no room for a reply of {config.max_new} tokens")  # fmt: skip
    return kept
