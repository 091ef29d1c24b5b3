"""Demonstrations: replies to learn from, by people who err and chat; how much can be chosen.

Real demonstrations are written by people, so some are wrong and many say more than was asked. A
model that imitates them takes over both. That is what the later stages have to cure.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from instruction_tuning.word_world import Request
from instruction_tuning.wordings import CHATTER


@dataclass(frozen=True)
class Demonstration:
    """A request and how somebody answered it."""

    request: Request
    reply: str

    @property
    def prompt(self) -> str:
        """The user's text."""
        return self.request.text


def demonstrate(
    requests: Sequence[Request], slips: float = 0.25, chatter: float = 0.25, seed: int = 0
) -> list[Demonstration]:
    """Answers requests, not always well.

    Args:
        requests: what is asked.
        slips: share of replies with a slip: a wrong answer, but a near one.
        chatter: share of replies that begin with chatter, such as "sure, ".
        seed: the same seed makes the same slips.

    Raises:
        ValueError: a share is not from 0 to 1.

    >>> request = Request("spell kapi backwards", "ipak", "reverse", "kapi")
    >>> demonstrate([request], slips=0.0, chatter=0.0)[0].reply
    'ipak'
    """
    for name, share in (("slips", slips), ("chatter", chatter)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name}={share} is no share of the demonstrations. Use 0 to 1.")
    dice = random.Random(f"demonstrations {seed}")
    found = []
    for request in requests:
        slipped, chats = dice.random() < slips, dice.random() < chatter
        reply = slip(request.answer, dice) if slipped else request.answer
        found.append(Demonstration(request, dice.choice(CHATTER) + reply if chats else reply))
    return found


def slip(answer: str, dice: random.Random) -> str:
    """Returns a wrong answer near the right one.

    A number becomes the next or the one before. Of a word, a letter is dropped or written twice,
    or two neighbors change places.
    """
    if answer.isdigit():
        return str(abs(int(answer) + dice.choice((-1, 1))))
    ways = [_drop, _write_twice, _swap]
    dice.shuffle(ways)
    for way in ways:
        wrong = way(answer, dice.randrange(len(answer)))
        if wrong not in ("", answer):  # "aa" with its letters swapped is still right
            return wrong
    return answer * 2  # not reached: writing a letter twice always changes the word


_Way = Callable[[str, int], str]


def _drop(word: str, place: int) -> str:
    """Leaves out a letter."""
    return word[:place] + word[place + 1 :]


def _write_twice(word: str, place: int) -> str:
    """Writes a letter twice."""
    return word[: place + 1] + word[place:]


def _swap(word: str, place: int) -> str:
    """Lets a letter and the next one change places; the last one stays."""
    return word[:place] + word[place : place + 2][::-1] + word[place + 2 :]
