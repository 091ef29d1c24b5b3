"""Pairs of replies as DPO reads them: a prompt, behind it the chosen and the rejected reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.gpt_model import GPT
from instruction_tuning.chat_template import Row
from instruction_tuning.common_config import VALIDATION
from instruction_tuning.instruction_data import WORLD, pair_rows
from instruction_tuning.preference_data import accepted_pairs, preferences_of
from instruction_tuning.reply_batch import ReplyBatch, make_reply_batch, reply_log_probs
from instruction_tuning.tuning_config import DPOConfig
from instruction_tuning.word_world import Request, draw_requests
from tutorial_kit.compute import autocast
from tutorial_kit.word_tokenizer import WordTokenizer

TOGETHER = 256  # pairs scored at once without gradients


@dataclass(frozen=True)
class Pairs:
    """P prompts, two replies each."""

    prompts: list[list[int]]  # token ids, up to and with <assistant>
    replies: list[list[list[int]]]  # for each prompt the chosen and the rejected one, with <end>
    max_len: int  # of the model's context window, tokens

    @classmethod
    def of(cls, rows: Sequence[tuple[Row, Row]], max_len: int) -> Pairs:
        """Takes pairs of conversations apart, as ``pair_rows`` returns them."""
        prompts, replies = [], []
        for chosen, rejected in rows:
            start = chosen[1].index(True)  # the reply begins where the loss does
            prompts.append(chosen[0][:start])
            replies.append([chosen[0][start:], rejected[0][start:]])
        return cls(prompts, replies, max_len)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt with both replies."""
        pairs = zip(self.prompts, self.replies, strict=True)
        return [len(prompt) + sum(map(len, both)) for prompt, both in pairs]

    def batch(self, rows: Sequence[int]) -> ReplyBatch:
        """Returns some pairs: reply 2 i is the chosen one of pair i, 2 i + 1 the rejected one."""
        return make_reply_batch(
            [self.prompts[row] for row in rows], [self.replies[row] for row in rows], self.max_len
        )


@dataclass(frozen=True)
class PairData:
    """What DPO learns from and what it is measured on."""

    train: Pairs
    validation: Pairs  # of held-out requests
    requests: Sequence[Request]  # held-out requests that a program can check; of a file: none


@torch.no_grad()
def pair_log_probs(model: GPT, pairs: Pairs, precision: str = "float32") -> Tensor:
    """Returns log p(reply | prompt) of both replies of each pair, (P, 2): chosen, rejected.

    Args:
        model: the policy or the reference.
        pairs: P of them.
        precision: of the forward pass, as in training.
    """
    device = model.token_embedding.weight.device
    found = torch.empty(len(pairs), 2, device=device)
    for part in torch.tensor(pairs.lengths).argsort(stable=True).split(TOGETHER):
        batch = pairs.batch(part.tolist()).to(device)
        with autocast(precision, device):
            found[part] = reply_log_probs(model, batch).sum(1).view(-1, 2)
    return found


def load_pair_data(config: DPOConfig, policy: GPT, tokenizer: WordTokenizer) -> PairData:
    """Returns the pairs that the settings name; see ``preferences_of``.

    Args:
        config: data set, numbers, noise and seed of the pairs.
        policy: whose replies are compared.
        tokenizer: its tokenizer.

    Raises:
        ValueError: the file cannot be used, or there is no pair.
        FileNotFoundError: there is no such file.
    """
    of_world, max_len = config.dataset == WORLD, policy.config.max_len
    train, validation = (
        Pairs.of(
            pair_rows(
                accepted_pairs(config, preferences_of(config, policy, tokenizer, split)),
                tokenizer, max_len, drop_long=not of_world,
            ),
            max_len,
        )
        for split in ("train", "validation")
    )  # fmt: skip
    requests = draw_requests(VALIDATION, "validation", config.seed) if of_world else []
    return PairData(train, validation, requests)
