"""A world of requests whose answers a program can check: letters, small sums, opposites, two steps.

Why not real instructions? A model of a million parameters cannot learn them, and nobody could say
how many of its replies are right. Here each reply is right or wrong, on words that the model has
never seen: what is measured is the skill, not the memory.

Words are invented and can be pronounced ("kapi", "zafpog"). What a request is about decides its
split, by a hash: 2/14 test, 1/14 validation, the rest is for training. All words of the same
letters go together, so neither the reverse of a test word nor its sorted letters are in a training
text; so do the sums and differences of the same two numbers, and a word and its opposite.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from instruction_tuning.wordings import (
    BASE_DIFFERENCES,
    BASE_FACTS,
    BASE_OPPOSITES,
    BASE_STATEMENTS,
    BASE_SUMS,
    CHATTER,
    LETTER_WORDINGS,
    OPPOSITE_WORDINGS,
    OPPOSITES,
    SUM_WORDINGS,
    TWO_STEP_WORDINGS,
)

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

VOWELS = "aeiou"
CONSONANTS = "bcdfghjklmnprstvwz"
SHAPES = {  # c: a consonant, v: a vowel
    3: ("cvc", "vcv"),
    4: ("cvcv", "vcvc"),
    5: ("cvcvc", "vcvcv", "cvccv"),
    6: ("cvcvcv", "cvccvc", "vcvcvc"),
}
LARGEST_NUMBER = 30  # of the two numbers of a sum; a difference begins with a sum, up to twice it
PATIENCE = 20  # draws before a request may occur a second time

STEPS: dict[str, Callable[[str], str]] = {
    "reverse": lambda word: word[::-1],
    "sort": lambda word: "".join(sorted(word)),
    "upper": str.upper,
    "first2": lambda word: word[:2],
    "last2": lambda word: word[-2:],
    "double": lambda word: word + word,
    "length": lambda word: str(len(word)),
    "vowels": lambda word: "".join(letter for letter in word if letter in VOWELS),
}
"""What a program does with a word to know the answer."""

TASKS = (*STEPS, "add", "subtract", "opposite", "two_step")


@dataclass(frozen=True)
class Request:
    """What a user asks, and what only the program that checks replies knows."""

    text: str  # the user's words
    answer: str  # the right reply
    task: str  # one of TASKS
    word: str  # what it is about, which decides the split: "kapi", "7,12", "cold/hot"


def split_of(key: str) -> Split:
    """Returns the split of what a request is about, the same on every machine and in every year.

    (Python's own ``hash`` of a text changes from run to run.)

    Args:
        key: a word, of which only the letters count, or the ``word`` of a sum or an opposite.
    """
    letters = "".join(sorted(key)) if key.isalpha() else key
    number = int.from_bytes(hashlib.sha256(letters.encode()).digest()[:8], "big") % 14
    return "test" if number < 2 else "validation" if number < 3 else "train"


def draw_requests(
    count: int, split: Split, seed: int, tasks: Sequence[str] = TASKS
) -> list[Request]:
    """Draws requests of a split, equally many of each task, in random order.

    Args:
        count: how many; those that do not divide by the tasks go to the first ones.
        split: "train", "validation" or "test".
        seed: the same seed draws the same requests.
        tasks: some of `TASKS`.

    Returns:
        Requests; a text occurs twice only where a task has no more to offer.

    Raises:
        ValueError: there is no such split or task, or no task at all.
    """
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}. Use one of {', '.join(SPLITS)}.")
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks:
        raise ValueError(
            f"{unknown[0]!r} is no task of this world. Use some of {', '.join(TASKS)}."
            if unknown
            else f"requests of no task were asked for. Use some of {', '.join(TASKS)}."
        )
    dice = random.Random(f"requests {split} {seed}")
    requests: list[Request] = []
    seen: set[str] = set()
    for number in range(count):
        for _ in range(PATIENCE):
            request = _draw(tasks[number % len(tasks)], split, dice)
            if request.text not in seen:
                break
        seen.add(request.text)
        requests.append(request)
    dice.shuffle(requests)
    return requests


def _draw(task: str, split: Split, dice: random.Random) -> Request:
    """Draws one request."""
    if task in SUM_WORDINGS:
        a, b = dice.choice(numbers(split))
        key, answer = number_key(a, b), a + b
        if task == "subtract":  # from the sum of the two
            a, answer = a + b, a
        return Request(dice.choice(SUM_WORDINGS[task]).format(a, b), str(answer), task, key)
    if task == "opposite":
        word, answer_word = dice.choice(opposites(split))
        text = dice.choice(OPPOSITE_WORDINGS).format(word)
        return Request(text, answer_word, task, opposite_key(word, answer_word))
    word = draw_word(split, dice)
    if task == "two_step":
        first, second = dice.choice(list(TWO_STEP_WORDINGS))
        text = dice.choice(TWO_STEP_WORDINGS[first, second]).format(word)
        return Request(text, STEPS[second](STEPS[first](word)), task, word)
    return Request(dice.choice(LETTER_WORDINGS[task]).format(word), STEPS[task](word), task, word)


def draw_word(split: Split, dice: random.Random) -> str:
    """Draws an invented word of 3 to 6 letters, of a split."""
    while True:
        shape = dice.choice(SHAPES[dice.randint(3, 6)])
        word = "".join(dice.choice(VOWELS if kind == "v" else CONSONANTS) for kind in shape)
        if split_of(word) == split and not _is_special(word):
            return word


def _is_special(word: str) -> bool:
    """Tells whether a word would make an odd request.

    Its reverse is itself; or it is another word written twice, so the answer to a request about
    that one; or it, or its letters in another order, is a word of the wordings, a single token.
    """
    half, backwards = len(word) // 2, word[::-1]
    if word == backwards or word[:half] == word[half:]:
        return True
    return not _wording_words().isdisjoint((word, backwards, "".join(sorted(word))))


@cache
def _wording_words() -> frozenset[str]:
    """Returns every word that is a token: of the wordings, the base text's and the chatter."""
    wordings = [
        text
        for group in (LETTER_WORDINGS, TWO_STEP_WORDINGS, SUM_WORDINGS, BASE_STATEMENTS)
        for texts in group.values()
        for text in texts
    ]
    words = [word for pair in OPPOSITES for word in pair]
    told = [*BASE_FACTS.values(), *BASE_SUMS, *BASE_DIFFERENCES, *BASE_OPPOSITES]
    text = " ".join([*wordings, *OPPOSITE_WORDINGS, *CHATTER, *told, *words])
    return frozenset("".join(c if c.isalpha() else " " for c in text).split())


def number_key(a: int, b: int) -> str:
    """Returns what decides the split of a + b, b + a, and the two differences from their sum."""
    return f"{min(a, b)},{max(a, b)}"


def opposite_key(word: str, other: str) -> str:
    """Returns what decides the split of a pair of opposites, in either order."""
    return "/".join(sorted((word, other)))


@cache
def numbers(split: Split) -> tuple[tuple[int, int], ...]:
    """Returns the pairs (a, b) of a split, in both orders."""
    every = range(1, LARGEST_NUMBER + 1)
    return tuple((a, b) for a in every for b in every if split_of(number_key(a, b)) == split)


@cache
def opposites(split: Split) -> tuple[tuple[str, str], ...]:
    """Returns the pairs (word, opposite) of a split, in both orders."""
    both = [*OPPOSITES, *((other, word) for word, other in OPPOSITES)]
    return tuple(pair for pair in both if split_of(opposite_key(*pair)) == split)
