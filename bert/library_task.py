"""A task whose labels cost nothing: which library does this passage of documentation describe?

A passage is one or more neighboring paragraphs of a module, until it has 20 words. Names would make
the task a search for strings, so every word that contains a library's name, and every word that
looks like code (``n_samples``, ``ndarray.T``, ``DataFrame``, ``f(x)``), is replaced by [MASK]; what
stays is English. The corpus is split by module, so the modules of the test text were never seen, in
pre-training either. Each library has the same number of passages in every split.

numpy is left out: its held-out modules hold too little text, and scipy tells much of the same.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from tutorial_kit.corpus_building import Document
from tutorial_kit.documentation_corpus import documentation_corpus

MASK = "[MASK]"
TASK_LIBRARIES = ("python", "scipy", "torch", "sympy", "networkx", "sklearn", "matplotlib")
PASSAGE_WORDS = 20
"""A passage ends with the paragraph that brings it to so many words, masked ones not counted."""

_NAME = re.compile(
    r"python|numpy|scipy|torch|sympy|networkx|sklearn|scikit|matplotlib|pyplot|mplot"
    r"|(?<![a-z])(np|nx|plt|mpl|sp)(?![a-z])",
    re.IGNORECASE,
)
LOOKS_LIKE_CODE = re.compile(r"[A-Za-z]*[a-z][A-Z]|.*[_(=<>{}\\|@^~\[\]]|.*\w\.\w")
_AROUND = "\"'()[],.;:!?"  # punctuation that belongs to the sentence, not to the word


def mask_telltale_words(text: str) -> str:
    """Replaces names of libraries and code by [MASK]; several in a row become one.

    >>> mask_telltale_words("Wraps numpy.dot; see Tensor and n_samples (or a PyTorch graph).")
    'Wraps [MASK]; see Tensor and [MASK] (or a [MASK] graph).'
    """
    words: list[str] = []
    for word in text.split():
        core = word.strip(_AROUND)
        if not core or not (_NAME.search(core) or LOOKS_LIKE_CODE.match(core)):
            words.append(word)
            continue
        before, _, after = word.partition(core)
        if before or not words or not words[-1].endswith(MASK):
            words.append(before + MASK + after)
        else:
            words[-1] += after
    return " ".join(words)


def passages(document: Document) -> list[str]:
    """Joins a module's paragraphs, telltale words masked, to passages of at least 20 words."""
    result: list[str] = []
    parts: list[str] = []
    n_words = 0
    for paragraph in document.paragraphs:
        text = mask_telltale_words(paragraph)
        parts.append(text)
        n_words += sum(MASK not in word for word in text.split())
        if n_words >= PASSAGE_WORDS:
            result.append(" ".join(parts))
            parts, n_words = [], 0
    return result


def library_examples(
    documents: Sequence[Document], libraries: Sequence[str] = TASK_LIBRARIES
) -> tuple[tuple[str, ...], dict[str, tuple[tuple[str, str], ...]]]:
    """Makes balanced splits of (passage, library) out of documents.

    Args:
        documents: of all splits; those of other libraries are passed over.
        libraries: the labels; one without text in every split is left out.

    Returns:
        The labels, and for "train", "validation" and "test" the examples in a fixed random order,
        equally many of each label.

    Raises:
        ValueError: fewer than two libraries have text in every split.
    """
    splits = ("train", "validation", "test")
    found: dict[tuple[str, str], list[str]] = {}
    for document in documents:
        if document.library in libraries:
            found.setdefault((document.library, document.split), []).extend(passages(document))
    labels = tuple(name for name in libraries if all(found.get((name, s)) for s in splits))
    if len(labels) < 2:
        raise ValueError(
            f"only {len(labels)} of {', '.join(libraries)} have documentation in every split: "
            "there is nothing to tell apart. Install requirements.txt."
        )
    result: dict[str, tuple[tuple[str, str], ...]] = {}
    for split in splits:
        rng = random.Random(f"library task, {split}")
        count = min(len(found[name, split]) for name in labels)
        chosen = [(t, name) for name in labels for t in rng.sample(found[name, split], count)]
        rng.shuffle(chosen)
        result[split] = tuple(chosen)
    return labels, result


def documentation_examples(
    only: tuple[str, ...] = (),
) -> tuple[tuple[str, ...], dict[str, tuple[tuple[str, str], ...]]]:
    """Returns ``library_examples`` of the documentation corpus of this machine.

    Args:
        only: read these libraries alone, for tests that must be quick; none means all.
    """
    return library_examples(documentation_corpus(only).all_documents, only or TASK_LIBRARIES)
