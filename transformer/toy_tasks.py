"""Copy, reverse and sort: three tasks that a small Transformer learns in seconds.

Source and target are words of random letters, a token each. Copying needs to know where a letter
stands, reversing needs to count from the other end, sorting needs no places at all. The held-out
words are new ones; those of the split "longer" are longer than any in training.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

from transformer.joint_vocabulary import SPECIAL_TOKENS
from transformer.sentence_pairs import Pair
from transformer.translation_data import TranslationData
from tutorial_kit.byte_bpe import ByteBPE

LETTERS = "abcdefghijkl"
SHORTEST, LONGEST, LONGER = 4, 12, 24  # letters of a word: in training, and in "longer"
SIZES = {"train": 8000, "validation": 200, "test": 500, "longer": 500}
SEED = 0

TASKS: dict[str, Callable[[str], str]] = {
    "copy": lambda word: word,
    "reverse": lambda word: word[::-1],
    "sort": lambda word: "".join(sorted(word)),
}


@functools.cache
def toy_data(task: str) -> TranslationData:
    """Makes the pairs of a task; the same ones each time.

    Args:
        task: "copy", "reverse" or "sort".

    Returns:
        The splits "train", "validation" and "test" of different words, and "longer".

    Raises:
        ValueError: there is no such task.
    """
    if task not in TASKS:
        raise ValueError(f"there is no task {task!r}. Use one of {', '.join(TASKS)}.")
    tokenizer = ByteBPE.train([LETTERS], n_merges=0, special_tokens=SPECIAL_TOKENS)
    dice, seen = random.Random(SEED), set[str]()
    pairs: dict[str, list[Pair]] = {}
    for split, size in SIZES.items():
        shortest, longest = (LONGEST + 1, LONGER) if split == "longer" else (SHORTEST, LONGEST)
        pairs[split] = []
        while len(pairs[split]) < size:
            word = "".join(dice.choices(LETTERS, k=dice.randint(shortest, longest)))
            if word not in seen:
                seen.add(word)
                pairs[split].append((word, TASKS[task](word)))
    eos = tokenizer.special_tokens["<eos>"]
    ids = {
        split: [([*tokenizer.encode(a), eos], tokenizer.encode(b)) for a, b in words]
        for split, words in pairs.items()
    }
    return TranslationData(task, tokenizer, pairs, ids, "und", "und")
