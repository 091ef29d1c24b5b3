"""The tokenizer of this family: one token for each word of a wording, letters for all else."""

from __future__ import annotations

from instruction_tuning.wordings import (
    BASE_DIFFERENCES,
    BASE_FACTS,
    BASE_OPPOSITES,
    BASE_STATEMENTS,
    BASE_SUMS,
    CHATTER,
    LETTER_WORDINGS,
    OPPOSITE_WORDINGS,
    SUM_WORDINGS,
    TWO_STEP_WORDINGS,
)
from tutorial_kit.word_tokenizer import WordTokenizer

MOST_WORDS = 250  # tokens that are words; the wordings have fewer


def build_tokenizer() -> WordTokenizer:
    """Returns the tokenizer; it is the same on every machine.

    ``<unk>`` stands for characters beyond ASCII, which JSON files have and this world does not.
    """
    groups = (LETTER_WORDINGS, TWO_STEP_WORDINGS, SUM_WORDINGS, BASE_STATEMENTS)
    wordings = [text for group in groups for texts in group.values() for text in texts]
    facts = [f" {name}" for name in BASE_FACTS.values()]
    told = (*BASE_SUMS, *BASE_DIFFERENCES, *BASE_OPPOSITES, *facts)
    parts = [
        part
        for text in (*wordings, *OPPOSITE_WORDINGS, *told, *CHATTER)
        for part in text.split("{}")
    ]
    return WordTokenizer.from_texts(parts, MOST_WORDS, unknown=True)
