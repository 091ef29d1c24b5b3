"""What the base model reads before it is tuned: raw facts about words and numbers, one a line.

    zafpog: backwards=gopfaz; capitals=ZAFPOG; letters=6
    12+7=19
    hot: opposite=cold

The base model learns from it what letters, sums and opposites are, but never sees a request: it
knows, and cannot be asked. Only words and numbers of the training split occur (of the validation
split in the validation text). Opposites are facts that cannot be worked out, so all of them are
here; requests for the held-out ones are not in any training.
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
from instruction_tuning.wordings import BASE_FACTS, BASE_OPPOSITE
from instruction_tuning.world_tokenizer import build_tokenizer

FACTS_PER_LINE = (2, 4)  # fewest and most facts in a line about a word
SUM_SHARE, OPPOSITE_SHARE = 0.15, 0.08  # of the lines; the rest is about words
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
    """Writes some facts about a word, in any order."""
    word = draw_word(split, dice)
    facts = dice.sample(list(BASE_FACTS), dice.randint(*FACTS_PER_LINE))
    # No space before the value: as in a reply, it begins with its first letter.
    return f"{word}: " + "; ".join(f"{BASE_FACTS[fact]}={STEPS[fact](word)}" for fact in facts)


def _sum_line(split: Split, dice: random.Random) -> str:
    """Writes a sum or a difference."""
    a, b = dice.choice(numbers(split))
    return dice.choice((f"{a}+{b}={a + b}", f"{a + b}-{a}={b}"))


def _opposite_line(split: Split, dice: random.Random) -> str:
    """Writes a word and its opposite: of any split, because a fact must be read to be known."""
    word, other = dice.choice([pair for every in SPLITS for pair in opposites(every)])
    return f"{word}: {BASE_OPPOSITE}={other}"
