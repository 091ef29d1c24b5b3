"""The judge: a program that scores replies, and the verifier, which only says right or wrong.

The judge stands for a person's taste. No training sees its scores, except as a labeler that
errs now and then (``preferences.py``); it measures what became of a model that was trained on
something else: a learned reward, or the verifier.
"""

from __future__ import annotations

import re

from instruction_tuning.word_world import Request

CHATTY = 0.6  # score of a right answer behind chatter
CLOSEST = 0.5  # most that a wrong answer can get, if all but nothing of it is right
MOST_WORDS = 6  # of a reply that still counts as chatter around one answer

_WORD = re.compile(r"[A-Za-z0-9]+")


def exact_match(request: Request, reply: str) -> bool:
    """Tells whether a reply is the right answer and nothing else: the verifier."""
    return reply == request.answer


def judge(request: Request, reply: str) -> float:
    """Scores a reply from 0 to 1.

    1 for the right answer alone. 0.6 for the right answer behind chatter. A wrong answer gets
    0.5 (1 - edit distance / longer length), and 0.6 times that behind chatter. The last word
    counts as the answer; a reply of more than six words, which could list every possible answer,
    gets 0.

    >>> request = Request("spell kapi backwards", "ipak", "reverse", "kapi")
    >>> [judge(request, reply) for reply in ("ipak", "sure, ipak", "ipka", "")]
    [1.0, 0.6, 0.25, 0.0]
    """
    if exact_match(request, reply):
        return 1.0
    words = _WORD.findall(reply)
    if not words or len(words) > MOST_WORDS:
        return 0.0
    manner = 1.0 if words[-1] == reply else CHATTY
    if words[-1] == request.answer:
        return CHATTY
    longer = max(len(words[-1]), len(request.answer))
    return manner * CLOSEST * (1 - edit_distance(words[-1], request.answer) / longer)


def is_chatty(reply: str) -> bool:
    """Tells whether a reply says more than one word: every answer of this world is one."""
    return len(_WORD.findall(reply)) > 1


def edit_distance(one: str, other: str) -> int:
    """Returns the fewest letters to insert, delete or replace (Levenshtein 1966).

    >>> edit_distance("ipak", "ipka")
    2
    """
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        diagonal, row[0] = row[0], i
        for j, wanted in enumerate(other, start=1):
            changed = diagonal + (letter != wanted)
            diagonal, row[j] = row[j], min(changed, row[j] + 1, row[j - 1] + 1)
    return row[-1]
