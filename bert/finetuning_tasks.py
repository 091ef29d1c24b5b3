"""Tasks of text classification: labels, and labeled texts in three splits.

"library" needs no download: see ``library_task``. "sst2" and "polarity" are sentences of movie
reviews, negative or positive: text of another origin than the documentation. Any file with one
``text<TAB>label`` a line is a task too. The tasks that ask for tags and for spans stand in
``tagging_task.py`` and ``span_task.py``.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bert.library_task import documentation_examples
from tutorial_kit.datasets import dataset_files, read_text_lines

Example = tuple[str, str]
"""A text and its label."""

SENTIMENTS = ("negative", "positive")
FOLDS = 10


@dataclass(frozen=True)
class TextTask:
    """What is to be told apart, and by which examples."""

    name: str
    labels: tuple[str, ...]  # the possible answers, at least two
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]

    def __post_init__(self) -> None:
        """Refuses a label outside the set, and sets without a choice.

        Raises:
            ValueError: fewer than two labels, an empty split, or an example with another label.
        """
        if len(self.labels) < 2:
            raise ValueError(
                f"task {self.name} has {len(self.labels)} label(s): there is nothing to tell apart."
                " Give it examples of at least two."
            )
        for split in ("train", "validation", "test"):
            examples = getattr(self, split)
            if not examples:
                raise ValueError(f"task {self.name} has no {split} examples. Give it some.")
            for place, (text, label) in enumerate(examples, 1):
                if label not in self.labels:
                    raise ValueError(
                        f"task {self.name}, {split} example {place} ({text[:30]!r}) has the label "
                        f"{label!r}, which is not one of {', '.join(self.labels)}. Correct it, or "
                        "add the label to the training examples."
                    )

    def few(self, n_labels: int, seed: int) -> TextTask:
        """Returns the task with few training examples, and as few for validation.

        Each label gets the same number of them (what does not divide goes to labels drawn by lot),
        so that a small sample cannot miss one. The test split stays whole.

        Args:
            n_labels: labeled training examples; 0 means all.
            seed: which ones; the same for everybody who is compared.

        Raises:
            ValueError: there are fewer, or not one for each label.
        """
        if n_labels == 0:
            return self
        return replace(
            self,
            train=_balanced(self.train, self.labels, n_labels, f"{seed} train", self.name),
            validation=_balanced(
                self.validation, self.labels, min(n_labels, len(self.validation)),
                f"{seed} validation", self.name,
            ),
        )  # fmt: skip


def _balanced(
    examples: Sequence[Example], labels: Sequence[str], count: int, seed: str, name: str
) -> tuple[Example, ...]:
    """Draws examples, as equally many of each label as there are, in random order."""
    if not len(labels) <= count <= len(examples):
        raise ValueError(
            f"--labels {count} is not possible: task {name} has {len(examples):,} training "
            f"examples of {len(labels)} labels, and each label needs one. Use {len(labels)} to "
            f"{len(examples):,}, or 0 for all."
        )
    rng = random.Random(seed)
    by_label: dict[str, list[Example]] = {label: [] for label in labels}
    for example in rng.sample(examples, len(examples)):
        by_label[example[1]].append(example)
    # Deal the labels out in turn, each turn in another order, until there are enough.
    chosen: list[Example] = []
    turn = 0
    while len(chosen) < count:
        left = [label for label in labels if len(by_label[label]) > turn]
        order = rng.sample(left, len(left))
        chosen += [by_label[label][turn] for label in order[: count - len(chosen)]]
        turn += 1
    rng.shuffle(chosen)
    return tuple(chosen)


def library_task(only: tuple[str, ...] = ()) -> TextTask:
    """Which library does this passage of documentation describe? Offline; see ``library_task.py``.

    Args:
        only: read these libraries alone, for tests that must be quick; none means seven.
    """
    labels, splits = documentation_examples(only)
    return TextTask("library", labels, splits["train"], splits["validation"], splits["test"])


def sst2_task() -> TextTask:
    """SST-2 (Socher et al. 2013), whole sentences only: 6,920 / 872 / 1,821."""
    files = dataset_files("sst2")
    splits = {}
    for split in ("train", "validation", "test"):
        rows = [line.rpartition("\t") for line in read_text_lines(files[split])]
        splits[split] = tuple((text, SENTIMENTS[int(label)]) for text, _, label in rows)
    return TextTask("sst2", SENTIMENTS, splits["train"], splits["validation"], splits["test"])


def polarity_task(fold: int = 0) -> TextTask:
    """Sentence polarity (Pang & Lee 2005): 10,662 sentences without an official split.

    A hash of the sentence puts it into one of ten folds, so that copies stay together. One fold is
    the test, the next one validation. Many sentences are SST-2's: do not train on one of the two
    data sets and test on the other.

    Args:
        fold: which fold is the test, 0 to 9.

    Raises:
        ValueError: there is no such fold.
    """
    if not 0 <= fold < FOLDS:
        raise ValueError(f"--fold {fold} does not exist: there are {FOLDS}. Use 0 to {FOLDS - 1}.")
    archive = dataset_files("rt_polarity")["sentences.zip"]
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for label, member in zip(SENTIMENTS, ("rt-polarity.neg", "rt-polarity.pos"), strict=True):
        for line in read_text_lines(archive, member):
            text = line.strip()
            distance = (fold_of(text) - fold) % FOLDS
            split = "test" if distance == 0 else "validation" if distance == 1 else "train"
            splits[split].append((text, label))
    train, validation, test = (tuple(splits[s]) for s in ("train", "validation", "test"))
    return TextTask(f"polarity-{fold}", SENTIMENTS, train, validation, test)


def fold_of(text: str) -> int:
    """Returns the fold of a text, 0 to 9, the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % FOLDS


def file_task(path: Path) -> TextTask:
    """Reads a task from a file with one ``text<TAB>label`` a line; blank lines are passed over.

    A hash of the text gives it to one of ten folds: one is the test, one validation, the rest
    trains. The labels are those of the training examples, sorted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no UTF-8, a line is not of this form, or there is too little to split.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"--task {str(path)!r} is neither a known task nor a file. Use {', '.join(TASKS)}, "
            "code, parameters, or a file with one text<TAB>label a line."
        )
    splits: dict[str, list[Example]] = {"test": [], "validation": [], "train": []}
    for number, line in enumerate(read_text_lines(path), 1):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) != 2 or not all(parts):
            raise ValueError(
                f"{path}, line {number} has {len(parts) - 1} tab(s) and {sum(map(bool, parts))} "
                f"part(s) that are not empty: {line[:40]!r}. Each line is text<TAB>label."
            )
        fold = fold_of(parts[0])
        split = "test" if fold == 0 else "validation" if fold == 1 else "train"
        splits[split].append((parts[0], parts[1]))
    labels = tuple(sorted({label for _, label in splits["train"]}))
    if not all(splits.values()) or len(labels) < 2:
        counts = Counter(label for split in splits.values() for _, label in split)
        raise ValueError(
            f"{path} holds {sum(counts.values())} examples of {len(counts)} label(s): training, "
            "validation and test need some each, of at least two labels. Add lines."
        )
    train, validation, test = (tuple(splits[s]) for s in ("train", "validation", "test"))
    return TextTask(path.stem, labels, train, validation, test)


TASKS = ("library", "sst2", "polarity")


def load_task(name: str, fold: int = 0) -> TextTask:
    """Returns a task by its name, or from a file.

    Args:
        name: one of ``TASKS``, or a path.
        fold: of "polarity": which tenth is the test.
    """
    if name == "library":
        return library_task()
    if name == "sst2":
        return sst2_task()
    if name == "polarity":
        return polarity_task(fold)
    return file_task(Path(name))
