"""How good translations are: BLEU by sacrebleu, with its signature, and exact match.

BLEU (Papineni et al. 2002) counts how many 1- to 4-grams of the translation stand in the reference
and punishes translations that are too short. It depends on how the text is cut into words, so
numbers can only be compared when the signature is the same (Post 2018, "A call for clarity").
Translations are compared as text: never as sub-words, never lower-cased, never teacher-forced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU

LANGUAGES = {
    "en": "English",
    "de": "German",
    "zh": "Chinese",
    "fr": "French",
    "es": "Spanish",
    "it": "Italian",
    "nl": "Dutch",
    "und": "another language",
}


@dataclass(frozen=True)
class Scores:
    """How a list of translations compares with the references."""

    bleu: float  # 0 to 100
    exact_match: float  # share of translations equal to the reference but for spaces, 0 to 1
    sentences: int  # how many were compared
    brevity: float  # BLEU's brevity penalty, 1 where the translations are long enough
    signature: str  # sacrebleu's: what must agree before two BLEUs are compared

    def __str__(self) -> str:
        return (
            f"BLEU {self.bleu:.2f} (brevity penalty {self.brevity:.3f}), exact match "
            f"{self.exact_match:.1%}, {self.sentences:,} sentences\n    {self.signature}"
        )


def score(translations: Sequence[str], references: Sequence[str], language: str) -> Scores:
    """Compares translations with one reference each.

    Args:
        translations: ours.
        references: what people wrote, in the same order.
        language: of the references; "zh" is cut into characters, since Chinese has no spaces.

    Raises:
        ValueError: the two differ in number, or there is nothing to compare.

    >>> result = score(["the cat sat on the mat"], ["the cat sat on the mat"], "en")
    >>> round(result.bleu), result.exact_match, result.signature.split("|")[3]
    (100, 1.0, 'tok:13a')
    """
    if len(translations) != len(references) or not references:
        raise ValueError(
            f"{len(translations)} translations cannot be compared with {len(references)} "
            "references: each needs its own. Translate every sentence of the reference file."
        )
    metric = BLEU(tokenize="zh" if language == "zh" else "13a", force=True)
    result = metric.corpus_score(list(translations), [list(references)])
    pairs = zip(translations, references, strict=True)
    same = sum(ours.split() == theirs.split() for ours, theirs in pairs)
    return Scores(
        bleu=float(result.score),
        exact_match=same / len(references),
        sentences=len(references),
        brevity=float(result.bp),
        signature=str(metric.get_signature()),
    )
