"""Preferences: of two replies to one request, which one a labeler likes more.

The labeler is the judge (``judge.py``) with weak eyes and a shaky hand: replies that are nearly
equally good cannot be told apart, and now and then the worse reply is chosen, as people do. Ouyang
et al. 2022, section 3.5, rank K replies to a prompt and train on all pairs of them; so does
`label_pairs`. The better of two replies may still be wrong: so the labeler also says whether the
chosen one can stay as it is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from instruction_tuning.judge import exact_match, judge
from instruction_tuning.word_world import Request

VISIBLE = 0.2  # smallest difference between the judge's scores that a labeler sees


@dataclass(frozen=True)
class Preference:
    """A request and two replies, one of which was preferred."""

    request: Request
    chosen: str
    rejected: str
    accepted: bool = True  # whether the chosen reply can stay as it is

    @property
    def prompt(self) -> str:
        """The user's text."""
        return self.request.text


def label_pairs(
    requests: Sequence[Request],
    replies: Sequence[Sequence[str]],
    noise: float = 0.05,
    seed: int = 0,
    visible: float = VISIBLE,
) -> list[Preference]:
    """Makes a preference of every two replies to a request of which one is visibly better.

    Args:
        requests: N requests.
        replies: N lists of replies; a reply that occurs twice in a list counts once.
        noise: share of pairs in which the worse reply is chosen, and of replies that are wrongly
            accepted or wrongly not.
        seed: the same seed flips the same pairs.
        visible: smallest difference between the judge's scores that the labeler sees.

    Returns:
        Preferences, in the order of the requests; a request whose replies are equally good has
        none.

    Raises:
        ValueError: requests and lists of replies are not equally many, or the noise is no share.

    >>> request = Request("spell kapi backwards", "ipak", "reverse", "kapi")
    >>> [(p.chosen, p.rejected) for p in label_pairs([request], [["ipa", "ipak"]], noise=0.0)]
    [('ipak', 'ipa')]
    """
    if len(requests) != len(replies):
        raise ValueError(
            f"{len(requests)} requests came with {len(replies)} lists of replies: nobody knows "
            "which belong together. Give one list for each request."
        )
    if not 0 <= noise <= 1:
        raise ValueError(f"noise={noise} is no share of the pairs. Use 0 to 1, such as 0.05.")
    dice, eyes = random.Random(f"labels {seed}"), random.Random(f"acceptance {seed}")
    found = []
    for request, several in zip(requests, replies, strict=True):
        scores = {reply: judge(request, reply) for reply in several}
        accepted = {reply: exact_match(request, reply) != (eyes.random() < noise)
                    for reply in scores}  # fmt: skip
        for one, other in combinations(scores, 2):
            difference = abs(scores[one] - scores[other])
            if not difference or difference < visible - 1e-9:  # 0.6 - 0.4 is below 0.2
                continue
            better, worse = sorted((one, other), key=scores.__getitem__, reverse=True)
            if dice.random() < noise:
                better, worse = worse, better
            found.append(Preference(request, better, worse, accepted[better]))
    return found
