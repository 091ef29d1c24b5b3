"""What the base model reads before it is tuned: facts about words and numbers, never a request.

    zafpog: backwards=gopfaz; capitals=ZAFPOG; letters=6
    zafpog spelled backwards is gopfaz. the length of zafpog is 6
    12+7=19. the difference of 30 and 4 is 26. 5 plus 8 is 13
    hot: opposite=cold. the contrary of open is shut

The base model learns from it what letters, sums and opposites are, and the words that requests
consist of, but it never sees anyone ask and anyone answer: it knows, and cannot be asked. Why the
words? What all words of a request mean would otherwise be left to the tuning, and a tuning that has
to move so much forgets the sums on the way.

Only words and numbers of the training split occur (of the validation split in the validation text).
Opposites are facts that cannot be worked out, so all of them are here; requests for the held-out
ones are not in any training.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor

from gpt.text_data import TextData
from instruction_tuning.word_world import (
    SPLITS,
    STEPS,
    Split,
    draw_word,
    numbers,
    opposites,
)
from instruction_tuning.wordings import (
    BASE_DIFFERENCES,
    BASE_FACTS,
    BASE_OPPOSITES,
    BASE_STATEMENTS,
    BASE_SUMS,
)
from instruction_tuning.world_tokenizer import build_tokenizer

LISTED = (2, 4)  # fewest and most facts of a word in a list
STATED = 2  # facts of a word in a line of statements; opposites in a line
SUMS_PER_LINE = 3
SUM_SHARE, OPPOSITE_SHARE = 0.3, 0.1  # of the lines; the rest is about words
VALIDATION_SHARE = 0.02  # lines of the validation text, as a share of the training text's


def base_text(n_documents: int, seed: int) -> TextData:
    """Returns the text for the base model, tokenized, as ``gpt.train_gpt`` takes it.

    Args:
        n_documents: lines of the training text.
        seed: the same seed writes the same text.

    Returns:
        "train" and "validation"; "test" is empty, because no text may hold a test word.
    """
    tokenizer = build_tokenizer()
    counts = {"train": n_documents, "validation": max(100, int(VALIDATION_SHARE * n_documents))}
    texts = {
        split: "".join(f"{line}\n" for line in base_lines(counts.get(split, 0), split, seed))
        for split in SPLITS
    }
    tokens: dict[str, Tensor] = {
        split: torch.from_numpy(tokenizer.encode_array(text)).long()
        for split, text in texts.items()
    }
    return TextData("base text", tokenizer, tokens, {s: len(t) for s, t in texts.items()})


def base_lines(count: int, split: Split, seed: int) -> list[str]:
    """Returns lines of raw text.

    Args:
        count: how many lines.
        split: whose words and numbers they are about.
        seed: the same seed writes the same lines.
    """
    dice = random.Random(f"base {split} {seed}")
    return [_draw_line(split, dice) for _ in range(count)]


def _draw_line(split: Split, dice: random.Random) -> str:
    """Writes a line of one of the three kinds."""
    kind = dice.random()
    write: Callable[[Split, random.Random], str] = _word_line
    if kind < SUM_SHARE:
        write = _sum_line
    elif kind < SUM_SHARE + OPPOSITE_SHARE:
        write = _opposite_line
    return write(split, dice)


def _word_line(split: Split, dice: random.Random) -> str:
    """Writes some facts about a word, in any order: every other time as a list."""
    word = draw_word(split, dice)
    if dice.random() < 0.5:
        facts = dice.sample(list(BASE_STATEMENTS), STATED)
        told = [
            dice.choice(BASE_STATEMENTS[fact]).format(word, STEPS[fact](word)) for fact in facts
        ]
        return ". ".join(told)
    facts = dice.sample(list(BASE_FACTS), dice.randint(*LISTED))
    # No space before the value: as in a reply, it begins with its first letter.
    return f"{word}: " + "; ".join(f"{BASE_FACTS[fact]}={STEPS[fact](word)}" for fact in facts)


def _sum_line(split: Split, dice: random.Random) -> str:
    """Writes sums and differences."""
    return ". ".join(_sum(split, dice) for _ in range(SUMS_PER_LINE))


def _sum(split: Split, dice: random.Random) -> str:
    a, b = dice.choice(numbers(split))
    if dice.random() < 0.5:
        return dice.choice(BASE_SUMS).format(a, b, a + b)
    return dice.choice(BASE_DIFFERENCES).format(a + b, a, b)


def _opposite_line(split: Split, dice: random.Random) -> str:
    """Writes words and their opposites: of any split, because a fact must be read to be known."""
    pairs = [pair for every in SPLITS for pair in opposites(every)]
    told = [dice.choice(BASE_OPPOSITES).format(*dice.choice(pairs)) for _ in range(STATED)]
    return ". ".join(told)
