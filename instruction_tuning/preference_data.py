"""Pairs of replies to learn from: a policy writes them, a labeler says which is better.

Both the reward model and DPO read them. The policy that is to be improved should be the one that
wrote them: about replies that it never writes nobody needs an opinion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpt.gpt_model import GPT
from gpt.sampling import Sampling
from instruction_tuning.chat_template import Row
from instruction_tuning.instruction_data import (
    WORLD,
    HasPair,
    pair_rows,
    read_preferences,
    split_entries,
)
from instruction_tuning.preferences import Preference, label_pairs
from instruction_tuning.replies import write_replies
from instruction_tuning.tuning_config import DPOConfig, RewardConfig
from instruction_tuning.word_world import Split, draw_requests
from tutorial_kit.word_tokenizer import WordTokenizer

HELD_OUT = 400  # requests of the validation split whose pairs a training is measured on
OTHER_REQUESTS = 7_001  # added to the seed: other requests than those that SFT has demonstrated


def preferences_of(
    config: RewardConfig | DPOConfig, policy: GPT, tokenizer: WordTokenizer, split: Split
) -> Sequence[HasPair]:
    """Returns the pairs that the settings name.

    Args:
        config: data set, number of requests and of replies to each, eyes and noise of the labeler,
            seed.
        policy: writes the replies to requests of the world, at temperature 1.
        tokenizer: the policy's.
        split: "train", or "validation", where the labeler never errs: it shows what was learned.

    Raises:
        ValueError: the file cannot be used, or every two replies to a request are equally good.
        FileNotFoundError: there is no such file.
    """
    if config.dataset != WORLD:
        return split_entries(read_preferences(config.dataset), split, config.dataset)
    seed, training = config.seed + OTHER_REQUESTS, split == "train"
    count = config.requests if training else min(HELD_OUT, config.requests)
    requests = draw_requests(count, split, seed)
    written = write_replies(
        policy, tokenizer, requests, Sampling(), samples=config.replies, seed=seed,
        max_new=config.max_new,
    )  # fmt: skip
    texts, each = [reply.text for reply in written], config.replies
    groups = [texts[start : start + each] for start in range(0, len(texts), each)]
    noise = config.noise if training else 0.0
    pairs = label_pairs(requests, groups, noise, seed, config.visible)
    if not pairs:
        raise ValueError(
            f"{config.replies} replies to each of {count} requests gave no pair: the judge finds "
            "all replies to a request about equally good. Draw more --replies or --requests, or "
            "tune the base model first."
        )
    return pairs


def accepted_pairs(config: DPOConfig, pairs: Sequence[HasPair]) -> Sequence[HasPair]:
    """Returns the pairs that DPO learns from: those with a chosen reply that can stay as it is.

    Where both replies are wrong, raising the better one teaches a mistake.

    Args:
        config: ``accepted`` says whether to leave any out.
        pairs: of a file all are accepted.

    Raises:
        ValueError: none is left.
    """
    if not config.accepted:
        return pairs
    kept = [pair for pair in pairs if not isinstance(pair, Preference) or pair.accepted]
    if not kept:
        raise ValueError(
            f"in {len(pairs)} pairs the labeler accepted no chosen reply: there is nothing "
            "to learn. Use --no-accepted, more --requests, or tune the base model first."
        )
    return kept


@dataclass(frozen=True)
class Comparisons:
    """All that is known about the replies to one request."""

    prompt: list[int]  # token ids of the request, up to and with <assistant>
    replies: list[list[int]]  # token ids of R different replies, <end> included
    pairs: list[tuple[int, int]]  # P times two places in replies: the chosen one, the rejected one

    @property
    def best(self) -> list[bool]:
        """R times, whether a reply was preferred to another one and no other to it."""
        won, lost = {better for better, _ in self.pairs}, {worse for _, worse in self.pairs}
        return [place in won - lost for place in range(len(self.replies))]


def compare(
    preferences: Sequence[HasPair],
    tokenizer: WordTokenizer,
    max_len: int,
    *,
    drop_long: bool = False,
) -> list[Comparisons]:
    """Puts the pairs of each request together, so that each reply stands there once.

    K replies make up to K (K - 1) / 2 pairs. Scored pair by pair each reply would be computed
    K - 1 times, and, worse, learned by heart in one epoch (Ouyang et al. 2022, section 3.5).

    Args:
        preferences: the pairs.
        tokenizer: of the model that will score them.
        max_len: its context window, tokens.
        drop_long: leave out pairs that do not fit, and print how many.

    Raises:
        ValueError: a pair does not fit, or chosen equals rejected.
    """
    found: dict[tuple[int, ...], Comparisons] = {}
    for chosen, rejected in pair_rows(preferences, tokenizer, max_len, drop_long=drop_long):
        (prompt, better), (_, worse) = _cut(chosen), _cut(rejected)
        group = found.setdefault(tuple(prompt), Comparisons(prompt, [], []))
        group.replies.extend(reply for reply in (better, worse) if reply not in group.replies)
        group.pairs.append((group.replies.index(better), group.replies.index(worse)))
    return list(found.values())


def _cut(row: Row) -> tuple[list[int], list[int]]:
    """Returns the tokens before the reply, and the reply's."""
    ids, mask = row
    start = mask.index(True)
    return ids[:start], ids[start:]
