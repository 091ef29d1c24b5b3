"""scikit-learn's handwritten digits with captions in words, for the same two encoders."""

from __future__ import annotations

import numpy as np

from multimodal.captions import DIGITS

WORDINGS = ("a handwritten {}", "the digit {}", "a picture of the digit {}", "{}")


def digit_caption(digit: int, random: np.random.Generator | None = None) -> str:
    """Describes a picture of a digit.

    Args:
        digit: 0 to 9.
        random: chooses the wording; None takes the first.

    >>> digit_caption(7)
    'a handwritten seven'
    """
    wording = WORDINGS[0] if random is None else WORDINGS[random.integers(len(WORDINGS))]
    return wording.format(DIGITS[digit])


def digit_prompts(digit: int) -> list[str]:
    """Returns every wording for a digit; the class's vector is their mean."""
    return [wording.format(DIGITS[digit]) for wording in WORDINGS]
